"""Scores over sites are judged as scikit-learn judges them pooled; sites' own estimates combine as in statsmodels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.statistics import NobodyShows, NothingMeasured, NoVariation, WrongQuestion
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.statistics.meta import Meta
from p2pfl.statistics.question import Ask, Factor, SiteTable
from p2pfl.statistics.scores import Calibration, Roc
from tests.examples import examples
from tests.statistics.hospitals import HEART, cancer, hearts, number, over, pooled, refused, yes_no

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
OUT, P = yes_no("out"), number("p", 0, 1)
TENTHS = tuple(round(0.1 * place, 1) for place in range(1, 10))


def scored(p: object, out: object) -> SiteTable:
    return pooled({"p": p, "out": out}, {"out": ("no", "yes")})  # type: ignore[dict-item]


def predicted(seed: int, slope: float = 1.0) -> SiteTable:
    """Predictions whose logit is `slope` times the true one, plus a half."""
    draw = np.random.default_rng(seed)
    logit = draw.normal(size=600)
    out = draw.uniform(size=600) < 1 / (1 + np.exp(-logit))
    return scored(1 / (1 + np.exp(-(slope * logit + 0.5))), out.astype(float))


# ── ROC ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-1")
def test_the_auc_of_a_score_is_scikit_learns_within_the_error_that_is_told() -> None:
    texture = number("mean_texture", 0, 60)
    edges = tuple(np.linspace(10, 40, 61).tolist())
    found = over(Roc(texture, yes_no("malignant"), ("yes",), edges), cancer())
    values, out = cancer().columns["mean_texture"], cancer().columns["malignant"]
    assert found.auc == pytest.approx(metrics.roc_auc_score(out, np.digitize(values, edges)), rel=1e-12)
    assert abs(found.auc - metrics.roc_auc_score(out, values)) <= found.error < 0.02
    for threshold, sensitivity, specificity in zip(found.thresholds, found.sensitivity, found.specificity, strict=True):
        assert sensitivity == pytest.approx((values[out == 1] >= threshold).mean(), rel=1e-12)
        assert specificity == pytest.approx((values[out == 0] < threshold).mean(), rel=1e-12)


@examples(30)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=4, max_size=40))
def test_delongs_error_is_that_of_all_pairs(records: list[tuple[int, bool]]) -> None:
    scores, out = (np.array(column, float) for column in zip(*records, strict=True))
    if not 2 <= out.sum() <= out.size - 2:
        return
    table = scored(scores / 10, out)
    found = over(Roc(P, OUT, ("yes",), tuple(0.1 * at - 0.05 for at in range(1, 7))), table)
    wins = np.sign(scores[out == 1][:, None] - scores[out == 0][None, :]) / 2 + 0.5
    parts = (wins.mean(axis).var(ddof=1) / size for axis, size in ((1, out.sum()), (0, out.size - out.sum())))
    assert (found.auc, found.se) == pytest.approx((wins.mean(), np.sqrt(sum(parts))), abs=1e-12)


# ── calibration ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-1")
def test_calibration_is_scikit_learns_curve_and_statsmodels_slope() -> None:
    models = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    table = predicted(4, slope=2.0)
    found = over(Calibration(P, OUT, ("yes",), TENTHS), table, coarse=True)
    p, out = table.columns["p"], table.columns["out"]
    assert found.brier == pytest.approx(metrics.brier_score_loss(out, p), rel=1e-9)
    assert (found.events, found.expected) == (out.sum(), pytest.approx(p.sum(), rel=1e-12))
    x = models.add_constant(np.log(p / (1 - p)))
    true = models.Logit(out, x).fit(disp=0, method="newton", tol=1e-12).params
    assert (found.intercept, found.slope) == pytest.approx(true, abs=5e-4)
    assert 0.35 < found.slope < 0.65
    for one in found.bins:
        mine = (p >= one.low) & (p < one.high)
        assert (one.count, one.events) == (mine.sum(), out[mine].sum())
        if one.count:
            assert (one.predicted, one.observed) == pytest.approx((p[mine].mean(), out[mine].mean()), rel=1e-9)
            assert one.observed_low <= one.observed <= one.observed_high
    groups = [(one.count, one.events, one.predicted) for one in found.bins if one.count]
    chi2 = sum((d - n * e) ** 2 / (n * e * (1 - e)) for n, d, e in groups)
    assert found.hosmer_lemeshow == pytest.approx(chi2, rel=1e-8)


def test_a_perfect_score_has_no_slope_and_says_so() -> None:
    found = over(Calibration(P, OUT, ("yes",), (0.5,)), scored([0.1, 0.2, 0.8, 0.9] * 5, [0.0, 0, 1, 1] * 5))
    assert found.as_json()["slope"] is None
    assert found.brier == pytest.approx(0.025)


def test_a_score_without_outcomes_is_refused() -> None:
    for question in (Roc(P, OUT, ("yes",), TENTHS), Calibration(P, OUT, ("yes",), TENTHS)):
        refused(NoVariation, question, scored([0.1, 0.5, 0.7], [1, 1, 1]))
        refused(NothingMeasured, question, scored([np.nan] * 3, [1, 0, 1]))


# ── meta-analysis ─────────────────────────────────────────────────────────────────────────────────────────────


def showing(tables: tuple[SiteTable, ...], which: tuple[int, ...] = (0, 1, 2, 3)) -> list[SiteTable]:
    return [replace(one, shows_own=one.site in which) for one in tables]


SEX = HEART["sex"]
SICK = ("1", "2", "3", "4")


@pytest.mark.claim("STAT-1")
def test_a_difference_at_four_hospitals_combines_as_in_statsmodels() -> None:
    meta = pytest.importorskip("statsmodels.stats.meta_analysis", reason="statsmodels is not installed")
    question = Meta("difference", HEART["thalach"], HEART["exang"], ("0", "1"))
    found = in_lockstep(question, showing(hearts())).result.as_json()
    estimates, variances = [], []
    for table in hearts():
        groups = [table.columns["thalach"][table.columns["exang"] == level] for level in (0, 1)]
        groups = [one[~np.isnan(one)] for one in groups]
        estimates.append(groups[0].mean() - groups[1].mean())
        variances.append(sum(one.var(ddof=1) / one.size for one in groups))
    assert [one["estimate"] for one in found["sites"]] == pytest.approx(estimates, rel=1e-9)
    assert [one["se"] for one in found["sites"]] == pytest.approx(np.sqrt(variances), rel=1e-9)
    true = meta.combine_effects(np.array(estimates), np.array(variances), method_re="dl")
    assert found["tau_squared"] == pytest.approx(true.tau2, rel=1e-8)
    assert (found["q"], found["i_squared"]) == pytest.approx((true.q, true.i2), rel=1e-8)
    frame = true.summary_frame()
    for mine, theirs in (("fixed", "fixed effect"), ("random", "random effect")):
        row = frame.loc[theirs]
        told = [found[mine][key] for key in ("estimate", "se", "low", "high")]
        assert told == pytest.approx([row["eff"], row["sd_eff"], row["ci_low"], row["ci_upp"]], rel=1e-8)
    knapp = meta.combine_effects(np.array(estimates), np.array(variances), method_re="dl", use_t=True)
    assert found["hartung_knapp"]["se"] == pytest.approx(knapp.sd_eff_w_re_hksj, rel=1e-8)


def test_a_site_that_does_not_agree_leaves_zeros() -> None:
    """As one with too few records does: nothing tells which of the two it was."""
    seen: list[Ask] = []
    question = Meta("log-odds-ratio", HEART["num"], SEX, ("1", "0"), SICK)  # type: ignore[arg-type]
    run = in_lockstep(question, showing(hearts(), (0, 2, 3)), seen.extend)
    told = run.result.as_json()["sites"]
    assert [one["site"] for one in told] == [0, 2, 3]
    assert all(ask.own for ask in seen)
    quiet = [ask.values for place, ask in enumerate(seen) if place % 4 == 1]
    assert not np.concatenate(quiet).any()
    men, women = [hearts()[0].columns["num"][hearts()[0].columns["sex"] == s] > 0 for s in (1, 0)]
    odds = [one.sum() / (one.size - one.sum()) for one in (men, women)]
    assert told[0]["estimate"] == pytest.approx(np.log(odds[0] / odds[1]), rel=1e-9)


def test_means_combine_and_fewer_than_two_sites_do_not() -> None:
    found = in_lockstep(Meta("mean", HEART["age"]), showing(hearts())).result.as_json()  # type: ignore[arg-type]
    ages = [one.columns["age"] for one in hearts()]
    assert [one["estimate"] for one in found["sites"]] == pytest.approx([one.mean() for one in ages], rel=1e-9)
    with pytest.raises(NobodyShows):
        in_lockstep(Meta("mean", HEART["age"]), showing(hearts(), (2,)))  # type: ignore[arg-type]


AB = Factor("group", ("a", "b"))


def of_sizes(question: Meta, *sizes: int) -> list[SiteTable]:
    """Sites that all agree to show, of so many patients each; the smallest group is five."""
    tables = [
        pooled({"x": np.arange(float(n)) % 7, "group": np.arange(float(n)) % 2}, {"group": AB.levels}) for n in sizes
    ]
    return [replace(one, site=place, sites=len(sizes), shows_own=True, least=5) for place, one in enumerate(tables)]


@pytest.mark.claim("STAT-2")
def test_a_site_of_few_patients_shows_nothing_and_ends_no_meta_analysis() -> None:
    """It would open a count of three, which is refused, and names its place among the sites."""
    mean, difference = Meta("mean", number("x", 0, 60)), Meta("difference", number("x", 0, 60), AB, ("a", "b"))
    for question, sizes, showing_are in ((mean, (40, 50, 3, 44), [0, 1, 3]), (difference, (40, 9, 50, 12), [0, 2, 3])):
        seen: list[Ask] = []
        run = in_lockstep(question, of_sizes(question, *sizes), seen.extend)
        assert [one["site"] for one in run.result.as_json()["sites"]] == showing_are
        assert all(not 0 < n < 5 for ask in seen for n in ask.values[ask.people])


def test_a_site_whose_records_are_of_few_patients_shows_nothing_either() -> None:
    """Three patients with ten visits each; another site has as many visits, of thirty."""
    mean = Meta("mean", number("x", 0, 60))
    few, *others = of_sizes(mean, 30, 30, 40)
    few = replace(few, layers=tuple(np.array([3 * visit, 3 * visit + 1, 3 * visit + 2]) for visit in range(8)))
    run = in_lockstep(mean, [few, *others])
    assert [one["site"] for one in run.result.as_json()["sites"]] == [1, 2]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Roc(P, OUT, ("yes",), ()),
        lambda: Roc(P, OUT, ("maybe",), TENTHS),
        lambda: Calibration(number("p", 0, 2), OUT, ("yes",), TENTHS),
        lambda: Calibration(P, OUT, ("yes",), (0.5, 1.0)),
        lambda: Meta("median", P),
        lambda: Meta("mean", P, AB),
        lambda: Meta("mean", OUT, positive=("yes",)),
        lambda: Meta("difference", P, AB, ("a", "a")),
        lambda: Meta("difference", P),
        lambda: Meta("log-odds-ratio", P, AB, ("a", "b")),
        lambda: Meta("log-odds-ratio", OUT, AB, ("a", "b"), ("maybe",)),
    ],
)
def test_a_question_of_scores_that_cannot_be_is_refused(ask: object) -> None:
    with pytest.raises(WrongQuestion):
        ask()  # type: ignore[operator]

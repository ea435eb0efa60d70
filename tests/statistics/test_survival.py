"""Curves, log-rank tests and hazard ratios over sites are lifelines' and statsmodels' of all records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.statistics import (
    EmptyGroup,
    NothingMeasured,
    NoVariation,
    OutcomeSeparated,
    SingularDesign,
    TimesBeyondGrid,
    TooFewForModel,
    WrongQuestion,
)
from p2pfl.statistics.cox import Cox
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.statistics.question import Ask, Factor, SiteTable
from p2pfl.statistics.survival import KaplanMeier
from tests.examples import examples
from tests.statistics.hospitals import dealt, nearly, number, over, pooled, refused, together, yes_no

WEEKS = tuple(float(week) for week in range(1, 53))
ARREST, FIN, PRISON = yes_no("arrest"), yes_no("fin"), number("prio", 0, 30)
WEEK, AGE = number("week", 0, 60), number("age", 15, 60)


@cache
def rossi() -> SiteTable:
    """432 people after prison, followed for a year by the week (lifelines' bundled set)."""
    lifelines = pytest.importorskip("lifelines.datasets", reason="lifelines is not installed")
    found = lifelines.load_rossi()
    levels = dict.fromkeys(("arrest", "fin", "race", "wexp", "mar", "paro"), ("no", "yes"))
    return pooled({name: found[name].to_numpy() for name in found.columns}, levels)


@cache
def lung() -> SiteTable:
    """228 patients of 18 institutions with lung cancer, followed by the day; many values missing."""
    lifelines = pytest.importorskip("lifelines.datasets", reason="lifelines is not installed")
    found = lifelines.load_lung()
    columns = {name: found[name].to_numpy(float) for name in ("time", "status", "age", "ph.karno")}
    return pooled({**columns, "sex": found["sex"].to_numpy(float) - 1}, {"status": ("no", "yes"), "sex": ("m", "f")})


# ── curves ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-1")
def test_curves_and_their_intervals_are_those_of_lifelines() -> None:
    lifelines = pytest.importorskip("lifelines", reason="lifelines is not installed")
    found = over(KaplanMeier(WEEK, ARREST, ("yes",), WEEKS, FIN), rossi())
    table = rossi().columns
    for place, curve in enumerate(found.curves):
        mine = table["fin"] == place
        true = lifelines.KaplanMeierFitter().fit(table["week"][mine], table["arrest"][mine], timeline=[0, *WEEKS])
        assert curve.survival == pytest.approx(true.survival_function_["KM_estimate"].to_numpy()[1:], rel=1e-12)
        interval = true.confidence_interval_.to_numpy()[1:]
        assert np.stack([curve.low, curve.high], axis=1) == pytest.approx(interval, rel=1e-9)
        assert (curve.count, curve.events) == (mine.sum(), table["arrest"][mine].sum())


@pytest.mark.claim("STAT-1")
def test_the_log_rank_test_is_that_of_lifelines() -> None:
    statistics = pytest.importorskip("lifelines.statistics", reason="lifelines is not installed")
    found = over(KaplanMeier(WEEK, ARREST, ("yes",), WEEKS, FIN), rossi())
    table = rossi().columns
    true = statistics.multivariate_logrank_test(table["week"], table["fin"], table["arrest"])
    assert (found.logrank, found.p) == pytest.approx((true.test_statistic, true.p_value), rel=1e-9)
    assert sum(one.expected for one in found.curves) == pytest.approx(table["arrest"].sum())


def test_three_groups_and_a_median_are_those_of_lifelines() -> None:
    lifelines = pytest.importorskip("lifelines", reason="lifelines is not installed")
    statistics = pytest.importorskip("lifelines.statistics", reason="lifelines is not installed")
    karno = np.digitize(np.nan_to_num(lung().columns["ph.karno"], nan=80), [75, 85]).astype(float)
    levels = {"status": ("no", "yes"), "fit": ("bad", "fair", "good")}
    table = pooled({"time": lung().columns["time"], "status": lung().columns["status"], "fit": karno}, levels)
    days = tuple(np.unique(table.columns["time"]).tolist())
    asked = KaplanMeier(number("time", 0, 2000), yes_no("status"), ("yes",), days, Factor("fit", levels["fit"]))
    found = over(asked, table)
    true = statistics.multivariate_logrank_test(table.columns["time"], karno, table.columns["status"])
    assert (found.logrank, found.freedom) == pytest.approx((true.test_statistic, 2), rel=1e-9)
    for place, curve in enumerate(found.curves):
        mine = karno == place
        fitted = lifelines.KaplanMeierFitter().fit(table.columns["time"][mine], table.columns["status"][mine])
        assert curve.median == fitted.median_survival_time_


@examples(30)
@given(
    st.lists(st.tuples(st.floats(0, 20), st.booleans()), min_size=1, max_size=50).filter(
        lambda found: any(e for _, e in found)
    ),
    st.lists(st.floats(0.5, 19.5), min_size=0, max_size=8, unique=True),
)
def test_any_times_are_as_if_rounded_up_to_the_grid(records: list[tuple[float, bool]], inner: list[float]) -> None:
    grid = (*sorted(inner), 20.0)
    times, events = (np.array(column, float) for column in zip(*records, strict=True))
    table = pooled({"t": times, "e": events}, {"e": ("no", "yes")})
    (curve,) = over(KaplanMeier(number("t", 0, 50), yes_no("e"), ("yes",), grid), table).curves
    rounded = np.array(grid)[np.searchsorted(grid, times)]
    survival = 1.0
    for place, time in enumerate(grid):
        at_risk, died = (rounded >= time).sum(), ((rounded == time) & (events == 1)).sum()
        survival *= 1 - died / at_risk if at_risk else 1
        assert (curve.at_risk[place], curve.events_at[place]) == (at_risk, died)
        assert curve.survival[place] == pytest.approx(survival, abs=1e-12)


# ── hazards ───────────────────────────────────────────────────────────────────────────────────────────────────

COVARIATES = (FIN, AGE, PRISON)


@pytest.mark.claim("STAT-1")
def test_hazard_ratios_on_the_grid_are_statsmodels_by_breslow() -> None:
    """The weeks of the data are the grid, so nothing is rounded."""
    phreg = pytest.importorskip("statsmodels.duration.api", reason="statsmodels is not installed")
    found = over(Cox(WEEK, ARREST, ("yes",), COVARIATES, WEEKS), rossi(), coarse=True)
    table = rossi().columns
    x = np.stack([table[one.name] for one in COVARIATES], axis=1)
    true = phreg.PHReg(table["week"], x, status=table["arrest"], ties="breslow").fit(tol=1e-14)
    assert [one.name for one in found.coefficients] == ["fin=yes", "age", "prio"]
    nearly(found, true.params, true.bse)
    assert found.loglik == pytest.approx(true.llf, abs=0.05)
    eta = x @ true.params
    jump = [table["arrest"][table["week"] == w].sum() / np.exp(eta)[table["week"] >= w].sum() for w in found.times]
    shift = np.exp(sum(one.estimate * centre for one, centre in zip(found.coefficients, (0, 37.5, 15), strict=True)))
    assert found.hazard == pytest.approx(np.cumsum(jump) * shift, rel=1e-3)


@pytest.mark.claim("STAT-1")
def test_hazard_ratios_stratified_by_site_are_statsmodels_and_need_no_grid() -> None:
    phreg = pytest.importorskip("statsmodels.duration.api", reason="statsmodels is not installed")
    sites = dealt(rossi(), 5, seed=2)
    found = in_lockstep(Cox(WEEK, ARREST, ("yes",), COVARIATES, by_site=True), sites).result
    table = together(sites).columns
    strata = np.concatenate([np.full(one.records, place) for place, one in enumerate(sites)])
    x = np.stack([table[one.name] for one in COVARIATES], axis=1)
    true = phreg.PHReg(table["week"], x, status=table["arrest"], strata=strata, ties="breslow").fit(tol=1e-14)
    nearly(found, true.params, true.bse)
    alone = over(Cox(WEEK, ARREST, ("yes",), COVARIATES, by_site=True), [rossi()], coarse=True)
    pooled_too = over(Cox(WEEK, ARREST, ("yes",), COVARIATES, WEEKS), rossi(), coarse=True)
    assert alone.loglik == pytest.approx(pooled_too.loglik, abs=0.05)


def test_a_column_far_narrower_than_its_bounds_is_not_taken_for_one_that_separates() -> None:
    """What rounding left of its information made the last steps crawl, and the question ended by the wrong name."""
    draw, wide = np.random.default_rng(0), 600.0
    x, arm, censored = draw.normal(0, 1, 2000), draw.integers(0, 2, 2000).astype(float), draw.exponential(12, 2000)
    time = 10 * draw.exponential(np.exp(-0.5 * x - 0.4 * arm))
    columns = {"t": np.minimum(time, censored).clip(0.01, 99), "e": (time < censored).astype(float), "x": x, "arm": arm}
    table = pooled(columns, {"e": ("no", "yes"), "arm": ("a", "b")})
    covariates, grid = (number("x", -wide, wide), Factor("arm", ("a", "b"))), (2.0, 5.0, 10.0, 20.0, 100.0)
    found = over(Cox(T, E, ("yes",), covariates, grid), table, coarse=True)
    assert [one.estimate for one in found.coefficients] == pytest.approx([0.5, 0.4], abs=0.15)


@pytest.mark.claim("STAT-2")
def test_who_left_between_two_events_is_counted_by_level_before_the_steps_tell_it() -> None:
    """At β = 0 the sums over those at risk are counts: of a code, of those with its level."""
    seen: dict[str, tuple[tuple[str, ...], np.ndarray, np.ndarray]] = {}

    def look(asks: Sequence[Ask]) -> None:
        seen[asks[0].name] = (asks[0].labels, np.sum([ask.values for ask in asks], axis=0), asks[0].people)

    in_lockstep(Cox(WEEK, ARREST, ("yes",), (FIN, AGE), WEEKS), dealt(rossi(), 3), look)
    labels, values, _ = seen["step 1"]
    at_risk = [int(v) for label, v in zip(labels, values, strict=True) if label.startswith("Σwz ") and "fin" in label]
    scale = next(int(v) for label, v in zip(labels, values, strict=True) if label.startswith("Σw ")) / 432
    told = np.rint(np.array(at_risk) / scale)
    labels, values, people = seen["leavers"]
    left = [v for label, v in zip(labels, values, strict=True) if label.endswith("fin yes")]
    assert left[1:] == (told - np.append(told[1:], 0)).tolist()
    assert people.all()
    assert values.sum() == 432


# ── what has no answer ────────────────────────────────────────────────────────────────────────────────────────

T, E, X = number("t", 0, 100), yes_no("e"), number("x", 0, 10)
GRID = (10.0, 20.0, 30.0)


def made(t: list[float], e: list[float], **more: object) -> SiteTable:
    return pooled(
        {"t": t, "e": e, **more}, {"e": ("no", "yes"), "arm": ("a", "b")} if "arm" in more else {"e": ("no", "yes")}
    )  # type: ignore[dict-item]


def test_times_beyond_the_grid_are_counted() -> None:
    late = made([5, 12, 31, 44, 3], [1, 0, 1, 0, 1], x=[1.0, 2, 3, 4, 5])
    for question in (KaplanMeier(T, E, ("yes",), GRID), Cox(T, E, ("yes",), (X,), GRID)):
        error = refused(TimesBeyondGrid, question, late)
        assert "ends at 30" in str(error)
        assert error.evidence == "2 of 5 records end later"


def test_nobody_and_nothing_are_named() -> None:
    arm = Factor("arm", ("a", "b"))
    table = made([5, 12, 3], [1, 0, 1], arm=[0.0, 0, 0])
    assert "group b of arm" in str(refused(EmptyGroup, KaplanMeier(T, E, ("yes",), GRID, arm), table))
    assert "e does not vary" in str(refused(NoVariation, KaplanMeier(T, E, ("yes",), GRID), made([5, 6], [0, 0])))
    refused(NothingMeasured, KaplanMeier(T, E, ("yes",), GRID), made([np.nan] * 3, [1, 0, 1]))
    refused(NoVariation, Cox(T, E, ("yes",), (X,), GRID), made([5, 6, 7], [0, 0, 0], x=[1.0, 2, 3]))
    refused(TooFewForModel, Cox(T, E, ("yes",), (X,), GRID), made([5, 6, 7], [1, 0, 0], x=[1.0, 2, 3]))


@pytest.mark.parametrize("by_site", [False, True])
def test_a_constant_column_and_a_perfect_one_are_named(by_site: bool) -> None:
    draw = np.random.default_rng(1)
    t, e = draw.uniform(1, 30, 60).tolist(), (draw.uniform(size=60) < 0.6).astype(float).tolist()
    grid = () if by_site else tuple(float(one) for one in range(1, 31))
    flat = Cox(T, E, ("yes",), (X,), grid, by_site)
    assert "x is constant" in str(refused(SingularDesign, flat, made(t, e, x=[3.3] * 60)))
    events = Cox(T, E, ("yes",), (Factor("arm", ("a", "b")),), grid, by_site)
    error = refused(OutcomeSeparated, events, made(t, e, arm=1 - np.array(e)))
    assert "coefficient of arm=b" in str(error)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: KaplanMeier(number("t", -1, 9), E, ("yes",), GRID),
        lambda: KaplanMeier(T, E, ("maybe",), GRID),
        lambda: KaplanMeier(T, E, ("yes",), ()),
        lambda: KaplanMeier(T, E, ("yes",), (0.0, 1.0)),
        lambda: KaplanMeier(T, E, ("yes",), (2.0, 1.0)),
        lambda: Cox(T, E, ("yes",), (X,)),
        lambda: Cox(T, E, ("yes",), (X,), GRID, by_site=True),
        lambda: Cox(T, E, ("yes",), (T,), GRID),
    ],
)
def test_a_question_of_times_that_cannot_be_is_refused(ask: object) -> None:
    with pytest.raises(WrongQuestion):
        ask()  # type: ignore[operator]

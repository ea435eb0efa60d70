"""Noise on the sums of a question: calibrated to what one record moves, told with the answer, and audited."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import stats

from p2pfl.errors.statistics import EmptyGroup, NoiseUnbounded, NothingMeasured, NoVariation, TooFewForModel
from p2pfl.keys import Secret, digest
from p2pfl.statistics.crosstab import Crosstab
from p2pfl.statistics.describe import Describe, Histogram
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.statistics.means import TTest
from p2pfl.statistics.noise import NoisedTotal, SumNoise, noise_errors
from p2pfl.statistics.question import Ask, MovedBlock, SiteTable, Statistic, StatisticResult
from p2pfl.statistics.scores import Roc
from p2pfl.statistics.survival import KaplanMeier
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.discrete_gaussian import discrete_gaussian
from p2pfl.training.privacy.account import CHARGED
from tests.statistics.hospitals import dealt, pooled
from tests.statistics.test_promises import ARM, GRID, OUT, QUESTIONS, E, P, T, X, table

PARTS = 2  # honest sites whose noise is in every sum
BOUNDED = [one for one in QUESTIONS if not one.unbounded]
bounded = pytest.mark.parametrize("question", BOUNDED, ids=lambda one: one.kind)


def draws(name: str) -> Callable[[int, int], Any]:
    return partial(discrete_gaussian, BitStream(Secret(digest("test noise", name.encode())), "statistics/noise"))


def noised_sites(seed: int = 0) -> list[SiteTable]:
    return [replace(one, noised=True) for one in dealt(table(), 4, seed)]


def answered(
    question: Statistic, tables: Sequence[SiteTable], multiplier: float, draw: Any
) -> tuple[StatisticResult, list[NoisedTotal]]:
    """As the sites do it, with the sum in the clear in place of the network."""
    running = [question.steps(one) for one in tables]
    asks, sums = [next(one) for one in running], list[NoisedTotal]()
    while True:
        noise = SumNoise.on(asks[0], multiplier, PARTS)
        sums.append(NoisedTotal(asks[0], noise, sum(noise.added(one, draw) for one in asks)))  # type: ignore[arg-type]
        opened, following, ended = sums[-1].opened(len(tables)), list[Ask](), list[StatisticResult]()
        for one in running:
            try:
                following.append(one.send(opened))
            except StopIteration as stopped:
                ended.append(stopped.value)
        if ended:
            assert not following and all(one.as_json() == ended[0].as_json() for one in ended)
            return ended[0], sums
        asks = following


# ── what one record moves ─────────────────────────────────────────────────────────────────────────────────────


def cost_of(ask: Ask, other: Ask) -> float:
    """How far the neighbour's sum lies, in deviations of the noise that is calibrated to multiplier 1."""
    assert replace(other, values=ask.values).public == ask.public, "what is asked tells neighbours apart"
    noise = SumNoise.on(ask, 1.0, PARTS)
    apart = (other.values - ask.values).astype(object) * np.array([1 << one for one in noise.shifts], object)
    return float(sum(d * d / (v * PARTS) for d, v in zip(apart, noise.variances, strict=True) if v)) ** 0.5


def worst(question: Statistic, tables: Sequence[tuple[SiteTable, SiteTable]]) -> float:
    """Over pairs of tables that differ by a record, each shown the same noised sums."""
    _, sums = answered(question, noised_sites(), 1.0, draws(question.kind))
    found = 0.0
    for one, other in tables:
        running = [question.steps(one), question.steps(other)]
        asks = [next(step) for step in running]
        for at, summed in enumerate(sums):
            found = max(found, cost_of(*asks))
            if at + 1 < len(sums):
                asks = [step.send(summed.opened(4)) for step in running]
    return found


def neighbours() -> list[tuple[SiteTable, SiteTable]]:
    """A site's table with and without one record: some of its own, and one at the bounds of every column."""
    first = noised_sites()[0]
    without = [
        {name: np.delete(v, at) for name, v in first.columns.items()}
        for at in range(0, first.records, first.records // 5)
    ]
    ends = [{"x": x, "y": y, "t": t, "p": p, "e": 1.0, "out": 1.0, "arm": 2.0, "z": 1.0}
            for x, y, t, p in ((-10, 0, 0, 0), (10, 10, 50, 1), (0, 5, 25, 0.5))]  # fmt: skip
    more = [{name: np.append(v, end[name]) for name, v in first.columns.items()} for end in ends]
    return [(first, replace(first, columns=columns)) for columns in (*without, *more)]


@pytest.mark.claim("STAT-7")
@bounded
def test_one_record_moves_a_sum_by_no_more_than_its_noise_is_calibrated_to(question: Statistic) -> None:
    assert 0.0 < worst(question, neighbours()) <= 1.0


@pytest.mark.claim("STAT-7")
@bounded
def test_a_bound_that_is_too_small_is_found_by_those_neighbours(
    question: Statistic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with noise for a quarter of what one record is said to move."""
    monkeypatch.setattr(
        SumNoise,
        "on",
        classmethod(lambda cls, ask, z, parts, real=SumNoise.on.__func__: real(cls, ask, z / 4, parts)),  # type: ignore[attr-defined]
    )
    assert worst(question, neighbours()) > 1.0


def test_questions_without_a_bound_say_why_and_a_sum_without_one_has_no_noise() -> None:
    kinds = {one.kind for one in QUESTIONS if one.unbounded}
    assert kinds == {"correlation", "linear", "logistic", "poisson", "cox", "calibration", "meta"}
    for question in (one for one in QUESTIONS if one.unbounded):
        ask = next(question.steps(noised_sites()[0]))
        with pytest.raises(NoiseUnbounded, match=ask.name):
            SumNoise.on(replace(ask, moved=(MovedBlock(0, ask.values.size, 0, math.inf),)), 1.0, PARTS)
        # From Python 3.13 on dataclasses compare field by field, where a tuple took one NaN for the same as itself.
        assert all(part == part for block in ask.moved for part in astuple(block))
    whole = next(Histogram(X, (-5.0, 0.0)).steps(noised_sites()[0]))
    with pytest.raises(NoiseUnbounded):  # an entry that no block covers
        SumNoise.on(replace(whole, moved=whole.moved[:1]), 1.0, PARTS)
    with pytest.raises(NoiseUnbounded):
        SumNoise.on(whole, 1e-3, PARTS)
    with pytest.raises(NoiseUnbounded):  # more than is drawn
        SumNoise.on(whole, 1e6, PARTS)


# ── the audit ─────────────────────────────────────────────────────────────────────────────────────────────────

TRIES = 1500
TARGET = pooled({"x": [1.0]})


def separation(noise_at: Callable[[Ask, Any, int], Any], weigh: int = 1) -> float:
    """A lower bound, at 95 %, on μ of whoever tells apart two sites with and without one record (Dong et al. 2022).

    noise_at   (ask, draw, part) ► what that part's site puts in
    """
    question, draw = Histogram(X, (0.0, 5.0)), draws(f"audit {weigh}")
    asks = [next(question.steps(replace(one, noised=True))) for one in (pooled({"x": []}), TARGET)]
    (at,) = np.flatnonzero(asks[1].values[1:])[:1] + 1
    seen = []
    for ask in asks:
        mine, other = replace(ask, values=ask.values * weigh), asks[0]
        sums = [noise_at(mine, draw, 0) + noise_at(other, draw, 1) for _ in range(TRIES)]
        seen.append(np.array([one[at] for one in sums]) / 2.0**20)
    middle = weigh / 2
    wrong = [int((seen[0] > middle).sum()), int((seen[1] <= middle).sum())]
    most = [stats.beta.ppf(0.975, one + 1, TRIES - one) for one in wrong]  # Clopper and Pearson
    return float(-stats.norm.ppf(most[0]) - stats.norm.ppf(most[1]))


def honest(ask: Ask, draw: Any, part: int) -> Any:
    return SumNoise.on(ask, 1.0, PARTS).added(ask, draw)


@pytest.mark.claim("STAT-7")
def test_an_audit_finds_no_more_than_is_charged_and_finds_planted_faults() -> None:
    charged = 1.0 / CHARGED
    assert charged / 2 < separation(honest) <= charged
    half = lambda ask, draw, part: SumNoise.on(ask, 0.5, PARTS).added(ask, draw)  # noqa: E731
    one_only = lambda ask, draw, part: honest(ask, draw, part) if part else ask.values << 20  # noqa: E731
    assert separation(half) > charged
    assert separation(one_only) > charged
    assert separation(honest, weigh=2) > charged  # a record that counts twice where the bound says once


# ── two questions ─────────────────────────────────────────────────────────────────────────────────────────────

SOMEBODY = 0.5  # x of one patient, and of nobody else


def difference(noised: bool, name: str) -> float:
    """How many more have x below 0.51 than below 0.49, by two questions over the same sites."""
    first = table().columns
    columns = {key: np.append(v, SOMEBODY if key == "x" else 1.0) for key, v in first.items()}
    columns["x"][:-1][np.abs(columns["x"][:-1] - SOMEBODY) < 0.02] = 0.0
    tables, draw = [replace(replace(table(), columns=columns), noised=noised)], draws(name)
    counts = []
    for edge in (0.49, 0.51):
        question = Histogram(X, (-10.0, edge, 10.0))
        if noised:
            result, _ = answered(question, tables, 2.0, draw)
        else:
            result = in_lockstep(question, tables).result
        counts.append(result.as_json()["counts"][0])
    return float(counts[1] - counts[0])


@pytest.mark.claim("STAT-7")
def test_with_noise_two_questions_that_differ_by_a_patient_do_not_tell_of_it() -> None:
    """The difference has the noise of both: it is as often nobody as somebody, or nearly."""
    found = np.array([difference(True, f"two {seed}") for seed in range(60)])
    assert found.std() > 1.5 and 0.2 < (found <= 0.0).mean() < 0.7


def test_without_noise_their_difference_is_the_patient() -> None:
    assert difference(False, "none") == 1.0


# ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────


@bounded
def test_the_noised_answer_adds_up_and_counts_nobody_below_0(question: Statistic) -> None:
    """Noise beyond all counts: whatever comes, each site reads the same, and every total is that of its parts."""
    for seed in range(3):
        try:
            result, sums = answered(question, noised_sites(), 30.0, draws(f"{question.kind} {seed}"))
        except (EmptyGroup, NothingMeasured, NoVariation, TooFewForModel):
            continue  # of noise alone there may be nobody in a group
        counts = [value for key, value in flat(result.as_json()) if key in ("count", "counts", "missing", "records")]
        assert all(one >= 0 for one in counts if one is not None)
        for one in sums:
            values = one.total.tolist()
            first = dict(reversed(one.ask.parts))
            assert all(values[of] == sum(values[place] for place in places) for of, places in first.items())


def flat(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [one for name, inner in value.items() for one in flat(inner, name)]
    if isinstance(value, list):
        return [one for inner in value for one in flat(inner, key)]
    return [(key, value)]


@pytest.mark.claim("STAT-8")
def test_figures_lie_about_the_pooled_ones_as_far_as_their_stated_errors_say() -> None:
    """Over many seeds: the root mean square of (figure − pooled) / error is about 1."""
    question = Describe((X, ARM), bins=0)
    exact = in_lockstep(question, [table()]).result.as_json()
    off: dict[str, list[float]] = {}
    for seed in range(40):
        result, sums = answered(question, noised_sites(), 2.0, draws(f"seed {seed}"))
        if seed % 8 == 0:
            errors = noise_errors(question, sums, 4, draws(f"public {seed}"))["result"]
        told = result.as_json()
        for part, key in (("quantities", "count"), ("quantities", "mean"), ("quantities", "sd"), ("factors", "count")):
            error = errors[part][0][key]
            off.setdefault(f"{part} {key}", []).append((told[part][0][key] - exact[part][0][key]) / error)
    for name, one in off.items():
        assert 0.7 < np.sqrt(np.mean(np.square(one))) < 1.4, (name, one)
        assert abs(np.mean(one)) < 0.6, name


@pytest.mark.claim("STAT-8")
def test_with_noise_no_extremes_are_told_and_none_is_spent_on_them() -> None:
    """Of a column whose values lie in one bin: the others, which nobody is in, have counts of noise."""
    columns = {"x": np.full(200, 1.0)}
    question = Describe((X,), bins=8)
    (exact,) = in_lockstep(question, [SiteTable(columns, {})]).result.quantities
    assert exact.low_bin == exact.high_bin == (0.0, 2.5)
    result, sums = answered(question, dealt(SiteTable(columns, {}, noised=True), 4, 0), 2.0, draws("extremes"))
    (told,) = result.quantities
    assert told.low_bin == told.high_bin == ()
    _, plain = answered(Describe((X,)), noised_sites(), 2.0, draws("none"))
    assert [len(one.total) for one in sums] == [len(one.total) for one in plain]


def test_the_errors_have_the_answers_keys_and_follow_from_public_numbers_alone() -> None:
    question = Histogram(X, (-5.0, 0.0, 5.0))
    result, sums = answered(question, noised_sites(), 1.0, draws("one"))
    errors = noise_errors(question, sums, 4, draws("public"))
    assert errors["result"].keys() == result.as_json().keys()
    assert noise_errors(question, sums, 4, draws("public")) == errors
    bare = [NoisedTotal(replace(one.ask, values=np.zeros_like(one.ask.values)), one.noise, one.total) for one in sums]
    assert noise_errors(question, bare, 4, draws("public")) == errors
    deviation = sums[0].noise.deviations(sums[0].ask, 4)
    assert deviation[1] == pytest.approx(np.sqrt(4 / PARTS), rel=1e-3)  # a bin: all four sites' parts
    assert deviation[0] == pytest.approx(deviation[1] * np.sqrt(len(deviation) - 1), rel=1e-3)  # the total, of its bins
    assert errors["result"]["counts"][0] == pytest.approx(deviation[1], rel=0.3)


# ── intervals ─────────────────────────────────────────────────────────────────────────────────────────────────


def cohort(seed: int, records: int = 1200) -> SiteTable:
    """Whose means, odds, survival and score are known: x is one lower in one arm, an odds ratio is e, and so on."""
    rng = np.random.default_rng(seed)
    second = rng.random(records) < 0.5
    event = rng.random(records) < np.where(second, 0.5, 1 / (1 + np.e))
    columns = {
        "x": np.clip(rng.normal(np.where(second, 1.0, 0.0), 3.0), -10, 10),
        "e": second.astype(float),
        "out": event.astype(float),
        "t": np.clip(rng.exponential(30.0, records), 0.01, 50.0),
        "p": np.clip(rng.normal(np.where(event, 0.6, 0.4), 0.2), 0, 1),
    }
    levels = {"e": ("no", "yes"), "out": ("no", "yes")}
    return SiteTable(columns, levels, noised=True)


def normal(seed: int) -> Callable[[int, int], Any]:
    """In place of the exact sampler, which is slow: the grid is so fine that nothing here tells them apart."""
    rng = np.random.default_rng(seed)
    return lambda count, variance: np.rint(rng.normal(0.0, float(variance) ** 0.5, count)).astype(np.int64)


def log_ratio(found: Any) -> tuple[float, float]:
    told = found.as_json()
    ends = np.log([told["odds_ratio_low"], told["odds_ratio_high"]])
    return float(np.log(told["odds_ratio"])), float((ends[1] - ends[0]) / 2 / stats.norm.ppf(0.975))


def log_survival(found: Any) -> tuple[float, float]:
    curve = found.as_json()["curves"][0]
    return float(np.log(curve["survival"][2])), curve["se"][2] / curve["survival"][2]


def mean_apart(found: Any) -> tuple[float, float]:
    told = found.as_json()
    return told["difference"], told["difference"] / told["t"]


INTERVALS = {  # what has one: the question, and how its estimate and standard error are read, where both are linear
    "ttest": (TTest(X, E, ("yes", "no")), mean_apart),
    "crosstab": (Crosstab(E, OUT), log_ratio),
    "km": (KaplanMeier(T, OUT, ("yes",), GRID), log_survival),
    "roc": (Roc(P, OUT, ("yes",), (0.25, 0.5, 0.75)), lambda found: (found.auc, found.se)),
}


@pytest.mark.claim("STAT-8")
@pytest.mark.parametrize("kind", INTERVALS)
def test_an_interval_is_wider_by_just_the_noise(kind: str) -> None:
    """Of one table, asked again and again: the squared errors are told larger by the variance that is seen."""
    question, read = INTERVALS[kind]
    tables = dealt(cohort(0), 4, 0)
    _, sampled = read(in_lockstep(question, [replace(one, noised=False) for one in tables]).result)
    draw, seen, told = normal(1), list[float](), list[float]()
    for _ in range(120):
        estimate, error = read(answered(question, tables, 8.0, draw)[0])
        seen.append(estimate)
        told.append(error**2 - sampled**2)
    assert 0.8 < np.std(seen) / np.mean(told) ** 0.5 < 1.25


@pytest.mark.claim("STAT-8")
def test_intervals_of_noised_answers_hold_the_truth_as_often_as_they_say() -> None:
    """Over new patients and new noise. Of Welch's interval as it was, without the noise, this fails."""
    question, draw, held, bare = TTest(X, E, ("yes", "no")), normal(2), 0, 0
    tries = 200
    for seed in range(tries):
        tables = dealt(cohort(seed, 800), 4, seed)
        found = answered(question, tables, 4.0, draw)[0].as_json()
        wide = stats.norm.ppf(0.975) * sum(one["sd"] ** 2 / one["count"] for one in found["groups"]) ** 0.5
        held += found["low"] <= 1.0 <= found["high"]
        bare += abs(found["difference"] - 1.0) <= wide
    assert held / tries > 0.92 > 0.85 > bare / tries


def test_every_figure_about_who_was_sampled_says_whether_it_holds_the_noise() -> None:
    """Standard errors, intervals, tests: each is named on one side."""
    about = {"se", "low", "high", "p", "t", "f", "freedom", "chi2", "fisher_p", "logrank", "expected", "cramers_v"}
    about |= {"welch_f", "welch_freedom", "welch_p", "eta_squared", "odds_ratio_low", "odds_ratio_high"}
    about |= {"median_low", "median_high"}
    places = {"quantiles": {"low", "high", "p"}, "crosstab": {"freedom"}, "km": {"freedom"}}  # of no chance
    for question in BOUNDED:
        keys = {key for key, _ in flat(in_lockstep(question, [table()]).result.as_json())} & about
        named = {*question.held, *question.not_held}
        assert named == keys - places.get(question.kind, set()), question.kind
        assert not set(question.held) & set(question.not_held)

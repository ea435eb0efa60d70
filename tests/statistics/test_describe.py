"""Descriptions and histograms over sites are those of the pooled table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.statistics import (
    ColumnNotInTable,
    LevelsDiffer,
    NothingMeasured,
    SumsImpossible,
    ValueOutsideBounds,
    WrongQuestion,
)
from p2pfl.statistics.describe import Describe, Histogram
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.statistics.question import Factor, OpenedSum, Quantity
from tests.examples import examples
from tests.statistics.hospitals import (
    DIABETES,
    HEART,
    dealt,
    diabetes,
    hearts,
    kept,
    number,
    over,
    pooled,
    refused,
    together,
)


@pytest.mark.claim("STAT-1")
def test_four_hospitals_are_described_as_one_table() -> None:
    found = over(Describe(tuple(HEART.values()), bins=20), hearts())
    table = together(hearts())
    for one in found.quantities:
        values = table.columns[one.name]
        known = values[~np.isnan(values)]
        assert (one.count, one.missing) == (known.size, values.size - known.size)
        assert one.mean == pytest.approx(known.mean(), rel=1e-13)
        assert one.variance == pytest.approx(known.var(ddof=1), rel=1e-11)
        assert one.low_bin[0] <= known.min() <= one.low_bin[1]
        assert one.high_bin[0] <= known.max() <= one.high_bin[1]
    for one in found.factors:
        values = table.columns[one.name]
        assert one.counts == tuple(int((values == place).sum()) for place in range(len(one.levels)))
        assert sum(one.counts) + one.missing == found.records == 920


@pytest.mark.claim("STAT-1")
@examples(30)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=2, max_size=60), st.sampled_from([1e6, 1e9]))
def test_any_numbers_are_described_as_numpy_does(values: list[float], bound: float) -> None:
    """The tolerance is stated against the bounds: half the width, squared, times 10⁻¹⁵."""
    known = np.array(values)[~np.isnan(values)]
    question = Describe((number("x", -bound, bound),))
    if not known.size:
        assert "x" in str(refused(NothingMeasured, question, pooled({"x": values})))
        return
    (found,) = in_lockstep(question, dealt(pooled({"x": values}), 5), kept).result.quantities  # type: ignore[attr-defined]
    assert found.count == known.size
    assert found.mean == pytest.approx(known.mean(), abs=1e-15 * bound, rel=1e-12)
    if known.size > 1:
        assert found.variance == pytest.approx(known.var(ddof=1), abs=4e-15 * bound**2, rel=1e-9)


@pytest.mark.claim("STAT-1")
def test_a_histogram_is_numpys_and_tells_what_lies_outside() -> None:
    edges = (100.0, 150.0, 200.0, 250.0)
    found = over(Histogram(HEART["chol"], edges), hearts())  # type: ignore[arg-type]
    values = together(hearts()).columns["chol"]
    assert found.counts == tuple(np.histogram(values[~np.isnan(values)], edges)[0])
    assert (found.below, found.above) == ((values < 100).sum(), (values > 250).sum())
    assert found.below + sum(found.counts) + found.above + found.missing == found.records


def test_a_column_that_nobody_measured_is_named() -> None:
    nobody = pooled({"x": [np.nan] * 9})
    assert "No record at any site has a value of x" in str(
        refused(NothingMeasured, Describe((number("x", 0, 1),)), nobody)
    )
    refused(NothingMeasured, Histogram(number("x", 0, 1), (0.0, 1.0)), nobody)


def test_beside_others_a_column_without_values_is_described_as_such() -> None:
    found = over(Describe((number("x", 0, 1), number("y", 0, 1))), pooled({"x": [np.nan] * 4, "y": [0.0, 1, 1, 0]}))
    assert (
        found.as_json()["quantities"][0] | {"missing": 4, "mean": None, "variance": None}
        == found.as_json()["quantities"][0]
    )


def test_a_question_that_does_not_fit_the_table_is_refused_before_any_sum() -> None:
    table = diabetes()
    for question, leaf in (
        (Describe((number("height", 0, 3),)), ColumnNotInTable),
        (Describe((Factor("sex", ("1", "2", "3")),)), LevelsDiffer),
        (Describe((number("sex", 0, 1),)), LevelsDiffer),
        (Describe((Factor("age", ("1", "2")),)), LevelsDiffer),
        (Describe((number("age", 0, 30),)), ValueOutsideBounds),
    ):
        with pytest.raises(leaf) as caught:
            next(question.steps(table))
        assert caught.value.evidence


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Describe(()),
        lambda: Describe((number("x", 1, 1),)),
        lambda: Describe((number("x", 0, np.inf),)),
        lambda: Describe((number("x", 0, 1), number("x", 0, 1))),
        lambda: Describe((Factor("x", ("a", "a")),)),
        lambda: Describe((number("x", 0, 1),), bins=-1),
        lambda: Histogram(number("x", 0, 1), (1.0,)),
        lambda: Histogram(number("x", 0, 1), (1.0, 1.0)),
    ],
)
def test_a_question_that_asks_nothing_is_refused(ask: object) -> None:
    with pytest.raises(WrongQuestion):
        ask()  # type: ignore[operator]


def test_sums_that_no_table_gives_are_refused() -> None:
    question = Describe((DIABETES["age"],))
    for wrong in ([442, 442, 1], [442, 443, -1], [442, 442], [1 << 40, 1 << 40, 0]):
        steps = question.steps(diabetes())
        next(steps)
        with pytest.raises(SumsImpossible):
            steps.send(OpenedSum(np.array(wrong), 3))


def test_what_is_asked_follows_from_no_record() -> None:
    """Two sites with nothing in common ask for the same sums; `repr` shows no record."""
    question = Describe((Quantity("x", 0, 9), Factor("c", ("a", "b"))), bins=3)
    one = pooled({"x": [8.5] * 3, "c": [1, 1, 1]}, {"c": ("a", "b")})
    other = pooled({"x": [], "c": []}, {"c": ("a", "b")})
    asks = [next(question.steps(table)) for table in (one, other)]
    assert asks[0].public == asks[1].public
    assert "8.5" not in repr(one) + repr(asks[0])
    assert "[3" not in repr(asks[0])

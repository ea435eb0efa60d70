"""Statistics from summed parts are those of the pooled data."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.sharing import NothingToAverage
from p2pfl.sharing.statistics import mean_of, mean_parts, variance_of, variance_parts

values = st.lists(st.integers(-(10**6), 10**6).map(lambda cents: Decimal(cents) / 100), max_size=8)
sites = st.lists(values, min_size=1, max_size=5)


def summed(parts: list[tuple[Decimal, ...]]) -> list[Decimal]:
    return [sum(column, Decimal(0)) for column in zip(*parts, strict=True)]


@given(sites)
def test_the_mean_and_variance_are_those_of_all_records_pooled(held: list[list[Decimal]]) -> None:
    pooled = [Fraction(value) for site in held for value in site]
    if len(pooled) < 2:
        return
    assert math.isclose(mean_of(summed([mean_parts(site) for site in held])), statistics.mean(pooled), abs_tol=1e-20)
    found = variance_of(summed([variance_parts(site) for site in held]))
    assert math.isclose(found, statistics.variance(pooled), rel_tol=1e-15, abs_tol=1e-20)


def test_no_value_has_no_mean_and_one_value_no_variance() -> None:
    with pytest.raises(NothingToAverage):
        mean_of(mean_parts([]))
    with pytest.raises(NothingToAverage):
        variance_of(variance_parts([Decimal(3)]))

"""Correlations of measured columns, over the records that have all of them: Pearson's, or Spearman's on a grid.

Spearman: the counts by bin of each column give every bin its middle rank, which is public then; the ranks' products are
summed as Pearson's are. It is Spearman's of the values as their bins have them, ties in middle ranks.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.statistics import NothingMeasured, NoVariation, TooFewForModel
from p2pfl.statistics.checks import check_between, check_columns, refuse
from p2pfl.statistics.plan import SumPlan, present, scaled, tally
from p2pfl.statistics.question import (
    Ask,
    Cost,
    Floats,
    OpenedSum,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)
from p2pfl.statistics.tails import normal_quantile, t_two_sided

CONSTANT: Final = 1e-13  # a variance below it, in squares of half the bounds' width, is what rounding leaves of none
MOST_BINS: Final = 4096


_Sums = dict[tuple[int, int], Fraction]  # of products, by pairs of columns
_Steps = Generator[Ask, OpenedSum, tuple[_Sums, list[Fraction]]]


@dataclass(frozen=True, slots=True)
class CorrelationFound:
    """Of one pair; the 95 % interval is Fisher's z, the p value Student's t."""

    first: str
    second: str
    r: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class CorrelationResult(StatisticResult):
    kind: ClassVar[str] = "correlation"
    method: str
    count: int
    missing: int
    pairs: tuple[CorrelationFound, ...]

    def tables(self) -> tuple[TextTable, ...]:
        rows = tuple((one.first, one.second, one.r, one.low, one.high, one.p) for one in self.pairs)
        title = f"{self.method.capitalize()}'s correlation of {self.count} records, {self.missing} with a value missing"
        return (TextTable(title, ("column", "with", "r", "95 % from", "to", "p"), rows),)


@dataclass(frozen=True)
class Correlation(Statistic):
    """`bins` over the bounds are Spearman's grid; Pearson's needs none."""

    kind: ClassVar[str] = "correlation"
    columns: tuple[Quantity, ...]
    method: str = "pearson"
    bins: int = 0

    def __post_init__(self) -> None:
        check_columns(self.kind, self.columns, least=2)
        if self.method not in ("pearson", "spearman"):
            refuse(self.kind, f"no method {self.method}: known are pearson, spearman")
        low, high = (2, MOST_BINS) if self.method == "spearman" else (0, 0)
        check_between(self.kind, "bins", self.bins, low, high)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return self.columns

    def cost(self) -> Cost:
        k = len(self.columns)
        pairs = k * (k - 1) // 2
        if self.method == "spearman":
            return Cost(3, 3 + k * self.bins + pairs)
        return Cost(2, 3 + 2 * k + pairs)

    def steps(self, table: SiteTable) -> Steps:
        columns = [table.read(one) for one in self.columns]
        known = present(*columns)
        plan = SumPlan("who").counts("records", ("", "complete", "missing"))
        plan.total(("records", 0), [("records", 1), ("records", 2)])
        total = plan.read((yield plan.ask({"records": [known.size, int(known.sum()), int((~known).sum())]})))
        _, count, missing = total.counts("records")
        names = ", ".join(one.name for one in self.columns)
        if not count:
            raise NothingMeasured(evidence=f"{missing} records", columns=names)
        if count < 3:
            raise TooFewForModel(evidence=f"{count} have all of {names}", what="a correlation")
        held = [column[known] for column in columns]
        if self.method == "spearman":
            sums, means = yield from self._rank(held, count)
        else:
            sums, means = yield from self._moments(held, count)
        return self._result(count, missing, sums, means)

    def _moments(self, held: list[Floats], count: int) -> _Steps:
        z = [scaled(v, one.centre, one.half) for v, one in zip(held, self.columns, strict=True)]
        plan = SumPlan("moments").reals("Σz", self._names, count).reals("Σz²", self._names, count)
        plan.reals("Σzz", self._pairs, count)
        mine = {
            "Σz": [one.sum() for one in z],
            "Σz²": [one @ one for one in z],
            "Σzz": [a @ b for a, b in combinations(z, 2)],
        }
        total = plan.read((yield plan.ask(mine)))
        sums = {(place, place): square for place, square in enumerate(total.exact("Σz²"))}
        sums |= dict(zip(combinations(range(len(z)), 2), total.exact("Σzz"), strict=True))
        return sums, total.exact("Σz")

    def _rank(self, held: list[Floats], count: int) -> _Steps:
        edges = [np.linspace(one.low, one.high, self.bins + 1) for one in self.columns]
        bins = [
            np.clip(np.searchsorted(edge, v, side="right") - 1, 0, self.bins - 1).astype(np.float64)
            for edge, v in zip(edges, held, strict=True)
        ]
        plan = SumPlan("bins")
        for one in self.columns:
            plan.counts(f"bins:{one.name}", [f"bin {place}" for place in range(self.bins)], count)
        mine = {f"bins:{one.name}": tally(v, self.bins) for one, v in zip(self.columns, bins, strict=True)}
        opened = plan.read((yield plan.ask(mine)))
        ranks, squares = [], []
        for one in self.columns:
            counts = opened.counts(f"bins:{one.name}")
            before = np.cumsum([0, *counts[:-1]])
            middle = [
                Fraction(2 * int(b) + c - count, count) for b, c in zip(before, counts, strict=True)
            ]  # in [−1, 1]
            ranks.append(np.array([float(rank) for rank in middle]))
            squares.append(sum((c * rank * rank for c, rank in zip(counts, middle, strict=True)), Fraction(0)))
        plan = SumPlan("ranks").reals("Σrr", self._pairs, count)
        r = [rank[v.astype(np.int64)] for rank, v in zip(ranks, bins, strict=True)]
        total = plan.read((yield plan.ask({"Σrr": [a @ b for a, b in combinations(r, 2)]})))
        sums = {(place, place): square for place, square in enumerate(squares)}
        sums |= dict(zip(combinations(range(len(r)), 2), total.exact("Σrr"), strict=True))
        return sums, [Fraction(0)] * len(r)

    @property
    def _names(self) -> list[str]:
        return [one.name for one in self.columns]

    @property
    def _pairs(self) -> list[str]:
        return [f"{one} × {two}" for one, two in combinations(self._names, 2)]

    def _result(self, count: int, missing: int, sums: _Sums, means: list[Fraction]) -> CorrelationResult:
        spread = {(i, j): float(sums[i, j] - means[i] * means[j] / count) for i, j in sums}
        for place, one in enumerate(self.columns):
            if spread[place, place] < CONSTANT * count:
                raise NoVariation(evidence=f"{count} records have all columns", column=one.name)
        found = []
        for i, j in combinations(range(len(self.columns)), 2):
            r = max(-1.0, min(1.0, spread[i, j] / math.sqrt(spread[i, i] * spread[j, j])))
            found.append(CorrelationFound(self._names[i], self._names[j], r, *_interval(r, count), _p_of(r, count)))
        return CorrelationResult(self.method, count, missing, tuple(found))


def _interval(r: float, count: int) -> tuple[float, float]:
    if count < 4 or abs(r) >= 1:
        return math.nan, math.nan
    z, wide = math.atanh(r), normal_quantile(0.975) / math.sqrt(count - 3)
    return math.tanh(z - wide), math.tanh(z + wide)


def _p_of(r: float, count: int) -> float:
    return t_two_sided(r * math.sqrt((count - 2) / ((1 - r) * (1 + r))), count - 2) if abs(r) < 1 else 0.0

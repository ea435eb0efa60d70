"""Quantiles, each as the one of 2^halvings equal bins of the bounds that it lies in: that width is the error, no more.

`histogram` opens all bins in one sum; `bisection` opens two counts for each quantile in each of `halvings` sums, and
shows nothing of the rest of the distribution. It ends early where a half holds fewer people than may be counted, and
says how far it came. A quantile is the smallest value that ⌈p·n⌉ of n values do not exceed; p is the decimal that is
written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.questions import GroupTooSmall
from p2pfl.errors.statistics import NothingMeasured
from p2pfl.statistics.checks import check_between, check_columns, refuse
from p2pfl.statistics.plan import SumPlan, present
from p2pfl.statistics.question import (
    Cost,
    Floats,
    Integers,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)

MOST_STEPS: Final = {"histogram": 12, "bisection": 30}
MOST_PROBABILITIES: Final = 32


@dataclass(frozen=True, slots=True)
class QuantileFound:
    """The quantile lies in (low, high] (the lowest bin has its lower edge too); `value` is the middle."""

    p: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class QuantilesResult(StatisticResult):
    """`error`: half the width of the widest bin, which no `value` is further from its quantile than."""

    kind: ClassVar[str] = "quantiles"
    column: str
    count: int
    missing: int
    quantiles: tuple[QuantileFound, ...]
    error: float

    def tables(self) -> tuple[TextTable, ...]:
        rows = tuple((one.p, one.value, one.low, one.high) for one in self.quantiles)
        title = f"{self.column}: {self.count} values, {self.missing} missing; to ± {self.error:g}"
        return (TextTable(title, ("p", "quantile", "above", "up to"), rows),)


@dataclass(frozen=True)
class Quantiles(Statistic):
    kind: ClassVar[str] = "quantiles"
    unbounded: ClassVar[str] = ""
    column: Quantity
    probabilities: tuple[float, ...] = (0.25, 0.5, 0.75)
    halvings: int = 8
    method: str = "bisection"

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables)
        if self.method not in MOST_STEPS:
            refuse(self.kind, f"no method {self.method}: known are {', '.join(MOST_STEPS)}")
        check_between(self.kind, "halvings", self.halvings, 1, MOST_STEPS[self.method])
        check_between(self.kind, "the number of probabilities", len(self.probabilities), 1, MOST_PROBABILITIES)
        for p in self.probabilities:
            check_between(self.kind, "a probability", p, 0, 1)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.column,)

    @property
    def bins(self) -> int:
        return 1 << self.halvings

    def cost(self) -> Cost:
        if self.method == "histogram":
            return Cost(2, 3 + self.bins)
        return Cost(1 + self.halvings, 3 + 2 * self.halvings * len(self.probabilities))

    def steps(self, table: SiteTable) -> Steps:
        values = table.read(self.column)
        known = values[present(values)]
        plan = SumPlan("who").counts("records", ("", "known", "missing"), moves=1)
        plan.total(("records", 0), [("records", 1), ("records", 2)])
        total = plan.read((yield plan.ask({"records": [values.size, known.size, values.size - known.size]})))
        _, count, missing = total.counts("records")
        if not count:
            raise NothingMeasured(evidence=f"{missing} records", columns=self.column.name)
        ranks = [max(math.ceil(Fraction(repr(p)) * count), 1) for p in self.probabilities]
        mine = self._bins_of(known)
        if self.method == "histogram":
            labels = [f"bin {place}" for place in range(self.bins)]
            plan = SumPlan("bins").counts("bins", labels, table.most(count), moves=1)
            opened = plan.read((yield plan.ask({"bins": np.bincount(mine, minlength=self.bins)}))).counts("bins")
            places = [min(int(np.searchsorted(np.cumsum(opened), rank)), self.bins - 1) for rank in ranks]
            spans = [(place, place + 1, 0) for place in places]
        else:
            spans = [(0, self.bins, rank) for rank in ranks]  # the bins from, before; the rank among those
            for step in range(self.halvings):
                plan = SumPlan(f"halves {step + 1}")
                labels = [f"{place} {half}" for place in range(len(spans)) for half in ("lower", "upper")]
                plan.counts("halves", labels, table.most(count), moves=math.sqrt(len(spans)))
                halves = [_halves(mine, first, last) for first, last, _ in spans]
                try:
                    opened = plan.read((yield plan.ask({"halves": halves}))).counts("halves")
                except GroupTooSmall:
                    if not step:
                        raise
                    break
                spans = [_narrowed(span, opened[2 * place]) for place, span in enumerate(spans)]
        return self._result(count, missing, [(first, last) for first, last, _ in spans])

    def _edges(self) -> Floats:
        return np.linspace(self.column.low, self.column.high, self.bins + 1)

    def _bins_of(self, known: Floats) -> Integers:
        """(n,) the bin of each value: (edge, next edge], the lowest with its lower edge."""
        return np.maximum(np.searchsorted(self._edges(), known, side="left") - 1, 0).astype(np.int64)

    def _result(self, count: int, missing: int, spans: list[tuple[int, int]]) -> QuantilesResult:
        """`spans`: of each quantile, the bins that it lies in: from, and before."""
        edges = self._edges().tolist()
        found = [
            QuantileFound(p, (edges[first] + edges[last]) / 2, edges[first], edges[last])
            for p, (first, last) in zip(self.probabilities, spans, strict=True)
        ]
        width = (self.column.high - self.column.low) / self.bins
        widest = max(last - first for first, last in spans) * width
        return QuantilesResult(self.column.name, count, missing, tuple(found), widest / 2)


def _halves(bins: Integers, first: int, last: int) -> tuple[int, int]:
    """How many lie in the lower and in the upper half of the bins from `first` to before `last`."""
    middle = (first + last) // 2
    return int(((bins >= first) & (bins < middle)).sum()), int(((bins >= middle) & (bins < last)).sum())


def _narrowed(span: tuple[int, int, int], lower: int) -> tuple[int, int, int]:
    first, last, rank = span
    middle = (first + last) // 2
    return (first, middle, rank) if rank <= lower else (middle, last, rank - lower)

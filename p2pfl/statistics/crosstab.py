"""Two codes against each other: counts, χ², Fisher's exact test, and which of the two may be read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.statistics import NothingMeasured
from p2pfl.statistics.checks import check_columns, refuse
from p2pfl.statistics.plan import SumPlan, cells, present
from p2pfl.statistics.question import (
    Cost,
    Factor,
    Floats,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)
from p2pfl.statistics.tails import chi2_tail, fisher_two_sided, normal_quantile

FEW: Final = 5.0  # expected in a cell: below it χ² is no good approximation (Cochran 1954)
MOST_FEW: Final = 0.2  # share of cells with fewer, in a table beyond 2×2


@dataclass(frozen=True)
class CrosstabResult(StatisticResult):
    """`counts` row by row. `chi2`: Pearson's, without a correction, over the rows and columns that are not empty.

    test       which p value may be read: "chi2", "fisher" (2×2 with an expected count below 5), or "none" (a larger
               table with too few in its cells: join levels; or only one row or column that is not empty)
    fisher_p, odds_ratio  of 2×2 tables alone; with Woolf's 95 % interval
    """

    kind: ClassVar[str] = "crosstab"
    rows: str
    columns: str
    row_levels: tuple[str, ...]
    column_levels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    missing: int
    chi2: float
    freedom: int
    p: float
    cramers_v: float
    least_expected: float
    fisher_p: float
    odds_ratio: float
    odds_ratio_low: float
    odds_ratio_high: float
    test: str

    def tables(self) -> tuple[TextTable, ...]:
        header = (f"{self.rows} \\ {self.columns}", *self.column_levels, "all")
        body: list[tuple[str | float | int | None, ...]] = [
            (level, *counts, sum(counts)) for level, counts in zip(self.row_levels, self.counts, strict=True)
        ]
        sums = [sum(column) for column in zip(*self.counts, strict=True)]
        body.append(("all", *sums, sum(sums)))
        tests = [("χ²", self.chi2, self.freedom, self.p), ("Fisher's exact", None, None, self.fisher_p)]
        title = {"chi2": "read χ²", "fisher": "read Fisher's", "none": "too few for either"}[self.test]
        return (
            TextTable(f"{self.missing} missing", header, tuple(body)),
            TextTable(title, ("test", "statistic", "degrees of freedom", "p"), tuple(tests)),
        )


@dataclass(frozen=True)
class Crosstab(Statistic):
    kind: ClassVar[str] = "crosstab"
    unbounded: ClassVar[str] = ""
    held: ClassVar[tuple[str, ...]] = ("odds_ratio_low", "odds_ratio_high")
    not_held: ClassVar[tuple[str, ...]] = ("chi2", "p", "cramers_v", "fisher_p")
    rows: Factor
    columns: Factor

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables, least=2)
        if min(len(self.rows.levels), len(self.columns.levels)) < 2:
            refuse(self.kind, "each of the two columns must have two levels or more")

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.rows, self.columns)

    def cost(self) -> Cost:
        return Cost(1, self._plan().width)

    def steps(self, table: SiteTable) -> Steps:
        rows, columns = table.read(self.rows), table.read(self.columns)
        known = present(rows, columns)
        counts = cells([rows[known], columns[known]], self._shape)
        plan = self._plan()
        mine = {
            "records": [known.size, int(known.sum()), int((~known).sum())],
            "cells": counts,
            "rows": counts.sum(1),
            "columns": counts.sum(0),
        }
        total = plan.read((yield plan.ask(mine)))
        _, complete, missing = total.counts("records")
        if not complete:
            raise NothingMeasured(evidence=f"{missing} records", columns=f"{self.rows.name} and {self.columns.name}")
        opened = np.array(total.counts("cells"), np.float64).reshape(self._shape)
        return self._result(opened, missing, total.noise("cells")[0])

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.rows.levels), len(self.columns.levels)

    def _plan(self) -> SumPlan:
        down, across = self._shape
        plan = SumPlan("crosstab").counts("records", ("", "complete", "missing"), moves=1)
        plan.counts("cells", [f"{one} × {two}" for one in self.rows.levels for two in self.columns.levels], moves=1)
        plan.counts("rows", self.rows.levels, moves=1).counts("columns", self.columns.levels, moves=1)
        plan.total(("records", 0), [("records", 1), ("records", 2)])
        plan.total(("records", 1), [("rows", row) for row in range(down)])
        plan.total(("records", 1), [("columns", column) for column in range(across)])
        for row in range(down):
            plan.total(("rows", row), [("cells", row * across + column) for column in range(across)])
        for column in range(across):
            plan.total(("columns", column), [("cells", row * across + column) for row in range(down)])
        return plan

    def _result(self, counts: Floats, missing: int, noise: float) -> CrosstabResult:
        """noise: variance of that on each cell."""
        chi2, freedom, least, test = pearson(counts)
        n, ratio, fisher = counts.sum(), (math.nan, math.nan, math.nan), math.nan
        if self._shape == (2, 2):
            (a, b), (c, d) = (tuple(map(int, row)) for row in counts)
            ratio, fisher = odds_ratio(a, b, c, d, noise), fisher_two_sided(a, b, c, d)
        smaller = min(int((counts.sum(axis) > 0).sum()) for axis in (0, 1)) - 1
        return CrosstabResult(
            rows=self.rows.name,
            columns=self.columns.name,
            row_levels=self.rows.levels,
            column_levels=self.columns.levels,
            counts=tuple(tuple(map(int, row)) for row in counts),
            missing=missing,
            chi2=chi2,
            freedom=freedom,
            p=chi2_tail(chi2, freedom) if freedom else math.nan,
            cramers_v=math.sqrt(chi2 / n / smaller) if smaller > 0 else math.nan,
            least_expected=least,
            fisher_p=fisher,
            odds_ratio=ratio[0],
            odds_ratio_low=ratio[1],
            odds_ratio_high=ratio[2],
            test=test,
        )


def pearson(counts: Floats) -> tuple[float, int, float, str]:
    """(χ², degrees of freedom, smallest expected count, the test to read), over rows and columns that are not empty."""
    held = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    if min(held.shape) < 2:
        return math.nan, 0, math.nan, "none"
    expected = np.outer(held.sum(1), held.sum(0)) / held.sum()
    chi2 = float(((held - expected) ** 2 / expected).sum())
    least = float(expected.min())
    if held.shape == (2, 2):
        test = "fisher" if least < FEW and counts.shape == (2, 2) else "chi2"
    else:
        test = "chi2" if least >= 1 and float((expected < FEW).mean()) <= MOST_FEW else "none"
    return chi2, (held.shape[0] - 1) * (held.shape[1] - 1), least, test


def odds_ratio(a: int, b: int, c: int, d: int, noise: float = 0.0) -> tuple[float, float, float]:
    """ad / bc with Woolf's 95 % interval, which holds noise of that variance on each cell; NaN where one is empty."""
    if not min(a, b, c, d):
        return math.nan, math.nan, math.nan
    spread = sum(1 / cell + noise / cell**2 for cell in (a, b, c, d))
    log, wide = math.log(a * d / (b * c)), normal_quantile(0.975) * math.sqrt(spread)
    return math.exp(log), math.exp(log - wide), math.exp(log + wide)

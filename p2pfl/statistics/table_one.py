"""Table one of a study: every column by group, with standardised differences.

A difference is Austin's (2009): of means over the root of the mean variance; of codes the Mahalanobis distance of their
shares (Yang and Dalton 2012). With more than two groups it is the mean over all pairs, as R's tableone has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, ClassVar

import numpy as np

from p2pfl.errors.statistics import EmptyGroup
from p2pfl.statistics.checks import check_columns, refuse
from p2pfl.statistics.describe import Moments
from p2pfl.statistics.groups import add_groups, add_quantity, grouped, moments_by_group, quantity_counts
from p2pfl.statistics.plan import SumPlan, cells, present
from p2pfl.statistics.question import (
    Ask,
    Cost,
    Factor,
    Floats,
    OpenedSum,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Truths,
    Variable,
)


@dataclass(frozen=True, slots=True)
class QuantityByGroup:
    """By group: how many have a value, mean, standard deviation; `difference` is standardised."""

    name: str
    counts: tuple[int, ...]
    missing: tuple[int, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    difference: float


@dataclass(frozen=True, slots=True)
class FactorByGroup:
    """By level, and in it by group."""

    name: str
    levels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    missing: tuple[int, ...]
    difference: float


@dataclass(frozen=True)
class TableOneResult(StatisticResult):
    """`complete`: of the records with every value; `left_out`: how many others, None where all records are in it."""

    kind: ClassVar[str] = "table-one"
    group: str
    groups: tuple[str, ...]
    records: tuple[int, ...]
    without_group: int
    quantities: tuple[QuantityByGroup, ...]
    factors: tuple[FactorByGroup, ...]
    complete: bool = False
    left_out: int | None = None

    def tables(self) -> tuple[TextTable, ...]:
        rows: list[tuple[str | float | int | None, ...]] = [("records", *self.records, None)]
        for one in self.quantities:
            shown = (f"{mean:.4g} ± {sd:.4g}" for mean, sd in zip(one.means, one.sds, strict=True))
            rows.append((f"{one.name}, mean ± sd", *shown, one.difference))
            rows += [] if self.complete else [("  missing", *one.missing, None)]
        for factor in self.factors:
            rows.append((factor.name, *(None for _ in self.groups), factor.difference))
            for level, counts, shares in zip(factor.levels, factor.counts, factor.shares, strict=True):
                shown = (f"{n} ({share:.1%})" for n, share in zip(counts, shares, strict=True))
                rows.append((f"  {level}", *shown))
                rows[-1] = (*rows[-1], None)
            rows += [] if self.complete else [("  missing", *factor.missing, None)]
        title = f"by {self.group}; {self._others}"
        return (TextTable(title, ("", *self.groups, "standardised difference"), tuple(rows)),)

    @property
    def _others(self) -> str:
        if not self.complete:
            return f"{self.without_group} records without it"
        return f"{self.left_out} records with a value missing are left out"


@dataclass(frozen=True)
class TableOne(Statistic):
    """Each of `columns` by the levels of `group`.

    With `complete` over the records that have every value: a missing value is counted once, and not by column and
    group. How many are left out is counted first, and too few end the question: a table without them, less one that
    holds them, is theirs (docs/adr/0097).
    """

    kind: ClassVar[str] = "table-one"
    unbounded: ClassVar[str] = ""
    group: Factor
    columns: tuple[Variable, ...]
    complete: bool = False

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables, least=2)
        if len(self.group.levels) < 2:
            refuse(self.kind, f"{self.group.name} must have two levels or more")

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.group, *self.columns)

    @property
    def together(self) -> tuple[tuple[Variable, ...], ...]:
        return (self.variables,) if self.complete else tuple((self.group, one) for one in self.columns)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return tuple(one for one in self.columns if isinstance(one, Quantity))

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(one for one in self.columns if isinstance(one, Factor))

    def cost(self) -> Cost:
        moments = 2 * len(self.quantities) * len(self.group.levels)
        first = self._left_out().width if self.complete else 0
        return Cost(1 + bool(moments) + bool(first), first + self._who().width + moments)

    def steps(self, table: SiteTable) -> Steps:
        codes = table.read(self.group)
        columns, left_out = {one.name: table.read(one) for one in self.columns}, None
        if self.complete:
            known = present(codes, *columns.values())
            left_out = yield from self._count_left_out(known)
            codes, columns = codes[known], {name: values[known] for name, values in columns.items()}
        who, mine = self._who(), grouped(codes, self.group)
        for one in self.quantities:
            mine |= quantity_counts(columns[one.name], codes, one, self.group)
        for factor in self.factors:
            values = np.where(np.isnan(columns[factor.name]), len(factor.levels), columns[factor.name])
            of = present(codes)
            mine[f"levels:{factor.name}"] = cells([codes[of], values[of]], self._shape(factor))
        total = who.read((yield who.ask(mine)))
        *groups, without = total.counts("groups")
        for level, count in zip(self.group.levels, groups, strict=True):
            if not count:
                raise EmptyGroup(evidence=f"{sum(groups)} records in the others", group=level, column=self.group.name)
        moments: dict[str, tuple[Moments, ...]] = {}
        if self.quantities:
            moments = yield from moments_by_group(columns, self.quantities, codes, self.group, total, table)
        return TableOneResult(
            group=self.group.name,
            groups=self.group.levels,
            records=tuple(groups),
            without_group=without,
            quantities=tuple(_quantity(one, moments[one.name], groups) for one in self.quantities),
            factors=tuple(
                _factor(one, np.array(total.counts(f"levels:{one.name}")).reshape(self._shape(one)))
                for one in self.factors
            ),
            complete=self.complete,
            left_out=left_out,
        )

    def _left_out(self) -> SumPlan:
        plan = SumPlan("left out").counts("records", ("", "complete", "with a value missing"), moves=1)
        return plan.total(("records", 0), [("records", 1), ("records", 2)])

    def _count_left_out(self, known: Truths) -> Generator[Ask, OpenedSum, int]:
        """How many records lack a value."""
        plan = self._left_out()
        opened = yield plan.ask({"records": [known.size, int(known.sum()), int((~known).sum())]})
        return plan.read(opened).counts("records")[2]

    def _shape(self, factor: Factor) -> tuple[int, int]:
        return len(self.group.levels), len(factor.levels) + 1

    def _who(self) -> SumPlan:
        plan = SumPlan("who")
        add_groups(plan, self.group)
        for one in self.quantities:
            add_quantity(plan, one, self.group)
        for factor in self.factors:
            inner = (*factor.levels, "missing")
            labels = [f"{group}, {level}" for group in self.group.levels for level in inner]
            plan.counts(f"levels:{factor.name}", labels, moves=1)
            for place in range(len(self.group.levels)):
                parts = [(f"levels:{factor.name}", place * len(inner) + level) for level in range(len(inner))]
                plan.total(("groups", place), parts)
        return plan


def _quantity(quantity: Quantity, moments: tuple[Moments, ...], groups: list[int]) -> QuantityByGroup:
    missing = tuple(max(group - one.count, 0) for group, one in zip(groups, moments, strict=True))
    counts, means = tuple(one.count for one in moments), tuple(one.mean for one in moments)
    sds = tuple(one.sd for one in moments)
    return QuantityByGroup(quantity.name, counts, missing, means, sds, _mean_over_pairs(moments, _of_means))


def _factor(factor: Factor, counts: Floats) -> FactorByGroup:
    known = counts[:, :-1]
    with np.errstate(invalid="ignore"):
        shares = known / known.sum(1, keepdims=True)
    return FactorByGroup(
        name=factor.name,
        levels=factor.levels,
        counts=tuple(tuple(map(int, level)) for level in known.T),
        shares=tuple(tuple(map(float, level)) for level in shares.T),
        missing=tuple(map(int, counts[:, -1])),
        difference=_mean_over_pairs(tuple(shares), _of_shares),
    )


def _mean_over_pairs(groups: tuple[Any, ...], distance: Callable[[Any, Any], float]) -> float:
    return fmean(distance(one, other) for one, other in combinations(groups, 2))


def _of_means(one: Moments, other: Moments) -> float:
    spread = math.sqrt((one.variance + other.variance) / 2)
    return abs(one.mean - other.mean) / spread if spread > 0 else math.nan


def _of_shares(one: Floats, other: Floats) -> float:
    """√(δᵀ S⁺ δ) over all levels: S is singular along the ones, and levels that neither group has count for nothing."""
    if not np.isfinite(one).all() or not np.isfinite(other).all():
        return math.nan
    spread = (np.diag(one) - np.outer(one, one) + np.diag(other) - np.outer(other, other)) / 2
    apart = one - other
    return math.sqrt(max(float(apart @ np.linalg.pinv(spread, hermitian=True) @ apart), 0.0))

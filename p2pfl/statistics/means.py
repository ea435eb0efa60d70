"""Do means differ between groups: Welch's t for two, for more the analysis of variance, classical and Welch's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from p2pfl.errors.statistics import EmptyGroup, NoVariation, TooFewForModel
from p2pfl.statistics.checks import check_columns, refuse
from p2pfl.statistics.correlation import CONSTANT
from p2pfl.statistics.describe import Moments
from p2pfl.statistics.groups import GroupSteps, add_groups, add_quantity, grouped, moments_by_group, quantity_counts
from p2pfl.statistics.plan import SumPlan
from p2pfl.statistics.question import (
    Cost,
    Factor,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)
from p2pfl.statistics.tails import f_tail, t_quantile, t_two_sided


@dataclass(frozen=True, slots=True)
class GroupMean:
    level: str
    count: int
    mean: float
    sd: float


def group_rows(groups: tuple[GroupMean, ...]) -> TextTable:
    return TextTable("", ("group", "count", "mean", "sd"), tuple((g.level, g.count, g.mean, g.sd) for g in groups))


@dataclass(frozen=True)
class TTestResult(StatisticResult):
    """`difference`: first group less second, with its 95 % interval; `hedges_g`: over the pooled sd, corrected."""

    kind: ClassVar[str] = "ttest"
    column: str
    groups: tuple[GroupMean, ...]
    missing: int
    difference: float
    low: float
    high: float
    t: float
    freedom: float
    p: float
    hedges_g: float

    def tables(self) -> tuple[TextTable, ...]:
        row = (self.difference, self.low, self.high, self.t, self.freedom, self.p)
        header = ("difference", "95 % from", "to", "Welch's t", "degrees of freedom", "p")
        return group_rows(self.groups), TextTable(f"{self.column}, {self.missing} missing", header, (row,))


@dataclass(frozen=True)
class AnovaResult(StatisticResult):
    """F of equal variances, and Welch's, which does without; η² is the share of the variance that groups explain."""

    kind: ClassVar[str] = "anova"
    column: str
    groups: tuple[GroupMean, ...]
    missing: int
    f: float
    freedom_between: int
    freedom_within: int
    p: float
    eta_squared: float
    welch_f: float
    welch_freedom: float
    welch_p: float

    def tables(self) -> tuple[TextTable, ...]:
        rows = (
            ("equal variances", self.f, self.freedom_between, self.freedom_within, self.p),
            ("Welch", self.welch_f, self.freedom_between, self.welch_freedom, self.welch_p),
        )
        header = ("variances", "F", "between", "within", "p")
        return group_rows(self.groups), TextTable(f"{self.column}, {self.missing} missing", header, rows)


@dataclass(frozen=True)
class _ByGroup(Statistic):
    """A measured column by `levels` of `group`; () are all of them."""

    unbounded: ClassVar[str] = ""
    column: Quantity
    group: Factor
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables, least=2)
        strange = [one for one in self.levels if one not in self.group.levels]
        if strange or len(set(self.levels)) < len(self.levels):
            told = f"no level {strange[0]}" if strange else "one level twice"
            refuse(self.kind, f"{self.group.name} has {told}: known are {', '.join(self.group.levels)}")

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.column, self.group)

    @property
    def compared(self) -> tuple[str, ...]:
        return self.levels or self.group.levels

    def cost(self) -> Cost:
        return Cost(2, self._who().width + 2 * len(self.group.levels))

    def _who(self) -> SumPlan:
        plan = SumPlan("who")
        add_groups(plan, self.group)
        add_quantity(plan, self.column, self.group)
        return plan

    def _moments(self, table: SiteTable) -> GroupSteps:
        """The moments of each group that is compared, and under "" of nothing but how many have no value.

        Raises EmptyGroup, TooFewForModel, NoVariation.
        """
        values, codes, who = table.read(self.column), table.read(self.group), self._who()
        mine = grouped(codes, self.group) | quantity_counts(values, codes, self.column, self.group)
        total = who.read((yield who.ask(mine)))
        known = dict(zip(self.group.levels, total.counts(f"known:{self.column.name}"), strict=True))
        for level in self.compared:
            if not known[level]:
                told = ", ".join(f"{one}: {known[one]}" for one in self.compared)
                raise EmptyGroup(
                    evidence=f"with a value of {self.column.name}: {told}", group=level, column=self.group.name
                )
            if known[level] < 2:
                raise TooFewForModel(evidence="one record", what=f"a variance of group {level} of {self.group.name}")
        all_of = yield from moments_by_group(
            {self.column.name: values}, (self.column,), codes, self.group, total, table
        )
        found = dict(zip(self.group.levels, all_of[self.column.name], strict=True))
        compared = tuple(found[level] for level in self.compared)
        if all(one.variance < CONSTANT * self.column.half**2 for one in compared):
            raise NoVariation(evidence="in each of the groups", column=self.column.name)
        left = total.count("records") - sum(one.count for one in compared)
        return {self.column.name: compared, "": (Moments(left, math.nan, math.nan),)}

    def _means(self, moments: tuple[Moments, ...]) -> tuple[GroupMean, ...]:
        named = zip(self.compared, moments, strict=True)
        return tuple(GroupMean(level, one.count, one.mean, one.sd) for level, one in named)


@dataclass(frozen=True)
class TTest(_ByGroup):
    """Welch's t test of two levels."""

    kind: ClassVar[str] = "ttest"
    held: ClassVar[tuple[str, ...]] = ("low", "high", "t", "freedom", "p")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.compared) != 2:
            refuse(self.kind, f"name two levels of {self.group.name}: known are {', '.join(self.group.levels)}")

    def steps(self, table: SiteTable) -> Steps:
        found = yield from self._moments(table)
        one, other = found[self.column.name]
        parts = one.mean_variance, other.mean_variance
        error = math.sqrt(sum(parts))
        freedom = sum(parts) ** 2 / (parts[0] ** 2 / one.freedom + parts[1] ** 2 / other.freedom)
        difference, wide = one.mean - other.mean, t_quantile(0.975, freedom) * error
        within = one.count + other.count - 2
        pooled = math.sqrt(((one.count - 1) * one.variance + (other.count - 1) * other.variance) / within)
        return TTestResult(
            column=self.column.name,
            groups=self._means((one, other)),
            missing=found[""][0].count,
            difference=difference,
            low=difference - wide,
            high=difference + wide,
            t=difference / error,
            freedom=freedom,
            p=t_two_sided(difference / error, freedom),
            hedges_g=difference / pooled * (1 - 3 / (4 * within - 1)),
        )


@dataclass(frozen=True)
class Anova(_ByGroup):
    """One-way analysis of variance over the levels."""

    kind: ClassVar[str] = "anova"
    held: ClassVar[tuple[str, ...]] = ("welch_f", "welch_freedom", "welch_p")
    not_held: ClassVar[tuple[str, ...]] = ("f", "p", "eta_squared")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.compared) < 2:
            refuse(self.kind, f"name two levels or more of {self.group.name}")

    def steps(self, table: SiteTable) -> Steps:
        found = yield from self._moments(table)
        groups = found[self.column.name]
        n, k = sum(one.count for one in groups), len(groups)
        mean = sum(one.count * one.mean for one in groups) / n
        between = sum(one.count * (one.mean - mean) ** 2 for one in groups)
        within = sum((one.count - 1) * one.variance for one in groups)
        f = between / (k - 1) / (within / (n - k))
        welch_f, welch_freedom = _welch(groups)
        return AnovaResult(
            column=self.column.name,
            groups=self._means(groups),
            missing=found[""][0].count,
            f=f,
            freedom_between=k - 1,
            freedom_within=n - k,
            p=f_tail(f, k - 1, n - k),
            eta_squared=between / (between + within),
            welch_f=welch_f,
            welch_freedom=welch_freedom,
            welch_p=f_tail(welch_f, k - 1, welch_freedom) if math.isfinite(welch_f) else math.nan,
        )


def _welch(groups: tuple[Moments, ...]) -> tuple[float, float]:
    """Welch's F and its degrees of freedom within (Welch 1951); NaN where a group does not vary."""
    if any(one.variance <= 0 for one in groups):
        return math.nan, math.nan
    k = len(groups)
    weights = [1 / one.mean_variance for one in groups]
    whole = sum(weights)
    mean = sum(w * one.mean for w, one in zip(weights, groups, strict=True)) / whole
    lost = sum((1 - w / whole) ** 2 / one.freedom for w, one in zip(weights, groups, strict=True))
    above = sum(w * (one.mean - mean) ** 2 for w, one in zip(weights, groups, strict=True)) / (k - 1)
    return above / (1 + 2 * (k - 2) / (k * k - 1) * lost), (k * k - 1) / (3 * lost)

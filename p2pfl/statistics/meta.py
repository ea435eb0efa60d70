"""Meta-analysis: the sites' own estimates, opened under their names where they agree to that, and all combined.

The only statistic that opens what is a single site's. A site that does not agree leaves zeros, as does one with too few
patients in a group, or for an estimate. Fixed effects; random effects by DerSimonian and Laird (1986), also with
Hartung and Knapp's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.statistics import NobodyShows
from p2pfl.statistics.checks import check_columns, check_level, refuse
from p2pfl.statistics.glm import is_any
from p2pfl.statistics.plan import SumPlan, present, scaled
from p2pfl.statistics.question import (
    MOST_RECORDS,
    MOST_SITES,
    Cost,
    Factor,
    Floats,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)
from p2pfl.statistics.tails import chi2_tail, normal_quantile, t_quantile

MEASURES: Final = ("mean", "difference", "log-odds-ratio")
MOST_LOG_ODDS: Final = 64.0  # of tables of at most MOST_RECORDS with half a person more in each cell
MOST_VARIANCE: Final = 16.0  # of an estimate, with numbers in [−1, 1] or of such a table


@dataclass(frozen=True, slots=True)
class SiteEstimate:
    """What one site showed: its place among the sites, how many records in all and in each group, estimate, error.

    name   of the site, once it is known (`StatisticResult.named`)
    """

    site: int
    counts: tuple[int, ...]
    estimate: float
    se: float
    weight_fixed: float
    weight_random: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Combined:
    estimate: float
    se: float
    low: float
    high: float


@dataclass(frozen=True)
class MetaResult(StatisticResult):
    """`q`, `i_squared`, `tau_squared`: how much the sites differ beyond chance (Cochran; Higgins and Thompson 2002)."""

    kind: ClassVar[str] = "meta"
    measure: str
    sites: tuple[SiteEstimate, ...]
    fixed: Combined
    random: Combined
    hartung_knapp: Combined
    q: float
    freedom: int
    p: float
    i_squared: float
    tau_squared: float

    def named(self, sites: Sequence[str]) -> MetaResult:
        return replace(self, sites=tuple(replace(one, name=sites[one.site]) for one in self.sites))

    def tables(self) -> tuple[TextTable, ...]:
        header = ("site", "records", "estimate", "se", "weight, fixed", "weight, random")
        rows = tuple(
            (one.name or one.site, sum(one.counts), one.estimate, one.se, one.weight_fixed, one.weight_random)
            for one in self.sites
        )
        effects = tuple(
            (name, one.estimate, one.se, one.low, one.high)
            for name, one in (
                ("fixed", self.fixed),
                ("random", self.random),
                ("random, Hartung-Knapp", self.hartung_knapp),
            )
        )
        spread = (self.q, self.freedom, self.p, self.i_squared, self.tau_squared)
        return (
            TextTable(self.measure, header, rows),
            TextTable("combined", ("effects", "estimate", "se", "95 % from", "to"), effects),
            TextTable("heterogeneity", ("Q", "degrees of freedom", "p", "I²", "τ²"), (spread,)),
        )


@dataclass(frozen=True)
class Meta(Statistic):
    """Of the sites' own estimates.

    measure    mean: of the number `column`; difference: of its means, first of `levels` of `group` less second;
               log-odds-ratio: of the `positive` levels of the code `column`, first of `levels` against second
    """

    kind: ClassVar[str] = "meta"
    measure: str
    column: Quantity | Factor
    group: Factor | None = None
    levels: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables)
        if self.measure not in MEASURES:
            refuse(self.kind, f"no measure {self.measure}: known are {', '.join(MEASURES)}")
        if isinstance(self.column, Quantity) is (self.measure == "log-odds-ratio"):
            refuse(self.kind, f"{self.measure} takes a column of {'codes' if self.measure[0] == 'l' else 'numbers'}")
        if isinstance(self.column, Factor):
            check_level(self.kind, self.column, self.positive)
        if (self.group is None) is not (self.measure == "mean"):
            refuse(self.kind, f"{self.measure} takes {'no group' if self.measure == 'mean' else 'a group'}")
        if self.group is not None and (len(set(self.levels)) != 2 or not set(self.levels) <= set(self.group.levels)):
            refuse(self.kind, f"name two levels of {self.group.name}: known are {', '.join(self.group.levels)}")

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.column,) if self.group is None else (self.column, self.group)

    @property
    def together(self) -> tuple[tuple[Variable, ...], ...]:
        """None: each site has its own slot."""
        return ()

    @property
    def _labels(self) -> tuple[str, ...]:
        """What the records of a site are counted by."""
        if self.measure == "log-odds-ratio":
            return tuple(f"{level} {end}" for level in self.levels for end in ("with", "without"))
        return self.levels or ("all",)

    def cost(self) -> Cost:
        return Cost(2, MOST_SITES * (1 + len(self._labels) + 2))

    def steps(self, table: SiteTable) -> Steps:
        counts, estimate, variance = self._own(table)
        shows = table.shows_own and (not table.least or (variance > 0 and self._is_enough(table, counts)))
        who, widths = SumPlan("who shows", own=True), len(self._labels)
        places = [f"site {place}" for place in range(table.sites)]
        who.integers("shows", places, 1)
        who.counts("records", [f"{place}, {label}" for place in places for label in self._labels], MOST_RECORDS)
        mine = np.zeros((table.sites, 1 + widths))
        mine[table.site] = (1, *counts) if shows else 0
        total = who.read((yield who.ask({"shows": mine[:, 0], "records": mine[:, 1:]})))
        showing = [place for place, shown in enumerate(total.counts("shows")) if shown == 1]
        if len(showing) < 2:
            raise NobodyShows(evidence=f"{len(showing)} of {table.sites} sites")
        plan = (
            SumPlan("estimates", own=True)
            .reals("estimate", places, self._most())
            .reals("variance", places, MOST_VARIANCE)
        )
        own = np.zeros((2, table.sites))
        own[:, table.site] = (estimate, variance) if shows else 0
        opened = plan.read((yield plan.ask({"estimate": own[0], "variance": own[1]})))
        records = np.array(total.counts("records")).reshape(table.sites, widths)
        least = 2.0 ** -plan.bits("variance")  # what fixed point tells of a smaller one
        variances = [max(one, least) for one in opened.reals("variance")]
        told = [self._back(opened.reals("estimate"), "estimate"), self._back(variances, "variance")]
        return self._combined(showing, records.tolist(), np.array(told[0]), np.array(told[1]))

    def _is_enough(self, table: SiteTable, counts: list[int]) -> bool:
        """No count of a few patients would end the question for all: such a site shows nothing."""
        patients = [self._own(one)[0] for one in table.by_layer()] or [counts]
        return all(
            not n or max(each) >= table.least for n, each in zip(counts, zip(*patients, strict=True), strict=True)
        )

    def _most(self) -> float:
        return MOST_LOG_ODDS if self.measure == "log-odds-ratio" else 2.0

    def _own(self, table: SiteTable) -> tuple[list[int], float, float]:
        """(counts, estimate, its variance) of this site's records, numbers in z; variance 0 where there is none."""
        values = table.read(self.column)
        of = np.zeros(values.size) if self.group is None else table.read(self.group)
        known = present(values, of)
        places = [0] if self.group is None else [self.group.levels.index(level) for level in self.levels]
        groups = [values[known & (of == place)] for place in places]
        if isinstance(self.column, Factor):
            column = self.column
            split = [is_any(one, column, self.positive) for one in groups]
            counts = [int(n) for one in split for n in (one.sum(), one.size - one.sum())]
            if not min(one.size for one in groups):
                return counts, 0.0, 0.0
            a, b, c, d = (n + (0.5 if 0 in counts else 0.0) for n in counts)  # Haldane and Anscombe
            return counts, math.log(a * d / (b * c)), 1 / a + 1 / b + 1 / c + 1 / d
        counts = [one.size for one in groups]
        if min(counts) < 2:
            return counts, 0.0, 0.0
        z = [scaled(one, self.column.centre, self.column.half) for one in groups]
        means, variances = [float(one.mean()) for one in z], [float(one.var(ddof=1) / one.size) for one in z]
        return counts, means[0] - sum(means[1:]), sum(variances)

    def _back(self, values: list[float], name: str) -> list[float]:
        """Numbers in z, in the column's own unit."""
        if isinstance(self.column, Factor):
            return values
        half, shift = self.column.half, self.column.centre if self.measure == "mean" else 0.0
        return [half * half * one if name == "variance" else half * one + shift for one in values]

    def _combined(
        self, showing: list[int], counts: list[list[int]], estimates: Floats, variances: Floats
    ) -> MetaResult:
        y, v, freedom = estimates[showing], variances[showing], len(showing) - 1
        fixed = 1 / v
        centre = float(fixed @ y / fixed.sum())
        q = float(fixed @ (y - centre) ** 2)
        apart = float(fixed.sum() - (fixed @ fixed) / fixed.sum())  # 0 where one site's weight is all
        tau = max((q - freedom) / apart, 0.0) if apart > 0 else 0.0
        random = 1 / (v + tau)
        mean = float(random @ y / random.sum())
        se, wide = 1 / math.sqrt(random.sum()), normal_quantile(0.975)
        knapp = math.sqrt(float(random @ (y - mean) ** 2) / freedom) * se
        rows = [
            SiteEstimate(
                place,
                tuple(counts[place]),
                float(y[at]),
                math.sqrt(v[at]),
                float(fixed[at] / fixed.sum()),
                float(random[at] / random.sum()),
            )
            for at, place in enumerate(showing)
        ]
        return MetaResult(
            measure=self.measure,
            sites=tuple(rows),
            fixed=_combine(centre, 1 / math.sqrt(fixed.sum()), wide),
            random=_combine(mean, se, wide),
            hartung_knapp=_combine(mean, knapp, t_quantile(0.975, freedom)),
            q=q,
            freedom=freedom,
            p=chi2_tail(q, freedom),
            i_squared=max((q - freedom) / q, 0.0) if q > 0 else 0.0,
            tau_squared=tau,
        )


def _combine(estimate: float, se: float, wide: float) -> Combined:
    return Combined(estimate, se, estimate - wide * se, estimate + wide * se)

"""The columns of a regression: z = (x − centre) / half of numbers, 0 or 1 for each level of a code but its first.

All steps are taken in z, whose scale is the schema's and so public, and never that of the data; what is told is in the
columns' own units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Final

import numpy as np

from p2pfl.errors.statistics import EmptyGroup, NothingMeasured, TooFewForModel
from p2pfl.statistics.checks import check_columns, refuse
from p2pfl.statistics.plan import SumPlan, Totals, cells, present, scaled, tally
from p2pfl.statistics.question import Factor, Floats, Quantity, SiteTable, TextTable, Truths, Variable
from p2pfl.statistics.solve import Matrix, Vector

MOST_PARAMETERS: Final = 64
MOST_COMBINATIONS: Final = 4096
LEAST_LEVELS: Final = 2


@dataclass(frozen=True)
class Design:
    """`covariates` as columns of z; `intercept`: the first of them is 1."""

    covariates: tuple[Variable, ...]
    intercept: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters: intercept, age, thal=7."""
        found = ["intercept"] if self.intercept else []
        for one in self.covariates:
            found += [one.name] if isinstance(one, Quantity) else [f"{one.name}={level}" for level in one.levels[1:]]
        return tuple(found)

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(one for one in self.covariates if isinstance(one, Factor))

    @property
    def has_number(self) -> bool:
        return len(self.factors) < len(self.covariates)

    @property
    def crossings(self) -> tuple[tuple[Factor, ...], ...]:
        """The codes whose combinations of levels the steps of a regression count between them.

        A step opens sums of products of two columns, weighted by a function of all of them. Of codes alone there are so
        few kinds of record that a few steps are equations enough for how many are of each; with a number among the
        columns every record has a weight of its own.
        """
        if len(self.factors) < 3 or self.has_number:
            return tuple(combinations(self.factors, 2)) or tuple((one,) for one in self.factors)
        return (self.factors,)

    def check(self, kind: str, others: tuple[Variable, ...], *, stepwise: bool = True) -> None:
        """Raises WrongQuestion."""
        check_columns(kind, (*others, *self.covariates), least=len(others) + 1)
        for one in self.factors:
            if len(one.levels) < LEAST_LEVELS:
                refuse(kind, f"{one.name} has one level, which every record has")
        if len(self.names) > MOST_PARAMETERS:
            refuse(kind, f"{len(self.names)} parameters, wanted at most {MOST_PARAMETERS}")
        most = max((math.prod(len(one.levels) for one in each) for each in self.crossings), default=0)
        if stepwise and most > MOST_COMBINATIONS:
            refuse(kind, f"{most} combinations of levels, wanted at most {MOST_COMBINATIONS}: leave a code out")

    def read(self, table: SiteTable, others: tuple[Floats, ...]) -> tuple[Truths, Floats, dict[str, Floats]]:
        """Which records have every column, `others` too; their z (complete, p); their codes by factor."""
        columns = {one.name: table.read(one) for one in self.covariates}
        known = present(*others, *columns.values())
        found = [np.ones(int(known.sum()))] if self.intercept else []
        for one in self.covariates:
            values = columns[one.name][known]
            if isinstance(one, Quantity):
                found.append(scaled(values, one.centre, one.half))
            else:
                found += [(values == level).astype(np.float64) for level in range(1, len(one.levels))]
        return known, np.stack(found, axis=1), {one.name: columns[one.name][known] for one in self.factors}

    def told(self, estimates: Vector, covariance: Matrix) -> tuple[Vector, Matrix]:
        """Estimates in z and their covariance, in the columns' own units."""
        back = self._back()
        told = np.array(back) @ np.array(estimates), np.array(back) @ np.array(covariance) @ np.array(back).T
        return told[0].tolist(), told[1].tolist()

    def _back(self) -> Matrix:
        size = len(self.names)
        found = [[float(row == column) for column in range(size)] for row in range(size)]
        quantities = {one.name: one for one in self.covariates if isinstance(one, Quantity)}
        for place, name in enumerate(self.names):
            if name in quantities:
                found[place][place] = 1 / quantities[name].half
                if self.intercept:
                    found[0][place] = -quantities[name].centre / quantities[name].half
        return found


# ── who has what ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Complete:
    """The first sum of a regression: every count of people that the sums after it tell.

    Those are sums over the complete records. Products of the columns of two codes count the people in each pair of
    levels; those with an outcome that is a code, the people with each outcome in each level; and steps (`stepwise`),
    those in each combination of levels (Design.crossings). Beside a number such steps, and Cox's (`weighed`), weigh the
    people of each level and pair of levels anew: more of them must be there (Ask.crowded). With an outcome they are
    counted and no more.
    """

    design: Design
    outcome: Factor | None = None
    stepwise: bool = False
    weighed: bool = False

    def plan(self) -> SumPlan:
        plan = SumPlan("who").counts("records", ("", "complete", "missing"))
        plan.total(("records", 0), [("records", 1), ("records", 2)])
        crowded = (self.stepwise or self.weighed) and self.design.has_number
        for one in self._factors:
            plan.counts(f"levels:{one.name}", one.levels, crowded=crowded and one is not self.outcome)
            plan.total(("records", 1), [(f"levels:{one.name}", level) for level in range(len(one.levels))])
        for block, (one, other) in self._pairs():
            labels = [f"{one.name} {a}, {other.name} {b}" for a in one.levels for b in other.levels]
            plan.counts(block, labels, crowded=crowded and self.outcome not in (one, other))
            for row in range(len(one.levels)):
                inner = range(row * len(other.levels), (row + 1) * len(other.levels))
                plan.total((f"levels:{one.name}", row), [(block, place) for place in inner])
            for column in range(len(other.levels)):
                inner = range(column, len(one.levels) * len(other.levels), len(other.levels))
                plan.total((f"levels:{other.name}", column), [(block, place) for place in inner])
        for crossing in self._combined():
            labels = combination_labels(crossing)
            plan.counts("combinations", labels)
            plan.total(("records", 1), [("combinations", place) for place in range(len(labels))])
        return plan

    def counts(self, known: Truths, codes: dict[str, Floats], outcome: Floats | None = None) -> dict[str, Any]:
        """This site's numbers; `outcome`: the level of it of every complete record."""
        held = dict(codes)
        if self.outcome is not None and outcome is not None:
            held[self.outcome.name] = outcome
        found: dict[str, Any] = {"records": [known.size, int(known.sum()), int((~known).sum())]}
        for one in self._factors:
            found[f"levels:{one.name}"] = tally(held[one.name], len(one.levels))
        for block, (one, other) in self._pairs():
            found[block] = cells([held[one.name], held[other.name]], (len(one.levels), len(other.levels)))
        for crossing in self._combined():
            found["combinations"] = cells([held[one.name] for one in crossing], [len(one.levels) for one in crossing])
        return found

    def check(self, total: Totals, parameters: int, what: str) -> tuple[int, int]:
        """(complete, missing) records. Raises NothingMeasured, EmptyGroup, TooFewForModel."""
        _, complete, missing = total.counts("records")
        names = ", ".join(one.name for one in self.design.covariates)
        if not complete:
            raise NothingMeasured(evidence=f"{missing} records", columns=f"{names} and the outcome")
        for one in self.design.factors:
            for level, count in zip(one.levels, total.counts(f"levels:{one.name}"), strict=True):
                if not count:
                    raise EmptyGroup(evidence=f"{complete} complete records", group=level, column=one.name)
        if complete <= parameters:
            raise TooFewForModel(evidence=f"{complete} complete records, {parameters} parameters", what=what)
        return complete, missing

    def _pairs(self) -> list[tuple[str, tuple[Factor, Factor]]]:
        """By block: a column's name may hold any sign, so the block has its number."""
        return [(f"pair {place}", pair) for place, pair in enumerate(combinations(self._factors, 2))]

    def _combined(self) -> tuple[tuple[Factor, ...], ...]:
        """The crossing that is more than the pairs, if there is one."""
        return tuple(each for each in self.design.crossings if len(each) > 2) if self.stepwise else ()

    @property
    def _factors(self) -> tuple[Factor, ...]:
        return self.design.factors if self.outcome is None else (*self.design.factors, self.outcome)


def combination_labels(crossing: tuple[Factor, ...]) -> list[str]:
    """As `cells` orders them: the last code's levels change first."""
    found = product(*([f"{one.name} {level}" for level in one.levels] for one in crossing))
    return [", ".join(each) for each in found]


# ── coefficients ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Coefficient:
    """An estimate, its standard error, 95 % interval and test of 0; `ratio`: its exponential, where that is told."""

    name: str
    estimate: float
    se: float
    low: float
    high: float
    statistic: float
    p: float
    ratio: float
    ratio_low: float
    ratio_high: float


def coefficient_rows(title: str, coefficients: tuple[Coefficient, ...], ratio: str = "") -> TextTable:
    """As a table; `ratio`: what the exponential is called, "" for none."""
    if ratio:
        header = ("", "estimate", "se", ratio, "95 % from", "to", "z", "p")
        rows = tuple(
            (c.name, c.estimate, c.se, c.ratio, c.ratio_low, c.ratio_high, c.statistic, c.p) for c in coefficients
        )
        return TextTable(title, header, rows)
    plain = tuple((c.name, c.estimate, c.se, c.low, c.high, c.statistic, c.p) for c in coefficients)
    return TextTable(title, ("", "estimate", "se", "95 % from", "to", "t", "p"), plain)

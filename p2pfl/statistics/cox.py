"""Proportional hazards by Newton steps: on a grid as if all records were pooled, or stratified by site. Breslow's ties.

On the grid each step opens, for every time with an event, the sums over all who are at risk then: Σw, Σwz, Σwzzᵀ with
w = exp(βz). Two that follow one another tell these sums over those who left between them: how many those are, and of
which levels, is opened first and marked as people.

Stratified by site, as multi-centre studies mostly are, each site has its own baseline hazard: a step opens the
log-likelihood, its gradient and its second derivatives, each summed over the sites, and nothing by time; no grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from p2pfl.errors.statistics import NoVariation, TooFewForModel
from p2pfl.statistics.basis import INFORMATION_BITS, LOGLIK_BITS, SCORE_BITS, Basis
from p2pfl.statistics.checks import check_between, check_level, refuse
from p2pfl.statistics.design import Complete, Design, combination_labels
from p2pfl.statistics.glm import MOST_RIDGE, MOST_STEPS, RegressionResult, add_products, evaluated, is_any, wald
from p2pfl.statistics.newton import Evaluated, maximise
from p2pfl.statistics.plan import EXACT, SumPlan, cells
from p2pfl.statistics.question import (
    Ask,
    Cost,
    Factor,
    Floats,
    Integers,
    OpenedSum,
    Quantity,
    SiteTable,
    Statistic,
    Steps,
    Variable,
)
from p2pfl.statistics.solve import Vector, dot, symmetric, triangle
from p2pfl.statistics.survival import ENDS, check_times, ends_of, on_grid, refuse_beyond

MOST_GROWTH: Final = 12.0  # of ln w: a larger one is cut, and the step halved
BLOCKS: Final = ("Σw", "Σwz", "Σwzz")  # over those at risk, at each time with an event
LEAST: Final = 1e-12  # information for each event: below it a column does not vary


@dataclass(frozen=True)
class CoxResult(RegressionResult):
    """`times`, `hazard`: the cumulative baseline hazard on the grid; () when stratified.

    It is that of a record whose numbers are at the middle of their bounds and whose codes are at their first level.
    """

    kind: ClassVar[str] = "cox"
    ratio_name: ClassVar[str] = "hazard ratio"
    times: tuple[float, ...] = ()
    hazard: tuple[float, ...] = ()


def risk_sums(z: Floats, weights: Floats, at: Integers, times: int) -> tuple[Floats, Floats, Floats]:
    """Σw (times,), Σwz (times, p), Σw z zᵀ (times, p(p+1)/2) over those whose time is not before each."""

    def over_risk(values: Floats) -> Floats:
        found: Floats = np.bincount(at, values, times)[::-1].cumsum()[::-1]
        return found

    size = z.shape[1]
    first = [over_risk(weights * z[:, k]) for k in range(size)]
    second = [over_risk(weights * z[:, i] * z[:, j]) for i, j in triangle(size)]
    return over_risk(weights), np.stack(first, axis=1), np.stack(second, axis=1)


# ── on the grid ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LifeTable:
    """Public: events at each time of the grid, and of those with an event Σz."""

    events: tuple[int, ...]
    by_column: Vector
    count: int

    @property
    def rows(self) -> list[int]:
        """The times with events."""
        return [place for place, events in enumerate(self.events) if events]

    @property
    def centre(self) -> Vector:
        """The mean z of those with an event: weights are taken relative to it, so that they stay near 1."""
        return [one / sum(self.events) for one in self.by_column]


class GridLikelihood:
    """Breslow's partial likelihood of all records: one site's part of the sums over those at risk."""

    def __init__(self, names: tuple[str, ...], z: Floats, at: Integers, life: LifeTable) -> None:
        self.names, self._z, self._at, self.life = names, z, at, life
        self._basis, self._shift, self._at_risk = Basis.plain(len(names)), [0.0] * len(names), list[float]()
        self.width = self._plan([0.0] * len(names), "").width
        self.least = LEAST * sum(life.events)
        self.hazard: list[float] = []  # at each of the rows, of the last point that was read
        self._weights: Vector = []  # Σw at each of the rows, of the same point

    def ask(self, beta: Vector, name: str) -> Ask:
        growth = np.minimum(self._z @ np.array(beta) - dot(beta, self.life.centre), 2 * MOST_GROWTH)
        u = (self._z - self._shift) @ np.array(self._basis.across).T
        sums = risk_sums(u, np.exp(growth), self._at, len(self.life.events))
        return self._plan(beta, name).ask(
            {f"{block} {row}": one[row] for block, one in zip(BLOCKS, sums, strict=True) for row in self.life.rows}
        )

    def read(self, beta: Vector, name: str, total: OpenedSum) -> Evaluated | None:
        opened, size, rows = self._plan(beta, name).read(total), len(self.names), self.life.rows
        weights = [opened.real(f"Σw {row}") for row in rows]
        if weights[0] >= self._bound(beta) * (1 - 1e-9) or min(weights) <= 0:
            return None
        shift = dot(beta, self.life.centre)
        loglik = dot(beta, self.life.by_column) - sum(self.life.events) * shift
        means, packed = [0.0] * size, [0.0] * len(triangle(size))
        self.hazard, self._weights = [], weights
        for row, weight in zip(rows, weights, strict=True):
            events = self.life.events[row]
            mean, second = [one / weight for one in opened.reals(f"Σwz {row}")], opened.reals(f"Σwzz {row}")
            loglik -= events * math.log(weight)
            self.hazard.append(events / weight * math.exp(-shift))
            means = [one + events * more for one, more in zip(means, mean, strict=True)]
            for at, (i, j) in enumerate(triangle(size)):
                packed[at] += events * (second[at] / weight - mean[i] * mean[j])
        expected = zip(self._shift, self._basis.vector_back(means), strict=True)
        at_risk = [sum(self.life.events) * one + more for one, more in expected]
        gradient = [one - more for one, more in zip(self.life.by_column, at_risk, strict=True)]
        slack = len(rows) * opened.sites * 2.0**-LOGLIK_BITS if self._basis.coarse else 0.0
        information = self._basis.products_back(packed)
        return Evaluated(loglik, gradient, information, slack, self._basis.blurs(opened.sites))

    def refine(self, basis: Basis) -> None:
        """About the mean of those with an event, and in units of what one event tells."""
        self._basis, self._shift = basis.of_each(sum(self.life.events)), self.life.centre
        self._at_risk = self._weights

    def _bound(self, beta: Vector) -> float:
        most = sum(abs(one) * (1 + abs(centre)) for one, centre in zip(beta, self.life.centre, strict=True))
        return self.life.count * 2.0 ** math.ceil(min(most, MOST_GROWTH) / math.log(2) + 1)

    def _plan(self, beta: Vector, name: str) -> SumPlan:
        plan, bound = SumPlan(name), self._bound(beta)
        pairs = [f"{self.names[i]} × {self.names[j]}" for i, j in triangle(len(self.names))]
        far = self._basis.reach * (1 + max(map(abs, self._shift)))
        for block, labels, most in zip(BLOCKS, (("",), self.names, pairs), (1.0, far, far * far), strict=True):
            for place, row in enumerate(self.life.rows):
                plan.reals(f"{block} {row}", labels, bound * most, bits=self._bits(block, place))
        return plan

    def _bits(self, block: str, place: int) -> int:
        """A number is rounded to a part of those at risk: the fewer events are there, the less is needed of it."""
        if not self._basis.coarse:
            return EXACT
        events, weight = self.life.events[self.life.rows[place]], self._at_risk[place]
        grain, bits = {
            "Σw": (weight / events, LOGLIK_BITS),
            "Σwz": (weight / math.sqrt(events), SCORE_BITS),
            "Σwzz": (weight, INFORMATION_BITS),
        }[block]
        return max(bits + 1 - math.frexp(grain)[1], 0)


# ── stratified by site ────────────────────────────────────────────────────────────────────────────────────────


class StratifiedLikelihood:
    """The sum of the sites' own partial likelihoods: this site's, of its records at their own times."""

    def __init__(self, names: tuple[str, ...], z: Floats, time: Floats, event: Floats, totals: tuple[int, int]) -> None:
        self.names, self._z, self._event = names, z, event
        self._count, self._events = totals  # records and events at all sites
        self.least, self._basis = LEAST * totals[1], Basis.plain(len(names))
        times, self._at = np.unique(time, return_inverse=True)
        self._deaths = np.bincount(self._at, event, times.size)
        self.width = self._plan([0.0] * len(names), "").width

    def ask(self, beta: Vector, name: str) -> Ask:
        size = len(self.names)
        loglik, gradient, information = 0.0, np.zeros(size), np.zeros((size, size))
        rows = self._deaths > 0
        if rows.any():
            linear = self._z @ np.array(beta)
            top = linear.max()
            sums = risk_sums(self._z, np.exp(np.maximum(linear - top, -700)), self._at, self._deaths.size)
            weight, first, second = (one[rows] for one in sums)
            deaths, mean = self._deaths[rows], first / weight[:, None]
            loglik = float(self._event @ linear - deaths @ (np.log(weight) + top))
            gradient = self._event @ self._z - deaths @ mean
            outer = np.stack([mean[:, i] * mean[:, j] for i, j in triangle(size)], axis=1)
            information = np.array(symmetric((deaths @ (second / weight[:, None] - outer)).tolist(), size))
        mine = {
            "loglik": loglik,
            "score": self._basis.vector(gradient),
            "information": self._basis.products(information),
        }
        return self._plan(beta, name).ask(mine)

    def read(self, beta: Vector, name: str, total: OpenedSum) -> Evaluated | None:
        found = self._plan(beta, name).read(total)
        return evaluated(self._basis, found, found.real("loglik"), found.reals("score"))

    def refine(self, basis: Basis) -> None:
        self._basis = basis

    def _plan(self, beta: Vector, name: str) -> SumPlan:
        """|η| is at most Σ|β|; a risk set has at most `count` records; variances of z in [−1, 1] are at most 1."""
        most = 2 * sum(map(abs, beta)) + self._count.bit_length()
        plan = SumPlan(name).reals("loglik", ("",), self._events * most, bits=self._basis.bits(LOGLIK_BITS))
        score = 2 * self._events * self._basis.reach
        return add_products(plan, self.names, self._basis, score, score * self._basis.reach)


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Cox(Statistic):
    """Hazard of the `positive` levels of `event`; `grid` of times, or () and `by_site`: a baseline for each site."""

    kind: ClassVar[str] = "cox"
    time: Quantity
    event: Factor
    positive: tuple[str, ...]
    covariates: tuple[Variable, ...]
    grid: tuple[float, ...] = ()
    by_site: bool = False
    ridge: float = 0.0
    most_steps: int = 16

    def __post_init__(self) -> None:
        self._design.check(self.kind, (self.time, self.event), stepwise=not self.by_site)
        if self.by_site:
            check_level(self.kind, self.event, self.positive)
            if self.grid:
                refuse(self.kind, "stratified by site it takes no grid: each site's own times count")
        else:
            check_times(self.kind, self.time, self.grid, self.event, self.positive)
        check_between(self.kind, "ridge", self.ridge, 0, MOST_RIDGE)
        check_between(self.kind, "most_steps", self.most_steps, 1, MOST_STEPS)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.time, self.event, *self.covariates)

    @property
    def _design(self) -> Design:
        return Design(self.covariates, intercept=False)

    @property
    def _who(self) -> Complete:
        return Complete(self._design, Factor(self.event.name, ENDS), weighed=True)

    def cost(self) -> Cost:
        p, who = len(self._design.names), self._who.plan().width
        one = 1 + p + p * (p + 1) // 2
        if self.by_site:
            return Cost(1 + self.most_steps, who + self.most_steps * one)
        leaving = sum(math.prod(len(one.levels) for one in each) for each in _crossings(self._design))
        before = who + 2 * len(self.grid) + (len(self.grid) + 1) * leaving + p
        return Cost(4 + self.most_steps, before + self.most_steps * one * len(self.grid))

    def steps(self, table: SiteTable) -> Steps:
        design, who = self._design, self._who
        time, codes = table.read(self.time), table.read(self.event)
        known, z, of_factor = design.read(table, (time, codes))
        time, event = time[known], is_any(codes[known], self.event, self.positive)
        at = np.zeros(time.size, np.int64) if self.by_site else on_grid(time, self.grid)
        ends = event if self.by_site else ends_of(at, event, self.grid)
        plan = who.plan()
        total = plan.read((yield plan.ask(who.counts(known, of_factor, ends))))
        count, missing = who.check(total, len(design.names), "a Cox regression")
        by_end = total.counts(f"levels:{self.event.name}")
        refuse_beyond(by_end, self.grid or (math.inf,))
        _check_events(by_end[1], count, len(design.names), self.event.name)
        likelihood: GridLikelihood | StratifiedLikelihood
        if self.by_site:
            likelihood = StratifiedLikelihood(design.names, z, time, event, (count, by_end[1]))
        else:
            shape = (len(self.grid), 2)
            within = ends < 2
            z, at, event = z[within], at[within], event[within]  # no site has others: the total says so
            plan = SumPlan("life table").counts("ends", [f"{g:g}, {end}" for g in self.grid for end in ENDS[:2]], count)
            lives: Any = yield plan.ask({"ends": cells([at.astype(np.float64), event], shape)})
            events = plan.read(lives).counts("ends")[1::2]
            leavers = _leavers(design, events, count)
            mine = {name: one[within] for name, one in of_factor.items()}
            leavers.read((yield leavers.ask(_leaving(design, events, at, mine))))
            plan = SumPlan("events").reals("Σz", design.names, by_end[1])
            by_column = plan.read((yield plan.ask({"Σz": event @ z}))).reals("Σz")
            likelihood = GridLikelihood(design.names, z, at, LifeTable(tuple(events), by_column, count))
        zeros, ridge = [0.0] * len(design.names), [self.ridge] * len(design.names)
        fit = yield from maximise(likelihood, zeros, self.most_steps, ridge, coarse=design.has_number)
        coefficients, covariance = wald(design, fit)
        times, hazard = _baseline(likelihood, self.grid)
        return CoxResult(
            outcome=f"{self.event.name} {', '.join(self.positive)}",
            count=count,
            missing=missing,
            events=float(by_end[1]),
            coefficients=coefficients,
            covariance=covariance,
            loglik=fit.loglik,
            null_loglik=fit.first_loglik,
            aic=2 * (len(design.names) - fit.loglik),
            ridge=self.ridge,
            steps=fit.steps,
            converged=True,
            times=times,
            hazard=hazard,
        )


def _crossings(design: Design) -> tuple[tuple[Factor, ...], ...]:
    """What leavers are counted by: of numbers alone by nothing."""
    return design.crossings or ((),)


def _leavers(design: Design, events: Sequence[int], count: int) -> SumPlan:
    """Who leaves between two times with an event, and before the first and after the last, by combination of levels.

    The sums over those at risk tell it: of a code Σw is the number of them times one weight.
    """
    plan, spans = SumPlan("leavers"), sum(map(bool, events)) + 1
    for place, crossing in enumerate(_crossings(design)):
        behind = [f", {label}" if label else "" for label in combination_labels(crossing)]
        labels = [f"span {span}{label}" for span in range(spans) for label in behind]
        plan.counts(f"crossing {place}", labels, count, crowded=design.has_number)
    return plan


def _leaving(design: Design, events: Sequence[int], at: Integers, codes: Mapping[str, Floats]) -> dict[str, Integers]:
    """This site's numbers for `_leavers`."""
    rows = np.flatnonzero(events)
    span = np.searchsorted(rows, at, side="right").astype(np.float64)
    return {
        f"crossing {place}": cells(
            [span, *(codes[one.name] for one in crossing)], (rows.size + 1, *(len(one.levels) for one in crossing))
        )
        for place, crossing in enumerate(_crossings(design))
    }


def _check_events(events: int, count: int, parameters: int, name: str) -> None:
    """Raises NoVariation, TooFewForModel."""
    if not events:
        raise NoVariation(evidence=f"no event in {count} complete records", column=name)
    if events <= parameters:
        raise TooFewForModel(evidence=f"{events} events, {parameters} parameters", what="a Cox regression")


def _baseline(
    likelihood: GridLikelihood | StratifiedLikelihood, grid: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The cumulative hazard at each time of the grid that has an event."""
    if isinstance(likelihood, StratifiedLikelihood):
        return (), ()
    rows = likelihood.life.rows
    return tuple(grid[row] for row in rows), tuple(np.cumsum(likelihood.hazard).tolist())

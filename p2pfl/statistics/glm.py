"""Logistic and Poisson regression by Newton steps, each of them one sum.

Ridge: a penalty ½ · ridge · β² on each coefficient but the intercept, of the columns scaled by the schema's bounds (z).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.statistics import NoVariation, SumsImpossible
from p2pfl.statistics.basis import INFORMATION_BITS, LOGLIK_BITS, SCORE_BITS, Basis
from p2pfl.statistics.checks import check_between, check_level, refuse
from p2pfl.statistics.design import Coefficient, Complete, Design, coefficient_rows
from p2pfl.statistics.newton import Evaluated, Fit, maximise
from p2pfl.statistics.plan import SumPlan, Totals
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
    Variable,
)
from p2pfl.statistics.solve import Vector, dot, triangle
from p2pfl.statistics.tails import normal_quantile, normal_two_sided

MOST_STEPS: Final = 100
MOST_EXPONENT: Final = 600.0  # beyond it exp is no float
MOST_RIDGE: Final = 1e9


# ── what comes out ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RegressionResult(StatisticResult):
    """Wald's tests and intervals. `events`: with the outcome (logistic, Cox), or the outcomes' sum (Poisson).

    null_loglik   without covariates; `steps`: how many times the likelihood was summed; `converged` is true of every
                  result, since a regression that has not converged is an error
    """

    kind: ClassVar[str] = ""
    ratio_name: ClassVar[str] = ""
    outcome: str
    count: int
    missing: int
    events: float
    coefficients: tuple[Coefficient, ...]
    covariance: tuple[tuple[float, ...], ...]
    loglik: float
    null_loglik: float
    aic: float
    ridge: float
    steps: int
    converged: bool

    def tables(self) -> tuple[TextTable, ...]:
        title = f"{self.outcome}: {self.count} records, {self.missing} with a value missing; {self.steps} steps"
        return (coefficient_rows(title, self.coefficients, self.ratio_name),)


@dataclass(frozen=True)
class LogisticResult(RegressionResult):
    kind: ClassVar[str] = "logistic"
    ratio_name: ClassVar[str] = "odds ratio"


@dataclass(frozen=True)
class PoissonResult(RegressionResult):
    kind: ClassVar[str] = "poisson"
    ratio_name: ClassVar[str] = "rate ratio"


def wald(design: Design, fit: Fit) -> tuple[tuple[Coefficient, ...], tuple[tuple[float, ...], ...]]:
    """Coefficients in the columns' own units, and their covariance."""
    estimates, covariance = design.told(fit.estimates, fit.covariance)
    found, wide = [], normal_quantile(0.975)
    for place, (name, one) in enumerate(zip(design.names, estimates, strict=True)):
        se = math.sqrt(max(covariance[place][place], 0.0))
        low, high = one - wide * se, one + wide * se
        ratios = (_exp(one), _exp(low), _exp(high))
        over = one / se if se else math.nan  # rounding may leave no variance
        found.append(Coefficient(name, one, se, low, high, over, normal_two_sided(over), *ratios))
    return tuple(found), tuple(map(tuple, covariance))


def _exp(value: float) -> float:
    return math.exp(value) if value < MOST_EXPONENT else math.inf


def start_of(value: float) -> float:
    """A starting point near `value`, on a grid: a library's last bit of a logarithm must not differ between sites."""
    return round(value * 1024) / 1024


def add_products(plan: SumPlan, names: tuple[str, ...], basis: Basis, score: float, information: float) -> SumPlan:
    """The blocks of a step that are of columns: at most `score` and `information` in each of their entries."""
    pairs = [f"{names[i]} × {names[j]}" for i, j in triangle(len(names))]
    plan.reals("score", names, score, bits=basis.bits(SCORE_BITS))
    return plan.reals("information", pairs, information, bits=basis.bits(INFORMATION_BITS))


def evaluated(basis: Basis, found: Totals, loglik: float, score: Vector) -> Evaluated:
    """What a step opened, in z."""
    slack = found.sites * 2.0**-LOGLIK_BITS if basis.coarse else 0.0
    information = basis.products_back(found.reals("information"))
    return Evaluated(loglik, basis.vector_back(score), information, slack, basis.blurs(found.sites))


# ── logistic ──────────────────────────────────────────────────────────────────────────────────────────────────


class LogisticLikelihood:
    """Of y (n,), 0 or 1, with z (n, p): one site's, and `count` records at all of them."""

    least = 0.0

    def __init__(self, names: tuple[str, ...], z: Floats, y: Floats, count: int) -> None:
        self.names, self._z, self._y, self._count = names, z, y, count
        self._basis = Basis.plain(len(names))
        self.width = self._plan([0.0] * len(names), "").width

    def ask(self, beta: Vector, name: str) -> Ask:
        linear = self._z @ np.array(beta)
        mean = 0.5 + 0.5 * np.tanh(linear / 2)
        weighted = self._z * (mean * (1 - mean))[:, None]
        information = self._z.T @ weighted
        mine = {
            "loglik": self._y @ linear - np.logaddexp(0, linear).sum(),
            "score": self._basis.vector(self._z.T @ (self._y - mean)),
            "information": self._basis.products(information),
        }
        return self._plan(beta, name).ask(mine)

    def read(self, beta: Vector, name: str, total: OpenedSum) -> Evaluated | None:
        found = self._plan(beta, name).read(total)
        return evaluated(self._basis, found, found.real("loglik"), found.reals("score"))

    def refine(self, basis: Basis) -> None:
        self._basis = basis

    def _plan(self, beta: Vector, name: str) -> SumPlan:
        """|η| is at most Σ|β|, since |z| is at most 1."""
        most, reach = sum(map(abs, beta)) + 1, self._basis.reach
        plan = SumPlan(name).reals("loglik", ("",), self._count * most, bits=self._basis.bits(LOGLIK_BITS))
        return add_products(plan, self.names, self._basis, self._count * reach, self._count / 4 * reach * reach)


@dataclass(frozen=True)
class Logistic(Statistic):
    """`positive`: the levels of `outcome` that count as 1."""

    kind: ClassVar[str] = "logistic"
    outcome: Factor
    positive: tuple[str, ...]
    covariates: tuple[Variable, ...]
    ridge: float = 0.0
    most_steps: int = 25

    def __post_init__(self) -> None:
        self._design.check(self.kind, (self.outcome,))
        check_level(self.kind, self.outcome, self.positive)
        check_between(self.kind, "ridge", self.ridge, 0, MOST_RIDGE)
        check_between(self.kind, "most_steps", self.most_steps, 1, MOST_STEPS)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.outcome, *self.covariates)

    @property
    def _design(self) -> Design:
        return Design(self.covariates)

    @property
    def _who(self) -> Complete:
        return Complete(self._design, Factor(self.outcome.name, ("without", "with")), stepwise=True)

    def cost(self) -> Cost:
        p = len(self._design.names)
        one = 1 + p + p * (p + 1) // 2
        return Cost(1 + self.most_steps, self._who.plan().width + self.most_steps * one)

    def steps(self, table: SiteTable) -> Steps:
        design, who = self._design, self._who
        outcome = table.read(self.outcome)
        known, z, codes = design.read(table, (outcome,))
        y = is_any(outcome[known], self.outcome, self.positive)
        plan = who.plan()
        total = plan.read((yield plan.ask(who.counts(known, codes, y))))
        count, missing = who.check(total, len(design.names), "a logistic regression")
        events = with_outcome(total, self.outcome.name, count)
        likelihood = LogisticLikelihood(design.names, z, y, count)
        start = [start_of(math.log(events / (count - events)))] + [0.0] * (len(design.names) - 1)
        ridge = [0.0] + [self.ridge] * (len(design.names) - 1)
        fit = yield from maximise(likelihood, start, self.most_steps, ridge, coarse=design.has_number)
        coefficients, covariance = wald(design, fit)
        null = events * math.log(events / count) + (count - events) * math.log(1 - events / count)
        return LogisticResult(
            outcome=f"{self.outcome.name} {', '.join(self.positive)}",
            count=count,
            missing=missing,
            events=float(events),
            coefficients=coefficients,
            covariance=covariance,
            loglik=fit.loglik,
            null_loglik=null,
            aic=2 * (len(design.names) - fit.loglik),
            ridge=self.ridge,
            steps=fit.steps,
            converged=True,
        )


def is_any(codes: Floats, factor: Factor, levels: tuple[str, ...]) -> Floats:
    """(n,) 1 where the code is one of `levels`, else 0."""
    return np.isin(codes, [factor.levels.index(level) for level in levels]).astype(np.float64)


def with_outcome(total: Totals, name: str, count: int) -> int:
    """How many have the outcome. Raises NoVariation where nobody or everybody has."""
    _, events = total.counts(f"levels:{name}")
    if events in (0, count):
        raise NoVariation(evidence=f"{events} of {count} complete records have the outcome", column=name)
    return events


# ── Poisson ───────────────────────────────────────────────────────────────────────────────────────────────────


class PoissonLikelihood:
    """Of counts y (n,), with z (n, p) and an offset (n,), ln(exposure): without the constant Σ ln y!.

    A site's Σμ is cut to `bound`, 4·(Σy + 1): where any site's was, the total shows it, and the step is halved. At the
    maximum Σμ is Σy.
    """

    least = 0.0

    def __init__(self, names: tuple[str, ...], site: tuple[Floats, Floats], by_column: Vector) -> None:
        self.names, (self._z, self._offset), self._by_column = names, site, by_column
        self._bound, self._basis = 4 * (by_column[0] + 1), Basis.plain(len(names))
        self.width = self._plan("").width

    def ask(self, beta: Vector, name: str) -> Ask:
        mean = np.exp(np.minimum(self._z @ np.array(beta) + self._offset, MOST_EXPONENT))
        with np.errstate(over="ignore", invalid="ignore"):
            information, score = self._z.T @ (self._z * mean[:, None]), self._basis.vector(self._z.T @ mean)
        mine = {"expected": mean.sum(), "score": score, "information": self._basis.products(information)}
        return self._plan(name).ask(mine)

    def read(self, beta: Vector, name: str, total: OpenedSum) -> Evaluated | None:
        found = self._plan(name).read(total)
        if (expected := found.real("expected")) >= self._bound * (1 - 1e-9):
            return None
        whole = evaluated(self._basis, found, dot(beta, self._by_column) - expected, found.reals("score"))
        gradient = [one - mean for one, mean in zip(self._by_column, whole.gradient, strict=True)]
        return replace(whole, gradient=gradient)

    def refine(self, basis: Basis) -> None:
        self._basis = basis

    def _plan(self, name: str) -> SumPlan:
        reach = self._basis.reach
        plan = SumPlan(name).reals("expected", ("",), self._bound, bits=self._basis.bits(LOGLIK_BITS))
        return add_products(plan, self.names, self._basis, self._bound * reach, self._bound * reach * reach)


@dataclass(frozen=True)
class Poisson(Statistic):
    """Counts of events; `exposure`: a column above 0 (patient-years) that rates are of."""

    kind: ClassVar[str] = "poisson"
    outcome: Quantity
    covariates: tuple[Variable, ...]
    exposure: Quantity | None = None
    ridge: float = 0.0
    most_steps: int = 25

    def __post_init__(self) -> None:
        self._design.check(self.kind, self._others)
        check_between(self.kind, "ridge", self.ridge, 0, MOST_RIDGE)
        check_between(self.kind, "most_steps", self.most_steps, 1, MOST_STEPS)
        if self.outcome.low < 0:
            refuse(self.kind, f"{self.outcome.name} may be below 0, and counts are not")
        if self.exposure is not None and self.exposure.low <= 0:
            refuse(self.kind, f"{self.exposure.name} may be 0 or below, and an exposure is above it")

    @property
    def _others(self) -> tuple[Quantity, ...]:
        return (self.outcome,) if self.exposure is None else (self.outcome, self.exposure)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (*self._others, *self.covariates)

    @property
    def _design(self) -> Design:
        return Design(self.covariates)

    def cost(self) -> Cost:
        p = len(self._design.names)
        one = 1 + p + p * (p + 1) // 2
        return Cost(2 + self.most_steps, self._who.plan().width + p + 1 + self.most_steps * one)

    @property
    def _who(self) -> Complete:
        return Complete(self._design, stepwise=True)

    def steps(self, table: SiteTable) -> Steps:
        design, who = self._design, self._who
        others = tuple(table.read(one) for one in self._others)
        known, z, codes = design.read(table, others)
        y, exposure = others[0][known], others[-1][known] if self.exposure else np.ones(int(known.sum()))
        plan = who.plan()
        total = plan.read((yield plan.ask(who.counts(known, codes))))
        count, missing = who.check(total, len(design.names), "a Poisson regression")
        plan = SumPlan("outcomes").reals("Σyz", design.names, count * self.outcome.high)
        plan.reals("exposure", ("",), count * (self.exposure.high if self.exposure else 1))
        total = plan.read((yield plan.ask({"Σyz": z.T @ y, "exposure": exposure.sum()})))
        by_column, exposed = total.reals("Σyz"), total.real("exposure")
        if not by_column[0] > 0:
            raise NoVariation(evidence=f"no event in {count} complete records", column=self.outcome.name)
        if not exposed > 0:
            raise SumsImpossible(evidence="the exposures are not above 0 together")
        likelihood = PoissonLikelihood(design.names, (z, np.log(exposure)), by_column)
        start = [start_of(math.log(by_column[0] / exposed))] + [0.0] * (len(design.names) - 1)
        ridge = [0.0] + [self.ridge] * (len(design.names) - 1)
        fit = yield from maximise(likelihood, start, self.most_steps, ridge, coarse=design.has_number)
        coefficients, covariance = wald(design, fit)
        return PoissonResult(
            outcome=self.outcome.name,
            count=count,
            missing=missing,
            events=by_column[0],
            coefficients=coefficients,
            covariance=covariance,
            loglik=fit.loglik,
            null_loglik=by_column[0] * (math.log(by_column[0] / exposed) - 1),
            aic=2 * (len(design.names) - fit.loglik),
            ridge=self.ridge,
            steps=fit.steps,
            converged=True,
        )

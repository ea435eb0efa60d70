"""Linear regression by least squares: one sum of products, solved by everybody."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from p2pfl.errors.statistics import NoVariation, SingularDesign
from p2pfl.statistics.correlation import CONSTANT
from p2pfl.statistics.design import Coefficient, Complete, Design, coefficient_rows
from p2pfl.statistics.plan import SumPlan, scaled
from p2pfl.statistics.question import (
    Cost,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)
from p2pfl.statistics.solve import Factored, Matrix, Singular, Vector, dot, triangle
from p2pfl.statistics.tails import f_tail, t_quantile, t_two_sided


@dataclass(frozen=True)
class LinearResult(StatisticResult):
    """`sigma`: the residual standard deviation; `covariance` of the estimates, in the order of the coefficients."""

    kind: ClassVar[str] = "linear"
    outcome: str
    count: int
    missing: int
    coefficients: tuple[Coefficient, ...]
    covariance: tuple[tuple[float, ...], ...]
    r_squared: float
    r_squared_adjusted: float
    sigma: float
    freedom: int
    f: float
    f_p: float

    def tables(self) -> tuple[TextTable, ...]:
        title = f"{self.outcome}: {self.count} records, {self.missing} with a value missing; R² {self.r_squared:.4f}"
        return (coefficient_rows(title, self.coefficients),)


@dataclass(frozen=True)
class Linear(Statistic):
    kind: ClassVar[str] = "linear"
    outcome: Quantity
    covariates: tuple[Variable, ...]

    def __post_init__(self) -> None:
        self._design.check(self.kind, (self.outcome,), stepwise=False)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.outcome, *self.covariates)

    @property
    def _design(self) -> Design:
        return Design(self.covariates)

    def cost(self) -> Cost:
        columns = len(self._design.names) + 1
        return Cost(2, Complete(self._design).plan().width + columns * (columns + 1) // 2 - 1)

    def steps(self, table: SiteTable) -> Steps:
        design, who = self._design, Complete(self._design)
        y = table.read(self.outcome)
        known, z, codes = design.read(table, (y,))
        plan = who.plan()
        total = plan.read((yield plan.ask(who.counts(known, codes))))
        count, missing = who.check(total, len(design.names), "a linear regression")
        labels = (*design.names, self.outcome.name)
        pairs = triangle(len(labels))[1:]  # all but the intercept with itself: the count, which is known
        plan = SumPlan("products").reals("Σzz", [f"{labels[i]} × {labels[j]}" for i, j in pairs], count)
        whole = np.column_stack([z, scaled(y[known], self.outcome.centre, self.outcome.half)])
        products = whole.T @ whole
        total = plan.read((yield plan.ask({"Σzz": [products[i, j] for i, j in pairs]})))
        opened = dict(zip(pairs, total.exact("Σzz"), strict=True))
        return self._solved(count, missing, opened)

    def _solved(self, count: int, missing: int, opened: dict[tuple[int, int], Fraction]) -> LinearResult:
        """Least squares about the means, so that nothing cancels but what fixed point left."""
        design, size = self._design, len(self._design.names)
        spread = [
            [float(opened[min(i, j), max(i, j)] - opened[0, i] * opened[0, j] / count) for j in range(1, size + 1)]
            for i in range(1, size + 1)
        ]
        for place in range(size):
            if spread[place][place] < CONSTANT * count:
                names = (*design.names[1:], self.outcome.name)
                leaf = NoVariation if place == size - 1 else SingularDesign
                raise leaf(evidence=f"{count} complete records", column=names[place])
        products, right, whole = [row[:-1] for row in spread[:-1]], spread[-1][:-1], spread[-1][-1]
        try:
            factored = Factored(products)
        except Singular as singular:
            column = design.names[1 + singular.column]
            raise SingularDesign(evidence=f"{count} complete records", column=column) from None
        slopes = factored.solve(right)
        left, freedom = max(whole - dot(slopes, right), 0.0), count - size
        means = [float(opened[0, place] / count) for place in range(1, size + 1)]
        intercept = means[-1] - dot(slopes, means[:-1])
        covariance = _with_intercept(factored.inverse(), means[:-1], count, left / freedom)
        return self._result(count, missing, [intercept, *slopes], covariance, (whole, left, freedom))

    def _result(
        self, count: int, missing: int, z: Vector, z_covariance: Matrix, sums: tuple[float, float, int]
    ) -> LinearResult:
        (whole, left, freedom), design = sums, self._design
        half, names = self.outcome.half, design.names
        estimates, covariance = design.told(
            [half * one for one in z], [[half**2 * one for one in r] for r in z_covariance]
        )
        estimates[0] += self.outcome.centre
        wide = t_quantile(0.975, freedom)
        rows = []
        for place, (name, estimate) in enumerate(zip(names, estimates, strict=True)):
            se = math.sqrt(max(covariance[place][place], 0.0))
            t = estimate / se if se else math.nan
            ends = (estimate - wide * se, estimate + wide * se)
            rows.append(
                Coefficient(name, estimate, se, *ends, t, t_two_sided(t, freedom), math.nan, math.nan, math.nan)
            )
        slopes = len(names) - 1
        f = (whole - left) / slopes / (left / freedom) if left > 0 else math.inf
        return LinearResult(
            outcome=self.outcome.name,
            count=count,
            missing=missing,
            coefficients=tuple(rows),
            covariance=tuple(map(tuple, covariance)),
            r_squared=1 - left / whole,
            r_squared_adjusted=1 - left / freedom / (whole / (count - 1)),
            sigma=half * math.sqrt(left / freedom),
            freedom=freedom,
            f=f,
            f_p=f_tail(f, slopes, freedom) if math.isfinite(f) else 0.0,
        )


def _with_intercept(inverse: Matrix, means: Vector, count: int, variance: float) -> Matrix:
    """The covariance of intercept and slopes, from the inverse of the slopes' centred products."""
    across = [dot(row, means) for row in inverse]
    first = [1 / count + dot(across, means), *(-one for one in across)]
    rows = [first, *([-one, *row] for one, row in zip(across, inverse, strict=True))]
    return [[variance * one for one in row] for row in rows]

"""Newton's method over sums: where it is evaluated is public, and each evaluation is one sum.

A step that lowers the likelihood, or under which a number may have been cut to its bound, is halved. It has converged
when the decrement gᵀH⁻¹g, twice what the log-likelihood can still gain, is below 10⁻¹⁶, or below what rounding makes of
it where steps are rounded; then one more step is taken.
Outcomes that the columns separate have no maximum (Albert and Anderson 1984): there the decrement falls by e a step for
ever, where it falls quadratically otherwise.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from p2pfl.errors.statistics import NotConverged, OutcomeSeparated, SingularDesign
from p2pfl.statistics.basis import Basis
from p2pfl.statistics.question import Ask, OpenedSum
from p2pfl.statistics.solve import Factored, Matrix, Singular, Vector, dot

DECREMENT: Final = 1e-16
SMALL: Final = 1e-2  # a decrement below it shrinks quadratically where there is a maximum
SLOWLY: Final = 0.2  # and is not linear, with this rate or a slower one
SLOW_STEPS: Final = 3
MOST_BETA: Final = 1e6  # of a column in [−1, 1]
SLACK: Final = 1e-10  # of a log-likelihood: what rounding may take from it


@dataclass(frozen=True, slots=True)
class Evaluated:
    """At one point: log-likelihood, its gradient (p,), minus its second derivatives (p, p).

    slack, noise   what rounding alone may make of the log-likelihood, and of a decrement
    """

    loglik: float
    gradient: Vector
    information: Matrix
    slack: float = 0.0
    noise: float = 0.0


class Likelihood(Protocol):
    """A log-likelihood that several sites have parts of."""

    names: tuple[str, ...]
    width: int  # of one sum
    least: float  # an information below it, at the start, is what rounding leaves of none

    def ask(self, beta: Vector, name: str) -> Ask:
        """This site's part at `beta`."""
        ...

    def read(self, beta: Vector, name: str, total: OpenedSum) -> Evaluated | None:
        """The whole; None where a number was beyond its bound: that step was too long."""
        ...

    def refine(self, basis: Basis) -> None:
        """From now on steps are opened in these coordinates: of the point that was read last."""
        ...


@dataclass(frozen=True, slots=True)
class Fit:
    """The maximum: estimates, covariance of them, log-likelihood there and at the start, evaluations (sums) taken."""

    estimates: Vector
    covariance: Matrix
    loglik: float
    first_loglik: float
    steps: int


Fitting = Generator[Ask, OpenedSum, Fit]


def maximise(likelihood: Likelihood, start: Vector, most: int, ridge: Vector, *, coarse: bool) -> Fitting:
    """The maximum of loglik − ½ Σ ridge · beta², in at most `most` sums.

    coarse   a number is among the columns: each sum behind the first is rounded (basis.py)
    Raises SingularDesign, OutcomeSeparated, NotConverged.
    """
    beta, step = start, [0.0] * len(start)
    best: Evaluated | None = None
    decrements: list[float] = []
    first, loglik = 0.0, 0.0
    for number in range(1, most + 1):
        name = f"step {number}"
        tried = [one + more for one, more in zip(beta, step, strict=True)]
        if not max(map(abs, tried)) <= MOST_BETA:
            raise NotConverged(evidence=f"a coefficient of a scaled column is beyond {MOST_BETA:g}", steps=number)
        found = likelihood.read(tried, name, (yield likelihood.ask(tried, name)))
        if found is None or (best and _penalised(found, tried, ridge) < loglik - _slack(found, loglik)):
            if best is None:
                raise NotConverged(evidence="the first step was beyond its bounds", steps=1)
            step = [one / 2 for one in step]
            continue
        if best is None:
            first = found.loglik
        best, beta, loglik = found, tried, _penalised(found, tried, ridge)
        factored = _factored(likelihood, best, ridge, decrements)
        if coarse:
            likelihood.refine(Basis.of(factored))
        gradient = [g - r * b for g, r, b in zip(best.gradient, ridge, beta, strict=True)]
        step = factored.solve(gradient)
        decrements.append(dot(gradient, step))
        if decrements[-1] <= max(DECREMENT, found.noise):
            beta = [one + more for one, more in zip(beta, step, strict=True)]
            return Fit(beta, factored.inverse(), best.loglik, first, number)
        if _crawls(decrements):
            _refuse_separated(likelihood.names, step, number)
    raise NotConverged(evidence=f"twice the log-likelihood may still gain {decrements[-1]:.1e}", steps=most)


def _slack(found: Evaluated, loglik: float) -> float:
    return SLACK * (1 + abs(loglik)) + found.slack


def _penalised(found: Evaluated, beta: Vector, ridge: Vector) -> float:
    return found.loglik - dot(ridge, [one * one for one in beta]) / 2


def _factored(likelihood: Likelihood, found: Evaluated, ridge: Vector, decrements: list[float]) -> Factored:
    names = likelihood.names
    for place, name in enumerate(names):
        if not decrements and found.information[place][place] <= likelihood.least and not ridge[place]:
            raise SingularDesign(evidence="it carries no information", column=name)
    matrix = [
        [one + (ridge[i] if i == j else 0.0) for j, one in enumerate(row)] for i, row in enumerate(found.information)
    ]
    try:
        return Factored(matrix)
    except Singular as singular:
        column = names[singular.column]
        if decrements:  # it was regular at the start: the weights have gone to 0
            raise OutcomeSeparated(evidence=f"after {len(decrements)} steps", column=column) from None
        raise SingularDesign(evidence="at the first step", column=column) from None


def _crawls(decrements: list[float]) -> bool:
    last = decrements[-SLOW_STEPS - 1 :]
    return (
        len(last) > SLOW_STEPS and last[0] < SMALL and all(after > SLOWLY * before for before, after in pairwise(last))
    )


def _refuse_separated(names: Sequence[str], step: Vector, number: int) -> None:
    """Name the coefficient that moves most, which is the intercept only where there is no other."""
    places = [place for place, name in enumerate(names) if name != "intercept"] or [0]
    most = max(places, key=lambda place: abs(step[place]))
    raise OutcomeSeparated(evidence=f"after {number} steps it still moves by {abs(step[most]):.2g}", column=names[most])

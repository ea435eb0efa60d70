"""Measure: integers that each site counts on its held-out records, and what their sum over all sites says.

Only the sum over the whole roster is ever opened (docs/adr/0029). It becomes figures with + − × ÷ √ alone, in fixed
order, so that every site writes the same decimals into its record whatever its machine. A total may hold anything,
since a member may lie: a figure that it does not give is nan, and never an error.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from p2pfl.training.measures.private import PrivateMeasure

Counts = NDArray[np.int64]

MOST_COUNTS: Final = 1 << 16  # numbers of all measures together: they ride beside the update in every round
UNIT: Final = 1 << 20  # fixed point: a real number x is counted as round(x · UNIT)
Z95: Final = 1.959963984540054  # 0.975 quantile of the standard normal distribution
LEAST_PROBABILITY: Final = 2.0**-20  # below it the logarithm of a probability is that of this one


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, and its 95 % interval where the total gives one. nan: nothing can be said."""

    value: float
    low: float = math.nan
    high: float = math.nan


UNKNOWN: Final = Figure(math.nan)


def decimal_text(value: float) -> str:
    """A part of a figure as a round's record has it: six decimals; empty where nothing can be said."""
    return f"{value:.6f}" if math.isfinite(value) else ""


class CannotCount(ValueError):
    """What a model says, or the targets, are not what a measure takes. The text holds no value of a record."""


class Measure(ABC):
    """One way of judging a model. Subclass it, or use one of this package.

    whole    True: `count` takes all held-out records of a site at once, since it compares records with one another;
             else it is called batch by batch, and the counts are added up
    """

    whole: ClassVar[bool] = False

    @property
    @abstractmethod
    def size(self) -> int:
        """Numbers that it counts."""

    @abstractmethod
    def count(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Counts:
        """What these records add to the sum.    (B, …), (B, …) ► (size,), each below 2⁵⁰ in absolute value

        predictions    what `Task.predictions` makes of the model's outputs
        targets        y of the dataset
        Raises CannotCount where they are of another kind.
        """

    def private(self) -> PrivateMeasure | None:
        """The same in counts that noise can hide (measures/private.py); None: there is no such form."""
        return None

    @abstractmethod
    def figures(self, total: Sequence[int]) -> Mapping[str, Figure]:
        """Named figures from the sum over all sites' records; the first is what the training is judged by.

        Any integers may come in. + − × ÷ √ alone: `math.log` and sums by numpy differ between machines.
        """


def alike(count: int, *parts: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Each as `count` numbers.    (count, 1 …) ► (count,) float64    Raises CannotCount."""
    for part, what in zip(parts, ("predictions", "targets"), strict=False):
        if np.asarray(part).size != count:
            raise CannotCount(f"{what} of {count} records have shape {np.shape(part)}, and one number each is counted")
    return [np.asarray(part, np.float64).reshape(-1) for part in parts]


def fixed(values: NDArray[Any]) -> Counts:
    """Real numbers in fixed point, not finite ones as 0."""
    scaled: NDArray[Any] = np.rint(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) * UNIT)
    return scaled.astype(np.int64)


def proportion(part: int, whole: int) -> Figure:
    """part of whole, with Wilson's interval (1927)."""
    if not 0 <= part <= whole or whole == 0:
        return UNKNOWN
    share, spread = part / whole, Z95 * Z95 / whole
    centre = (share + spread / 2.0) / (1.0 + spread)
    half = math.sqrt(spread * (share * (1.0 - share) + spread / 4.0)) / (1.0 + spread)
    return Figure(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def mean(total: int, squares: int, count: int, scale: float = 1.0) -> Figure:
    """The mean of `count` numbers, from their sum and that of their squares, in fixed point both; normal interval."""
    if count < 1:
        return UNKNOWN
    value = total / UNIT / count
    variance = (squares / UNIT - count * value * value) / (count - 1) if count > 1 else math.nan
    return normal(value * scale, variance / count * scale * scale)


def normal(value: float, variance: float) -> Figure:
    """value ± 1.96 √variance; without an interval where the variance is none."""
    if not (math.isfinite(value) and variance >= 0.0):
        return Figure(value) if math.isfinite(value) else UNKNOWN
    half = Z95 * math.sqrt(variance)
    return Figure(value, value - half, value + half)


def within(figure: Figure, low: float, high: float) -> Figure:
    """The figure with its interval cut to what is possible; UNKNOWN when its value is not."""
    if not low <= figure.value <= high:
        return UNKNOWN
    return Figure(figure.value, max(low, figure.low), min(high, figure.high))


def root(figure: Figure) -> Figure:
    """The square root of a figure that is not negative."""
    return Figure(*(math.sqrt(part) if part >= 0.0 else math.nan for part in (figure.value, figure.low, figure.high)))

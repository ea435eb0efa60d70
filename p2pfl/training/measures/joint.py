"""All measures of a task as one vector of counts, and one table of figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import MeasureUnusable
from p2pfl.training.measures.measure import MOST_COUNTS, UNKNOWN, CannotCount, Counts, Figure, Measure

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
MOST_FIGURES: Final = 256
BOUND: Final = 1 << 50  # of one site's count: the sum over 200 sites stays far inside of the field


class Joint:
    """Several measures side by side."""

    def __init__(self, measures: Sequence[Measure], task: str) -> None:
        """Raises MeasureUnusable for a size or a figure's name that cannot be had, or that comes twice."""
        self._measures, self._task = tuple(measures), task
        sizes = [one.size for one in self._measures]
        if any(not isinstance(size, int) or size < 1 for size in sizes) or sum(sizes) > MOST_COUNTS:
            self._refuse(f"its measures count {sizes} numbers; at least 1 each, {MOST_COUNTS} together")
        self._ends = np.cumsum([0, *sizes]).tolist()
        self.size = int(self._ends[-1])
        self.names = tuple(name for one in self._measures for name in one.figures([0] * one.size))
        if len(set(self.names)) != len(self.names) or not all(NAME.fullmatch(name) for name in self.names):
            self._refuse(f"its figures are called {', '.join(self.names)[:200]}")
        if len(self.names) > MOST_FIGURES:
            self._refuse(f"{len(self.names)} figures; {MOST_FIGURES} are possible")

    @property
    def whole(self) -> bool:
        """One of them takes all records at once."""
        return any(one.whole for one in self._measures)

    def count(self, predictions: NDArray[Any], targets: NDArray[Any], *, whole: bool) -> Counts:
        """What these records add to the sum; zeros of those measures whose `whole` is another.    (size,)

        Raises MeasureUnusable for records that a measure does not take, for counts of another shape, or beyond 2⁵⁰.
        """
        parts = []
        for one in self._measures:
            if one.whole is not whole:
                parts.append(np.zeros(one.size, np.int64))
                continue
            try:
                counted = np.asarray(one.count(predictions, targets))
            except CannotCount as error:
                self._refuse(f"{type(one).__name__}: {error}")
            if counted.shape != (one.size,) or counted.dtype.kind not in "iu":
                self._refuse(f"{type(one).__name__} counted {counted.dtype}{counted.shape}, not {one.size} integers")
            parts.append(counted.astype(np.int64))
        found = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        if not are_within(found):
            self._refuse("a count lies beyond 2⁵⁰")
        return found

    def figures(self, total: Counts) -> Mapping[str, Figure]:
        """The figures that the total over all sites gives, in order. A measure that fails on a total says nothing."""
        found: dict[str, Figure] = dict.fromkeys(self.names, UNKNOWN)
        for one, start, stop in zip(self._measures, self._ends[:-1], self._ends[1:], strict=True):
            try:
                told = one.figures([int(value) for value in total[start:stop]])
            except (ArithmeticError, ValueError, LookupError):
                continue
            found.update({name: figure for name, figure in told.items() if name in found and _finite(figure)})
        return found

    def _refuse(self, evidence: str) -> NoReturn:
        raise MeasureUnusable(evidence=evidence, task=self._task)


def are_within(counts: Counts) -> bool:
    """No count of a site lies beyond BOUND. Compared at both ends: −2⁶³ has no absolute value in int64."""
    return bool(np.all((counts >= -BOUND) & (counts <= BOUND)))


def _finite(figure: Figure) -> bool:
    return math.isfinite(figure.value)

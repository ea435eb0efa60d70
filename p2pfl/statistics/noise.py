"""Noise on the sums of a question: how much each entry needs, and what it does to the figures.

Each site puts its part of a discrete Gaussian into every entry but totals, which it makes anew of their noised parts:
so a total costs nothing, and agrees with them in the sum. Entries are scaled by a public GRID first, which makes the
noise many units wide: h parts together are then a Gaussian's rounding (docs/spec/statistics.md §7). The J blocks of
a sum share one mechanism of noise multiplier z: block j, which one record moves by D_j, gets deviation z · √J · D_j.

What one record moves is a bound on integers. Counts are exact. Reals are added up in float64 by each library in its
own order: over MOST_RECORDS records of |v| ≤ 1 a sum is off by 2⁻⁵ at most, so two tables' by SLACK, and rounding
to fixed point moves each entry by one more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from p2pfl.errors import P2PFLError
from p2pfl.errors.statistics import NoiseUnbounded
from p2pfl.statistics.plan import add_up, totals_of
from p2pfl.statistics.question import (
    MOST_LIMIT,
    MOST_SITES,
    Ask,
    Floats,
    Integers,
    OpenedSum,
    SiteTable,
    Statistic,
    StatisticResult,
)

GRID_BITS: Final = 20  # a count of one is 2²⁰ of the sum's units
SLACK: Final = 2.0**-4  # of what one record moves a sum of reals, for float64's rounding of MOST_RECORDS numbers
LEAST_DEVIATION: Final = 1000.0  # of one site's part, in the sum's units: below it parts are no Gaussian's rounding
MOST_VARIANCE: Final = (1 << 80) // MOST_SITES  # of one site's part: all sites' together can be drawn at once
LIMIT: Final = MOST_LIMIT  # of one site, noise and all: a quarter above 2⁵², the most that a sum of reals comes to
REPLAYS: Final = 100  # of the answer, with noise anew, for the errors that are shown

DrawNoise = Callable[[int, int], Integers]  # (count, variance) ► independent draws of the discrete Gaussian


@dataclass(frozen=True, slots=True)
class SumNoise:
    """The noise on one sum: what each site adds, and which entries are none of their own.

    variances   (w,) int: σ² of one site's part, in the sum's units; 0: a total, which has that of its parts
    shifts      (w,) int: bits by which an entry is scaled before
    """

    variances: tuple[int, ...]
    shifts: tuple[int, ...]

    @classmethod
    def on(cls, ask: Ask, multiplier: float, parts: int) -> SumNoise:
        """Calibrated to what one record moves; the parts of `parts` sites are enough. Raises NoiseUnbounded."""
        totals = totals_of(ask.parts)
        own = [one for one in ask.moved if set(range(one.first, one.first + one.size)) - totals.keys()]
        if sum(one.size for one in ask.moved) != ask.values.size or not all(math.isfinite(one.by) for one in ask.moved):
            raise NoiseUnbounded(evidence=f"the sum {ask.name}", query=ask.name, why="it does not say what one moves")
        variances, shifts = [0] * ask.values.size, [0] * ask.values.size
        for one in ask.moved:
            shift = 0 if one.bits else GRID_BITS
            moves = one.by * 2.0 ** (one.bits + shift)
            if one.bits:
                moves = moves * (1.0 + SLACK) + math.sqrt(one.size)
            variance = math.ceil((multiplier * moves) ** 2 * len(own) / parts)
            if variance < LEAST_DEVIATION**2:
                why = "noise so small is no Gaussian on the grid"
                raise NoiseUnbounded(evidence=f"{ask.name}: {multiplier:g}", query=ask.name, why=why)
            if variance > MOST_VARIANCE:
                why = "so much noise does not fit into the sum: ask of fewer columns at once"
                raise NoiseUnbounded(evidence=f"{ask.name}: {multiplier:g}", query=ask.name, why=why)
            for place in range(one.first, one.first + one.size):
                variances[place], shifts[place] = 0 if place in totals else variance, shift
        return cls(tuple(variances), tuple(shifts))

    def added(self, ask: Ask, draw: DrawNoise, sites: int = 1) -> Integers:
        """This site's values, scaled, with its part of the noise; of `sites` sites' parts at once.    (w,)"""
        found = ask.values << np.array(self.shifts, np.int64)
        return self.anew(found, ask.parts, draw, sites)

    def anew(
        self, values: Integers, parts: Sequence[tuple[int, tuple[int, ...]]], draw: DrawNoise, sites: int
    ) -> Integers:
        """`values` with the noise of `sites` sites on them, and each total of its parts; changed in place.    (w,)"""
        variances = np.array(self.variances, dtype=object)
        for variance in sorted(set(self.variances) - {0}):
            at = variances == variance
            values[at] += draw(int(at.sum()), variance * sites)
        return np.array(add_up(values.tolist(), parts), np.int64)

    def read(self, total: Integers) -> Integers:
        """The opened sum in the Ask's own units: counts rounded to whole ones.    (w,)"""
        shifts = np.array(self.shifts, np.int64)
        half = np.where(shifts > 0, np.int64(1) << np.maximum(shifts - 1, 0), 0)
        found: Integers = (total + half) >> shifts
        return found

    def deviations(self, ask: Ask, sites: int) -> Floats:
        """(w,) standard deviation of the noise over `sites` sites, in what is counted; of a total that of its parts."""
        bits = np.zeros(ask.values.size)
        for one in ask.moved:
            bits[one.first : one.first + one.size] = one.bits
        spread = [float(one) * sites for one in self.variances]
        for of, places in totals_of(ask.parts).items():
            spread[of] = sum(spread[place] for place in places)
        found: Floats = np.sqrt(np.array(spread)) * 2.0 ** -(bits + np.array(self.shifts))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class NoisedTotal:
    """One sum that was opened: what was asked, its noise, and the total as it came out of the field.    (w,)"""

    ask: Ask
    noise: SumNoise
    total: Integers

    def opened(self, sites: int) -> OpenedSum:
        """For the statistic."""
        return OpenedSum(self.noise.read(self.total), sites, self.noise.deviations(self.ask, sites))

    def again(self, draw: DrawNoise, sites: int) -> OpenedSum:
        """The same with as much noise anew."""
        more = self.noise.anew(self.total.copy(), self.ask.parts, draw, sites)
        return OpenedSum(self.noise.read(more), sites, self.noise.deviations(self.ask, sites))


def noise_errors(statistic: Statistic, sums: Sequence[NoisedTotal], sites: int, draw: DrawNoise) -> dict[str, Any]:
    """The standard error that the noise alone gives each number of the answer: `result` has the keys of its JSON, and
    `tables` the rows of its tables, with errors in the places of numbers; nothing where there is no answer.

    The sums are given as much noise again, REPLAYS times, and answered anew: the root mean square by which a number
    then differs. None where it is no number, or where fewer than half of the replays had it. Opened sums alone enter,
    so it costs no privacy; `draw` is a public stream, so that all sites find the same.
    """
    answer = _replayed(statistic, [one.opened(sites) for one in sums])
    if answer is None:
        return {}
    again = [_replayed(statistic, [one.again(draw, sites) for one in sums]) for _ in range(REPLAYS)]
    found: dict[str, Any] = _errors(_shown(answer), [_shown(one) for one in again if one is not None])
    return found


def _shown(result: StatisticResult) -> dict[str, Any]:
    return {"result": result.as_json(), "tables": [[list(row) for row in one.rows] for one in result.tables()]}


def _replayed(statistic: Statistic, opened: Sequence[OpenedSum]) -> StatisticResult | None:
    """What comes of those sums; None where nothing does. No site's records are there."""
    levels = {one.name: one.levels for one in statistic.variables if hasattr(one, "levels")}
    nobody = SiteTable({one.name: np.zeros(0) for one in statistic.variables}, levels, noised=True)
    steps = statistic.steps(nobody)
    try:
        next(steps)
        for one in opened:
            steps.send(one)
    except StopIteration as ended:
        result: StatisticResult = ended.value
        return result
    except P2PFLError:
        return None
    return None


def _errors(told: Any, again: Sequence[Any]) -> Any:
    if isinstance(told, Mapping):
        return {key: _errors(value, [one.get(key) for one in again]) for key, value in told.items()}
    if isinstance(told, list):
        alike = [one for one in again if isinstance(one, list) and len(one) == len(told)]
        return [_errors(value, [one[place] for one in alike]) for place, value in enumerate(told)]
    if not _is_number(told):
        return None
    numbers = [float(one) for one in again if _is_number(one)]
    if len(numbers) < REPLAYS // 2:
        return None
    return math.sqrt(sum((one - told) ** 2 for one in numbers) / len(numbers))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

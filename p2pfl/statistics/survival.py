"""Survival by Kaplan and Meier, with Greenwood's log-log intervals, and the log-rank test, on a grid of times.

A time counts as the first of the grid that is not before it, an event or a censoring alike. So the result is that of
the pooled times rounded up to the grid, and of the times themselves where the grid has all of them. Who is censored at
a time is at risk then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from p2pfl.errors.counts import counted
from p2pfl.errors.statistics import EmptyGroup, NothingMeasured, NoVariation, TimesBeyondGrid
from p2pfl.statistics.checks import check_columns, check_increasing, check_level, refuse
from p2pfl.statistics.glm import is_any
from p2pfl.statistics.plan import SumPlan, Totals, cells, present
from p2pfl.statistics.question import (
    Cost,
    Factor,
    Floats,
    Integers,
    Quantity,
    SiteTable,
    Statistic,
    StatisticResult,
    Steps,
    TextTable,
    Variable,
)
from p2pfl.statistics.tails import chi2_tail, normal_quantile

MOST_TIMES: Final = 4096
ENDS: Final = ("censored", "event", "beyond the grid")


def check_times(kind: str, time: Quantity, grid: Sequence[float], event: Factor, positive: Sequence[str]) -> None:
    """Raises WrongQuestion."""
    check_increasing(kind, "times of the grid", grid, least=1, most=MOST_TIMES)
    check_level(kind, event, positive)
    if time.low < 0:
        refuse(kind, f"{time.name} may be below 0, and times are not")
    if grid[0] <= 0:
        refuse(kind, "the first time of the grid must be above 0")


def on_grid(times: Floats, grid: Sequence[float]) -> Integers:
    """(n,) the place of each time in the grid; len(grid) beyond it."""
    return np.searchsorted(np.array(grid), times, side="left").astype(np.int64)


def ends_of(at: Integers, event: Floats, grid: Sequence[float]) -> Floats:
    """(n,) places in ENDS: 0 censored, 1 event, 2 beyond the grid."""
    return np.where(at >= len(grid), 2.0, event)


def refuse_beyond(counts: Sequence[int], grid: Sequence[float]) -> None:
    """`counts` by ENDS. Raises TimesBeyondGrid."""
    if counts[2]:
        raise TimesBeyondGrid(evidence=f"{counts[2]} of {sum(counts)} records end later", end=f"{grid[-1]:g}")


# ── what comes out ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """Of one group, at each time of the grid.

    low, high  95 %; NaN where nobody is left
    median     the first time at which half or fewer are left; NaN if there is none
    expected   events, if the groups did not differ
    """

    group: str
    count: int
    events: int
    at_risk: tuple[int, ...]
    events_at: tuple[int, ...]
    censored_at: tuple[int, ...]
    survival: tuple[float, ...]
    se: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    median: float
    median_low: float
    median_high: float
    expected: float


@dataclass(frozen=True)
class SurvivalResult(StatisticResult):
    """`logrank`: χ² of all groups against one another; NaN with one group."""

    kind: ClassVar[str] = "km"
    missing: int
    times: tuple[float, ...]
    curves: tuple[SurvivalCurve, ...]
    logrank: float
    freedom: int
    p: float

    def tables(self) -> tuple[TextTable, ...]:
        header = ("group", "count", "events", "expected", "median", "95 % from", "to")
        rows = tuple(
            (c.group, c.count, c.events, c.expected, c.median, c.median_low, c.median_high) for c in self.curves
        )
        told = [TextTable(f"{counted(self.missing, 'record')} with a value missing", header, rows)]
        for c in self.curves:
            steps = zip(self.times, c.at_risk, c.events_at, c.censored_at, c.survival, c.low, c.high, strict=True)
            header = ("time", "at risk", "events", "censored", "survival", "95 % from", "to")
            told.append(TextTable(c.group, header, tuple(steps)))
        if self.freedom:
            told.append(
                TextTable("log-rank", ("χ²", "degrees of freedom", "p"), ((self.logrank, self.freedom, self.p),))
            )
        return tuple(told)


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class KaplanMeier(Statistic):
    """Time to the `positive` levels of `event`, of everybody or by the levels of `group`."""

    kind: ClassVar[str] = "km"
    unbounded: ClassVar[str] = ""
    held: ClassVar[tuple[str, ...]] = ("se", "low", "high", "median_low", "median_high")
    not_held: ClassVar[tuple[str, ...]] = ("expected", "logrank", "p")
    time: Quantity
    event: Factor
    positive: tuple[str, ...]
    grid: tuple[float, ...]
    group: Factor | None = None

    def __post_init__(self) -> None:
        check_columns(self.kind, self.variables)
        check_times(self.kind, self.time, self.grid, self.event, self.positive)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.time, self.event) if self.group is None else (self.time, self.event, self.group)

    @property
    def groups(self) -> tuple[str, ...]:
        return ("all",) if self.group is None else self.group.levels

    def cost(self) -> Cost:
        return Cost(2, self._who().width + 2 * len(self.groups) * len(self.grid))

    def steps(self, table: SiteTable) -> Steps:
        time, codes = table.read(self.time), table.read(self.event)
        of = np.zeros(time.size) if self.group is None else table.read(self.group)
        known = present(time, codes, of)
        at = on_grid(time[known], self.grid)
        event = is_any(codes[known], self.event, self.positive)
        if table.noised:  # how many lie beyond the grid is never known: they are watched up to its last time
            at, event = np.minimum(at, len(self.grid) - 1), np.where(at < len(self.grid), event, 0.0)
        ends = ends_of(at, event, self.grid)
        who = self._who()
        counts = cells([of[known], ends], (len(self.groups), len(ENDS)))
        mine = {
            "records": [known.size, int(known.sum()), int((~known).sum())],
            "groups": counts.sum(1),
            "ends": counts,
        }
        total = who.read((yield who.ask(mine)))
        self._check(total, table.noised)
        plan, shape = SumPlan("life table"), (len(self.groups), len(self.grid), 2)
        labels = [f"{group}, {time:g}, {end}" for group in self.groups for time in self.grid for end in ENDS[:2]]
        plan.counts("ends", labels, table.most(total.counts("records")[1]), moves=1)
        within = ends < 2
        lives = cells([of[known][within], at[within].astype(np.float64), ends[within]], shape)
        opened = plan.read((yield plan.ask({"ends": lives})))
        found = np.array(opened.counts("ends"), np.int64).reshape(shape)
        return self._result(total.counts("records")[2], found[:, :, 1], found[:, :, 0], opened.noise("ends")[0])

    def _who(self) -> SumPlan:
        plan = SumPlan("who").counts("records", ("", "complete", "missing"), moves=1)
        plan.counts("groups", self.groups, moves=1)
        plan.counts("ends", [f"{group}, {end}" for group in self.groups for end in ENDS], moves=1)
        plan.total(("records", 0), [("records", 1), ("records", 2)])
        plan.total(("records", 1), [("groups", place) for place in range(len(self.groups))])
        for place in range(len(self.groups)):
            plan.total(("groups", place), [("ends", place * len(ENDS) + end) for end in range(len(ENDS))])
        return plan

    def _check(self, total: Totals, noised: bool) -> None:
        """Raises NothingMeasured, EmptyGroup, TimesBeyondGrid, NoVariation."""
        _, complete, missing = total.counts("records")
        if not complete:
            names = ", ".join(one.name for one in self.variables)
            raise NothingMeasured(evidence=f"{missing} records", columns=names)
        for level, count in zip(self.groups, total.counts("groups"), strict=True):
            if not count and self.group is not None:
                raise EmptyGroup(evidence=f"{complete} complete records", group=level, column=self.group.name)
        by_end = np.array(total.counts("ends")).reshape(-1, len(ENDS)).sum(0).tolist()
        if not noised:
            refuse_beyond(by_end, self.grid)
        if not by_end[1]:
            raise NoVariation(evidence=f"no event in {complete} records", column=self.event.name)

    def _result(self, missing: int, events: Integers, censored: Integers, noise: float) -> SurvivalResult:
        """`events`, `censored` (groups, times); `noise`: variance of that on each of them."""
        leaving = events + censored
        at_risk = leaving[:, ::-1].cumsum(1)[:, ::-1]
        chi2, freedom, expected = logrank(events, at_risk)
        curves = [
            _curve(level, self.grid, at_risk[place], events[place], censored[place], expected[place], noise)
            for place, level in enumerate(self.groups)
        ]
        p = chi2_tail(chi2, freedom) if freedom else math.nan
        return SurvivalResult(missing, self.grid, tuple(curves), chi2, freedom, p)


def _curve(
    group: str,
    grid: Sequence[float],
    at_risk: Integers,
    events: Integers,
    censored: Integers,
    expected: float,
    noise: float,
) -> SurvivalCurve:
    survival, spread = 1.0, 0.0  # spread: Greenwood's variance of ln S
    rows, by_noise = [], _by_noise(at_risk, events, noise)
    for n, d, more in zip(at_risk.tolist(), events.tolist(), by_noise, strict=True):
        if d:
            survival *= (n - d) / n
            spread += d / (n * (n - d)) if n > d else 0.0
        rows.append((survival, survival * math.sqrt(spread + more), *_log_log(survival, spread + more)))
    columns = tuple(zip(*rows, strict=True))
    medians = [_first_at_half(grid, columns[place]) for place in (0, 2, 3)]
    return SurvivalCurve(
        group=group,
        count=int(at_risk[0]),
        events=int(events.sum()),
        at_risk=tuple(at_risk.tolist()),
        events_at=tuple(events.tolist()),
        censored_at=tuple(censored.tolist()),
        survival=columns[0],
        se=columns[1],
        low=columns[2],
        high=columns[3],
        median=medians[0],
        median_low=medians[1],
        median_high=medians[2],
        expected=expected,
    )


def _by_noise(at_risk: Integers, events: Integers, noise: float) -> list[float]:
    """(times,) variance of ln S by noise of variance `noise` on every count of events and of censored, to first order.

    With n_i = Σ_{k ≥ i} (d_k + c_k) and A_i = Σ_{h ≤ i} d_h / (n_h (n_h − d_h)), ln S_j moves with c_k by
    A_{min(j, k)}, and with d_k as much, less 1 / (n_k − d_k) for k ≤ j.
    """
    n, d = at_risk.astype(np.float64), events.astype(np.float64)
    left = np.where(n > d, n - d, math.inf)  # nobody left: S is 0 from there on, and has no interval
    by_events = d / np.maximum(n, 1) / left
    grown = by_events.cumsum()
    before = (grown**2 + (grown - 1 / left) ** 2).cumsum()
    after = 2 * np.arange(n.size - 1, -1, -1) * grown**2
    found: list[float] = (noise * (before + after)).tolist()
    return found


def _log_log(survival: float, spread: float) -> tuple[float, float]:
    """The 95 % interval on the scale of ln(−ln S) (Kalbfleisch and Prentice)."""
    if survival >= 1:
        return 1.0, 1.0
    if survival <= 0:
        return math.nan, math.nan
    wide = normal_quantile(0.975) * math.sqrt(spread) / abs(math.log(survival))
    return survival ** math.exp(wide), survival ** math.exp(-wide)


def _first_at_half(grid: Sequence[float], survival: Sequence[float]) -> float:
    return next((time for time, s in zip(grid, survival, strict=True) if s <= 0.5), math.nan)


def logrank(events: Integers, at_risk: Integers) -> tuple[float, int, list[float]]:
    """(χ², degrees of freedom, expected events by group) from (groups, times) counts (Mantel 1966)."""
    d, n = events.sum(0).astype(np.float64), at_risk.sum(0).astype(np.float64)
    share = at_risk / np.maximum(n, 1)
    expected = share @ d
    if len(events) < 2:
        return math.nan, 0, expected.tolist()
    weight = d * (n - d) / np.maximum(n - 1, 1)
    spread = np.diag(share @ weight) - (share * weight) @ share.T
    apart = (events.sum(1) - expected)[:-1]
    chi2 = float(apart @ np.linalg.pinv(spread[:-1, :-1], hermitian=True) @ apart)
    return chi2, len(events) - 1, expected.tolist()

"""Several sites in one process: their steps in step, each sum added up in the clear. For tests and simulations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfl.errors.statistics import SitesApart
from p2pfl.statistics.question import MOST_LIMIT, Ask, OpenedSum, SiteTable, Statistic, StatisticResult


@dataclass(frozen=True)
class LockstepRun:
    """The result, and what was opened on the way."""

    result: StatisticResult
    sums: int
    numbers: int


def nothing(_asks: Sequence[Ask]) -> None:
    """Look at nothing."""


def in_lockstep(
    statistic: Statistic, tables: Sequence[SiteTable], look: Callable[[Sequence[Ask]], None] = nothing
) -> LockstepRun:
    """Ask `statistic` of all tables. `look` sees every site's Ask before its sum is opened, and may raise.

    Raises SitesApart when two sites ask differently, add beyond the limit or come to different results; else what the
    statistic raises.
    """
    running = [statistic.steps(table) for table in tables]
    asks, sums, numbers = [next(one) for one in running], 0, 0
    while True:
        if any(ask.public != asks[0].public for ask in asks):
            raise SitesApart(evidence=f"{statistic.kind}, sum {sums + 1}: what is asked differs between the sites")
        if asks[0].limit > MOST_LIMIT or any(np.any(np.abs(ask.values) > ask.limit) for ask in asks):
            raise SitesApart(evidence=f"{statistic.kind}, {asks[0].name}: a number is beyond the limit")
        look(asks)
        total = OpenedSum(np.sum([ask.values for ask in asks], axis=0, dtype=np.int64), len(asks))
        sums, numbers = sums + 1, numbers + total.values.size
        ended: list[StatisticResult] = []
        following: list[Ask] = []
        for one in running:
            try:
                following.append(one.send(total))
            except StopIteration as stopped:
                ended.append(stopped.value)
        if ended:
            if following or any(result.as_json() != ended[0].as_json() for result in ended):
                raise SitesApart(evidence=f"{statistic.kind}: the sites came to different results")
            return LockstepRun(ended[0], sums, numbers)
        asks = following

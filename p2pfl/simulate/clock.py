"""Virtual time: a heap of (time, order, thing to do). It moves when the next thing is done, and never by itself."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class VirtualClock:
    """Runs what is due, in order of time; things of one time run in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, do: Callable[[], None]) -> None:
        """Do it at `time`, or now if that is past."""
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), do))

    def step(self) -> bool:
        """Do the next thing. False when there is none."""
        if not self._heap:
            return False
        self.now, _, do = heapq.heappop(self._heap)
        do()
        return True

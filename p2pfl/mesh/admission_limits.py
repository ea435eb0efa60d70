"""How often a member may connect, and how many of its connections may stand between handshake and link at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from p2pfl.errors.mesh import OpensTooOften
from p2pfl.mesh.events import Limits
from p2pfl.mesh.token_bucket import TokenBucket

MOST_OPENINGS: Final = 4  # connections of one member whose opening is under way


class AdmissionLimits:
    """Counts the members that connect to this site's port. Used by one event loop."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits, self._now = limits, now
        self._buckets: dict[str, TokenBucket] = {}  # by member
        self._openings: dict[str, list[asyncio.Task[None]]] = {}  # by member, oldest first

    def count_connection(self, peer: str) -> None:
        """Charge `peer` for one connection: it may return as often as links break. Raises OpensTooOften."""
        limits, now = self._limits, self._now()
        bucket = self._buckets.setdefault(peer, TokenBucket(limits.opening_burst, limits.openings_per_s, now))
        if not bucket.try_spend(now):
            evidence = f"more than {limits.opening_burst} at once, or {limits.openings_per_s:g} each second"
            raise OpensTooOften(peer=peer, evidence=evidence)

    def refund_connection(self, peer: str) -> None:
        """The peer connected because another member called it through this site: do not count it."""
        self._buckets[peer].refund()

    def begin_opening(self, peer: str) -> None:
        """The current task opens a link with `peer`. Above the limit its oldest opening is cancelled.

        Each opening may hold a whole greeting in memory.
        """
        task, openings = asyncio.current_task(), self._openings.setdefault(peer, [])
        if task is not None:
            openings.append(task)
            task.add_done_callback(openings.remove)
        if len(openings) > MOST_OPENINGS:
            openings[0].cancel()

"""How often a member may call, and how many of its connections may be between handshake and link at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from p2pfl.errors.mesh import OpensTooOften
from p2pfl.mesh.events import Limits
from p2pfl.mesh.token_bucket import TokenBucket

MOST_ENTERING: Final = 4  # connections of one member between their handshake and the end of their opening


class AdmissionLimits:
    """The members that call at this site's port. Used by one event loop."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits, self._now = limits, now
        self._openings: dict[str, TokenBucket] = {}
        self._entering: dict[str, list[asyncio.Task[None]]] = {}  # members that called and whose opening is under way

    def welcome(self, peer: str) -> None:
        """A member may come back as often as links break, and not as often as it likes. Raises OpensTooOften."""
        limits, now = self._limits, self._now()
        if not self._openings.setdefault(peer, TokenBucket(limits.opening_burst, limits.openings_per_s, now)).take(now):
            evidence = f"more than {limits.opening_burst} at once, or {limits.openings_per_s:g} each second"
            raise OpensTooOften(peer=peer, evidence=evidence)

    def called(self, peer: str) -> None:
        """It came because another member had it called: that is no visit of its own."""
        self._openings[peer].give_back()

    def enters(self, peer: str) -> None:
        """Of one member's connections in their opening the oldest give way: each may hold a greeting."""
        task, entering = asyncio.current_task(), self._entering.setdefault(peer, [])
        if task is not None:
            entering.append(task)
            task.add_done_callback(entering.remove)
        if len(entering) > MOST_ENTERING:
            entering[0].cancel()

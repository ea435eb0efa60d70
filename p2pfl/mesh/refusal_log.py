"""Which refusals are told: each reason once in a row, and of no caller more than a log and a person can take.

A caller chooses its first bytes, and a member its words, so each can have a new reason every time. What is not told is
refused all the same, and stands in the link's status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfl.mesh.token_bucket import TokenBucket

REMEMBERED: Final = 256  # callers whose last reason is known
OF_ONE: Final = (16, 1 / 60)  # reasons at once, and each second
OF_STRANGERS: Final = (64, 1 / 10)  # of all callers that nobody knows


class RefusalLog:
    """Used by one event loop. A member is known by its name, a stranger by its host."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last: dict[str, str] = {}
        self._members: dict[str, TokenBucket] = {}
        self._hosts: dict[str, TokenBucket] = {}
        self._strangers = TokenBucket(*OF_STRANGERS, now())

    def forget(self, peer: str) -> None:
        """It has a link: whatever kept it from one would be news."""
        self._last.pop(peer, None)

    def is_news(self, peer: str | None, host: str, what: str) -> bool:
        """`what` was not the last that was told of this caller, and it may be told."""
        who, now = peer or host, self._now()
        if self._last.get(who) == what:
            return False
        if len(self._last) >= REMEMBERED:
            self._last.clear()
            self._hosts.clear()
        held = (self._hosts if peer is None else self._members).setdefault(who, TokenBucket(*OF_ONE, now))
        if not held.take(now) or (peer is None and not self._strangers.take(now)):
            return False
        self._last[who] = what
        return True

"""Decides which refusals are reported: each reason once in a row, at a bounded rate for every caller.

Callers choose their first bytes and members their words, so either could give a new reason every time. A refusal that
is not reported still happens, and stands in the link's status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfl.mesh.token_bucket import TokenBucket, caller_of

REMEMBERED: Final = 256  # callers whose last reason is kept
PER_CALLER: Final = (16, 1 / 60)  # reasons at once, and per second
ALL_STRANGERS: Final = (64, 1 / 10)  # the same, of all callers outside of the roster together


class RefusalLog:
    """Used by one event loop. A member is identified by its name, a stranger by its host or IPv6 network."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last: dict[str, str] = {}
        self._members: dict[str, TokenBucket] = {}
        self._hosts: dict[str, TokenBucket] = {}
        self._strangers = TokenBucket(*ALL_STRANGERS, now())

    def forget(self, peer: str) -> None:
        """The peer has a link: should it be refused again, even the old reason is news."""
        self._last.pop(peer, None)

    def is_news(self, peer: str | None, host: str, reason: str) -> bool:
        """Report `reason`: it is not the last one reported of this caller, and the caller's rate allows it."""
        caller, now = peer or caller_of(host), self._now()
        if self._last.get(caller) == reason:
            return False
        # First what all strangers share: once it is empty, no more of them are remembered, however many come.
        if peer is None and self._strangers.is_empty(now):
            return False
        if len(self._last) >= REMEMBERED or len(self._hosts) >= REMEMBERED:
            self._last.clear()
            self._hosts.clear()
        bucket = (self._hosts if peer is None else self._members).setdefault(caller, TokenBucket(*PER_CALLER, now))
        if not bucket.try_spend(now) or (peer is None and not self._strangers.try_spend(now)):
            return False
        self._last[caller] = reason
        return True

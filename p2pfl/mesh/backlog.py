"""Payloads that a link has delivered and its owner has not dealt with: how many bytes, and how fast they come.

While a backlog is full nothing is acknowledged, so a peer that keeps to its window waits by itself.
"""

from __future__ import annotations

from typing import Final

from p2pfl.mesh.events import Limits
from p2pfl.mesh.token_bucket import TokenBucket

PAYLOAD_COST: Final = 2048  # bytes that a payload costs its owner beside its own, so that small ones are bounded too


class Backlog:
    """One peer's payloads. Every `now` is in seconds on the mesh's clock."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._most = limits.undelivered_bytes
        self._bytes = 0
        self._rate = TokenBucket(limits.payload_burst, limits.payloads_per_s, now)

    def add(self, size: int, now: float) -> None:
        """A payload of `size` bytes was delivered."""
        self._bytes += size + PAYLOAD_COST
        self._rate.spend_on_credit(now)

    def remove(self, size: int) -> None:
        """The owner has dealt with a payload of `size` bytes."""
        self._bytes -= size + PAYLOAD_COST

    def is_full(self, now: float) -> bool:
        """The owner is too far behind, or payloads came faster than the peer may send them."""
        return self._bytes > self._most or self._rate.is_empty(now)

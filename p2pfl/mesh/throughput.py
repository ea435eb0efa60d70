"""How fast a link is: round trips of pings, and acknowledged bytes per second while something was on its way. Pure."""

from __future__ import annotations

from typing import Final

OVER_S: Final = 0.2  # a speed is measured over at least so long
LEAST_BYTES: Final = 1 << 20  # or over so much, when the link runs dry before


class Throughput:
    """Every `now` is in seconds on the mesh's clock."""

    def __init__(self) -> None:
        self.rtt_s: float | None = None
        self.bytes_per_s: float | None = None
        self._busy_since: tuple[float, int] | None = None  # and the bytes acknowledged since

    def busy(self, now: float) -> None:
        """Something is on its way."""
        if self._busy_since is None:
            self._busy_since = (now, 0)

    def cut(self) -> None:
        """The link ended: what was on its way says nothing about its speed."""
        self._busy_since = None

    def pong(self, now: float, stamp_us: int) -> None:
        """The answer to a ping that left at `stamp_us`."""
        sample = max(0.0, now - stamp_us / 1e6)
        self.rtt_s = sample if self.rtt_s is None else 0.8 * self.rtt_s + 0.2 * sample

    def confirmed(self, now: float, count: int, *, idle: bool) -> None:
        """`count` bytes more are acknowledged; `idle`: nothing is on its way now."""
        if self._busy_since is None:
            return
        since, total = self._busy_since
        total += count
        span = now - since
        if span >= OVER_S or (idle and total >= LEAST_BYTES and span > 0):
            sample = total / span
            self.bytes_per_s = sample if self.bytes_per_s is None else 0.5 * self.bytes_per_s + 0.5 * sample
            since, total = now, 0
        self._busy_since = None if idle else (since, total)

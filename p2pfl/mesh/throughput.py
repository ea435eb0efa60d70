"""Speed of a link: round trips of pings, and acknowledged bytes per second while bytes were in flight. Pure.

A link that was never busy can be asked for its speed: a ping that carries FILL_BYTES. What its answer shows is taken
for no more than MOST_SHOWN, since buffers, and lines that let a first burst through, show more than they carry.
"""

from __future__ import annotations

from typing import Final

SPAN_S: Final = 0.2  # shortest time over which a speed is measured
FILL_BYTES: Final = 128 << 10  # of the ping that asks a link for its speed
MOST_SHOWN: Final = 1e6  # bytes per second that its answer is taken to show at most
LEAST_BYTES: Final = 1 << 20  # least bytes of a measurement when the link runs dry earlier


class Throughput:
    """Moving averages. Every `now` is in seconds on the mesh's clock."""

    def __init__(self) -> None:
        self.rtt_s: float | None = None
        self.bytes_per_s: float | None = None
        self._shown: float | None = None  # bytes per second, by a filled ping
        self._filled_us: int | None = None  # the stamp of the filled ping that is on its way
        self._busy_since: tuple[float, int] | None = None  # and the bytes acknowledged since

    def in_flight(self, now: float) -> None:
        """Bytes are on their way."""
        if self._busy_since is None:
            self._busy_since = (now, 0)

    def interrupted(self) -> None:
        """The link ended: the bytes that were in flight say nothing about its speed."""
        self._busy_since = None

    @property
    def known(self) -> float | None:
        """Bytes per second: as measured, or else as a filled ping has shown."""
        return self.bytes_per_s if self.bytes_per_s is not None else self._shown

    def filled(self, stamp_us: int) -> None:
        """A ping with FILL_BYTES leaves."""
        self._filled_us = stamp_us

    def round_trip(self, now: float, stamp_us: int) -> None:
        """The ping that left at `stamp_us` was answered."""
        sample = max(0.0, now - stamp_us / 1e6)
        if stamp_us == self._filled_us:
            self._filled_us, self._shown = None, min(FILL_BYTES / max(sample, 1e-6), MOST_SHOWN)
            return
        self.rtt_s = sample if self.rtt_s is None else 0.8 * self.rtt_s + 0.2 * sample

    def acknowledged(self, now: float, count: int, *, idle: bool) -> None:
        """`count` more bytes are acknowledged; `idle`: nothing is in flight any more."""
        if self._busy_since is None:
            return
        since, total = self._busy_since
        total += count
        span = now - since
        if span >= SPAN_S or (idle and total >= LEAST_BYTES and span > 0):
            sample = total / span
            self.bytes_per_s = sample if self.bytes_per_s is None else 0.5 * self.bytes_per_s + 0.5 * sample
            since, total = now, 0
        self._busy_since = None if idle else (since, total)

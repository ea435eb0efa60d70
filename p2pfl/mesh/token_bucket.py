"""So many at once, then so many more each second. Pure; every `now` is in seconds on the caller's clock."""

from __future__ import annotations


class TokenBucket:
    """Full at first. Holds at most `burst`, and fills by `per_s`."""

    __slots__ = ("_at", "_burst", "_held", "_per_s")

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s, self._held, self._at = burst, per_s, burst, now

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take `count`; False, and nothing taken, when it does not hold so much."""
        if self.left(now) < count:
            return False
        self._held -= count
        return True

    def give_back(self, count: float = 1.0) -> None:
        """What was taken was not used."""
        self._held = min(self._burst, self._held + count)

    def left(self, now: float) -> float:
        """What may be taken now."""
        self._fill(now)
        return self._held

    def full(self, now: float) -> bool:
        """As if nothing had ever been taken."""
        return self.left(now) >= self._burst

    def owe(self, now: float) -> None:
        """Take one that has been used already, also when there is none: what is owed fills up first."""
        self._fill(now)
        self._held -= 1.0

    def empty(self, now: float) -> bool:
        """There is none to take."""
        return self.left(now) < 1.0

    def _fill(self, now: float) -> None:
        self._held = min(self._burst, self._held + max(0.0, now - self._at) * self._per_s)
        self._at = now

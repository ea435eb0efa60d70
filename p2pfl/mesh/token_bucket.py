"""A token bucket: a burst at once, then a steady rate. Pure; every `now` is in seconds on the caller's clock."""

from __future__ import annotations

import ipaddress


def caller_of(host: str) -> str:
    """Whose bucket a host's is. An IPv6 host has a network of 2⁶⁴ addresses, and may call from each of them."""
    try:
        ip = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{int(ip) >> 64:x}::/64"


class TokenBucket:
    """Starts full. Holds at most `burst` tokens and gains `per_s` each second."""

    __slots__ = ("_at", "_burst", "_held", "_per_s")

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s, self._held, self._at = burst, per_s, burst, now

    def try_spend(self, now: float, count: float = 1.0) -> bool:
        """Spend `count` tokens; False, and nothing spent, when the bucket holds fewer."""
        if self.tokens(now) < count:
            return False
        self._held -= count
        return True

    def refund(self, count: float = 1.0) -> None:
        """Return tokens that were spent in vain."""
        self._held = min(self._burst, self._held + count)

    def tokens(self, now: float) -> float:
        """Tokens that may be spent now; negative while in debt."""
        self._fill(now)
        return self._held

    def is_full(self, now: float) -> bool:
        """The bucket is as if nothing had ever been spent."""
        return self.tokens(now) >= self._burst

    def spend_on_credit(self, now: float) -> None:
        """Spend one token even when there is none; the debt is paid before the bucket fills again."""
        self._fill(now)
        self._held -= 1.0

    def is_empty(self, now: float) -> bool:
        """Not one whole token is left."""
        return self.tokens(now) < 1.0

    def _fill(self, now: float) -> None:
        # After every frame and letter, mostly: no calls.
        passed = now - self._at
        if passed > 0.0:
            held = self._held + passed * self._per_s
            self._held = held if held < self._burst else self._burst
        self._at = now

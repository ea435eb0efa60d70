"""Time and randomness of one process, handed in as one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Clocks:
    """Time and randomness, handed in: seconds (monotonic), Unix seconds, n random bytes."""

    now: Callable[[], float]
    wall: Callable[[], float]
    draw: Callable[[int], bytes]

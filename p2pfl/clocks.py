"""Time and randomness of one process, handed in as one thing: no other file decides which clock it reads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where a part of the program has its time and its randomness from.

    now    seconds on a monotonic clock
    wall   Unix seconds
    draw   n random bytes
    """

    now: Callable[[], float]
    wall: Callable[[], float]
    draw: Callable[[int], bytes]


SYSTEM: Final = Clocks(time.monotonic, time.time, os.urandom)

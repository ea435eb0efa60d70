"""Ports of 127.0.0.1 for processes and meshes that are started later. No two tests that run side by side share one."""

from __future__ import annotations

import os
import socket
from typing import Final

FIRST: Final = 15_000
# The system hands out ports above to connections by itself: one of those could be taken before its site listens.
LAST: Final = 32_000
WORKERS: Final = 8  # of one run of the tests: each draws from a part of its own
_PART: Final = (LAST - FIRST) // WORKERS
_drawn = os.getpid()  # runs side by side begin at unlike places


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on, none of which this process has given out lately."""
    global _drawn
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    found: list[int] = []
    while len(found) < count:
        _drawn += 1
        port = FIRST + worker * _PART + _drawn % _PART
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found

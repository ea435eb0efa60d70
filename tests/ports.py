"""Ports of 127.0.0.1 for processes and meshes that are started later. No two processes on this machine draw one twice.

Each process that draws holds blocks of ports, by a lock on a file of each: also runs of several checkouts at once never
share one. The system lets go of a lock when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from pathlib import Path
from typing import IO, Final

FIRST: Final = 15_000
# The system hands out ports above to connections by itself: one of those could be taken before its site listens.
LAST: Final = 32_000
BLOCK: Final = 50  # ports that are locked together
MOST: Final = 16  # blocks of one process, which then draws from its first one again
PLACE: Final = Path(tempfile.gettempdir()) / f"p2pfl-test-ports-{os.getuid()}"

_held: list[tuple[int, IO[bytes]]] = []  # first port of each block, and its lock
_drawn: list[int] = []  # ports that are left of the blocks at hand
_owner = 0  # the process that holds them: a forked one has none of its own yet


def _claim() -> bool:
    """One more block, which no other process holds. False when there is none."""
    PLACE.mkdir(mode=0o700, exist_ok=True)
    count = (LAST - FIRST) // BLOCK
    for at in itertools.islice(itertools.cycle(range(count)), os.getpid() % count, os.getpid() % count + count):
        if any(FIRST + at * BLOCK == first for first, _ in _held):
            continue
        file = (PLACE / str(at)).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _held.append((FIRST + at * BLOCK, file))
        _drawn.extend(range(FIRST + at * BLOCK, FIRST + (at + 1) * BLOCK))
        return True
    return False


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on, none of which this process has given out lately."""
    global _owner
    if _owner != os.getpid():
        _owner = os.getpid()
        _held.clear()
        _drawn.clear()
    found: list[int] = []
    while len(found) < count:
        if not _drawn and not (len(_held) < MOST and _claim()):
            assert _held, f"all blocks of ports are locked in {PLACE}: how many runs are there?"
            _drawn.extend(port for first, _ in _held for port in range(first, first + BLOCK))
        port = _drawn.pop(0)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found

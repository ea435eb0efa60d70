"""The first lines of the process that runs a task: its walls stand before numpy, torch or the task are loaded.

What it is given comes over the socket, and not as arguments, which any user of the machine can read. Where the system
has no such walls it goes on without them, and the node says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from p2pfl.training.process import landlock, seccomp

LENGTH: Final = struct.Struct("<I")
MOST_BYTES: Final = 1 << 20
FIRST_TO_END: Final = "800"  # of 1000: short of memory, the system ends this process rather than the site's
MOST_FILE: Final = 1 << 30  # bytes of a file that it writes
YOUNG: Final = 50_000  # new objects before cycles are looked for: torch makes half a million while it is loaded
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_DROP: Final = 24
CAPABILITIES: Final = 0x20080522  # version of the interface
READ_ANY_FILE: Final = 1 << 2  # CAP_DAC_READ_SEARCH: root goes on reading the records of another user


def setting(own: Path, readable: Sequence[Path], forbidden: Sequence[Path], *, devices: bool) -> bytes:
    """What the node sends first. Paths are absolute; `own` is the one folder that may be written to."""
    paths = [str(one) for one in (own, *readable, *forbidden)]
    rows = ["1" if devices else "0", str(len(readable)), *paths]
    body = "\0".join(rows).encode("utf-8", "surrogateescape")
    return LENGTH.pack(len(body)) + body


def _receive(descriptor: int) -> list[str]:
    head = _exactly(descriptor, LENGTH.size)
    size = LENGTH.unpack(head)[0]
    return _exactly(descriptor, min(size, MOST_BYTES)).decode("utf-8", "surrogateescape").split("\0")


def _exactly(descriptor: int, size: int) -> bytes:
    held = b""
    while len(held) < size:
        part = os.read(descriptor, size - len(held))
        if not part:
            os._exit(0)  # the node is gone
        held += part
    return held


def start(descriptor: int) -> NoReturn:
    """Build the walls, then run the program on the socket that was inherited."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the node decides when this ends
    devices, count, own, *rest = _receive(descriptor)
    paths = [Path(one) for one in rest]
    walls = _enclose(Path(own), paths[: int(count)], paths[int(count) :], devices == "1")
    gc.set_threshold(YOUNG)
    from p2pfl.training.process.worker import main

    main(descriptor, walls)


def _enclose(own: Path, readable: list[Path], forbidden: list[Path], devices: bool) -> tuple[bool, bool]:
    """(files are walled off, calls are) on this system."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold records
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE, MOST_FILE))
    if sys.platform != "linux":
        return False, False
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_END, encoding="ascii")
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    files = landlock.confine(readable, own, forbidden, devices=devices)
    _give_up_capabilities(libc)
    calls = seccomp.forbid()
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no other process of this user looks in
    return files, calls


def _give_up_capabilities(libc: ctypes.CDLL) -> None:
    """Of root's powers keep that to read what it may read."""
    for number in range(64):
        if number != READ_ANY_FILE.bit_length() - 1:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    head = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    held = (ctypes.c_uint32 * 6)()
    if libc.capget(head, held) == 0:
        kept = held[1] & READ_ANY_FILE
        libc.capset(head, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0))

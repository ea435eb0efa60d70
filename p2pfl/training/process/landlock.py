"""Files that the process of a task may read, and none else: Landlock, Linux 5.13 and later.

Rules are on hierarchies and can only be made narrower, so they are set before any code of the task runs, and before
there is a second thread. From 6.7 on no TCP connection is made or taken either; from 6.12 on no signal and no abstract
socket leads out. What is open already stays open. `man 7 landlock`.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same number on every architecture
VERSION: Final = 1  # flag of CREATE_RULESET: say the version of the interface
PATH_BENEATH: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38

WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15
READ: Final = READ_FILE | READ_DIR
ALL: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
FOR_FILES: Final = 1 | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # what a rule on a file may hold
TCP: Final = 3  # bind and connect
SCOPED: Final = 3  # abstract sockets and signals

# What an interpreter and torch read of a system, beside the interpreter's own folders.
SYSTEM: Final = (
    *("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/cuda", "/opt/rocm"),
    *("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/nix/store"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/proc/driver/nvidia"),
    *("/sys/devices/system", "/sys/bus/pci", "/sys/module/nvidia", "/sys/class/drm", "/sys/class/kfd"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)
DEVICES: Final = ("/dev/nvidia*", "/dev/kfd", "/dev/dri")
WRITTEN: Final = ("/dev/null",)


def version() -> int:
    """Of the kernel's Landlock; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)))


def confine(readable: Iterable[Path], own: Path, forbidden: Sequence[Path], *, devices: bool) -> bool:
    """From now on this process reads only what lies under `readable`, its interpreter's and the system's folders, and
    writes only under `own`; False where the kernel cannot do that.

    forbidden    what none of the latter may hold: a folder of theirs that does is left out
    devices      accelerators may be used
    Called before there is a second thread.
    """
    abi = version()
    if not abi:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    every = ALL[min(abi, max(ALL))]
    attributes = struct.pack("<QQQ", every, TCP if abi >= 4 else 0, SCOPED if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    allowed = dict.fromkeys(_interpreter(forbidden), READ) | dict.fromkeys(readable, READ)
    allowed |= dict.fromkeys(map(Path, WRITTEN), READ | WRITE_FILE) | {own: every & ~1}  # nothing is executed
    if devices:
        accelerators = [one for pattern in DEVICES for one in Path("/").glob(pattern[1:])]
        allowed |= dict.fromkeys(accelerators, READ | WRITE_FILE | IOCTL_DEV)
    try:
        for path, rights in allowed.items():
            if not _allow(libc, rules, path, rights & every):
                return False
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return int(libc.syscall(RESTRICT_SELF, rules, 0)) == 0
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> bool:
    """Add a rule; what is not there needs none."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= FOR_FILES
        rule = struct.pack("<Qi", rights, place)
        return int(libc.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0)) == 0
    finally:
        os.close(place)


def _interpreter(forbidden: Sequence[Path]) -> list[Path]:
    """Folders of the interpreter, of what it imports, and of the system's libraries."""
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    named = [Path(one).absolute() for one in own if one] + [Path(one) for one in SYSTEM]
    package = Path(__file__).resolve().parents[2]
    return [package, *(one for one in named if one.exists() and not holds(one, forbidden))]


def holds(folder: Path, forbidden: Sequence[Path]) -> bool:
    """One of `forbidden` lies in that folder, or is it, or holds it."""
    real = folder.resolve()
    return any(one.is_relative_to(real) or real.is_relative_to(one) for one in forbidden)

"""The lock of a folder: one process works in it at a time, and says which it is."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from p2pfl.errors.home import HomeBusy
from p2pfl.home.disk import Disk


def take(path: Path, home: Path | None = None) -> int:
    """The descriptor of the lock file in `path`, locked until it is closed, with this process's number inside."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        Disk(path).refuse("open", path / "lock", error)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise HomeBusy(evidence=f"its lock is held by process {holder}", path=home or path) from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
    except OSError as error:
        os.close(descriptor)
        Disk(path).refuse("write", path / "lock", error)
    return descriptor


def release(lock: int | None) -> None:
    """Release the lock that `take` gave, and empty its file: nobody works in the home."""
    if lock is not None:
        with suppress(OSError):
            os.ftruncate(lock, 0)
        os.close(lock)

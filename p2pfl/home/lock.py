"""Who may write in a home: its owner alone, and one process at a time, which says which it is."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Final

from p2pfl.errors.home import HomeBusy, HomeOfAnotherUser
from p2pfl.home.disk import Disk

HELD: Final = (errno.EWOULDBLOCK, errno.EACCES)  # of a lock that another process has


def check_owner(home: Path) -> None:
    """This process runs as the owner of the folder: what root wrote there the site itself could not open again.

    Raises HomeOfAnotherUser, DiskRefused.
    """
    try:
        owner = home.stat().st_uid
    except OSError as error:
        Disk(home).refuse("look into", home, error)
    me = os.geteuid()
    if owner != me:
        evidence = f"user {owner} owns it, and this process runs as user {me}"
        raise HomeOfAnotherUser(evidence=evidence, path=home, owner=_name_of(owner), user=_name_of(me))


def _name_of(user: int) -> str:
    """As `sudo -u` takes it: #1001 where the machine has no name for the number."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"#{user}"


def take(path: Path, home: Path | None = None) -> int:
    """The descriptor of the lock file in `path`, locked until it is closed, with this process's number inside.

    Raises HomeOfAnotherUser, HomeBusy, DiskRefused.
    """
    check_owner(home or path)
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        Disk(path).refuse("open", path / "lock", error)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:  # out of locks, or a file system that has none
            os.close(descriptor)
            Disk(path).refuse("lock", path / "lock", error)
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

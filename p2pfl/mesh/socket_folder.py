"""The folder of one process's unix sockets: fresh, 0700, locked while the process lives, and gone after it.

A process that is killed leaves its folder. The lock on it is gone with the process, which is how the next process of
the same user knows, and sweeps it up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from p2pfl.errors.mesh import NoSocketFolder

PREFIX: Final = "p2pfl-mesh-"
LONGEST: Final = 107 - len("/999")  # bytes of a path that a unix socket may have (sun_path), and its name in it
TRIES: Final = 8
MOST_SWEPT: Final = 1000  # folders looked at by one process


class SocketFolder:
    """A folder for sockets, in `path`."""

    def __init__(self) -> None:
        """Make it under XDG_RUNTIME_DIR or the temporary folder, where those of killed processes go. NoSocketFolder."""
        bases = [base for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()) if base]
        reason = "no temporary folder"
        for base in bases:
            sweep(Path(base))
            try:
                folder, self._lock = _made(base)
            except OSError as error:
                reason = str(error)
                continue
            if len(os.fsencode(folder)) <= LONGEST:
                self.path = Path(folder)
                return
            os.rmdir(folder)
            os.close(self._lock)
            reason = f"{folder} is too long for a unix socket"
        raise NoSocketFolder(folder=bases[-1] if bases else "/tmp", evidence=reason)

    def close(self) -> None:
        """Remove it with all that it holds."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def _made(base: str) -> tuple[str, int]:
    """A new folder and the descriptor that locks it. Raises OSError."""
    for _ in range(TRIES):
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=base)
        lock = _locked(Path(folder))
        if lock is not None:
            return folder, lock
        shutil.rmtree(folder, ignore_errors=True)  # another process swept it up before it was locked
    raise OSError(errno.ENOLCK, f"no folder in {base} can be locked")


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None when another process does, or when it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return None
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.lstat(folder)):
            return descriptor
    except OSError:  # it is held, or gone
        pass
    os.close(descriptor)
    return None


def sweep(base: Path) -> None:
    """Folders of this user's processes that were killed are gone from `base`. What cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        found = [Path(one.path) for one in entries if one.name.startswith(PREFIX)][:MOST_SWEPT]
        for folder in found:
            with contextlib.suppress(OSError):
                held = folder.lstat()
                if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.geteuid():
                    continue
                lock = _locked(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)

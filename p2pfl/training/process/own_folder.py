"""The one folder in which a task's process may write: it goes with that process, or with the next one of this user.

A site that is killed removes nothing. So the site locks the folder as long as it lives, and whoever makes one removes
those of the same user that nobody has locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

PREFIX: Final = "p2pfl-task-"


class OwnFolder:
    """An empty folder, of mode 0700."""

    def __init__(self) -> None:
        _remove_left()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
            try:
                self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # another site took it for left before it could be locked
            with contextlib.suppress(OSError):  # a file system without such locks: there nobody removes it either
                fcntl.flock(self._held, fcntl.LOCK_EX)
            if self.path.is_dir():
                return
            os.close(self._held)  # or while it waited for the lock

    def remove(self) -> None:
        """It is gone, with all that lies in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


def _remove_left() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, locked, gone, or no folder
            held = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(held).st_uid == os.getuid():
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)

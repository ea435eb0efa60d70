"""Reading a file that somebody named: no folder, no device, and no more of it than it may hold."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 1 << 12  # of a key, a password, a lock
TEXT_BYTES: Final = 1 << 22  # of a file that people write: a peers.yaml, a card, a task
LARGE_BYTES: Final = 1 << 32  # of records, a model, an exported log, an agreement
BLOCK_BYTES: Final = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[FileIO]:
    """A file, or a pipe, open for reading. A pipe that nobody has open for writing is at its end.

    Raises OSError, whose `strerror` says why: among others for a folder, a device and a socket.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError:  # a NUL in the path
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    with FileIO(descriptor, "rb") as file:  # raises for a folder
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "it is a device or a socket, and a file is wanted")
        os.set_blocking(descriptor, True)
        yield file


def read_file(path: Path, most: int) -> bytes:
    """All that `opened` gives. Raises OSError, also for more than `most` bytes, of which few more are read then."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise _too_large(most)
        if size:  # in one piece: a model is never in memory twice
            return file.readall()
        data = bytearray()
        while block := file.read(min(BLOCK_BYTES, most + 1 - len(data))):
            data += block
            if len(data) > most:
                raise _too_large(most)
        return bytes(data)


def is_file(path: Path) -> bool:
    """A file lies there, as far as one can see; at a path that is too long, or in a folder that is shut, none does."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _too_large(most: int) -> OSError:
    return OSError(errno.EFBIG, f"it holds more than {most} bytes")

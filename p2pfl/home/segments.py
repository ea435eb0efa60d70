"""The segment files of a home's two logs: which there are, their keys, and a new one to append to.

What the bytes mean is the ledger's matter (`ledger/segment.py`). docs/spec/ledger.md §3.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from p2pfl.errors.home import ItemDamaged
from p2pfl.files import LARGE_BYTES, read_file
from p2pfl.home.disk import Appender
from p2pfl.home.home import Home
from p2pfl.home.journal import patched
from p2pfl.home.sealing import SALT_BYTES, STUDIES
from p2pfl.home.steps import SegmentTail
from p2pfl.keys import Secret, derive

LogName = Literal["federation", "site"]
SegmentState = tuple[int, int, int, int]  # number, inode, bytes, when it was last written to in ns
SEGMENT: Final = re.compile(r"([0-9]{8})\.segment")


class SegmentFiles:
    """The segment files of one log: numbered from 1, each written by one process and never again."""

    def __init__(self, home: Home, which: LogName) -> None:
        self._home, self.which = home, which
        self._directory = home.folder / "ledger" / which
        self._study = f"{STUDIES}/{home.study}/" if home.study else ""

    def numbers(self) -> list[int]:
        """The numbers of the segments on the disk, ascending."""
        try:
            files = os.listdir(self._directory)
        except OSError as error:  # never an empty log instead
            home, item = self._home, f"ledger/{self.which}"
            evidence = f"its directory: {error.strerror}"
            raise ItemDamaged(evidence=evidence, item=item, name=home.name, path=home.path) from None
        return sorted(int(found[1]) for found in map(SEGMENT.fullmatch, files) if found)

    def states(self) -> tuple[SegmentState, ...]:
        """How each segment stands: as before, and nobody has written to it. Raises ItemDamaged."""
        found = []
        for number in self.numbers():
            with contextlib.suppress(FileNotFoundError):  # a writer removed it after its first write failed
                held = self.path(number).stat()
                found.append((number, held.st_ino, held.st_size, held.st_mtime_ns))
        return tuple(found)

    def path(self, number: int) -> Path:
        """Where segment `number` lies."""
        return self._directory / f"{number:08d}.segment"

    def reader(self) -> Callable[[int], bytes]:
        """What reads the bytes of a segment by its number, as far as they are written. That raises OSError."""
        # The journal first, and once for all of them: what goes from there meanwhile is in the files by then.
        tails = self._home.left_tails()
        return lambda number: patched(read_file(self.path(number), LARGE_BYTES), tails.get(self._name(number)))

    def read_segment(self, number: int) -> bytes:
        """The bytes of segment `number`, as far as they are written. Raises OSError."""
        return self.reader()(number)

    def _name(self, number: int) -> str:
        return str(self.path(number).relative_to(self._home.folder))

    def key_of(self, number: int, salt: bytes) -> Secret:
        """The key of the segment with that number and salt; the log's name is in it too, and its study's."""
        context = f"segment/{self._study}{self.which}/{number}".encode()
        return Secret(derive(self._home.master.reveal(), "home/ledger", context, salt=salt), f"key of segment {number}")

    def begin_segment(self) -> tuple[int, bytes, SegmentWriter]:
        """A new segment: its number, 32 fresh random bytes of salt, and the file to append to."""
        self._home.check_writable(f"ledger/{self.which}")
        number = max(self.numbers(), default=0) + 1
        return number, self._home.draw(SALT_BYTES), SegmentWriter(self._home, self.path(number), self._name(number))

    def settle(self, number: int, size: int) -> None:
        """Cut segment `number` to `size` bytes, durably; at size 0 remove it."""
        self._home.check_writable(f"ledger/{self.which}")
        path = self.path(number)
        if size == 0:
            self._home.disk.remove(path)
            return
        try:
            descriptor = self._home.disk.open(path, 0)
        except OSError as error:
            self._home.disk.refuse("open", path, error)
        try:
            os.ftruncate(descriptor, size)
            self._home.disk.sync(descriptor, path)
        except OSError as error:
            self._home.disk.refuse("cut", path, error)
        finally:
            os.close(descriptor)
        self._home.disk.sync_directory(self._directory)


class SegmentWriter:
    """The segment into which this process writes."""

    def __init__(self, home: Home, path: Path, name: str) -> None:
        self._home, self._name, self._file = home, name, Appender(home.disk, path)
        self._end = 0  # with what waits in the journal

    def append(self, data: bytes, *, soon: bool = False) -> None:
        """`data` is at the end of the segment, durably; or the segment is as long as before and the error says why.

        soon   it is durable with the next step of the home, as everything is that belongs to one (Home.one_step)
        """
        journal = self._home.journal
        if self._file.named and (soon or journal.is_together):
            journal.append_to(self._file, SegmentTail(self._name, self._end, data))
            self._end += len(data)
            return
        if journal.is_together or self._waits:
            journal.flush()  # what came before it
        self._file.append(data)
        self._end += len(data)
        journal.synced(self._name)

    @property
    def _waits(self) -> bool:
        return self._end != self._file.size

    def close(self) -> None:
        """No more appends."""
        if self._waits and self._home.disk.usable:
            self._home.journal.flush()
        self._file.close()

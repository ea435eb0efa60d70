"""What changes with every step of a round, in one file while a process works: a step is one append and one fsync.

As files of their own these items cost two fsyncs each time they change, of the file and of its folder, and an entry of
a log one more. So while a process works in a study, the items whose rule says `stepwise` lie in state/journal, if they
are small: records behind one another, each with all that one step changed, so that a step is there whole or not at all.
What is appended to a log in a step stands in its record first, then in the segment, which is not synced each time.
When the process ends, or when the next one begins after it died, all of it becomes files, and the journal is removed.
steps.py has its bytes. docs/spec/home.md, docs/adr/0068.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from p2pfl.errors import P2PFLError
from p2pfl.errors.home import DiskFull, DiskRefused
from p2pfl.home.disk import NEW, Appender, Disk
from p2pfl.home.steps import EVERY_BIT, LENGTH, MOST_CHANGES, Change, Contents, Put, SegmentTail, packed

ITEM: Final = "state/journal"
SMALL_BYTES: Final = 256 << 10  # of an item: larger ones are files at once, since a record is written more than once
MOST_BYTES: Final = 8 << 20  # of the file, above which it is written anew
MOST_TAIL_BYTES: Final = 64 << 10  # of logs, above which their segments are synced


class AddedChange(NamedTuple):
    """A change that is not durable yet."""

    change: Change
    owner: int  # the thread that makes it durable; 0: none, it may wait
    anew: bool  # nothing older of its item may stay in the file


class Journal:
    """The journal of one study, for the one process that works in it. Every method may be called from any thread.

    A change waits until some step is made durable, and is so with that step at the latest: changes become durable in
    the order in which they were added.

    folder   the study's
    seal     makes a sealed record of its content, with a salt of its own
    """

    def __init__(self, disk: Disk, folder: Path, seal: Callable[[bytes], bytes]) -> None:
        self._disk, self._folder, self._seal = disk, folder, seal
        self._lock = threading.RLock()  # of the file
        self._waits = threading.RLock()  # of what waits, and of what is held
        self._together = threading.local()
        self._held = Contents()
        self._waiting: list[AddedChange] = []
        self._writing: list[AddedChange] = []
        self._file: Appender | None = None
        self._segments: dict[str, Appender] = {}  # to which something waits to be appended
        self._shown: set[str] = set()  # items of which the file has a value, current or not
        self._ended = False

    def find(self, item: str) -> tuple[bool, bytes | None]:
        """Whether the journal says what the item holds, and what it holds; None: it is gone."""
        with self._waits:
            for change, _, _ in reversed([*self._writing, *self._waiting]):
                if not isinstance(change, SegmentTail) and change.item == item:
                    return isinstance(change, Put), change.data if isinstance(change, Put) else None
            return item in self._held.items, self._held.items.get(item)

    def items(self) -> dict[str, bytes | None]:
        """All items of which it says what they hold; None: gone."""
        with self._waits:
            held = Contents(dict(self._held.items))
            for change, _, _ in (*self._writing, *self._waiting):
                if not isinstance(change, SegmentTail):
                    held.take(change)
            return held.items

    def add(self, change: Change, *, soon: bool = False, anew: bool = False) -> None:
        """The change waits for a step: of this thread, or for the next one where it may wait (soon).

        anew   what it takes the place of must not stay in the file
        """
        with self._waits:
            self._waiting.append(AddedChange(change, 0 if soon else threading.get_ident(), anew))

    def append_to(self, file: Appender, tail: SegmentTail) -> None:
        """The segment `file` gets what the tail holds with the next step: once that is durable, and not before."""
        with self._waits:
            self._segments[tail.segment] = file
            self._waiting.append(AddedChange(tail, 0, anew=False))

    def synced(self, segment: str) -> None:
        """All that was written to the segment so far is on the medium: it lacks nothing."""
        with self._waits:
            self._held.tails.pop(segment, None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread changes in here is one step; what another one makes durable meanwhile may take it along."""
        if self.is_together:
            yield
            return
        self._together.here = True
        try:
            yield
        except Exception:
            # What was changed before it stands, as after a crash in between; what is told is why the rest does not.
            self._together.here = False
            with suppress(P2PFLError):
                self.commit()
            raise
        finally:
            self._together.here = False
        self.commit()

    @property
    def is_together(self) -> bool:
        """This thread is in the middle of a step."""
        return bool(getattr(self._together, "here", False))

    def commit(self) -> None:
        """All that waits is durable, unless this thread is in the middle of a step. Raises DiskFull, SyncFailed."""
        if not self.is_together:
            self.flush()

    def flush(self) -> None:
        """All that waits is durable, now. Raises DiskFull, SyncFailed; then the items hold what they held.

        What others added waits on after DiskFull: they were told nothing, and count on it.
        """
        with self._lock:
            # Another thread may have taken along what this one added, and failed.
            self._disk.check_usable(self._folder / ITEM)
            with self._waits:
                waiting = self._writing = self._waiting
                self._waiting = []
            if not waiting:
                return
            changes = [one.change for one in waiting]
            tails = [change for change in changes if isinstance(change, SegmentTail)]
            anew = {change.item for change, _, anew in waiting if anew and not isinstance(change, SegmentTail)}
            try:
                if self._ended:  # the home may be another process's by now
                    raise DiskRefused(evidence="the home is closed", step="write", path=self._folder / ITEM)
                self._write(changes, anew)
                self._append(tails)
            except BaseException as error:
                refused = isinstance(error, DiskFull | DiskRefused)  # then the file is as it was
                if not refused or tails:  # a log counts on its entries
                    self._disk.fail(f"a step could not be made durable: {error}")
                else:
                    self._wait_on(waiting)
                raise
            finally:
                self._writing = []
            self._shown |= {change.item for change in changes if isinstance(change, Put) and change.data is not None}
            self._drop_files(changes, anew)

    def _wait_on(self, refused: list[AddedChange]) -> None:
        """What this thread did not add waits as before, ahead of what came meanwhile."""
        with self._waits:
            self._waiting[:0] = [one for one in refused if one.owner != threading.get_ident()]

    def _write(self, changes: list[Change], anew: set[str]) -> None:
        places = [self._folder / change.item for change in changes if isinstance(change, Put)]
        for place in places:
            self._disk.fault("put", place)
        with self._waits:
            held = Contents(dict(self._held.items), dict(self._held.tails))
        # Of two records that are written at once the second alone may come to the medium: a new file has both, or none.
        several = len(changes) > MOST_CHANGES
        writes_anew = self._file is None or several or anew & self._shown or self._file.size > MOST_BYTES
        if writes_anew and sum(len(tail.data) for tail in held.tails.values()) > MOST_TAIL_BYTES:
            for segment in held.tails:
                self._disk.sync_file(self._folder / segment)
            held.tails.clear()
        for change in changes:
            held.take(change)
        if self._file is None or writes_anew:
            self._rewrite(held, places)
        else:
            self._file.write(self._records(changes))
            self._sync(self._file, places)
        with self._waits:
            # What was synced beside this is lacked by none: its bytes do no harm where they stand.
            self._held = held

    def _append(self, tails: Iterable[SegmentTail]) -> None:
        """What is durable here goes where it belongs. After a crash `settle` does it."""
        for tail in tails:
            self._segments[tail.segment].write(tail.data)

    def _sync(self, file: Appender, places: list[Path]) -> None:
        for place in places:
            self._disk.fault("flush", place)
        file.sync()

    def _records(self, changes: list[Change]) -> bytes:
        parts = (changes[at : at + MOST_CHANGES] for at in range(0, len(changes), MOST_CHANGES))
        sealed = [self._seal(packed(part)) for part in parts]  # mostly one
        return b"".join(LENGTH.pack(len(one), len(one) ^ EVERY_BIT) + one for one in sealed)

    def _rewrite(self, held: Contents, places: list[Path]) -> None:
        """A new file with all that counts, in the place of the old one."""
        path = self._folder / ITEM
        new = path.with_name(path.name + NEW)
        try:
            new.unlink(missing_ok=True)
        except OSError as error:
            self._disk.refuse("write", new, error)
        file = Appender(self._disk, new)
        try:
            file.write(self._records(held.changes()))
            self._sync(file, places)
            file.rename(path)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = file
        self._shown = {item for item, data in held.items.items() if data is not None}

    def _drop_files(self, changes: list[Change], anew: set[str]) -> None:
        """Files of items that are gone, or that must not stay.

        Of one that is gone the journal says so from here on, whatever a power cut leaves of it: no folder is synced.
        """
        for change in changes:
            if isinstance(change, Put) and (change.data is None or change.item in anew):
                place = self._folder / change.item
                if place.exists():
                    self._disk.remove(place, lasting=change.item in anew)

    def settle(self, replace: Callable[[str, bytes], None]) -> None:
        """The items are files again, durably, and the journal is gone.

        replace   makes an item's file hold this, durably
        """
        with self._lock:
            self.flush()
            settle(self._disk, self._folder, self._held, replace)
            if self._file is not None:
                self._file.close()
            self._held, self._file, self._shown = Contents(), None, set()

    def end(self) -> None:
        """Nothing is written any more, by whichever thread is late: the home may be another process's."""
        with self._lock:
            self._ended = True
            if self._file is not None:
                self._file.close()
                self._file = None


def settle(disk: Disk, folder: Path, held: Contents, replace: Callable[[str, bytes], None]) -> None:
    """What a journal held lies in files, durably; then the journal goes. After a crash it is done once more."""
    for tail in held.tails.values():
        disk.patch(folder / tail.segment, tail.start, tail.data)
    gone = [folder / item for item, data in held.items.items() if data is None]
    for place in gone:
        if place.exists():
            disk.remove(place, lasting=False)
    for directory in {place.parent for place in gone}:  # also of those that went before: the journal goes now
        disk.sync_directory(directory)
    for item, data in held.items.items():
        if data is not None:
            replace(item, data)
    if (folder / ITEM).exists():
        disk.remove(folder / ITEM)


def patched(data: bytes, tail: SegmentTail | None) -> bytes:
    """What a segment holds with its tail, which its file may not have yet."""
    if tail is None or len(data) < tail.start:
        return data
    end = tail.start + len(tail.data)
    return data if data[tail.start : end] == tail.data else data[: tail.start] + tail.data + data[end:]

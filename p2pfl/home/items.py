"""The items of a home as one of its studies sees it: read, replace, remove; sealed, and durable on return.

An item is a file. Those that change with every step of a round lie in the journal while a process works (journal.py),
and `one_step` makes several changes durable at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2pfl.codec import Pieces, size_of
from p2pfl.errors.home import HomeIsReadOnly, ItemDamaged
from p2pfl.files import KEY_BYTES, read_file
from p2pfl.home import journal
from p2pfl.home.begun import BegunItems
from p2pfl.home.disk import NEW, Disk
from p2pfl.home.journal import SMALL_BYTES, Journal
from p2pfl.home.sealing import SALT_BYTES, SHARED_DIRECTORIES, STUDIES, Sealing, rule_of, seal, unseal
from p2pfl.home.steps import Contents, Filed, Put, SegmentTail, read_journal
from p2pfl.keys import Draw, Secret

MOST_ITEM: Final = 1 << 36  # bytes
ACCOUNTS: Final = "accounts/"


class ItemStore:
    """Where the items of one study lie, and those that all studies of the home share.

    study    the folder of the study under studies/; "" for the one at the root
    folder   where the items of the study lie
    """

    def __init__(
        self, path: Path, name: str, master: Secret, disk: Disk, draw: Draw, lock: int | None, study: str = ""
    ) -> None:
        self.path, self.name, self.master, self.disk, self.draw = path, name, master, disk, draw
        self.study, self.folder = study, path / STUDIES / study if study else path
        self._lock = lock
        self._journal: Journal | None = None
        self._begun = BegunItems(disk)
        self._held: set[str] = set()  # shared folders whose lock this home holds

    @property
    def locked(self) -> bool:
        """True when this home was opened for writing."""
        return self._lock is not None

    def check_writable(self, item: str) -> None:
        """Raises HomeIsReadOnly unless this home holds its lock, or under `beside` the lock of membership/.

        Items of accounts/ are written under `charging` alone.
        """
        folder = item.partition("/")[0] + "/"
        if folder in self._held or (self._lock is not None and folder != ACCOUNTS):
            return
        evidence = "its accounts are not locked" if folder == ACCOUNTS else "is open for reading"
        raise HomeIsReadOnly(evidence=f"{self.path} {evidence}", item=item)

    def full_name(self, item: str) -> str:
        """The item's name in the home, by which it is sealed. Raises NotInLayout."""
        return item if rule_of(item).shared or not self.study else f"{STUDIES}/{self.study}/{item}"

    def place(self, item: str) -> Path:
        """Where `item` lies."""
        return self.path / self.full_name(item)

    def read(self, item: str) -> bytes | None:
        """What `item` holds, or None when it was never written. Raises ItemDamaged, NotInLayout."""
        name, (known, data) = self.full_name(item), self._in_journal(item)
        if known:
            return data
        try:
            sealed = read_file(self.path / name, KEY_BYTES if item.endswith("identity") else MOST_ITEM)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.disk.refuse("read", self.path / name, error)
        try:
            return unseal(self.master, self.name, name, sealed)
        except ValueError as error:
            raise ItemDamaged(evidence=str(error), item=item, name=self.name, path=self.path) from None

    def begin(self, item: str, name: bytes, data: Pieces) -> None:
        """What a later `replace` of `item` will hold begins with `data`: sealed and written, as far as it was not yet.

        name   of the whole content: `replace` says the same. Until then the item holds what it held, also for readers
        Nothing is durable. Raises DiskFull and the like; then nothing is left of it, and `replace` writes all.
        """
        self.check_writable(item)
        sealing = Sealing(self.master, self.name, self.full_name(item), self.draw(SALT_BYTES))
        self._begun.add(self.place(item), name, sealing, data)

    def replace(
        self, item: str, data: bytes | Pieces, *, soon: bool = False, anew: bool = False, begun: bytes = b""
    ) -> None:
        """`item` holds `data`, sealed and durable; or it holds what it held and the error says why.

        soon    of one that changes with every step: it is durable with the next step, and not before
        anew    what it held must not be found on the disk any more
        begun   the name under which a first part of it may have been written already
        """
        self.check_writable(item)
        if not rule_of(item).stepwise or size_of(data) > SMALL_BYTES:
            if self._journal is not None:
                self._journal.flush()
            if not (isinstance(data, Pieces) and self._begun.finish(self.place(item), begun, data)):
                self._write_file(item, data)
            if rule_of(item).stepwise and (anew or self.journal.find(item)[0]):
                self.journal.add(Filed(item), anew=anew)
                self.journal.commit()
            return
        self._begun.drop(self.place(item))
        self.journal.add(Put(item, b"".join(data) if isinstance(data, Pieces) else bytes(data)), soon=soon, anew=anew)
        if not soon:
            self.journal.commit()

    def _write_file(self, item: str, data: bytes | Pieces) -> None:
        name = self.full_name(item)
        self.disk.replace(self.path / name, seal(self.master, self.name, name, data, self.draw(SALT_BYTES)))

    def show(self, item: str, data: bytes | None) -> None:
        """`item` holds `data`, sealed and whole, or is gone. Not durable: it is worth nothing after this process."""
        self.check_writable(item)
        name = self.full_name(item)
        sealed = None if data is None else seal(self.master, self.name, name, data, self.draw(SALT_BYTES))
        self.disk.show(self.path / name, sealed)

    def remove(self, item: str, *, soon: bool = False, anew: bool = False) -> None:
        """`item` is gone, durably. (A medium may keep the sealed bytes; the key is what guards them.)

        soon, anew   as `replace` has them
        """
        self.check_writable(item)
        self._begun.drop(self.place(item))
        if not rule_of(item).stepwise:
            if self._journal is not None:
                self._journal.flush()
            self.disk.remove(self.place(item))
        elif self.exists(item):
            self.journal.add(Put(item, None), soon=soon, anew=anew)
            if not soon:
                self.journal.commit()

    def exists(self, item: str) -> bool:
        """`item` was written, and is not gone."""
        known, data = self._in_journal(item)
        return data is not None if known else self.place(item).exists()

    def items(self, directory: str) -> list[str]:
        """The items in `directory`, such as `state/evidence`, sorted."""
        here = (self.path if directory in SHARED_DIRECTORIES else self.folder) / directory
        try:
            files = {f"{directory}/{file.name}" for file in here.iterdir() if file.is_file() and file.suffix != NEW}
        except OSError as error:
            self.disk.refuse("enter", here, error)
        for item, data in self._journaled().items():
            if item.rpartition("/")[0] == directory:
                (files.discard if data is None else files.add)(item)
        return sorted(files - {journal.ITEM})

    # ── steps of a round ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def journal(self) -> Journal:
        """Of this process. Raises HomeIsReadOnly."""
        if self._journal is None:
            self.check_writable(journal.ITEM)
            self._journal = Journal(self.disk, self.folder, self._seal_record)
        return self._journal

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """What this thread changes in here of items that change with every step, and of logs, is durable at its end.

        All of it with one fsync, in the order in which it was changed: after a crash a first part of it may be there.
        """
        with self.journal.together():
            yield

    def settle(self) -> None:
        """What lies in the journal of this process lies in files."""
        if self.locked and self._journal is not None:
            self._journal.settle(self._write_file)

    def left_journal(self) -> Contents | None:
        """What the journal's file holds, of the process that works or worked here. Raises ItemDamaged, DiskRefused.

        Whoever may only read, and may not enter state/, sees what lies elsewhere. A process that writes would take
        older files for what the items hold, and write another journal over this one: ballots and secrets would be gone.
        """
        name = self.full_name(journal.ITEM)
        try:
            data = read_file(self.path / name, MOST_ITEM)
            return read_journal(data, lambda sealed: unseal(self.master, self.name, name, sealed))
        except FileNotFoundError:
            return None
        except OSError as error:
            if isinstance(error, PermissionError) and not self.locked:
                return None
            self.disk.refuse("read", self.path / name, error)
        except ValueError as error:
            raise ItemDamaged(evidence=str(error), item=journal.ITEM, name=self.name, path=self.path) from None

    def left_tails(self) -> Mapping[str, SegmentTail]:
        """By segment, what its file may lack, where another process writes or died."""
        left = None if self.locked else self.left_journal()
        return left.tails if left is not None else {}

    def _seal_record(self, content: bytes) -> bytes:
        name = self.full_name(journal.ITEM)
        return b"".join(seal(self.master, self.name, name, content, self.draw(SALT_BYTES)))

    def _journaled(self) -> dict[str, bytes | None]:
        """What the journal says of items."""
        if self.locked:
            return self._journal.items() if self._journal is not None else {}
        left = self.left_journal()
        return left.items if left is not None else {}

    def _in_journal(self, item: str) -> tuple[bool, bytes | None]:
        if not rule_of(item).stepwise:
            return False, None
        if self.locked:
            return self._journal.find(item) if self._journal is not None else (False, None)
        held = self._journaled()
        return item in held, held.get(item)

"""The directory on disk: a lock, one layout table, and three verbs: read, replace, append.

A home takes part in any number of studies. The first lies at its root, each further one in studies/NAME/ with the same
folders and a lock of its own, so that each has its process; identity, keys, approved tasks and privacy accounts are the
home's. A `Home` is a home as one of its studies sees it. docs/adr/0046, 0049.

`replace` and `append` are durable when they return, or raise: full disk, and what was there before still is; a failed
fsync, and this home writes no more (disk.py). docs/spec/home.md.

    NAME.card  lock  keyslots            plain
    identity  state/  membership/  accounts/  checkpoints/     sealed items: the table LAYOUT in sealing.py
    studies/NAME/{lock,state,membership,checkpoints,ledger}/    of a further study
    ledger/{federation,site}/            sealed heads, and segments whose frames the ledger seals
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from p2pfl.errors import P2PFLError
from p2pfl.errors.home import (
    HomeElsewhere,
    HomeMissing,
    HomeOpenToOthers,
    ItemDamaged,
)
from p2pfl.files import is_file, read_file
from p2pfl.home import keyslots
from p2pfl.home.creation import build
from p2pfl.home.disk import NEW, Disk, Fault, no_fault
from p2pfl.home.items import ACCOUNTS, ItemStore
from p2pfl.home.journal import settle
from p2pfl.home.keyslots import KeyFile, KeySource
from p2pfl.home.lock import check_owner, release, take
from p2pfl.home.sealing import DIRECTORIES, SHARED_DIRECTORIES, STUDIES
from p2pfl.home.steps import SegmentTail
from p2pfl.keys import Draw, Identity, Secret, derive

MOST_TOLD: Final = 8  # names of homes in an error
MOST_KEYSLOTS: Final = 1 << 20  # bytes
# Folders that several processes write to, each under a lock of its own, and never without it.
BESIDE: Final = "membership/"
KEPT: Final = "membership/kept"
STUDY: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")


class Home(ItemStore):
    """An opened home: its name, its place, its items. Made by `create` and `open`; a context manager that closes."""

    def __repr__(self) -> str:
        return f"Home({self.name}, {self.path})"

    @classmethod
    def create(
        cls, path: Path, name: str, keys: Sequence[KeySource], *, draw: Draw = os.urandom, fault: Fault = no_fault
    ) -> Home:
        """Make a home with a new identity, opened for writing (`creation.build`).

        Raises HomeExists, HomeOfAnotherUser, KeyFileExists, KeyFileInsideHome, DiskFull, DiskRefused.
        """
        path = Path(path).absolute()
        disk = Disk(path, fault)
        master = build(disk, name, keys, draw)
        return cls(path, name, master, disk, draw, take(path))

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        unlock: Sequence[KeySource] = (KeyFile(),),
        write: bool = True,
        draw: Draw = os.urandom,
        fault: Fault = no_fault,
    ) -> Home:
        """Open the home at `path` with the first of `unlock` that has a keyslot.

        write=True takes the lock (HomeBusy names its holder); write=False reads beside a writer, also as root. Raises
        HomeMissing, HomeOpenToOthers, HomeOfAnotherUser, KeyslotsDamaged, KeyDoesNotOpen and the other errors of keys.
        """
        path = Path(path).absolute()
        name, slots = cls.slots_at(path)
        lock = take(path) if write else None
        try:
            home = cls(path, name, keyslots.unwrap(slots, name, unlock), Disk(path, fault), draw, lock)
            home.identity()  # the master key is this home's, not only well wrapped
            if write:
                home._make_whole()
        except BaseException:
            release(lock)
            raise
        return home

    @staticmethod
    def slots_at(path: Path) -> tuple[str, tuple[keyslots.Slot, ...]]:
        """The name of the home at `path`, and its keyslots.

        Raises HomeMissing or HomeElsewhere, HomeOpenToOthers, KeyslotsDamaged.
        """
        path = path.absolute()
        try:
            raw = read_file(path / "keyslots", MOST_KEYSLOTS)
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EISDIR, errno.EINVAL, errno.EFBIG):  # it is there
                Disk(path).refuse("read", path / "keyslots", error)
            raise _no_home(path, error.strerror or "") from None
        if mode & 0o077:
            raise HomeOpenToOthers(evidence=f"its mode is {mode:04o}, 0700 is wanted", path=path)
        return keyslots.from_bytes(raw, path / "keyslots")

    def studies(self) -> list[Home]:
        """The home as each of its studies sees it, for reading; the one at the root first, begun or not."""
        try:
            names = sorted(one.name for one in (self.path / STUDIES).iterdir() if STUDY.fullmatch(one.name))
        except FileNotFoundError:
            names = []
        except OSError as error:
            self.disk.refuse("enter", self.path / STUDIES, error)
        return [self._of("", None), *(self._of(name, None) for name in names)]

    def others(self) -> list[Home]:
        """The home as each of its other studies sees it, for reading."""
        return [one for one in self.studies() if one.study != self.study]

    def enter_study(self, name: str) -> Home:
        """The home as the study in that folder sees it, for writing: its lock is taken, and what it lacks is made.

        Raises HomeBusy, DiskFull, DiskRefused.
        """
        entered = self._of(name, None)
        try:
            entered.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self.disk.refuse("make", entered.folder, error)
        entered._lock = take(entered.folder, self.path)
        try:
            entered._make_whole()
        except BaseException:
            entered.close()
            raise
        return entered

    def as_study(self, name: str) -> Home:
        """The home as the study in that folder sees it, for reading; a folder that is not there holds nothing."""
        return self._of(name, None)

    def _of(self, study: str, lock: int | None) -> Home:
        return Home(self.path, self.name, self.master, self.disk, self.draw, lock, study)

    def _make_whole(self) -> None:
        """Its folders are there, without what a crash left in them."""
        with self.beside():  # another study's process may be writing the key or the card at the root
            self._tidy(self.folder)
        for directory in (self.folder / inner for inner in DIRECTORIES):
            self._tidy(directory)
        for inner in SHARED_DIRECTORIES:
            self._tidy(self.path / inner)
        left = self.left_journal()
        if left is not None:  # of a process that died
            self._check_tails(left.tails.values())
            settle(self.disk, self.folder, left, self._write_file)

    def _check_tails(self, tails: Iterable[SegmentTail]) -> None:
        """Raises ItemDamaged where a segment lacks more than the journal holds: what lies between would be zeros."""
        for tail in tails:
            place = self.folder / tail.segment
            size = place.stat().st_size if place.exists() else 0
            if size < tail.start:
                evidence = f"it has {size} bytes, and state/journal goes on from {tail.start}"
                raise ItemDamaged(evidence=evidence, item=tail.segment, name=self.name, path=self.path)

    def _tidy(self, directory: Path) -> None:
        """A folder of the home is there, without what a crash left in it. Raises DiskRefused."""
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            # In a shared folder another process may be in the middle of one.
            shared = directory.name + "/" in (BESIDE, ACCOUNTS)
            left = [] if shared else [one for one in os.listdir(directory) if one.endswith(NEW)]
        except OSError as error:
            self.disk.refuse("enter", directory, error)
        for name in left:  # a replace that a crash cut short
            self.disk.remove(directory / name)

    def identity(self) -> Identity:
        """The site's key pair, in this study. Raises ItemDamaged."""
        return self._key(self.read(KEPT) or self.read("identity"))

    def _key(self, private: bytes | None) -> Identity:
        if private is None or len(private) != 32:
            raise ItemDamaged(evidence="it is missing", item="identity", name=self.name, path=self.path)
        return Identity(private)

    def newest_identity(self) -> Identity:
        """The site's key pair: that of its card, and of studies to come. Raises ItemDamaged."""
        return self._key(self.read("identity"))

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Items of membership/ may be written, even while another process works in this home; one process at a time."""
        with self._holding(BESIDE):
            yield

    @contextmanager
    def lent(self, other: Home) -> Iterator[None]:
        """What this home may write beside others, `other`, the same home in another study, may write too."""
        try:
            other._held |= self._held
            yield
        finally:
            other._held -= self._held

    @contextmanager
    def charging(self) -> Iterator[None]:
        """Items of accounts/ may be written; what is read of them in here stands until the end of the block."""
        with self._holding(ACCOUNTS):
            yield

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """No other process of this home begins a study, or binds data to one, until the end of the block."""
        with self._holding(STUDIES + "/"):
            yield

    @contextmanager
    def _holding(self, folder: str) -> Iterator[None]:
        check_owner(self.path)
        lock = self.path / f"{folder.rstrip('/')}.lock"
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.disk.refuse("open", lock, error)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # of this descriptor: it keeps threads of one process apart too
            except OSError as error:
                self.disk.refuse("lock", lock, error)
            self._held.add(folder)
            yield
        finally:
            self._held.discard(folder)
            os.close(descriptor)

    def publish_card(self, card: bytes) -> Path:
        """NAME.card, the one file that others may read, holds `card`; returns where it lies."""
        self.check_writable("card")
        path = self.path / f"{self.name}.card"
        self.disk.replace(path, (card,))
        return path

    def holdout_key(self) -> Secret:
        """The key of the hash that picks held-out records: the same at every start, known to nobody else."""
        return Secret(derive(self.master.reveal(), "home/holdout"), "holdout key")

    def records_key(self) -> Secret:
        """The key of the marks by which the accounts know their records."""
        return Secret(derive(self.master.reveal(), "home/records"), "records key")

    def query_key(self) -> Secret:
        """The key of the digest of what this site put into a sum, so that nobody finds the number by trying."""
        return Secret(derive(self.master.reveal(), "home/query"), "query key")

    def close(self) -> None:
        """Make files of what the journal holds, release the lock and empty its file."""
        try:
            if self.disk.usable:
                with suppress(P2PFLError):  # what cannot become a file now does when the next process begins
                    self.settle()
        finally:
            lock, self._lock = self._lock, None
            self._begun.end()
            if self._journal is not None:
                self._journal.end()
            release(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _no_home(path: Path, why: str) -> P2PFLError:
    """The error for a path without a home: it says which one was probably meant, where homes lie in it or beside it."""
    evidence, within = f"{path / 'keyslots'}: {why}", _homes_in(path)
    if within:
        return HomeElsewhere(
            evidence=f"{evidence}; homes in it: {', '.join(within)}", path=path, nearest=path / within[0]
        )
    if above := next((one for one in path.parents if is_file(one / "keyslots")), None):  # a study's folder of a home
        return HomeElsewhere(evidence=evidence, path=path, nearest=above)
    beside = difflib.get_close_matches(path.name, _homes_in(path.parent), 1)
    if beside:
        return HomeElsewhere(evidence=evidence, path=path, nearest=path.parent / beside[0])
    return HomeMissing(evidence=evidence, path=path)


def _homes_in(path: Path) -> list[str]:
    """The names of homes that lie in `path`, where that can be looked into."""
    try:
        return sorted(slots.parent.name for slots in path.glob("*/keyslots"))[:MOST_TOLD]
    except OSError:  # it belongs to another user, or no path is as long
        return []

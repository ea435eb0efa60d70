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

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from p2pfl.codec import Pieces
from p2pfl.errors.home import (
    HomeBusy,
    HomeIsReadOnly,
    HomeMissing,
    HomeOpenToOthers,
    ItemDamaged,
)
from p2pfl.files import KEY_BYTES, read_file
from p2pfl.home import keyslots
from p2pfl.home.creation import build
from p2pfl.home.disk import NEW, Disk, Fault, no_fault
from p2pfl.home.keyslots import KeyFile, KeySource
from p2pfl.home.sealing import DIRECTORIES, SALT_BYTES, SHARED_DIRECTORIES, STUDIES, rule_of, seal, unseal
from p2pfl.keys import Draw, Identity, Secret, derive

MOST_TOLD: Final = 8  # names of homes in an error
MOST_KEYSLOTS: Final = 1 << 20  # bytes
MOST_ITEM: Final = 1 << 36  # bytes
# Folders that several processes write to, each under a lock of its own, and never without it.
BESIDE: Final = "membership/"
ACCOUNTS: Final = "accounts/"
KEPT: Final = "membership/kept"
STUDY: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")


class Home:
    """An opened home: its name, its place, its items. Made by `create` and `open`; a context manager that closes.

    study    the folder of the study under studies/; "" for the one at the root
    folder   where the items of the study lie
    """

    def __init__(
        self, path: Path, name: str, master: Secret, disk: Disk, draw: Draw, lock: int | None, study: str = ""
    ) -> None:
        self.path, self.name, self.master, self.disk, self.draw = path, name, master, disk, draw
        self.study, self.folder = study, path / STUDIES / study if study else path
        self._lock = lock
        self._held: set[str] = set()  # shared folders whose lock this home holds

    def __repr__(self) -> str:
        return f"Home({self.name}, {self.path})"

    @classmethod
    def create(
        cls, path: Path, name: str, keys: Sequence[KeySource], *, draw: Draw = os.urandom, fault: Fault = no_fault
    ) -> Home:
        """Make a home with a new identity, opened for writing (`creation.build`).

        Raises HomeExists, KeyFileExists, KeyFileInsideHome, DiskFull, DiskRefused.
        """
        path = Path(path).absolute()
        disk = Disk(path, fault)
        master = build(disk, name, keys, draw)
        return cls(path, name, master, disk, draw, _locked(path))

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

        write=True takes the lock (HomeBusy names its holder); write=False reads beside a writer. Raises HomeMissing,
        HomeOpenToOthers, KeyslotsDamaged, KeyDoesNotOpen and the other errors of keys.
        """
        path = Path(path).absolute()
        name, slots = cls.slots_at(path)
        lock = _locked(path) if write else None
        try:
            home = cls(path, name, keyslots.unwrap(slots, name, unlock), Disk(path, fault), draw, lock)
            home.identity()  # the master key is this home's, not only well wrapped
            if write:
                home._make_whole()
        except BaseException:
            _unlock(lock)
            raise
        return home

    @staticmethod
    def slots_at(path: Path) -> tuple[str, tuple[keyslots.Slot, ...]]:
        """The name of the home at `path`, and its keyslots. Raises HomeMissing, HomeOpenToOthers, KeyslotsDamaged."""
        path = path.absolute()
        try:
            raw = read_file(path / "keyslots", MOST_KEYSLOTS)
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EISDIR, errno.EINVAL, errno.EFBIG):  # it is there
                Disk(path).refuse("read", path / "keyslots", error)
            held = _homes_in(path)
            inside = f"; homes in it: {', '.join(held)}" if held else ""
            raise HomeMissing(evidence=f"{path / 'keyslots'}: {error.strerror}{inside}", path=path) from None
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
        entered._lock = _locked(entered.folder, self.path)
        try:
            entered._make_whole()
        except BaseException:
            entered.close()
            raise
        return entered

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

    def _tidy(self, directory: Path) -> None:
        """A folder of the home is there, without what a crash left in it. Raises DiskRefused."""
        try:
            if directory.is_file():  # what an earlier version kept under this name is of no use to this one
                self.disk.remove(directory)
            directory.mkdir(mode=0o700, exist_ok=True)
            # In a shared folder another process may be in the middle of one.
            shared = directory.name + "/" in (BESIDE, ACCOUNTS)
            left = [] if shared else [one for one in os.listdir(directory) if one.endswith(NEW)]
        except OSError as error:
            self.disk.refuse("enter", directory, error)
        for name in left:  # a replace that a crash cut short
            self.disk.remove(directory / name)

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
        lock = self.path / f"{folder.rstrip('/')}.lock"
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.disk.refuse("open", lock, error)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # of this descriptor: it keeps threads of one process apart too
            self._held.add(folder)
            yield
        finally:
            self._held.discard(folder)
            os.close(descriptor)

    def full_name(self, item: str) -> str:
        """The item's name in the home, by which it is sealed. Raises NotInLayout."""
        return item if rule_of(item).shared or not self.study else f"{STUDIES}/{self.study}/{item}"

    def place(self, item: str) -> Path:
        """Where `item` lies."""
        return self.path / self.full_name(item)

    def read(self, item: str) -> bytes | None:
        """What `item` holds, or None when it was never written. Raises ItemDamaged, NotInLayout."""
        name = self.full_name(item)
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

    def replace(self, item: str, data: bytes | Pieces) -> None:
        """`item` holds `data`, sealed and durable; or it holds what it held and the error says why."""
        self.check_writable(item)
        name = self.full_name(item)
        self.disk.replace(self.path / name, seal(self.master, self.name, name, data, self.draw(SALT_BYTES)))

    def show(self, item: str, data: bytes | None) -> None:
        """`item` holds `data`, sealed and whole, or is gone. Not durable: it is worth nothing after this process."""
        self.check_writable(item)
        name = self.full_name(item)
        sealed = None if data is None else seal(self.master, self.name, name, data, self.draw(SALT_BYTES))
        self.disk.show(self.path / name, sealed)

    def remove(self, item: str) -> None:
        """`item` is gone, durably. (A medium may keep the sealed bytes; the key is what guards them.)"""
        self.check_writable(item)
        self.disk.remove(self.place(item))

    def items(self, directory: str) -> list[str]:
        """The items in `directory`, such as `state/evidence`, sorted."""
        here = (self.path if directory in SHARED_DIRECTORIES else self.folder) / directory
        try:
            files = [file for file in here.iterdir() if file.is_file() and file.suffix != NEW]
        except OSError as error:
            self.disk.refuse("enter", here, error)
        return sorted(f"{directory}/{file.name}" for file in files)

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
        """Release the lock and empty its file."""
        lock, self._lock = self._lock, None
        _unlock(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _unlock(lock: int | None) -> None:
    """Release the lock that `_locked` gave, and empty its file: nobody works in the home."""
    if lock is not None:
        with suppress(OSError):
            os.ftruncate(lock, 0)
        os.close(lock)


def _homes_in(path: Path) -> list[str]:
    """The names of homes that lie in `path`, where that can be looked into."""
    try:
        return sorted(slots.parent.name for slots in path.glob("*/keyslots"))[:MOST_TOLD]
    except OSError:  # it belongs to another user, or no path is as long
        return []


def _locked(path: Path, home: Path | None = None) -> int:
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

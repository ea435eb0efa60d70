"""The directory on disk: one lock, one layout table, and three verbs: read, replace, append.

`replace` and `append` are durable when they return, or raise: full disk, and what was there before still is; a failed
fsync, and this home writes no more (disk.py). docs/spec/home.md.

    NAME.card  lock  keyslots            plain
    identity  state/  membership/  checkpoints/     sealed items: the table LAYOUT in sealing.py
    ledger/{federation,site}/            sealed heads, and segments whose frames the ledger seals
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from p2pfl.codec import Pieces
from p2pfl.errors.home import (
    HomeBusy,
    HomeExists,
    HomeIsReadOnly,
    HomeMissing,
    HomeOpenToOthers,
    ItemDamaged,
    KeyFileExists,
    KeyFileInsideHome,
)
from p2pfl.home import keyslots
from p2pfl.home.disk import NEW, Appender, Disk, Fault, no_fault
from p2pfl.home.keyslots import KeyFile, KeySource
from p2pfl.home.sealing import DIRECTORIES, SALT_BYTES, row, seal, unseal
from p2pfl.keys import Identity, Secret, derive

Draw = Callable[[int], bytes]
LogName = Literal["federation", "site"]

MOST_TOLD: Final = 8  # names in an error
BESIDE: Final = "membership/"  # what another process may write while one works in the home
SEGMENT: Final = re.compile(r"([0-9]{8})\.segment")


class Segments:
    """The segment files of one log: numbered from 1, each written by one process start and never again."""

    def __init__(self, home: Home, which: LogName) -> None:
        self._home, self.which = home, which
        self._directory = home.path / "ledger" / which

    def numbers(self) -> list[int]:
        """The numbers of the segments on the disk, ascending."""
        try:
            files = os.listdir(self._directory)
        except OSError as error:  # never an empty log instead
            home, item = self._home, f"ledger/{self.which}"
            evidence = f"its directory: {error.strerror}"
            raise ItemDamaged(evidence=evidence, item=item, name=home.name, path=home.path) from None
        return sorted(int(found[1]) for found in map(SEGMENT.fullmatch, files) if found)

    def path(self, number: int) -> Path:
        return self._directory / f"{number:08d}.segment"

    def read(self, number: int) -> bytes:
        """The whole segment, as far as it is written."""
        return self.path(number).read_bytes()

    def key(self, number: int, salt: bytes) -> Secret:
        """The key of the segment with that number and salt; the log's name is in it too."""
        context = f"segment/{self.which}/{number}".encode()
        return Secret(derive(self._home.master.reveal(), "home/ledger", context, salt=salt), f"key of segment {number}")

    def begin(self) -> tuple[int, bytes, Appender]:
        """A new segment: its number, 32 fresh random bytes of salt, and the file to append to."""
        self._home.writable(f"ledger/{self.which}")
        number = max(self.numbers(), default=0) + 1
        return number, self._home.draw(SALT_BYTES), Appender(self._home.disk, self.path(number))

    def settle(self, number: int, size: int) -> None:
        """Segment `number` is on the medium and `size` bytes long: what lay behind is gone; at size 0, all of it is."""
        self._home.writable(f"ledger/{self.which}")
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
        finally:
            os.close(descriptor)
        self._home.disk.sync_directory(self._directory)


class Home:
    """An opened home: its name, its place, its items. Made by `create` and `open`; a context manager that closes."""

    def __init__(self, path: Path, name: str, master: Secret, disk: Disk, draw: Draw, lock: int | None) -> None:
        self.path, self.name, self.master, self.disk, self.draw = path, name, master, disk, draw
        self._lock = lock
        self._beside = False

    def __repr__(self) -> str:
        return f"Home({self.name}, {self.path})"

    @classmethod
    def create(
        cls, path: Path, name: str, keys: Sequence[KeySource], *, draw: Draw = os.urandom, fault: Fault = no_fault
    ) -> Home:
        """Make a home with a new identity, opened for writing; each key gets a slot, each KeyFile is written first.

        All or nothing: it is built beside `path` and renamed; in a directory that is there and empty (a volume's mount
        point cannot be renamed over) its keyslots are written last, and without them it is no home. Raises HomeExists,
        KeyFileExists, DiskFull, DiskRefused.
        """
        path = Path(path).absolute()
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise HomeExists(evidence=f"it holds {_what_is_in(path)}", path=path)
        disk, made, build = Disk(path, fault), [], path
        try:
            _make_folders(path.parent, 0o755)
            if path.is_dir():
                path.chmod(0o700)
            else:
                build = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        except OSError as error:
            disk.refuse("make", path, error)
        try:
            for key in keys:
                if isinstance(key, KeyFile) and key.path is not None:
                    _write_key_file(disk, key.path.absolute(), name, draw)
                    made.append(key.path.absolute())
            master = _fill(disk, build, name, keys, draw)
            if build != path:
                os.rename(build, path)
        except BaseException as error:
            _undo(build, made, keep=build == path)
            if isinstance(error, OSError):
                disk.refuse("make", path, error)
            raise
        disk.sync_directory(path.parent)
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

        write=True takes the lock (HomeBusy names who holds it); write=False reads beside a writer. Raises HomeMissing,
        HomeOpenToOthers, KeyslotsDamaged, WrongKey and the other leaves of keys.
        """
        path = Path(path).absolute()
        try:
            raw = (path / "keyslots").read_bytes()
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            held = sorted(slots.parent.name for slots in path.glob("*/keyslots"))[:MOST_TOLD]
            inside = f"; homes in it: {', '.join(held)}" if held else ""
            raise HomeMissing(evidence=f"{path / 'keyslots'}: {error.strerror}{inside}", path=path) from None
        if mode & 0o077:
            raise HomeOpenToOthers(evidence=f"its mode is {mode:04o}, 0700 is wanted", path=path)
        name, slots = keyslots.from_bytes(raw, path / "keyslots")
        lock = _locked(path) if write else None
        try:
            home = cls(path, name, keyslots.unwrap(slots, name, unlock), Disk(path, fault), draw, lock)
            home.identity()  # the master key is this home's, not only well wrapped
            for directory in (path, *(path / inner for inner in DIRECTORIES)) if write else ():
                if directory.is_file():  # what an earlier version kept under this name is of no use to this one
                    home.disk.remove(directory)
                directory.mkdir(mode=0o700, exist_ok=True)
                if directory.name + "/" != BESIDE:  # there another process may be in the middle of one
                    for left in directory.glob("*" + NEW):  # a replace that a crash cut short
                        home.disk.remove(left)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return home

    @property
    def locked(self) -> bool:
        """True when this home was opened for writing."""
        return self._lock is not None

    def writable(self, item: str) -> None:
        """Raises HomeIsReadOnly unless this home holds the lock, or the one of what may be written beside."""
        if self._lock is None and not (self._beside and item.startswith(BESIDE)):
            raise HomeIsReadOnly(evidence=f"{self.path} is open for reading", item=item)

    def identity(self) -> Identity:
        """The site's key pair. Raises ItemDamaged."""
        private = self.read("identity")
        if private is None or len(private) != 32:
            raise ItemDamaged(evidence="it is missing", item="identity", name=self.name, path=self.path)
        return Identity(private)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """What lies in membership/ may be written too, also while another process works in this home; one at a time."""
        descriptor = os.open(self.path / "membership.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._beside = True
            yield
        finally:
            self._beside = False
            os.close(descriptor)

    def read(self, item: str) -> bytes | None:
        """What `item` holds, or None when it was never written. Raises ItemDamaged, NotInLayout."""
        row(item)
        try:
            sealed = (self.path / item).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.disk.refuse("read", self.path / item, error)
        try:
            return unseal(self.master, self.name, item, sealed)
        except ValueError as error:
            raise ItemDamaged(evidence=str(error), item=item, name=self.name, path=self.path) from None

    def replace(self, item: str, data: bytes | Pieces) -> None:
        """`item` holds `data`, sealed and durable; or it holds what it held and the error says why."""
        self.writable(item)
        row(item)
        self.disk.replace(self.path / item, seal(self.master, self.name, item, data, self.draw(SALT_BYTES)))

    def show(self, item: str, data: bytes | None) -> None:
        """`item` holds `data`, sealed and whole, or is gone; not durable, as it is worth nothing after this process."""
        self.writable(item)
        row(item)
        sealed = None if data is None else seal(self.master, self.name, item, data, self.draw(SALT_BYTES))
        self.disk.show(self.path / item, sealed)

    def remove(self, item: str) -> None:
        """`item` is gone, durably. (A medium may keep the sealed bytes; the key is what guards them.)"""
        self.writable(item)
        row(item)
        self.disk.remove(self.path / item)

    def items(self, directory: str) -> list[str]:
        """The items in `directory`, such as `state/evidence`, sorted."""
        here = self.path / directory
        return sorted(f"{directory}/{file.name}" for file in here.iterdir() if file.is_file() and file.suffix != NEW)

    def publish_card(self, card: bytes) -> Path:
        """NAME.card, the one file that others may read, holds `card`; returns where it lies."""
        self.writable("card")
        path = self.path / f"{self.name}.card"
        self.disk.replace(path, (card,))
        return path

    def add_key(self, key: KeySource) -> None:
        """`key` opens this home from now on, beside those that did. A KeyFile is written and must be new."""
        self.writable("keyslots")
        path = self.path / "keyslots"
        _, slots = keyslots.from_bytes(path.read_bytes(), path)
        if isinstance(key, KeyFile) and key.path is not None:
            _write_key_file(self.disk, key.path.absolute(), self.name, self.draw)
        slots = (*slots, keyslots.wrap(self.master, self.name, key, self.draw(SALT_BYTES)))
        self.disk.replace(path, (keyslots.to_bytes(self.name, slots),))

    def holdout_key(self) -> Secret:
        """Keys the hash that picks held-out records: the same on every start, known to nobody else."""
        return Secret(derive(self.master.reveal(), "home/holdout"), "holdout key")

    def query_key(self) -> Secret:
        """Keys the digest of what this site put into a sum, so that nobody can find the number by trying."""
        return Secret(derive(self.master.reveal(), "home/query"), "query key")

    def segments(self, which: LogName) -> Segments:
        """The segment files of one of the two logs."""
        return Segments(self, which)

    def close(self) -> None:
        """Let go of the lock; its file then names nobody."""
        if self._lock is not None:
            with suppress(OSError):
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _what_is_in(path: Path) -> str:
    try:
        name, _ = keyslots.from_bytes((path / "keyslots").read_bytes(), path)
    except (OSError, ValueError):
        return "a file" if not path.is_dir() else f"{len(list(path.iterdir()))} files that are no home"
    return f"the home of {name}"


def _locked(path: Path) -> int:
    """The lock file's descriptor, locked until it is closed, with this process's number inside."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        Disk(path).refuse("open", path / "lock", error)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise HomeBusy(evidence=f"its lock is held by process {holder}", path=path) from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
    except OSError as error:
        os.close(descriptor)
        Disk(path).refuse("write", path / "lock", error)
    return descriptor


def _make_folders(path: Path, mode: int) -> None:
    """`path` is a folder; each that was missing has this mode at most. (mkdir gives parents what the umask lets.)"""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=mode, exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _write_key_file(disk: Disk, path: Path, name: str, draw: Draw) -> None:
    if path.is_relative_to(disk.home):
        raise KeyFileInsideHome(evidence=f"{path}", home=disk.home)
    if path.exists():
        raise KeyFileExists(evidence=f"{path.stat().st_size} bytes", path=path)
    try:
        _make_folders(path.parent, 0o700)
    except OSError as error:
        disk.refuse("make", path.parent, error)
    disk.replace(path, (keyslots.key_text(name, Secret(draw(keyslots.KEY_BYTES))),), over=False)


def _undo(build: Path, key_files: Sequence[Path], *, keep: bool) -> None:
    """What an init that failed had made is gone."""
    for file in key_files:
        file.unlink(missing_ok=True)
    for child in list(build.iterdir()):
        if child.is_dir():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)
    if not keep:
        build.rmdir()


def _fill(disk: Disk, build: Path, name: str, keys: Sequence[KeySource], draw: Draw) -> Secret:
    """Everything that a new home holds, in `build`; the master key."""
    for directory in DIRECTORIES:
        (build / directory).mkdir(mode=0o700)
    master = Secret(draw(32), f"master key of {name}")
    slots = [keyslots.wrap(master, name, key, draw(SALT_BYTES)) for key in keys]
    disk.replace(build / "lock", (b"",))
    disk.replace(build / "identity", seal(master, name, "identity", draw(32), draw(SALT_BYTES)))
    for directory in DIRECTORIES:
        disk.sync_directory(build / directory)
    disk.replace(build / "keyslots", (keyslots.to_bytes(name, slots),))
    return master

"""The steps that change a disk, each durable or an error. The only fsync of the project.

A full disk leaves what was there before. A failed fsync is final: what the kernel still holds of the file is unknown,
so going on could only make promises that the medium does not keep. Every step is announced to a `Fault` hook first, so
that a test can fail it, or let the process die there.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NoReturn

from p2pfl.errors.home import DiskFull, DiskRefused, SyncFailed

Fault = Callable[[str, Path], None]  # called with (step, path) before each step; may raise in its place

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
NEW: Final = ".new"  # the suffix of a file that is not yet renamed into its place
SECTOR_BYTES: Final = 512  # the unit that a disk writes whole
AFRESH: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW  # writes to no file that is there, and through no link


def no_fault(step: str, path: Path) -> None:
    return


def has_hole(data: bytes, at: int) -> bool:
    """True when a sector behind `at`, or the part of it in the file, is all zero: its write never reached the disk."""
    first = -(-at // SECTOR_BYTES) * SECTOR_BYTES
    sectors = [data[at:first], *(data[start : start + SECTOR_BYTES] for start in range(first, len(data), SECTOR_BYTES))]
    return any(sector and not sector.strip(b"\0") for sector in sectors)


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _unused(new: Path) -> Path:
    """`new`, after removing whatever a crash or somebody left there."""
    new.unlink(missing_ok=True)
    return new


class Disk:
    """One method a step, for the files of one home. After a failed fsync nothing more can be opened for writing."""

    def __init__(self, home: Path, fault: Fault = no_fault) -> None:
        self.home = home
        self.fault = fault
        self._failed: str | None = None

    def refuse(self, step: str, path: Path, error: OSError) -> NoReturn:
        """Raise DiskFull or DiskRefused for `error`."""
        if error.errno in FULL:
            raise DiskFull(evidence=f"{step}: {error.strerror or error}", path=path) from None
        raise DiskRefused(evidence=f"{error.strerror or error}", step=step, path=path) from None

    def fail(self, why: str) -> None:
        """Refuse every write from now on: what the medium holds is no longer known."""
        self._failed = self._failed or why

    @property
    def usable(self) -> bool:
        """Nothing has failed for good."""
        return self._failed is None

    def check_usable(self, path: Path) -> None:
        """Raises SyncFailed once something has failed for good."""
        if self._failed:
            raise SyncFailed(evidence=self._failed, path=path, home=self.home)

    def open(self, path: Path, flags: int) -> int:
        """A descriptor for writing; a file that is made has mode 0600."""
        self.check_usable(path)
        self.fault("open", path)
        return os.open(path, flags | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes, path: Path) -> None:
        """All of `data`, or OSError with some of it written. Not yet durable."""
        self.check_usable(path)
        view = memoryview(data)
        # Under a fault hook in two halves, so that it can strike with part of the data on the disk.
        parts = (view,) if self.fault is no_fault else (view[: len(view) // 2], view[len(view) // 2 :])
        for part in parts:
            self.fault("write", path)
            while part:
                part = part[os.write(descriptor, part) :]

    def sync(self, descriptor: int, path: Path) -> None:
        """What was written is on the medium. Raises SyncFailed; after that every step does."""
        try:
            self.fault("fsync", path)
            if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone stops at the drive's cache
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            else:
                os.fsync(descriptor)
        except OSError as error:
            why = f"fsync of {path.name}: {error.strerror or error}"
            self.fail(why)
            raise SyncFailed(evidence=why, path=path, home=self.home) from None

    def send_ahead(self, descriptor: int) -> None:
        """The system begins to write what the file holds to the medium, and nobody waits for it: no promise.

        It need not keep those bytes in memory either. Without this it begins with the fsync, which then lasts as long.
        """
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # of all that it has

    def sync_directory(self, path: Path) -> None:
        """Names made, renamed or removed in `path` are on the medium. Raises SyncFailed; after that every step does.

        Who can still leave all as it was opens the folder before it changes a name in it: that needs a descriptor.
        """
        try:
            descriptor = _open_folder(path)
        except OSError as error:
            why = f"opening {path.name} to sync it: {error.strerror or error}"
            self.fail(why)
            raise SyncFailed(evidence=why, path=path, home=self.home) from None
        try:
            self.sync(descriptor, path)
        finally:
            os.close(descriptor)

    def sync_file(self, path: Path) -> None:
        """All that was written to the file, through whichever descriptor, is on the medium."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self.refuse("open", path, error)
        try:
            self.sync(descriptor, path)
        finally:
            os.close(descriptor)

    def patch(self, path: Path, start: int, data: bytes) -> None:
        """The file holds `data` from `start` on, durably."""
        try:
            descriptor = self.open(path, 0)
            try:
                os.lseek(descriptor, start, os.SEEK_SET)
                self.write(descriptor, data, path)
                self.sync(descriptor, path)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.refuse("write", path, error)

    def replace(self, path: Path, pieces: Iterable[bytes], *, over: bool = True) -> None:
        """`path` holds the pieces, durably; or it is as it was and the error says why. over=False: it must be new."""
        with closing(NewFile(self, path)) as new:
            for piece in pieces:
                new.write(piece)
            new.take_place(over=over)

    def show(self, path: Path, pieces: Iterable[bytes] | None) -> None:
        """`path` holds the pieces, whole, or is gone. Not durable, and no step for a `Fault`."""
        new = path.with_name(path.name + NEW)
        try:
            if pieces is None:
                path.unlink(missing_ok=True)
                return
            with os.fdopen(os.open(_unused(new), AFRESH | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                file.writelines(pieces)
            os.replace(new, path)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            self.refuse("write", path, error)

    def remove(self, path: Path, *, lasting: bool = True) -> None:
        """`path` is gone, durably; or (not lasting) until a power cut at the most, unless its folder is synced later.

        Nothing happens when it was not there.
        """
        folder = None
        try:
            folder = _open_folder(path.parent) if lasting else None
            self.fault("unlink", path)
            path.unlink(missing_ok=True)
            if folder is not None:
                self.sync(folder, path.parent)
        except OSError as error:
            self.refuse("remove", path, error)
        finally:
            if folder is not None:
                os.close(folder)


class NewFile:
    """A file that is to take the place of the one at `path`: until it does, it is not there and that one stands.

    On an error nothing is left of it, and the error says why.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk, self._path, self._new = disk, path, path.with_name(path.name + NEW)
        self._descriptor: int | None = None
        try:
            self._descriptor = disk.open(_unused(self._new), AFRESH)
        except OSError as error:
            self._give_up(error)

    def write(self, piece: bytes) -> None:
        """The piece is at its end, not yet durable."""
        try:
            self._disk.write(self._open, piece, self._new)
        except OSError as error:
            self._give_up(error)

    def send_ahead(self) -> None:
        """What was written so far is on its way to the medium: there is less left for `take_place` to wait for."""
        self._disk.send_ahead(self._open)

    def take_place(self, *, over: bool = True) -> None:
        """It is the file at `path`, whole and durable. over=False: there must be none."""
        folder = None
        try:
            self._disk.sync(self._open, self._new)
            self.close()
            folder = _open_folder(self._path.parent)
            self._disk.fault("rename", self._path)
            if over:
                os.replace(self._new, self._path)
            else:
                os.link(self._new, self._path)  # unlike rename, fails when the name is taken
                self._new.unlink()
            self._disk.sync(folder, self._path.parent)
        except OSError as error:
            self._give_up(error)
        finally:
            if folder is not None:
                os.close(folder)

    def drop(self) -> None:
        """Nothing comes of it, and nothing is left."""
        self.close()
        with suppress(OSError):
            self._new.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing more is written; what was is left where it is."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    @property
    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self._new.name} is closed")
        return self._descriptor

    def _give_up(self, error: OSError) -> NoReturn:
        self.drop()
        self._disk.refuse("write", self._path, error)


class Appender:
    """A new file that grows. Once an append has failed nothing can be added: the caller goes on in another one.

    Its folder is open from before it is made until its name is on the medium: an append that could not sync the folder
    would be durable and told as failed, and the next segment would begin with the same entry.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk, self._path = disk, path
        self.size = 0  # bytes
        self._folder: int | None = None
        try:
            self._folder = _open_folder(path.parent)
            self._descriptor = disk.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND)
        except BaseException as error:
            self._close_folder()
            if not isinstance(error, OSError):
                raise
            disk.refuse("make", path, error)
        self.named = False
        """Its name is on the medium, too."""

    def append(self, data: bytes) -> None:
        """`data` is at the end of the file, durably; or the file is as long as before and the error says why."""
        self.write(data)
        self.sync()
        if not self.named:
            self._sync_name()

    def write(self, data: bytes) -> int:
        """`data` is at the end of the file, not yet durable; returns where it begins. On an error nothing is there."""
        try:
            self._disk.write(self._descriptor, data, self._path)
        except OSError as error:
            self._take_back()
            self._disk.refuse("append to", self._path, error)
        except BaseException:
            self._disk.fail(f"interrupted while it wrote {self._path.name}")
            raise
        self.size += len(data)
        return self.size - len(data)

    def sync(self) -> None:
        """All that was written is on the medium."""
        self._disk.sync(self._descriptor, self._path)

    def rename(self, path: Path) -> None:
        """The file takes the place of the one at `path`, of the same folder, durably."""
        try:
            self._disk.fault("rename", path)
            os.replace(self._path, path)
        except OSError as error:
            self._disk.refuse("write", path, error)
        self._path = path
        self._sync_name()

    def _sync_name(self) -> None:
        if self._folder is not None:
            self._disk.sync(self._folder, self._path.parent)
        self._close_folder()
        self.named = True

    def _close_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def _take_back(self) -> None:
        """Cut off what a failed write left: a later segment may only follow one that ends well."""
        try:
            os.ftruncate(self._descriptor, self.size)
            if not self.size:
                self._path.unlink()
        except OSError as error:
            self._disk.fail(f"cutting {self._path.name} back: {error.strerror or error}")
            return
        self._disk.sync(self._descriptor, self._path)
        if self._folder is not None:
            self._disk.sync(self._folder, self._path.parent)

    def close(self) -> None:
        """No more appends."""
        self._close_folder()
        os.close(self._descriptor)

"""A new home: all of it, or nothing of it is there."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from p2pfl.errors.home import DiskFull, HomeExists, KeyFileExists, KeyFileInsideHome
from p2pfl.files import TEXT_BYTES, read_file
from p2pfl.home import keyslots
from p2pfl.home.disk import NEW, Disk
from p2pfl.home.keyslots import KeyFile, KeySource
from p2pfl.home.lock import check_owner
from p2pfl.home.sealing import DIRECTORIES, SALT_BYTES, SHARED_DIRECTORIES, seal
from p2pfl.keys import Draw, Secret


def build(disk: Disk, name: str, keys: Sequence[KeySource], draw: Draw) -> Secret:
    """Make the home `disk.home` with a new identity; return its master key. Each key gets a slot.

    A KeyFile is written first. The home is built beside its place and renamed into it; in a directory that is there
    and empty (a volume's mount point cannot be renamed over) its keyslots are written last, and without them it is no
    home. Raises HomeExists, HomeOfAnotherUser, KeyFileExists, KeyFileInsideHome, DiskFull, DiskRefused.
    """
    path, made = disk.home, list[Path]()
    _check_place(path)
    place = _building_place(disk)
    try:
        for key in keys:
            if isinstance(key, KeyFile) and key.path is not None:
                write_key_file(disk, key.path.absolute(), name, Secret(draw(keyslots.KEY_BYTES)))
                made.append(key.path.absolute())
        master = _fill(disk, place, name, keys, draw)
        if place != path:
            os.rename(place, path)
    except BaseException as error:
        _undo(place, made, keep=place == path)
        if isinstance(error, DiskFull) and Path(error.fields["path"]).is_relative_to(place):
            raise DiskFull(evidence=error.evidence, path=path) from None  # and no file of the folder that is gone
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST) and place != path:
            raise HomeExists(evidence=f"it holds {_what_is_in(path)}, made meanwhile", path=path) from None
        if isinstance(error, OSError):
            disk.refuse("make", path, error)
        raise
    disk.sync_directory(path.parent)
    return master


def _check_place(path: Path) -> None:
    """Raises HomeExists unless nothing is there, or an empty directory; DiskRefused where that cannot be seen."""
    try:
        taken = path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir())))
    except OSError as error:
        Disk(path).refuse("look into", path, error)
    if taken:
        raise HomeExists(evidence=f"it holds {_what_is_in(path)}", path=path)


def _building_place(disk: Disk) -> Path:
    """The directory in which the home is built: its own where that is there, else one beside it."""
    path = disk.home
    try:
        _make_folders(path.parent, 0o755)
        if path.is_dir():
            check_owner(path)
            path.chmod(0o700)
            return path
        return Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        disk.refuse("make", path, error)


def _what_is_in(path: Path) -> str:
    try:
        name, _ = keyslots.from_bytes(read_file(path / "keyslots", TEXT_BYTES), path)
    except (OSError, ValueError):
        return "a file" if not path.is_dir() else f"{len(list(path.iterdir()))} files that are no home"
    return f"the home of {name}"


def _make_folders(path: Path, mode: int) -> None:
    """`path` is a folder; each that was missing has this mode at most. (mkdir gives parents what the umask lets.)"""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=mode, exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def write_key_file(disk: Disk, path: Path, name: str, key: Secret) -> None:
    """A new key file, outside of the home. Raises KeyFileInsideHome, KeyFileExists, DiskFull, DiskRefused."""
    if path.is_relative_to(disk.home):
        raise KeyFileInsideHome(evidence=f"{path}", home=disk.home)
    try:
        if path.exists():
            raise KeyFileExists(evidence=f"{path.stat().st_size} bytes", path=path)
        _make_folders(path.parent, 0o700)
    except OSError as error:
        disk.refuse("make", path.parent, error)
    try:
        disk.replace(path, (keyslots.key_text(name, key),), over=False)
    except BaseException:  # interrupted, too: outside of the home nobody looks for what is left
        with suppress(OSError):
            path.with_name(path.name + NEW).unlink(missing_ok=True)
        raise


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
    for directory in (*DIRECTORIES, *SHARED_DIRECTORIES):
        (build / directory).mkdir(mode=0o700)
    master = Secret(draw(32), f"master key of {name}")
    slots = [keyslots.wrap(master, name, key, draw(SALT_BYTES)) for key in keys]
    disk.replace(build / "lock", (b"",))
    disk.replace(build / "identity", seal(master, name, "identity", draw(32), draw(SALT_BYTES)))
    for directory in (*DIRECTORIES, *SHARED_DIRECTORIES):
        disk.sync_directory(build / directory)
    disk.replace(build / "keyslots", (keyslots.to_bytes(name, slots),))
    return master

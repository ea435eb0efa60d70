"""Homes and disks for tests: a home with a key file beside it, faults that strike at a counted step, power cuts."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl.home import Home
from p2pfl.home.disk import NEW, Fault
from p2pfl.home.items import ItemStore
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.steps import Contents

# Folders of items that are named by number, and one item in each.
PARTS = ("state/sums", "state/left", "state/left-sums", "state/evidence")
BY_NUMBER = ("state/sums/1", "state/left/3", "state/left-sums/3", "state/evidence/0123456789abcdef")


class Crash(BaseException):
    """The process is dead from here on: nothing may catch this."""


def make(folder: Path, name: str = "charite", fault: Fault | None = None) -> Home:
    """A new home in folder/NAME, its key in folder/keys/NAME.key, opened for writing."""
    home = Home.create(folder / name, name, [KeyFile(folder / "keys" / f"{name}.key")])
    if fault is not None:
        home.disk.fault = fault
    return home


def looks_into_the_journal(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by one each time that somebody reads and decrypts the journal of another process."""
    looks, look = list[Path](), ItemStore.left_journal

    def counted(self: ItemStore) -> Contents | None:
        looks.append(self.path)
        return look(self)

    monkeypatch.setattr(ItemStore, "left_journal", counted)
    return looks


class Strike:
    """A fault hook: raises `what()` at the `at`-th step of the given kinds, counted from 0; counts what it saw."""

    def __init__(self, what: Callable[[], BaseException], at: int | None = None, steps: tuple[str, ...] = ()) -> None:
        self._what, self._at, self._steps = what, at, steps
        self.seen = 0
        self.kinds: Counter[str] = Counter()

    def __call__(self, step: str, path: Path) -> None:
        if self._steps and step not in self._steps:
            return
        self.seen, number = self.seen + 1, self.seen
        self.kinds[step] += 1
        if number == self._at:
            raise self._what()


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


class PowerCut:
    """A hook that lets the process die at one step, and knows how long each file was at its last fsync.

    `lose` then cuts every file back to that length plus `kept` bytes of what came after, and brings back what was
    removed from a folder that was not synced since: what a power cut may leave.
    """

    def __init__(self, at: int) -> None:
        self._at, self.seen = at, 0
        self._synced: dict[Path, int] = {}
        self._written: set[Path] = set()
        self._removed: dict[Path, bytes] = {}  # since the last fsync of their folders

    def __call__(self, step: str, path: Path) -> None:
        if step == "open":
            self._synced[path] = path.stat().st_size if path.exists() else 0
        if step == "write":
            self._written.add(path)
        self.seen, number = self.seen + 1, self.seen
        if number == self._at:
            raise Crash
        if step == "unlink" and path.exists():
            self._removed[path] = path.read_bytes()
        if step == "fsync" and path.is_file():
            self._synced[path] = path.stat().st_size
        elif step == "fsync":
            self._removed = {place: data for place, data in self._removed.items() if place.parent != path}
        if step == "rename":
            self._synced[path] = self._synced[path.with_name(path.name + NEW)]

    def lose(self, kept: int) -> None:
        for path in self._written:
            if path.exists():
                os.truncate(path, min(path.stat().st_size, self._synced[path] + kept))
        for path, data in self._removed.items():
            if not path.exists():
                path.write_bytes(data)

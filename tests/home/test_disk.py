"""What a system refuses (descriptors, locks, a file) changes nothing in a home, or ends all writing; it is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2pfl.errors.home import DiskRefused
from p2pfl.home import Home, items, journal
from tests.home.home_fixtures import make


def test_a_journal_that_may_not_be_read_is_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process would go on with older files, and write a new journal over the one that holds its ballots."""
    with make(tmp_path) as home:
        home.replace("state/heads", b"newest")
        home.disk.fail("killed")
    held, read = (home.path / journal.ITEM).read_bytes(), items.read_file

    def refused(path: Path, most: int) -> bytes:
        if path == home.path / journal.ITEM:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read(path, most)

    with monkeypatch.context() as patched:
        patched.setattr(items, "read_file", refused)
        with pytest.raises(DiskRefused, match="journal"):
            Home.open(home.path)
    assert (home.path / journal.ITEM).read_bytes() == held
    with Home.open(home.path) as again:
        assert again.read("state/heads") == b"newest"

"""What a system refuses (descriptors, locks, a file) changes nothing in a home, or ends all writing; it is told."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl.errors.home import DiskRefused, SyncFailed
from p2pfl.home import Home, disk, items, journal
from p2pfl.home.keyslots import KeyFile
from p2pfl.ledger.log import Log
from tests.home.home_fixtures import Strike, make
from tests.ledger.sample import site_records


def no_more(path: Path) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))


@pytest.mark.claim("HOME-4")
def test_a_step_for_which_no_descriptor_is_left_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is durable once its folder was synced, and for that the folder is opened: before the name changes."""

    record = site_records(1)[0]
    with make(tmp_path) as home:
        home.replace("state/residual", b"old")
        log = Log.open(home, "site")
        steps: tuple[Callable[[], object], ...] = (
            lambda: home.replace("state/residual", b"new"),
            lambda: home.remove("state/residual"),
            lambda: home.replace("state/heads", b"in the journal"),
            lambda: log.append(*record),
        )
        for step in steps:
            with monkeypatch.context() as patched:
                patched.setattr(disk, "_open_folder", no_more)
                with pytest.raises(DiskRefused):
                    step()
            assert home.disk.usable
        assert (home.read("state/residual"), home.read("state/heads"), len(log)) == (b"old", None, 0)
        for _ in range(2):
            log.append(*record)
    with Home.open(tmp_path / "charite") as home:
        assert len(Log.open(home, "site")) == 2


def test_a_folder_that_cannot_be_synced_after_its_names_changed_ends_all_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tmp_path) as home:
        with monkeypatch.context() as patched, pytest.raises(SyncFailed):
            patched.setattr(disk, "_open_folder", no_more)
            home.disk.sync_directory(home.path / "state")
        with pytest.raises(SyncFailed):
            home.replace("state/residual", b"new")


def test_a_lock_that_the_system_cannot_give_is_no_busy_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with make(tmp_path) as home:
        monkeypatch.setattr(fcntl, "flock", no_locks)
        with pytest.raises(DiskRefused, match="lock"), home.beside():
            pass
    with pytest.raises(DiskRefused, match="lock"):
        Home.open(home.path)


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


def test_a_file_where_a_folder_belongs_is_refused_and_stays(tmp_path: Path) -> None:
    make(tmp_path).close()
    place = tmp_path / "charite" / "state" / "evidence"
    place.rmdir()
    place.write_bytes(b"somebody's")
    with pytest.raises(DiskRefused, match="evidence"):
        Home.open(tmp_path / "charite")
    assert place.read_bytes() == b"somebody's"


def test_an_init_that_is_interrupted_leaves_no_key_beside_the_place_of_its_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Home.create(tmp_path / "a", "a", [KeyFile(tmp_path / "a.key")], fault=Strike(KeyboardInterrupt, 0, ("fsync",)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_could_not_be_made_durable_leaves_no_descriptor(tmp_path: Path) -> None:
    with make(tmp_path) as home:

        def struck(what: str, path: Path) -> None:
            raise SyncFailed(evidence=what, path=path)

        before, home.disk.fault = len(os.listdir("/proc/self/fd")), struck
        for number in range(5):
            with pytest.raises(SyncFailed):
                disk.Appender(home.disk, tmp_path / f"{number}.segment")
        assert len(os.listdir("/proc/self/fd")) == before

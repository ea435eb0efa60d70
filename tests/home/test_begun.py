"""An item that is written while the rest of it is still coming: it holds what it held, and then all of the new."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from p2pfl.codec import Pieces
from p2pfl.errors.home import DiskFull
from p2pfl.home import Home
from p2pfl.home.disk import NEW, NewFile
from p2pfl.home.items import SMALL_BYTES
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.lock import release
from tests.home.home_fixtures import Crash, PowerCut, Strike, full, make

ITEM, NAME = "state/sums/0", b"of this attempt"
# More than a piece that is sealed at once.
OLD, FIRST, REST = b"what it held", bytes(range(256)) * 5000, b"\x07" * 700_000
WHOLE = Pieces((b"head", FIRST, REST))


def parts() -> list[Pieces]:
    """What it begins with, more and more of it."""
    return [Pieces((b"head", FIRST[:size])) for size in (0, 100_000, len(FIRST))] + [Pieces((b"head", FIRST, REST[:9]))]


def written(home: Home) -> None:
    for part in parts():
        home.begin(ITEM, NAME, part)
    home.replace(ITEM, WHOLE, begun=NAME)


def reopened(folder: Path) -> Home:
    return Home.open(folder / "charite", unlock=[KeyFile(folder / "keys" / "charite.key")])


def test_what_was_begun_is_no_item_until_it_is_whole(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace(ITEM, OLD)
        for part in parts():
            home.begin(ITEM, NAME, part)
            assert home.read(ITEM) == OLD and home.items("state/sums") == [ITEM]
        home.replace(ITEM, WHOLE, begun=NAME)
        assert home.read(ITEM) == b"".join(WHOLE)
    with reopened(tmp_path) as home:
        assert home.read(ITEM) == b"".join(WHOLE)


def test_what_was_begun_is_on_its_way_to_the_medium_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fsync else begins with all of it, while READY waits."""
    sent: list[tuple[str, int]] = []

    def noted(descriptor: int, start: int, size: int, advice: int) -> None:
        assert (start, size, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        sent.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, os.fstat(descriptor).st_size))

    with make(tmp_path) as home:
        monkeypatch.setattr(os, "posix_fadvise", noted)
        for part in parts():
            home.begin(ITEM, NAME, part)
        assert [name for name, _ in sent] == [f"0{NEW}"] * len(parts())
        sizes = [size for _, size in sent]
        assert sizes == sorted(sizes) and sizes[-1] >= len(FIRST), "it was written before"
        home.replace(ITEM, WHOLE, begun=NAME)
        assert home.read(ITEM) == b"".join(WHOLE)


def test_what_was_begun_is_not_written_again(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.begin(ITEM, NAME, Pieces((b"head", FIRST, REST[:-9])))
        home.disk.fault = told = Strike(Crash)
        home.replace(ITEM, WHOLE, begun=NAME)
        # The last bytes and the tag, in two halves each; then it takes its place.
        assert told.kinds["write"] <= 4 and told.kinds["rename"] == 1
        assert home.read(ITEM) == b"".join(WHOLE)


def test_what_was_begun_under_another_name_is_no_part_of_it(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.begin(ITEM, b"of the attempt before", Pieces((b"other", REST)))
        home.begin(ITEM, NAME, parts()[1])
        home.replace(ITEM, WHOLE, begun=NAME)
        assert home.read(ITEM) == b"".join(WHOLE)
        home.begin(ITEM, b"of the attempt before", Pieces((b"other", REST)))
        home.replace(ITEM, WHOLE, begun=NAME)
        assert home.read(ITEM) == b"".join(WHOLE)


@pytest.mark.parametrize("end", ["remove", "small", "close"])
def test_nothing_is_left_of_what_was_begun_and_not_ended(tmp_path: Path, end: str) -> None:
    with make(tmp_path) as home:
        home.begin(ITEM, NAME, parts()[2])
        left = home.place(ITEM).with_name("0" + NEW)
        assert left.exists()
        if end == "remove":
            home.remove(ITEM)
        elif end == "small":
            home.replace(ITEM, OLD)
        else:
            home.close()
        assert not left.exists()


def test_a_disk_that_was_full_for_a_part_is_tried_again_for_the_whole(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.begin(ITEM, NAME, parts()[1])
        home.disk.fault = Strike(full, 1, ("write",))
        with pytest.raises(DiskFull):
            home.begin(ITEM, NAME, parts()[2])
        assert not home.place(ITEM).with_name("0" + NEW).exists()
        home.replace(ITEM, WHOLE, begun=NAME)
        assert home.read(ITEM) == b"".join(WHOLE)


def test_a_part_for_which_there_was_no_memory_is_in_no_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of it is sealed by then, and nobody knows how much: to go on from there would seal bytes twice."""

    def none_left(file: NewFile, piece: bytes) -> None:
        raise MemoryError

    with make(tmp_path) as home:
        home.begin(ITEM, NAME, parts()[1])
        with monkeypatch.context() as patched:
            patched.setattr(NewFile, "write", none_left)
            with pytest.raises(MemoryError):
                home.begin(ITEM, NAME, parts()[2])
        assert not home.place(ITEM).with_name("0" + NEW).exists()
        home.replace(ITEM, WHOLE, begun=NAME)
        assert home.read(ITEM) == b"".join(WHOLE)


def steps(folder: Path) -> int:
    with make(folder) as home:
        home.replace(ITEM, OLD)
        home.disk.fault = told = Strike(Crash)
        written(home)
    return told.seen


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
def test_a_death_at_any_step_leaves_the_item_as_it_was_or_whole(tmp_path: Path, cut: bool) -> None:
    count = steps(tmp_path / "counted")
    assert count > 20
    for at in range(count):
        folder = tmp_path / str(at)
        home = make(folder)
        home.replace(ITEM, OLD)
        home.settle()
        home.disk.fault = fault = PowerCut(at) if cut else Strike(Crash, at)
        with suppress(Crash):
            written(home)
        home.disk.fault = lambda step, path: None
        lock, home._lock = home._lock, None  # the process is dead: it neither tidies nor settles
        assert lock is not None
        release(lock)
        if isinstance(fault, PowerCut):
            fault.lose(0)
        with reopened(folder) as found:
            assert found.read(ITEM) in (OLD, b"".join(WHOLE))
            assert found.items("state/sums") == [ITEM]
            assert not list((folder / "charite" / "state" / "sums").glob("*" + NEW))
            found.replace(ITEM, WHOLE, begun=NAME)
            assert found.read(ITEM) == b"".join(WHOLE)


def test_small_items_are_begun_for_nothing(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.begin(ITEM, NAME, Pieces((b"head",)))
        small = Pieces((b"head", bytes(SMALL_BYTES - 4)))
        home.replace(ITEM, small, begun=NAME)
        assert home.read(ITEM) == b"".join(small)
        assert not home.place(ITEM).with_name("0" + NEW).exists()

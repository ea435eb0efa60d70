"""Small items that change with each step of a round: a step is one append and one fsync, whole or not there."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.errors.home import DiskFull, DiskRefused, ItemDamaged, SyncFailed
from p2pfl.home import Home
from p2pfl.home import journal as journals
from p2pfl.home.disk import SECTOR_BYTES
from p2pfl.home.journal import SMALL_BYTES
from p2pfl.home.sealing import unseal
from p2pfl.home.steps import Change, Filed, Put, SegmentTail, packed, read_changes, read_journal
from p2pfl.ledger.log import Log
from tests.examples import examples
from tests.home.home_fixtures import Crash, PowerCut, Strike, failing, full, make
from tests.ledger.sample import site_records

ATTEMPT, SUMS, TOTAL, HEAD = "state/attempt", "state/sums/0", "state/total", "ledger/site/head"
ANSWER = "state/answer"
LARGE = bytes(SMALL_BYTES + 1)
RECORDS = site_records(4)
STEPS = 3
Kinds = Counter[str]


def opened(folder: Path, *, write: bool = True) -> Home:
    return Home.open(folder / "charite", write=write)


def file_of(home: Home) -> bytes:
    return (home.folder / journals.ITEM).read_bytes()


def counted(home: Home, work: Callable[[], object]) -> Kinds:
    """What `work` costs on the disk, by step."""
    home.disk.fault = counting = Strike(Crash)
    work()
    return counting.kinds


def held_by(home: Home, data: bytes) -> list[bytes]:
    """The content of every record of a journal's file."""
    found: list[bytes] = []
    opener = journals_opener(home)

    def kept(sealed: bytes) -> bytes:
        found.append(opener(sealed))
        return found[-1]

    read_journal(data, kept)
    return found


def journals_opener(home: Home) -> Callable[[bytes], bytes]:
    return lambda sealed: unseal(home.master, home.name, journals.ITEM, sealed)


@pytest.mark.claim("HOME-4")
def test_a_step_is_one_fsync_whatever_it_changes(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        log = Log.open(home, "site")
        log.append(*RECORDS[0])
        home.replace(ATTEMPT, b"dealt")

        def step() -> None:
            with home.one_step():
                home.replace(ATTEMPT, b"ready")
                home.replace(SUMS, b"words")
                log.append(*RECORDS[1])
                log.sign_head(home.identity())
                home.remove(SUMS)

        kinds = counted(home, step)
        assert kinds["fsync"] == 1
        assert kinds["rename"] == 0
        assert kinds["flush"] == 4  # each item is announced: a test can strike at any of them
        log.append(*RECORDS[2], soon=True)
        assert counted(home, lambda: home.replace(TOTAL, b"sum"))["fsync"] == 1  # with the entry that waited
        assert counted(home, lambda: log.append(*RECORDS[3]))["fsync"] == 1
        log.close()
    with opened(tmp_path) as home:
        assert [home.read(item) for item in (ATTEMPT, SUMS, TOTAL)] == [b"ready", None, b"sum"]
        assert len(Log.open(home, "site")) == 4
        assert not (home.folder / journals.ITEM).exists()


def work(home: Home, promised: list[int]) -> None:
    """Steps of two attempts and of a log; `promised` gets the number of each that returned."""
    log = Log.open(home, "site")
    for number in range(STEPS):
        with home.one_step():
            home.replace(ATTEMPT, b"attempt %d" % number, anew=number == 2)
            home.replace(SUMS, LARGE if number == 1 else b"sums %d" % number)
            log.append(*RECORDS[number])
            log.sign_head(home.identity())
        promised.append(number)
    with home.one_step():
        home.remove(ATTEMPT, anew=True)
        home.remove(SUMS)
    promised.append(STEPS)
    log.close()
    home.close()


def crash(folder: Path, at_step: int) -> tuple[list[int], PowerCut, bool]:
    shutil.copytree(folder.parent / "made" / "charite", folder / "charite")
    promised: list[int] = []
    home = opened(folder)
    home.disk.fault = cut = PowerCut(at_step)
    try:
        work(home, promised)
    except Crash:
        home.disk.fail("the process is dead")
        home.close()
        return promised, cut, True
    return promised, cut, False


def check(folder: Path, promised: list[int]) -> None:
    """All that was promised is there, beside a reader and for the next writer, and each step whole."""
    for write in (False, True):
        with opened(folder, write=write) as home:
            attempt, entries = home.read(ATTEMPT), len(Log.open(home, "site"))
            reached = promised[-1] if promised else -1
            if attempt is None:
                assert reached >= STEPS - 1 and entries == STEPS
                continue
            at = -1 if attempt == b"of a process before" else int(attempt.split()[1])
            assert reached in (at, at - 1)
            # The log's first entry has a file to make, and large sums are one: what came before them is a step apart.
            assert entries == at + 1 or (at in (0, 1) and entries == at)
            head = Log.open(home, "site").latest_head()
            assert head is None or int(head.splitlines()[1]) <= entries


@pytest.mark.claim("HOME-4")
@pytest.mark.parametrize("kept", [None, 30])
def test_a_crash_or_a_power_cut_at_any_step_leaves_a_whole_number_of_steps(tmp_path: Path, kept: int | None) -> None:
    with make(tmp_path / "made") as home:
        home.replace(ATTEMPT, b"of a process before")
    *_, whole, died = crash(tmp_path / "count", 1 << 30)
    assert not died and whole.seen > 60
    # Every other step is a crash, the rest are power cuts: each kind of step is among both.
    for at_step in range(0 if kept is None else 1, whole.seen, 2):
        folder = tmp_path / f"{at_step}"
        promised, cut, _ = crash(folder, at_step)
        if kept is not None:
            cut.lose(kept)
        check(folder, promised)
        shutil.rmtree(folder)


def test_a_large_item_goes_with_the_fsync_of_its_step_and_does_not_come_back(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace(ATTEMPT, b"dealt")
        home.replace(SUMS, LARGE)

        def step() -> None:
            with home.one_step():
                home.replace(ATTEMPT, b"dealt anew")
                home.remove(SUMS)

        assert counted(home, step)["fsync"] == 1
        home.replace(SUMS, LARGE)
        home.disk.fault = cut = PowerCut(1 << 30)
        step()
        home.disk.fail("the process is dead")
    cut.lose(0)
    place = tmp_path / "charite" / SUMS
    assert place.exists(), "a power cut may bring its file back"
    for write in (False, True):
        with opened(tmp_path, write=write) as home:
            assert home.read(SUMS) is None and home.read(ATTEMPT) == b"dealt anew"
    assert not place.exists()


@pytest.mark.claim("HOME-1")
def test_what_must_not_stay_is_not_in_the_file_any_more(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace(ATTEMPT, b"secret of attempt 0")
        home.replace(ATTEMPT, b"secret of attempt 0, READY")
        assert counted(home, lambda: home.replace(TOTAL, b"a sum", anew=True))["rename"] == 0  # nothing older is there
        assert b"secret of attempt 0" in b"".join(held_by(home, file_of(home)))
        home.replace(ATTEMPT, b"secret of attempt 1", anew=True)
        assert b"attempt 0" not in b"".join(held_by(home, file_of(home)))
        home.remove(ATTEMPT, anew=True)
        found = b"".join(held_by(home, file_of(home)))
        assert b"secret" not in found and b"a sum" in found
        home.replace(ATTEMPT, b"secret of attempt 2")
    with opened(tmp_path) as home:  # what a process before this one left as a file
        home.replace(ATTEMPT, b"secret of attempt 3", anew=True)
        assert not (home.path / ATTEMPT).exists()
        assert home.read(ATTEMPT) == b"secret of attempt 3"


def test_a_large_item_is_a_file_and_a_small_one_may_follow_it(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        for data in (b"small", LARGE, b"small again", LARGE + b"!"):
            home.replace(SUMS, data)
            with opened(tmp_path, write=False) as reader:
                assert home.read(SUMS) == reader.read(SUMS) == data
                assert home.items("state/sums") == reader.items("state/sums") == [SUMS]
        home.remove(SUMS)
        assert home.items("state/sums") == []
        assert not home.exists(SUMS)
    with opened(tmp_path) as home:
        assert home.read(SUMS) is None


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace(ATTEMPT, b"old")
        for anew in (False, True):
            for at in range(2):
                home.disk.fault = Strike(full, at, ("write",))
                with pytest.raises(DiskFull):
                    home.replace(ATTEMPT, b"new", anew=anew)
                assert home.read(ATTEMPT) == b"old"
        home.disk.fault = Strike(full)
        home.replace(ATTEMPT, b"new")
    with opened(tmp_path) as home:
        assert home.read(ATTEMPT) == b"new"


def test_entries_that_cannot_be_made_durable_end_all_writing(tmp_path: Path) -> None:
    """Its log has counted on them."""
    with make(tmp_path) as home:
        log = Log.open(home, "site")
        log.append(*RECORDS[0])
        log.append(*RECORDS[1], soon=True)
        home.disk.fault = Strike(full, 0, ("write",))
        with pytest.raises(DiskFull):
            home.replace(ATTEMPT, b"new")
        with pytest.raises(SyncFailed):
            home.replace(ATTEMPT, b"new")
    with opened(tmp_path) as home:
        assert len(Log.open(home, "site")) == 1


def beside(work: Callable[[], object]) -> list[BaseException]:
    """What `work` raises in a thread of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except (DiskFull, SyncFailed) as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised


@pytest.mark.claim("HOME-4")
def test_a_full_disk_of_one_thread_takes_nothing_from_the_step_of_another(tmp_path: Path) -> None:
    """The traffic is written beside the rounds, and that it is not ends nothing."""
    with make(tmp_path) as home:
        home.replace(ATTEMPT, b"old")
        home.replace(ANSWER, b"42", soon=True)
        with home.one_step():
            home.replace(SUMS, b"words", anew=True)
            home.disk.fault = Strike(full, 0, ("write",))
            assert [type(one) for one in beside(lambda: home.replace("state/traffic", b"{}"))] == [DiskFull]
            home.disk.fault = Strike(full)
            home.replace(ATTEMPT, b"ready")
    with opened(tmp_path) as home:
        assert [home.read(item) for item in (ANSWER, SUMS, ATTEMPT)] == [b"42", b"words", b"ready"]


@pytest.mark.claim("HOME-4")
def test_a_step_that_another_thread_took_along_and_lost_is_told(tmp_path: Path) -> None:
    with make(tmp_path) as home, pytest.raises(SyncFailed), home.one_step():
        home.replace(ATTEMPT, b"a ballot")
        home.disk.fault = Strike(failing, 0, ("fsync",))
        assert [type(one) for one in beside(lambda: home.replace(TOTAL, b"sum"))] == [SyncFailed]


def test_what_fails_within_a_step_is_what_is_told(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        log = Log.open(home, "site")
        log.append(*RECORDS[0])
        with pytest.raises(DiskFull), home.one_step():
            log.append(*RECORDS[1])
            home.disk.fault = Strike(full, 0, ("write",))
            home.replace(SUMS, LARGE)


@pytest.mark.claim("HOME-10")
def test_a_thread_that_is_late_writes_nothing_into_a_home_that_was_let_go(tmp_path: Path) -> None:
    home = make(tmp_path)
    home.replace(ATTEMPT, b"mine")
    late = home.journal
    home.close()
    with opened(tmp_path) as after:
        after.replace(ATTEMPT, b"of the process after it")
        late.add(Put(ATTEMPT, b"late"))
        with pytest.raises(DiskRefused):
            late.flush()
    with opened(tmp_path) as after:
        assert after.read(ATTEMPT) == b"of the process after it"


@pytest.mark.claim("HOME-1")
def test_what_must_not_stay_goes_though_the_item_has_become_large(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace(ATTEMPT, b"secret of attempt 0")
        home.replace(ATTEMPT, LARGE)
        home.replace(ATTEMPT, LARGE + b"!", anew=True)
        assert b"secret" not in b"".join(held_by(home, file_of(home)))
        assert home.read(ATTEMPT) == LARGE + b"!"


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SEGMENT = "ledger/site/00000001.segment"
CHANGES = st.lists(
    st.one_of(
        st.builds(Put, st.sampled_from([ATTEMPT, SUMS, HEAD]), st.none() | st.binary(max_size=20)),
        st.builds(Filed, st.sampled_from([ATTEMPT, SUMS])),
        st.builds(
            SegmentTail, st.just("ledger/site/00000001.segment"), st.integers(0, 1 << 40), st.binary(max_size=20)
        ),
    ),
    max_size=5,
)


@examples(60)
@given(changes=CHANGES)
def test_changes_are_read_as_they_were_written(changes: list[Change]) -> None:
    assert read_changes(packed(changes)) == changes


@pytest.mark.parametrize(
    "row",
    [("put", "identity", b""), ("put", "state/pass", b""), ("put", "../x", b""), ("gone",), ("put", ATTEMPT, "text"),
     ("tail", "ledger/site/1.segment", 0, b""), ("tail", "ledger/site/00000001.segment", -1, b""),
     ("tail", "ledger/site/00000001.segment", True, b""), ("other", ATTEMPT), (), 7],
)  # fmt: skip
def test_a_change_of_another_form_is_refused(row: object) -> None:
    with pytest.raises(Malformed):
        read_changes(codec.pack([row]))


@pytest.mark.claim("HOME-1")
def test_any_changed_byte_is_damage_and_any_cut_a_step_that_nobody_was_told_of(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        for data in (b"one", b"two", b"three"):
            home.replace(ATTEMPT, data)
        data, opener = file_of(home), journals_opener(home)
        ends = [0]
        while ends[-1] < len(data):
            ends.append(ends[-1] + 8 + int.from_bytes(data[ends[-1] : ends[-1] + 4], "big"))
        values = [None, b"one", b"two", b"three"]
        for length in range(len(data) + 1):
            whole = max(number for number, end in enumerate(ends) if end <= length)
            assert read_journal(data[:length], opener).items.get(ATTEMPT) == values[whole]
        for length in range(ends[-2], len(data) - 16):  # as long, and never written to its end
            if length == ends[-2] or length >= ends[-2] + 8:
                assert read_journal(data[:length].ljust(len(data), b"\0"), opener).items.get(ATTEMPT) == b"two"
        for place in range(len(data)):
            spoilt = bytearray(data)
            spoilt[place] ^= 0x40
            with pytest.raises(ValueError):
                read_journal(bytes(spoilt), opener)
        path = home.folder / journals.ITEM
        path.write_bytes(bytes([*data[:-1], data[-1] ^ 1]))
        with opened(tmp_path, write=False) as reader, pytest.raises(ItemDamaged, match="journal"):
            reader.read(ATTEMPT)


def test_a_segment_that_lacks_more_than_the_journal_holds_is_not_filled_with_zeros(tmp_path: Path) -> None:
    """Of a home that was copied while a process worked, ledger/ before state/."""
    with make(tmp_path) as home:
        log = Log.open(home, "site")
        log.append(*RECORDS[0])
        segment = home.path / "ledger/site/00000001.segment"
        early = segment.read_bytes()
        log.append(*RECORDS[1])
        with home.one_step():
            log.append(*RECORDS[2])
        home.disk.fail("copied here")
    segment.write_bytes(early)
    journal = (tmp_path / "charite" / journals.ITEM).read_bytes()
    with pytest.raises(ItemDamaged, match="00000001"):
        opened(tmp_path)
    assert segment.read_bytes() == early
    assert (tmp_path / "charite" / journals.ITEM).read_bytes() == journal


def test_a_journal_of_another_home_does_not_open(tmp_path: Path) -> None:
    with make(tmp_path) as home, make(tmp_path, "st-olav") as other:
        home.replace(ATTEMPT, b"mine")
        other.replace(ATTEMPT, b"other")
        shutil.copy(home.folder / journals.ITEM, other.folder / journals.ITEM)
        with Home.open(tmp_path / "st-olav", write=False) as reader, pytest.raises(ItemDamaged):
            reader.read(ATTEMPT)


@pytest.mark.claim("HOME-4")
def test_a_power_cut_may_leave_any_sectors_of_the_last_step_and_of_no_other(tmp_path: Path) -> None:
    """What was not synced may be on the medium or not, sector by sector, in any order."""
    with make(tmp_path) as home:
        for data in (b"one" * 200, b"two" * 700):
            home.replace(ATTEMPT, data)
            home.replace(SUMS, data)
        whole, opener = file_of(home), journals_opener(home)
        starts = [0]
        while starts[-1] < len(whole):
            starts.append(starts[-1] + 8 + int.from_bytes(whole[starts[-1] : starts[-1] + 4], "big"))
        last, sectors = starts[-2], range(starts[-2] // SECTOR_BYTES, len(whole) // SECTOR_BYTES + 1)
        assert len(sectors) >= 4
        for lost in range(1, 1 << len(sectors)):
            left = bytearray(whole)
            for place in (place for number, place in enumerate(sectors) if lost >> number & 1):
                start, end = max(place * SECTOR_BYTES, last), min((place + 1) * SECTOR_BYTES, len(whole))
                left[start:end] = bytes(end - start)
            assert read_journal(bytes(left), opener).items[SUMS] == b"one" * 200
        for start, end in pairwise(starts[:-1]):  # of a step that was synced
            for place in range(-(-start // SECTOR_BYTES) * SECTOR_BYTES, end, SECTOR_BYTES):
                left = bytearray(whole)
                left[place : place + SECTOR_BYTES] = bytes(SECTOR_BYTES)
                with pytest.raises(ValueError):
                    read_journal(bytes(left), opener)


def test_a_step_of_more_changes_than_a_record_takes_is_whole_or_not_there(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace(ATTEMPT, b"old")

        def step() -> None:
            with home.one_step():
                for number in range(300):
                    home.replace(SUMS if number % 2 else ATTEMPT, b"%d" % number)

        kinds = counted(home, step)
        assert kinds["rename"] == 1  # of two records written at once the second alone may come to the medium
        assert home.read(SUMS) == b"299"
    with opened(tmp_path) as home:
        assert (home.read(ATTEMPT), home.read(SUMS)) == (b"298", b"299")

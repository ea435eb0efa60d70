"""Whatever is done to a ledger's files is found, and the finding names the entry or the segment."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from p2pfl.errors import IntegrityError
from p2pfl.errors.ledger import HeadRefused, LedgerDamaged, LedgerRewritten, LedgerShortened
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.segments import LogName, SegmentFiles
from p2pfl.ledger.log import Log
from p2pfl.ledger.segment import HEAD, HEADER_BYTES, MARK, MOST_SEALED, MOST_WORK
from p2pfl.ledger.verify import verify
from tests.examples import examples
from tests.ledger.sample import federation_records, filled, home, site_records, write

QUICK = examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHICH: tuple[LogName, ...] = ("federation", "site")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Opened for reading: 4 federation entries in 2 segments, 6 site entries in 2 segments, heads over all."""
    at = filled(tmp_path_factory.mktemp("ledger"))
    at.close()
    with Home.open(at.path, write=False) as reader:
        yield reader


def frames(data: bytes) -> list[tuple[int, int]]:
    """Start and end of each frame of a segment."""
    found, at = [], HEADER_BYTES
    while at < len(data):
        end = at + HEAD.size + HEAD.unpack_from(data, at)[2]
        found.append((at, end))
        at = end
    return found


def entry_at(home_: Home, which: LogName, number: int, place: int) -> int:
    """The entry that byte `place` of a segment belongs to; a header's bytes guard the first entry behind it."""
    before = sum(len(frames(SegmentFiles(home_, which).read_segment(k))) for k in range(1, number))
    inside = frames(SegmentFiles(home_, which).read_segment(number))
    return before + next((k for k, (_, end) in enumerate(inside) if place < end), len(inside))


class Changed:
    """Within it, one segment file holds other bytes (None: it is gone)."""

    def __init__(self, home_: Home, which: LogName, number: int, data: bytes | None) -> None:
        self.path, self.data = SegmentFiles(home_, which).path(number), data

    def __enter__(self) -> None:
        self.before = self.path.read_bytes()
        if self.data is None:
            self.path.unlink()
        else:
            self.path.write_bytes(self.data)

    def __exit__(self, *_: object) -> None:
        self.path.write_bytes(self.before)


def refused(home_: Home, which: LogName) -> IntegrityError:
    """The error with which the log does not open; its exit status is 5."""
    with pytest.raises(IntegrityError) as caught:
        Log.open(home_, which)
    assert caught.value.exit_status == 5
    return caught.value


def named(error: IntegrityError) -> str:
    return f"{error.happened} {error.evidence}"


@pytest.mark.claim("LEDGER-1")
@pytest.mark.parametrize("number", [1, 2])
def test_every_byte_of_a_segment_is_guarded_and_the_entry_is_named(ledger: Home, number: int) -> None:
    data = SegmentFiles(ledger, "site").read_segment(number)
    for place in range(len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << (place % 8)
        with Changed(ledger, "site", number, bytes(spoilt)):
            assert f"entry {entry_at_clean(ledger, number, place, data)}" in named(refused(ledger, "site")), place


def entry_at_clean(home_: Home, number: int, place: int, data: bytes) -> int:
    before = 0 if number == 1 else len(frames(SegmentFiles(home_, "site").read_segment(1)))
    inside = frames(data)
    return before + next(k for k, (_, end) in enumerate(inside) if place < end)


@QUICK
@given(data=st.data())
def test_any_change_of_any_bytes_is_found_by_open_and_by_verify(ledger: Home, data: st.DataObject) -> None:
    which = data.draw(st.sampled_from(WHICH))
    number = data.draw(st.sampled_from([1, 2]))
    clean = SegmentFiles(ledger, which).read_segment(number)
    place = data.draw(st.integers(0, len(clean) - 1))
    other = data.draw(st.binary(min_size=1, max_size=80).filter(lambda b: clean[place : place + len(b)] != b))
    expected = entry_at(ledger, which, number, place)
    with Changed(ledger, which, number, clean[:place] + other + clean[place + len(other) :]):
        # Bytes that begin as the old ones did may spoil a later entry only.
        error = refused(ledger, which)
        told = [fault for fault in verify(ledger).findings if fault.fault and fault.log == which]
    assert told
    first = min(fault.entry for fault in told if fault.entry is not None)
    assert first >= expected
    assert f"entry {first}" in named(error)


@pytest.mark.claim("LEDGER-1")
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("number", [1, 2])
def test_a_segment_cut_at_any_length_is_found(ledger: Home, which: LogName, number: int) -> None:
    data = SegmentFiles(ledger, which).read_segment(number)
    step = 1 if which == "site" else 7
    for length in range(0, len(data), step):
        expected = entry_at(ledger, which, number, length)
        with Changed(ledger, which, number, data[:length]):
            error = refused(ledger, which)
            assert f"entry {expected}" in named(error), length


@pytest.mark.claim("LEDGER-1")
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("number", [1, 2])
def test_two_frames_swapped_are_found(ledger: Home, which: LogName, number: int) -> None:
    data = SegmentFiles(ledger, which).read_segment(number)
    first, second = frames(data)[:2]
    swapped = data[: first[0]] + data[slice(*second)] + data[slice(*first)] + data[second[1] :]
    with Changed(ledger, which, number, swapped):
        assert f"entry {entry_at(ledger, which, number, 0)}" in named(refused(ledger, which))


@pytest.mark.claim("LEDGER-1")
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("number", [1, 2])
def test_a_frame_written_twice_is_found_wherever_it_is(ledger: Home, which: LogName, number: int) -> None:
    data = SegmentFiles(ledger, which).read_segment(number)
    for start, end in frames(data):
        for place in (end, len(data)):
            with Changed(ledger, which, number, data[:place] + data[start:end] + data[place:]):
                error = refused(ledger, which)
                assert isinstance(error, LedgerDamaged)
                assert f"segment {number}" in named(error)


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("number", [1, 2])
def test_a_frame_left_out_is_found(ledger: Home, which: LogName, number: int) -> None:
    data = SegmentFiles(ledger, which).read_segment(number)
    for start, end in frames(data):
        expected = entry_at(ledger, which, number, start)
        with Changed(ledger, which, number, data[:start] + data[end:]):
            assert f"entry {expected}" in named(refused(ledger, which))


@pytest.mark.parametrize("which", WHICH)
def test_a_segment_that_is_gone_is_found(ledger: Home, which: LogName) -> None:
    with Changed(ledger, which, 1, None):
        error = refused(ledger, which)
        assert isinstance(error, LedgerDamaged)
        assert "segment 1" in named(error)
        assert any(fault.segment == 1 for fault in verify(ledger).findings)
    second = entry_at(ledger, which, 1, 1 << 30)
    with Changed(ledger, which, 2, None):
        error = refused(ledger, which)
        assert isinstance(error, LedgerShortened)
        assert error.fields["entry"] == str(second)
        assert any(fault.entry == second for fault in verify(ledger).findings)


def test_segments_that_change_places_are_found(ledger: Home) -> None:
    one, two = (SegmentFiles(ledger, "site").read_segment(number) for number in (1, 2))
    with Changed(ledger, "site", 1, two), Changed(ledger, "site", 2, one):
        assert "entry 0" in named(refused(ledger, "site"))


def test_a_segment_of_the_other_log_is_found(ledger: Home) -> None:
    with Changed(ledger, "site", 1, SegmentFiles(ledger, "federation").read_segment(1)):
        assert "entry 0" in named(refused(ledger, "site"))


@pytest.mark.claim("LEDGER-2")
@pytest.mark.parametrize("keep_head", [True, False])
def test_an_older_snapshot_of_the_segments_is_found_below_the_signed_head(tmp_path: Path, keep_head: bool) -> None:
    with home(tmp_path) as at:
        write(at, "site", site_records(3))
        shutil.copytree(at.path / "ledger", tmp_path / "yesterday")
        write(at, "site", site_records(2))
        today = (at.path / "ledger/site/head").read_bytes()
        shutil.rmtree(at.path / "ledger")
        shutil.copytree(tmp_path / "yesterday", at.path / "ledger")
        if keep_head:
            (at.path / "ledger/site/head").write_bytes(today)
            error = refused(at, "site")
            assert isinstance(error, LedgerShortened)
            assert "the head covers 5 entries, the log has 3" in error.evidence
        else:
            # Head and segments together are a whole older ledger: only a peer that holds a newer head can tell.
            assert len(Log.open(at, "site")) == 3


@pytest.mark.claim("LEDGER-2")
def test_another_history_of_the_same_length_is_found(tmp_path: Path) -> None:
    with home(tmp_path) as at:
        write(at, "site", site_records(3), head=False)
        shutil.copytree(at.path / "ledger", tmp_path / "start")
        write(at, "site", site_records(4)[3:])
        head = (at.path / "ledger/site/head").read_bytes()
        shutil.rmtree(at.path / "ledger")
        shutil.copytree(tmp_path / "start", at.path / "ledger")
        write(at, "site", site_records(1))
        (at.path / "ledger/site/head").write_bytes(head)
        assert isinstance(refused(at, "site"), LedgerRewritten)
        assert not verify(at).verified


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n6\n", "\n5\n"),
        lambda text: text.replace("charite", "st-olav"),
        lambda text: text[:-1],
        lambda text: "",
    ],
)
def test_a_head_that_this_site_did_not_sign_is_refused(tmp_path: Path, change: Callable[[str], str]) -> None:
    with filled(tmp_path) as at:
        text = Log.open(at, "site").latest_head() or ""
        at.replace("ledger/site/head", change(text).encode())
        assert isinstance(refused(at, "site"), HeadRefused)
        assert not verify(at).verified


def test_a_federation_log_shortened_with_its_head_is_found_by_the_site_logs_head(tmp_path: Path) -> None:
    with home(tmp_path) as at:
        write(at, "federation", federation_records()[:2])
        shutil.copytree(at.path / "ledger/federation", tmp_path / "yesterday")
        write(at, "federation", federation_records()[2:])
        site = Log.open(at, "site")
        site.append(*site_records(1)[0])
        site.sign_head(at.identity(), Log.open(at, "federation"))
        assert verify(at).verified
        at.settle()
        shutil.rmtree(at.path / "ledger/federation")
        shutil.copytree(tmp_path / "yesterday", at.path / "ledger/federation")
        (fault,) = (finding for finding in verify(at).findings if finding.fault)
        assert (fault.log, fault.entry) == ("federation", 2)


# ── beyond the signed head ────────────────────────────────────────────────────────────────────────────────────


def unsigned_tail(folder: Path) -> Home:
    """A site log of 3 signed entries, and 3 more that no head covers, each synced by itself, in a second segment."""
    at = home(folder)
    write(at, "site", site_records(3))
    write(at, "site", site_records(6)[3:], head=False)
    return at


def test_a_tail_torn_beyond_the_head_is_dropped_and_the_log_goes_on(tmp_path: Path) -> None:
    with unsigned_tail(tmp_path) as at:
        segment = SegmentFiles(at, "site")
        data = segment.read_segment(2)
        last = frames(data)[-1]
        for length in (last[0] + 1, last[0] + HEAD.size + 3, last[1] - 1):
            segment.path(2).write_bytes(data[:length])
            assert verify(at).verified
            assert any("unfinished" in finding.what for finding in verify(at).findings)
            log = Log.open(at, "site")
            assert (len(log), len(log.dropped), log.dropped[0].segment) == (5, 1, 2)
            assert segment.read_segment(2) == data[: last[0]]
            assert Log.open(at, "site").dropped == ()
        write(at, "site", site_records(2))
        assert len(Log.open(at, "site")) == 7
        assert verify(at).findings == []


def test_sectors_that_a_power_cut_left_zero_are_a_torn_tail(tmp_path: Path) -> None:
    with unsigned_tail(tmp_path) as at:
        segment = SegmentFiles(at, "site")
        data = segment.read_segment(2)
        start, _ = frames(data)[-1]
        segment.path(2).write_bytes(data[:start] + bytes(2000))
        assert len(Log.open(at, "site")) == 5


def test_any_changed_byte_of_an_unsigned_entry_is_no_torn_tail(tmp_path: Path) -> None:
    with unsigned_tail(tmp_path) as at:
        segment = SegmentFiles(at, "site")
        data = segment.read_segment(2)
        for place in range(0, len(data), 5):
            spoilt = bytearray(data)
            spoilt[place] ^= 0x40
            segment.path(2).write_bytes(spoilt)
            assert "segment 2" in named(refused(at, "site")), place


def test_damage_dressed_as_a_power_cut_is_disproved_by_what_was_written_after_it(tmp_path: Path) -> None:
    with unsigned_tail(tmp_path) as at:
        segment = SegmentFiles(at, "site")
        data = segment.read_segment(2)
        for start, end in frames(data)[:-1]:
            hole = bytes(end - start) if end - start > 600 else data[start : start + 4] + bytes(end - start - 4)
            endless = data[start : start + 8] + (1 << 20).to_bytes(4, "big") + data[start + HEAD.size : end]
            for spoilt in (data[:start] + hole + data[end:], data[:start] + endless + data[end:]):
                segment.path(2).write_bytes(spoilt)
                assert "segment 2" in named(refused(at, "site"))


def test_marks_without_end_behind_damage_cost_a_few_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than reading the segment a few times."""
    opened: list[int] = []

    def counted(key: bytes) -> object:
        cipher = AESGCM(key)

        class One:
            def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
                opened.append(len(data))
                return cipher.decrypt(nonce, data, associated)

        return One()

    with unsigned_tail(tmp_path) as at:
        segment = SegmentFiles(at, "site")
        start, _ = frames(segment.read_segment(2))[-1]
        marks = b"".join(HEAD.pack(MARK, 0, (1 << 18) - 12 * k) for k in range(1 << 14))  # each claims all behind it
        segment.path(2).write_bytes(segment.read_segment(2)[:start] + bytes(600) + marks + bytes(1 << 18))
        monkeypatch.setattr("p2pfl.ledger.segment.AESGCM", counted)
        assert "marks lie behind it" in named(refused(at, "site"))
        size = segment.path(2).stat().st_size
        assert sum(opened) < (MOST_WORK + 2) * size + 2 * MOST_SEALED


@pytest.mark.claim("LEDGER-3")
@pytest.mark.parametrize("which", ["federation", "site"])
def test_a_signed_head_that_was_taken_away_is_found(tmp_path: Path, which: str) -> None:
    with filled(tmp_path) as at:
        assert verify(at).verified
        (at.path / "ledger" / which / "head").unlink()
        faults = [str(one) for one in verify(at).findings if one.fault]
        assert any(one.startswith(f"{which} log") and "signed head is missing" in one for one in faults)
        with pytest.raises(LedgerDamaged, match=which):
            Log.open(at, "federation").check_beside(Log.open(at, "site"))


@pytest.mark.claim("LEDGER-3")
def test_a_site_log_rewritten_with_its_own_key_is_found(
    tmp_path: Path,
) -> None:
    """By the rounds that carry its heads."""
    with filled(tmp_path) as at:
        for file in (at.path / "ledger" / "site").iterdir():
            file.unlink()
        site = Log.open(at, "site")
        for record, signatures in site_records()[1:]:  # a charge could be left out as well
            site.append(record, signatures)
        site.sign_head(at.identity(), Log.open(at, "federation"))
        site.close()
        faults = [str(one) for one in verify(at).findings if one.fault]
        assert any("carries a head of this log that it never had" in one for one in faults)


@pytest.mark.claim("LEDGER-3")
def test_a_head_that_keeps_silent_about_the_last_rounds_is_found(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        site = Log.open(at, "site")
        older = tmp_path / "older"
        with Home.create(older / "charite", "charite", [KeyFile(older / "key")]) as short:
            write(short, "federation", federation_records()[:1])
            for federation in (Log.open(short, "federation"), None):
                site.sign_head(at.identity(), federation)
                (fault,) = [str(one) for one in verify(at).findings if one.fault]
                assert "does not speak of the last 3 rounds of the federation log" in fault

"""A log keeps its entries, in order, with their signatures, over restarts; a reader sees it beside the writer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from p2pfl import merkle
from p2pfl.errors.home import DiskFull, HomeBusy, HomeIsReadOnly, SyncFailed
from p2pfl.errors.ledger import LedgerDamaged, OtherFederation, RecordRefused
from p2pfl.home import Home
from p2pfl.home.segments import SegmentFiles
from p2pfl.ledger import entry
from p2pfl.ledger.entry import FIRST, entry_hash
from p2pfl.ledger.log import Log
from p2pfl.ledger.read_log import read_log
from p2pfl.ledger.verify import verify
from tests.examples import examples
from tests.home.home_fixtures import Strike, failing, full, looks_into_the_journal
from tests.ledger.sample import SITES, federation_records, filled, genesis, home, round_, site_records, write


def test_entries_come_back_in_order_over_restarts(tmp_path: Path) -> None:
    records = site_records(9)
    with home(tmp_path) as at:
        for start in range(0, 9, 3):
            write(at, "site", records[start : start + 3])
        log = Log.open(at, "site")
        assert [each.record for each in log.records()] == [record for record, _ in records]
        assert [each.index for each in log.records()] == list(range(9))
        assert SegmentFiles(at, "site").numbers() == [1, 2, 3]
        assert log.dropped == ()


def test_chain_and_root_are_functions_of_the_records_alone(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        log = Log.open(at, "federation")
        previous = FIRST
        for each in log.records():
            assert each.previous == previous
            previous = entry_hash(previous, each.record)
        assert log.head() == previous
        assert log.root() == merkle.root([record for record, _ in federation_records()])
        assert log.root_at(2) == merkle.root([record for record, _ in federation_records()[:2]])
        assert merkle.consistent(log.root_at(1), 1, log.root(), 4, log.consistency(1))


@pytest.mark.claim("LEDGER-4")
def test_two_sites_with_other_signatures_and_segments_have_one_root(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with filled(tmp_path) as one, home(tmp_path / "b") as other:
        records = federation_records()
        write(other, "federation", [records[0], (records[1][0], {}), *records[2:]])
        assert Log.open(one, "federation").root() == Log.open(other, "federation").root()


def test_opening_makes_no_segment_and_appending_never_touches_an_old_one(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        before = [SegmentFiles(at, "site").read_segment(number) for number in (1, 2)]
        log = Log.open(at, "site")
        assert SegmentFiles(at, "site").numbers() == [1, 2]
        log.append(*site_records(1)[0])
        log.append(*site_records(1)[0])
        assert SegmentFiles(at, "site").numbers() == [1, 2, 3]
        assert [SegmentFiles(at, "site").read_segment(number) for number in (1, 2)] == before


def test_every_segment_has_a_salt_of_its_own(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        salts = [SegmentFiles(at, which).read_segment(n)[16:48] for which in ("federation", "site") for n in (1, 2)]
        assert len(set(salts)) == 4


def test_a_restored_snapshot_repeats_no_salt(tmp_path: Path) -> None:
    with home(tmp_path) as at:
        write(at, "site", site_records(2), head=False)
        write(at, "site", site_records(1), head=False)
        first = SegmentFiles(at, "site").read_segment(2)
        SegmentFiles(at, "site").path(2).unlink()  # what restoring the disk of yesterday does
        write(at, "site", site_records(1), head=False)
        second = SegmentFiles(at, "site").read_segment(2)
        assert first[16:48] != second[16:48]
        assert first[48:] != second[48:]


def test_group_commit_adds_all_with_one_fsync(tmp_path: Path) -> None:
    with home(tmp_path) as at:
        log = Log.open(at, "site")
        log.append(*site_records(1)[0])
        at.disk.fault = counting = Strike(full)
        assert log.extend(site_records(20)) == 1
        assert counting.kinds["fsync"] == 1
        assert len(log) == 21
        assert log.extend([]) == 21


def test_an_entry_is_on_the_disk_before_its_number_is_known(tmp_path: Path) -> None:
    with home(tmp_path) as at:
        log = Log.open(at, "site")
        seen: list[str] = []
        at.disk.fault = lambda step, path: seen.append(step)
        log.append(*site_records(1)[0])
        assert seen[-2:] == ["fsync", "fsync"]  # the file, then the name of the new segment
        seen.clear()
        log.append(*site_records(1)[0])
        assert seen == ["write", "write", "fsync"]


def test_late_signatures_are_kept_and_change_no_root(tmp_path: Path) -> None:
    record, signatures = genesis()
    with home(tmp_path) as at:
        log = Log.open(at, "federation")
        log.append(record, {"ucl": signatures["ucl"]})
        root = log.root()
        log.add_signatures(0, {name: signatures[name] for name in ("charite", "st-olav")})
        log.append(*round_(1))
        assert log.root_at(1) == root
        log.close()
        again = Log.open(at, "federation")
        assert dict(again[0].signatures) == signatures
        assert len(again) == 2


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with filled(tmp_path) as at, pytest.raises(HomeBusy):
        Home.open(at.path)


def test_a_reader_beside_a_writer_sees_what_is_durable_and_writes_nothing(tmp_path: Path) -> None:
    with home(tmp_path) as at, Home.open(at.path, write=False) as reader:
        log = Log.open(at, "site")
        for count, (record, signatures) in enumerate(site_records(4), 1):
            log.append(record, signatures)
            assert len(Log.open(reader, "site")) == count
            assert verify(reader).verified
            log.sign_head(at.identity())
            assert verify(reader).site.signed == count
        with pytest.raises(HomeIsReadOnly):
            Log.open(reader, "site").append(*site_records(1)[0])


def test_a_reader_looks_into_the_journal_once_however_many_segments_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decrypts all of it: once a segment a log of years would take as many journals."""
    with home(tmp_path) as at:
        for _ in range(5):
            log = Log.open(at, "site")
            log.append(*site_records(1)[0])
            log.close()
        log = Log.open(at, "site")
        log.append(*site_records(1)[0])
        with at.one_step():
            log.append(*site_records(1)[0])
        with Home.open(at.path, write=False) as reader:
            looks = looks_into_the_journal(monkeypatch)
            reading = read_log(SegmentFiles(reader, "site"), "site")
            assert (len(reading.chain.entries), len(looks)) == (7, 1)


@pytest.mark.parametrize("stray", [99_999_999, 4])
def test_segments_that_are_missing_are_told_as_one_gap(tmp_path: Path, stray: int) -> None:
    """A stray file may bear any number: what is missed before it is not counted one by one."""
    with home(tmp_path) as at:
        Log.open(at, "site").append(*site_records(1)[0])
        files = SegmentFiles(at, "site")
        files.path(stray).write_bytes(files.path(1).read_bytes())
        first, *_ = read_log(files, "site").faults
        assert (first.segment, first.what) == (2, f"it and the {stray - 3} segments behind it are missing")
        with pytest.raises(LedgerDamaged):
            Log.open(at, "site")


def test_a_reader_takes_a_write_under_way_for_what_it_is(tmp_path: Path) -> None:
    with home(tmp_path) as at, Home.open(at.path, write=False) as reader:
        log = Log.open(at, "site")
        log.append(*site_records(1)[0])
        seen = []

        def look(step: str, path: Path) -> None:
            seen.append((step, len(Log.open(reader, "site")), verify(reader).verified))

        at.disk.fault = look
        log.append(*site_records(1)[0])
        assert seen == [("write", 1, True), ("write", 1, True), ("fsync", 2, True)]


def test_a_record_that_no_reader_would_understand_is_refused(tmp_path: Path) -> None:
    record, _ = site_records(1)[0]
    with home(tmp_path) as at:
        log = Log.open(at, "site")
        for bad, signed in (
            (b"", {}),
            (record + b" ", {}),
            (b'{"kind":"weather"}', {}),
            (genesis()[0], {}),
            (record.replace(b"0.1.0", b"0\\u0000"), {}),
            (record, {"ucl": b"short"}),
            (record, {"No Name": bytes(64)}),
        ):
            with pytest.raises(RecordRefused):
                log.append(bad, signed)
        assert len(log) == 0
        assert SegmentFiles(at, "site").numbers() == []


def test_a_home_of_another_federation_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        log = Log.open(at, "federation")
        log.expect_genesis(genesis()[0])
        with pytest.raises(OtherFederation) as caught:
            log.expect_genesis(genesis("another")[0])
        assert "rare-disease" in caught.value.evidence
        assert caught.value.exit_status == 2


def test_an_empty_log_has_no_head_to_sign(tmp_path: Path) -> None:
    with home(tmp_path) as at, pytest.raises(ValueError, match="empty"):
        Log.open(at, "site").sign_head(at.identity())


# ── disks that fill and fail ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fresh", [True, False])
def test_a_disk_that_fills_loses_no_entry_and_the_log_goes_on_when_there_is_room(tmp_path: Path, fresh: bool) -> None:
    records = site_records(6)
    with home(tmp_path) as at:
        log = Log.open(at, "site")
        if not fresh:
            log.extend(records[:2])
        held = len(log)
        for at_step in range(3 if fresh else 2):
            at.disk.fault = Strike(full, at_step, ("open", "write"))
            with pytest.raises(DiskFull):
                log.append(*records[held])
            assert len(log) == held
        at.disk.fault = Strike(full)
        for record, signatures in records[held:]:
            log.append(record, signatures)
        log.sign_head(at.identity())
        log.close()
        assert [each.record for each in Log.open(at, "site").records()] == [record for record, _ in records]
        assert verify(at).findings == []


def test_a_failed_fsync_ends_all_writing_and_a_restart_finds_what_was_promised(tmp_path: Path) -> None:
    records = site_records(4)
    with home(tmp_path) as at:
        log = Log.open(at, "site")
        log.extend(records[:2])
        at.disk.fault = Strike(failing, 0, ("fsync",))
        for record, signatures in records[2:]:
            with pytest.raises(SyncFailed):
                log.append(record, signatures)
        with pytest.raises(SyncFailed):
            log.sign_head(at.identity())
        log.close()
    with Home.open(at.path) as at:
        assert len(Log.open(at, "site")) in (2, 3)  # the third was written, and never promised
        assert verify(at).verified


@examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.sampled_from(["append", "group", "head", "restart", "sign"]), max_size=14))
def test_any_order_of_appends_heads_and_restarts_reads_back_as_a_list_would(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str]
) -> None:
    at = home(tmp_path_factory.mktemp("home"))
    log, held = Log.open(at, "federation"), []
    records = iter(federation_records(60))
    for act in plan:
        if act == "append":
            held.append(next(records))
            log.append(*held[-1])
        elif act == "group":
            group = [next(records), next(records)]
            held += group
            log.extend(group)
        elif act == "head" and held:
            log.sign_head(at.identity())
        elif act == "sign" and held:
            log.add_signatures(0, {"ucl": SITES["ucl"].sign("record", held[0][0])})
        elif act == "restart":
            log.close()
            at.close()
            at = Home.open(at.path)
            log = Log.open(at, "federation")
    assert [(each.record, dict(each.signatures)) for each in log.records()] == held
    if held:
        log.sign_head(at.identity())
    write(at, "site", site_records(1))
    assert verify(at).verified
    at.close()


def test_no_secret_shows_when_a_log_is_printed(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        log = Log.open(at, "site")
        log.append(*site_records(1)[0])
        shown = f"{log!r} {vars(log)} {SegmentFiles(at, 'site').key_of(1, bytes(32))!r}"
        assert at.master.reveal().hex() not in shown
        assert SegmentFiles(at, "site").key_of(1, bytes(32)).reveal().hex() not in shown
        assert entry.render(log[0])

"""A process that dies at any step of any write: nothing promised is lost, nothing is half there, the log goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.home import Home
from p2pfl.ledger.log import Log
from p2pfl.ledger.verify import verify
from tests.home.home_fixtures import Crash, PowerCut
from tests.ledger.sample import home, site_records

RECORDS = site_records(7)


def work(at: Home, promised: list[int]) -> None:
    """A start: two appends, a head, a group, a head; `promised` grows when an entry's number is returned."""
    log = Log.open(at, "site")
    for record, signatures in RECORDS[2:4]:
        promised.append(log.append(record, signatures))
    log.sign_head(at.identity())
    first = log.extend(RECORDS[4:7])
    promised += range(first, first + 3)
    log.sign_head(at.identity())


def crash(folder: Path, at_step: int) -> tuple[Path, list[int], PowerCut, bool]:
    """A home with two entries and a head, worked in by a process that dies at a step."""
    folder.mkdir()
    at = home(folder)
    log = Log.open(at, "site")
    log.extend(RECORDS[:2])
    log.sign_head(at.identity())
    log.close()
    at.settle()
    promised, cut = [0, 1], PowerCut(at_step)
    at.disk.fault = cut
    try:
        work(at, promised)
        at.close()
    except Crash:
        at.disk.fail("the process is dead")
        at.close()
        return at.path, promised, cut, True
    return at.path, promised, cut, False


def steps(folder: Path) -> int:
    """How many steps the work has."""
    *_, cut, died = crash(folder, 1 << 30)
    assert not died
    return cut.seen


def check(path: Path, promised: list[int]) -> None:
    """Everything promised is there, in order, and more can be added."""
    with Home.open(path, write=False) as reader:
        assert verify(reader).verified
        count = len(Log.open(reader, "site"))
    with Home.open(path) as at:
        log = Log.open(at, "site")
        held = [each.record for each in log.records()]
        assert len(held) in (count, len(promised))
        assert len(held) >= len(promised)
        assert held == [record for record, _ in RECORDS[: len(held)]]
        log.extend(RECORDS[len(held) :])
        log.sign_head(at.identity())
        log.close()
        again = Log.open(at, "site")
        assert [each.record for each in again.records()] == [record for record, _ in RECORDS]
        assert verify(at).verified


def test_a_killed_process_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    count = steps(tmp_path / "count")
    assert count > 25
    for at_step in range(count):
        path, promised, _, died = crash(tmp_path / f"{at_step}", at_step)
        assert died
        check(path, promised)


@pytest.mark.claim("HOME-4")
@pytest.mark.parametrize("kept", [0, 30, 400])
def test_a_power_cut_that_loses_unsynced_bytes_loses_nothing_that_was_promised(tmp_path: Path, kept: int) -> None:
    for at_step in range(steps(tmp_path / "count")):
        path, promised, cut, _ = crash(tmp_path / f"{at_step}", at_step)
        cut.lose(kept)
        check(path, promised)


def test_a_crash_while_a_torn_tail_is_dropped_is_mended_by_the_next_start(tmp_path: Path) -> None:
    path, promised, _, _ = crash(tmp_path / "home", 2)  # within the first write
    for at_step in range(4):
        with Home.open(path) as at:
            at.disk.fault = PowerCut(at_step)
            try:
                Log.open(at, "site")
            except Crash:
                continue
            break
    check(path, promised)

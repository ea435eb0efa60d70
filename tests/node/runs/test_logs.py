"""How a process begins in the site log: once, however often a service that only waits is started again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.ledger.site_kinds import AbandonedEntry, OperatorEntry, SiteEntry
from p2pfl.ledger.verify import verify
from p2pfl.node import logs as node_logs
from p2pfl.node.logs import Logs
from p2pfl.node.pledge import pledge_of
from tests.node.runs.homes import Place

JOIN = {"command": "join", "options": {"rounds": 3}}
SUM = {"command": "sum", "options": {"name": "beds"}}
DONE = AbandonedEntry(run=bytes(32), epoch=1, round=1, attempt=0, time=9, certificate=bytes(32), waited_for=[])


def opened(place: Place) -> Logs:
    """As a process that starts finds them."""
    return Logs(place.home, place.home.identity(), pledge_of(place.federation), lambda: 1_700_000_000.0)


def process(place: Place, number: int, operator: dict[str, Any] | None, *entries: SiteEntry) -> None:
    """What one process notes, and its end."""
    logs = opened(place)
    logs.started(bytes([number]) * 16)
    if operator is not None:
        logs.note(OperatorEntry(time=number, **operator))
    for entry in entries:
        logs.note(entry)
    logs.close()


def noted(place: Place) -> list[tuple[str, str]]:
    """Kind of each entry, and of a start the process that it is of."""
    held = [codec.read_facts(one.record) for one in opened(place).site.records()]
    return [(facts["kind"], facts.get("incarnation", "")[:2]) for facts in held]


ONE = [("start", "01"), ("operator", "")]


def test_equal_entries_of_two_processes_have_other_hashes(place: Place) -> None:
    """Peers are shown hashes of a site's entries: what stands in one is found by no try of what it may say."""
    logs = opened(place)
    for _ in range(2):
        logs.note(DONE)
    assert logs.note_at_once(DONE)
    held = [one.record for one in logs.site.records()]
    assert len(set(held)) == 3
    assert {len(bytes.fromhex(codec.read_facts(one)["salt"])) for one in held} == {16}
    logs.close()


def test_a_site_that_waits_and_is_started_again_and_again_adds_nothing(place: Place) -> None:
    for number in range(1, 9):
        process(place, number, JOIN)
    assert noted(place) == ONE
    process(place, 9, JOIN, DONE)  # now it does something: who did it is known
    assert noted(place) == [*ONE, ("start", "09"), ("operator", ""), ("abandoned", "")]
    process(place, 10, JOIN)
    process(place, 11, JOIN)
    assert noted(place)[5:] == [("start", "0a"), ("operator", "")]
    place.logs()  # with a genesis
    assert verify(place.home).verified


@pytest.mark.parametrize("second", [SUM, {**JOIN, "options": {"rounds": 4}}])
def test_another_command_is_noted(place: Place, second: dict[str, Any]) -> None:
    process(place, 1, JOIN)
    process(place, 2, second)
    assert noted(place) == [*ONE, ("start", "02"), ("operator", "")]


def test_another_release_is_noted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    process(place, 1, JOIN)
    monkeypatch.setattr(node_logs, "__version__", "0.2.0")
    process(place, 2, JOIN)
    assert noted(place) == [*ONE, ("start", "02"), ("operator", "")]


def test_a_process_that_notes_no_command_is_noted_once(place: Place) -> None:
    for number in (1, 2, 3):
        process(place, number, None)
    assert noted(place) == [("start", "01")]
    process(place, 4, None, DONE)
    assert noted(place)[1:] == [("start", "04"), ("abandoned", "")]


def test_a_command_that_a_person_ran_twice_in_one_process_is_noted_twice(place: Place) -> None:
    process(place, 1, JOIN)
    process(place, 2, JOIN, OperatorEntry(time=2, **JOIN))
    assert noted(place) == [*ONE, ("start", "02"), ("operator", ""), ("operator", "")]


@contextmanager
def held_elsewhere(logs: Logs) -> Iterator[None]:
    """Another thread is in the middle of a step of the logs, as one is that waits for its fsync."""
    begun, over = threading.Event(), threading.Event()

    def step() -> None:
        with logs.one_step():
            begun.set()
            over.wait()

    thread = threading.Thread(target=step)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_nothing_is_noted_at_once_that_would_wait_for_the_disk_or_for_a_thread(place: Place) -> None:
    """The loop notes such entries: links have their turn however long the disk takes."""
    process(place, 1, None)
    logs = opened(place)
    logs.started(bytes(16))
    assert not logs.note_at_once(DONE)  # the next entry brings those with which this process began
    logs.note(DONE)
    with held_elsewhere(logs):
        assert not logs.note_at_once(DONE)
    assert logs.note_at_once(DONE)
    logs.close()
    assert [kind for kind, _ in noted(place)] == ["start", "start", "abandoned", "abandoned"]


def test_a_late_signature_waits_neither_for_the_disk_nor_for_a_thread(place: Place) -> None:
    logs = place.logs()  # with a genesis
    record = logs.federation[0].record
    late = {"zoe": bytes(64)}
    assert not opened(place).cosign(record, late, wait=False)  # this process has no segment yet
    with held_elsewhere(logs):
        assert not logs.cosign(record, late, wait=False)
    assert "zoe" not in logs.federation[0].signatures
    assert logs.cosign(record, late, wait=False)
    assert logs.federation[0].signatures["zoe"] == bytes(64)

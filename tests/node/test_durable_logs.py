"""What the event loop asks of the logs waits for no disk, and shows nothing that is not on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2pfl.ledger import note
from p2pfl.ledger.note import Head
from p2pfl.ledger.site_kinds import OperatorEntry
from p2pfl.node.logs import Logs
from tests.node.runs.homes import ME, NAMES, Place, places, recorded, summed

WAIT_S = 30.0


class StuckDisk:
    """A hook of a disk that takes its time: an fsync ends when it is let go."""

    def __init__(self) -> None:
        self.stuck, self.let_go = threading.Event(), threading.Event()

    def __call__(self, step: str, path: Path) -> None:
        if step == "fsync":
            self.stuck.set()
            assert self.let_go.wait(WAIT_S)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    mine, other = places(tmp_path, "privacy.max_epsilon=9.0")
    other.home.close()
    mine.draw = os.urandom
    yield mine
    mine.home.close()


def head_of(logs: Logs) -> Head:
    return note.parse_note(logs.site_head() or "")[0]


ASKED: dict[str, Callable[[Logs, bytes], object]] = {
    "entries": lambda logs, run: logs.entries,
    "stands": lambda logs, run: logs.stands(),
    "root_at": lambda logs, run: logs.root_at(1),
    "site_root": lambda logs, run: logs.site_root(),
    "site_head": lambda logs, run: logs.site_head(),
    "site_proof": lambda logs, run: logs.site_proof(1, head_of(logs).size),
    "site_extends": lambda logs, run: logs.site_extends(head_of(logs)),
    "counts": lambda logs, run: logs.counts(ME, head_of(logs)),
    "same_account": lambda logs, run: logs.same_account(ME, head_of(logs)),
    "base": lambda logs, run: logs.base(run),
    "bases": lambda logs, run: logs.bases(),
    "final_round": lambda logs, run: logs.final_round(run),
    "final_rounds": lambda logs, run: logs.final_rounds(),
    "rounds": lambda logs, run: logs.rounds(run),
    "in_an_epoch": lambda logs, run: logs.in_an_epoch,
    "founders": lambda logs, run: logs.founders,
    "changes": lambda logs, run: logs.changes(8),
    "note_at_once": lambda logs, run: logs.note_at_once(OperatorEntry(time=0, command="x", options={})),
    "cosign": lambda logs, run: logs.cosign(b"", {}, wait=False),
}


def test_what_the_loop_asks_of_the_logs_waits_for_no_fsync(place: Place) -> None:
    """A pass is charged, or a round becomes final, in another thread: hellos and heads go on meanwhile."""
    run, disk = place.started(), StuckDisk()
    after, outcome = summed(run, 1)
    before = {name: ask(run.logs, run.run) for name, ask in ASKED.items() if name not in ("note_at_once", "cosign")}
    place.home.disk.fault = disk
    with ThreadPoolExecutor(2) as threads:
        writes = threads.submit(recorded, place, run, 1, after, outcome)
        try:
            assert disk.stuck.wait(WAIT_S)
            for name, ask in ASKED.items():
                told = threads.submit(ask, run.logs, run.run).result(WAIT_S)
                assert told == before.get(name, False), f"{name}: nothing is shown before it is durable"
        finally:
            disk.let_go.set()
        writes.result(WAIT_S)
    assert (run.logs.entries, run.logs.final_round(run.run), len(run.logs.rounds(run.run))) == (2, 1, 1)
    assert head_of(run.logs).size == len(run.logs.site)
    assert run.logs.founders == frozenset(NAMES)

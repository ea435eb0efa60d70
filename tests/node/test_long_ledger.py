"""A home with years of rounds: a start reads each record once, and a sum reads none of them. Counted, not timed."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import ledger_start
from benchmarks._long_ledger import RUN, LongLedger
from p2pfl import codec
from p2pfl.errors.round import AnotherCohort
from p2pfl.ledger import entry as entries
from p2pfl.ledger.site_kinds import AbandonedEntry, ChargeEntry, LookEntry, MissedEntry, OperatorEntry
from p2pfl.node.active import ActiveRun
from p2pfl.node.runs import fairness
from p2pfl.node.runs.cohort import Cohort
from p2pfl.node.store import Store
from p2pfl.sharing.events import Finished
from p2pfl.sharing.round import Round

ROUNDS = 40


@pytest.fixture
def long(tmp_path: Path) -> Iterator[LongLedger]:
    ledger = LongLedger(tmp_path)
    ledger.write(ROUNDS)
    yield ledger
    ledger.home.close()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every text that is parsed as JSON from now on, whoever asks."""
    seen: list[bytes] = []
    real = json.loads

    def loads(text: str | bytes, *given: object, **named: object) -> object:
        seen.append(text.encode() if isinstance(text, str) else text)
        return real(text, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(json, "loads", loads)
    return seen


def of_kind(parsed: list[bytes], kind: str) -> int:
    return sum(f'"kind":"{kind}"'.encode() in one for one in parsed)


def test_a_start_reads_each_record_once_and_of_the_site_log_what_rounds_ask(
    long: LongLedger, parsed: list[bytes]
) -> None:
    logs = long.open()
    assert logs.count(RUN) == ROUNDS and logs.final_round(RUN) == ROUNDS
    logs.standing(())
    assert of_kind(parsed, "round") == ROUNDS
    assert of_kind(parsed, "query") == ROUNDS
    assert of_kind(parsed, "commitment") == of_kind(parsed, "ballot") == 0
    logs.close()


def test_a_sum_reads_nothing_of_the_sums_before_and_the_lock_still_holds(long: LongLedger, parsed: list[bytes]) -> None:
    logs = long.open()
    ledger_start.sum_once(logs, long, ROUNDS + 1)
    del parsed[:]
    ledger_start.sum_once(logs, long, ROUNDS + 2)
    fairness.check(logs, RUN, "site-0")
    own = re.compile(rf"question ({ROUNDS + 1}|{ROUNDS + 2})\b".encode())
    assert parsed and not [one for one in parsed if not own.search(one)]
    lock = Cohort(logs, RUN, "again", [long.mark(3)])
    lock.check(list(long.identities))
    with pytest.raises(AnotherCohort):
        lock.check(list(long.identities)[1:])
    logs.close()


def test_what_is_noted_while_the_process_runs_counts_at_once(long: LongLedger) -> None:
    """An abandoned attempt frees its data, a charge is counted, a round that was missed and looked at, too."""
    logs = long.open()
    names, place = list(long.identities), {"time": 1, "run": RUN, "epoch": 1, "round": 5, "attempt": 0}
    lock = Cohort(logs, RUN, "again", [long.mark(5)])
    with pytest.raises(AnotherCohort):
        lock.check(names[1:])
    logs.note(AbandonedEntry(**place, certificate=bytes(32), waited_for=[]))
    lock.check(names[1:])
    missed = {**place, "round": ROUNDS + 1}
    logs.note(MissedEntry(**missed, coordinator="site-3"))
    assert logs.unsummed(RUN) == ({ROUNDS + 1: "site-3"}, 0)
    logs.note(OperatorEntry(time=1, command="join", options={"run": RUN.hex(), "go-on": ROUNDS + 1}))
    assert logs.unsummed(RUN)[1] == ROUNDS + 1
    mechanism = {"mechanism": "gaussian", "noise_multiplier": "1.0"}
    reals = {"before": "0.1", "after": "0.75", "delta": "0.00001", "limit": "3"}
    logs.note(ChargeEntry(time=1, run=RUN, round=5, mechanism=mechanism, **reals))
    assert logs.charges(RUN) == 1 and logs.charges(bytes(32)) == 0
    for charged in (True, False):
        logs.note(LookEntry(time=1, run=RUN, round=5, mechanism=mechanism, charged=charged, **{**reals, "after": "2"}))
    assert logs.looks(RUN) == 1
    logs.finish(*long.signed(long.round(ROUNDS + 1)))
    assert "0.75" in str(logs.site_head()), "and peers are told of no look"
    logs.close()
    again = long.open()
    assert again.charges(RUN) == 1 and again.unsummed(RUN)[1] == ROUNDS + 1 and again.count(RUN) == ROUNDS + 1
    again.close()


def test_an_entry_that_is_no_record_at_all_is_refused_by_name() -> None:
    for record in (b"{", b"[]", b"\xff"):
        with pytest.raises(codec.Malformed, match="record is not"):
            entries.own_facts(entries.Entry(0, record, {}, bytes(32)))


def test_the_benchmark_prints_every_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ledger_start", "--json", "--rounds", "12", "--turns", "1"])
    assert ledger_start.main() == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert len(found) == 5 and all(one["median"] >= 0 for one in found)


@pytest.mark.claim("HOME-4")
def test_nobody_is_shown_the_end_of_a_round_before_it_is_durable(long: LongLedger) -> None:
    """Its heads, once a peer has seen them, are what this site is held to."""
    logs, free = long.open(), list[bool]()
    entries_before = logs.entries

    def try_lock() -> None:
        free.append(taken := logs._lock.acquire(blocking=False))
        if taken:
            logs._lock.release()

    def look(step: str, path: Path) -> None:
        if step in ("put", "flush", "fsync"):
            looking = threading.Thread(target=try_lock)
            looking.start()
            looking.join()

    record, signatures = long.signed(long.round(logs.count(RUN) + 1))
    state = SimpleNamespace(item="state/attempt", leaving=SimpleNamespace(slot=None))
    done = cast(Round, SimpleNamespace(number=1, state=state, keepsake=lambda: b"the sum"))
    run = SimpleNamespace(context=SimpleNamespace(run=RUN))
    active = cast(ActiveRun, SimpleNamespace(run=run, source_of=lambda number: SimpleNamespace(models=None)))
    effect = cast(Finished, SimpleNamespace(record=record, cosignatures=signatures))
    logs.home.disk.fault = look
    Store(logs.home, logs, SimpleNamespace(statements=lambda: b"")).finish(active, done, effect)
    assert logs.entries == entries_before + 1
    assert free and not any(free)
    logs.close()


def test_the_root_of_the_site_log_is_never_one_in_the_midst_of_an_entry(
    long: LongLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread writes entries while the node's own asks for the root that goes into its proposal."""
    logs, held = long.open(), threading.Event()
    real = logs.site.root

    def root() -> bytes:
        taker = threading.Thread(target=lambda: held.set() if logs._lock.acquire(blocking=False) else None)
        taker.start()
        taker.join()
        return real()

    monkeypatch.setattr(logs.site, "root", root)
    assert logs.site_root() == real()
    assert not held.is_set(), "another thread could write meanwhile"
    logs.close()

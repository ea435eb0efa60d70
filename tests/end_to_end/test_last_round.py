"""A round whose end is an error to everybody: whoever is last in it has it from the others before they end, too."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Sites, of
from tests.end_to_end.test_statistics import DESCRIBE, RULES, ask, with_records


def last_in_a_round(
    sites: Sites, do: dict[str, Any], number: int, waits: dict[str, Any], code: str, status: int, *, leaves: int = 0
) -> None:
    """All end with this error; one of them stands still in that round until the others have only to wait for it.

    leaves   so many of the others are stopped by their operators as they wait: they tell the error, too
    """
    stops = {"die": {"heard": ["Reveal", number]}, "signal": "SIGSTOP"}  # who reveals has its vote
    slow = sites.names[-1]
    # Of one that has left it may never hear that it has the round.
    running = sites.linked(lambda name: [do], {slow: {**stops, "linger": 5.0 if leaves else 60.0}})
    last = running.pop(slow)
    others = list(running.values())
    last.stopped()
    for process in others:
        process.event("waiting", missing=of(slow), **waits)
    for process in others[:leaves]:
        process.signal(signal.SIGINT)
        ended = process.end()
        assert (ended.status, code in ended.text) == (status, True), ended.text
    last.wake()
    for process in (*others[leaves:], last):
        ended = process.end()
        assert (ended.status, code in ended.text) == (status, True), ended.text
    assert len(sites.roots()) == 1


@pytest.mark.claim("LIVE-5")
def test_sites_whose_budget_is_spent_hand_the_last_round_over_first(make: MakeSites) -> None:
    sites = make(3, "rounds=5", "privacy.steps_per_round=10", "privacy.max_epsilon=0.15")  # one pass of 0.1
    last_in_a_round(sites, {"train": 5}, 1, {"round": 2}, "P2P-TRAIN-030", 4)


@pytest.mark.claim("LIVE-5")
def test_sites_whose_question_is_refused_hand_its_last_round_over_first(make: MakeSites) -> None:
    sites = make(4, *RULES, "statistics.minimum_cell=100")
    with_records(sites)
    last_in_a_round(sites, ask(DESCRIBE), 3, {"phase": "final"}, "P2P-STATS-007", 1, leaves=1)


@pytest.mark.claim("LIVE-5")
def test_a_site_that_took_all_over_from_one_peer_tells_the_others_before_it_ends(make: MakeSites) -> None:
    sites = make(4, "rounds=1")
    dies = {"die": {"heard": ["Propose", 1]}}
    running = sites.linked(lambda name: [{"train": 1}], {"dot": dies}, linger=10 * PATIENCE_S)
    others = [running[name] for name in ("ada", "ben", "cyd")]
    for process in others:
        process.given()
        process.event("waiting", phase="final", missing=of("dot"))
    ben = others[1]
    ben.signal(signal.SIGSTOP)
    ben.stopped()
    back = sites.site("dot", [{"train": 1}], linger=10 * PATIENCE_S)
    back.given()
    ben.wake()  # its link to dot comes up behind the end of dot's training
    for process in (*others, back):
        ended = process.end()
        assert ended.status == 0, ended.text
    assert len(sites.roots()) == 1

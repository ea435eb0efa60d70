"""A training that went without this site too often does not go on here until somebody has looked; from real logs."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.errors.round import LeftOutTooOften
from p2pfl.ledger.site_kinds import MissedEntry
from p2pfl.node.runs import fairness
from p2pfl.node.runs.training import TrainingRun
from tests.node.runs.homes import ME, NAMES, OTHERS, Place, by_others, finished, summed

COORDINATOR = NAMES[1]


def without_it(place: Place, run: TrainingRun, number: int, *, there: bool = True, of: bytes = b"") -> None:
    """A round that the others summed; `there`: the round itself said that this site was."""
    if there:
        attempt: dict[str, Any] = {"run": of or run.run, "epoch": 1, "round": number, "attempt": 0}
        run.logs.note(MissedEntry(**attempt, time=1, coordinator=COORDINATOR))
    finished(place, run, number, *by_others(run, number, number - 1), survivors=list(OTHERS))


@pytest.mark.claim("LIAR-7")
def test_a_site_that_was_left_out_twice_of_a_few_rounds_charges_and_trains_no_more(place: Place) -> None:
    run = place.started()
    without_it(place, run, 1)
    run.propose(2, 1)
    without_it(place, run, 2)
    spent = place.trainer.passes, run.account.passes
    with pytest.raises(LeftOutTooOften) as caught:
        run.propose(3, 2)
    assert caught.value.evidence == f"left out of round 1 by {COORDINATOR}, round 2 by {COORDINATOR}"
    assert (place.trainer.passes, run.account.passes) == spent


def test_it_is_still_so_in_the_next_process_and_until_an_operator_has_looked(place: Place) -> None:
    run = place.started()
    without_it(place, run, 1)
    without_it(place, run, 2)
    run = place.started()
    with pytest.raises(LeftOutTooOften):
        run.propose(3, 2)
    fairness.looked(run.logs, run.run)
    run.propose(3, 2)
    run = place.started()
    run.propose(3, 2)
    without_it(place, run, 3)
    run.propose(4, 3)  # one, since it was looked at
    without_it(place, run, 4)
    with pytest.raises(LeftOutTooOften):
        run.propose(5, 4)


def test_rounds_that_went_by_while_this_site_was_away_count_for_nothing(place: Place) -> None:
    run = place.started()
    for number in (1, 2):
        without_it(place, run, number, there=False)
    assert fairness.taken_part(run.logs, run.run, ME) == []
    run.propose(3, 2)


def test_what_another_run_left_out_counts_for_nothing_here(place: Place) -> None:
    run = place.started()
    for number in (1, 2):
        without_it(place, run, number, of=bytes(32))
    passes = place.trainer.passes
    assert fairness.taken_part(run.logs, run.run, ME) == []
    run.propose(3, 2)
    assert place.trainer.passes == passes + 1


def test_rounds_that_it_took_part_in_stand_on_the_other_side(place: Place) -> None:
    run = place.started()
    without_it(place, run, 1)
    finished(place, run, 2, *summed(run, 2))
    assert fairness.taken_part(run.logs, run.run, ME) == [(1, COORDINATOR), (2, "")]

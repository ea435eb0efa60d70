"""A training that ends early: by the records alone, the same at every site, and never twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import codec
from p2pfl.federation.optimisers import EarlyStop
from p2pfl.node.runs.training import TrainingRun
from p2pfl.training.early_stop import is_over, value_of, why_over
from p2pfl.training.measures.scores import BINS
from tests.examples import examples
from tests.node.runs.homes import Place, finished, places, summed

TWO = EarlyStop(2, 0.01)

# ── the rule ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "rule", "over"),
    [
        (["0.5", "0.6", "0.7"], TWO, False),
        (["0.5", "0.505", "0.509"], TWO, True),  # never a hundredth above .5
        (["0.5", "0.505", "0.51"], TWO, False),  # exactly a hundredth, in decimals
        (["0.6", "0.5", "0.61"], TWO, False),
        (["0.6", "0.5", "0.55"], TWO, True),
        (["0.6", "", "", "0.5", ""], TWO, False),  # a round that was not measured says nothing
        (["0.6", "0.5", "0.5", "0.9"], TWO, True),  # what is over is over
        (["0.6", "0.5", "0.4"], EarlyStop(2, 0.01, "lower"), False),
        (["0.4", "0.5", "0.6"], EarlyStop(2, 0.0, "lower"), True),
        (["0.5", "0.5"], EarlyStop(1, 0.0), True),  # no change is no gain
        (["0.5"] * 99, EarlyStop(), False),
    ],
)
def test_a_training_is_over_after_so_many_measured_rounds_without_gain(
    values: list[str], rule: EarlyStop, over: bool
) -> None:
    assert is_over(values, rule) == over


@given(st.lists(st.integers(0, 1_000_000).map(lambda n: f"{n / 1e6:.6f}") | st.just("")), st.integers(1, 4))
@examples(60)
def test_what_is_over_stays_so_and_unmeasured_rounds_change_nothing(values: list[str], patience: int) -> None:
    rule = EarlyStop(patience, 0.001)
    said = [is_over(values[:end], rule) for end in range(len(values) + 1)]
    assert said == sorted(said)
    assert said[-1] == is_over([value for value in values if value], rule)


# ── at a site ─────────────────────────────────────────────────────────────────────────────────────────────────

STOP = ("rounds=9", "stop.patience=2", "stop.least=0.001")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home whose held-out records are judged alike in every round: the metric never rises."""
    found, _ = places(tmp_path, *STOP)
    found.trainer.held[[10, BINS + 90]] = 5
    return found


def through(place: Place, run: TrainingRun, first: int, last: int) -> None:
    for number in range(first, last + 1):
        finished(place, run, number, *summed(run, number))


def test_the_rounds_end_with_one_that_measures_once_the_rule_holds(place: Place) -> None:
    run = place.started()
    through(place, run, 1, 2)
    assert (run.length(10), run._measures(2)) == (10, False), "two measured rounds: the best, and one without gain"
    through(place, run, 3, 3)
    assert (run.length(10), run._measures(3)) == (4, True)
    after, outcome = summed(run, 4)
    assert after == run.models.on(3).digest, "the last round only measures"
    finished(place, run, 4, after, outcome, configuration={**run.configuration, "purpose": "evaluation"})
    assert run.length(10) == run.logs.count(run.run) == 4
    assert place.trainer.passes == 3, "no pass more is paid"
    again = place.started()
    assert again.length(10) == again.logs.count(again.run) == 4
    assert "2 measured rounds, so the training ended after 3" in why_over(run.logs.rounds(run.run), run.federation.stop)


def test_rounds_that_are_applied_and_not_final_count_and_are_taken_back(place: Place) -> None:
    run = place.started()
    through(place, run, 1, 1)
    summed(run, 2)
    summed(run, 3)
    assert (run.length(10), run._measures(3), run._measures(2)) == (4, True, False)
    run.models.retract(2)
    assert (run.length(10), run._measures(2)) == (10, False)


def test_a_site_that_was_away_ends_where_the_others_do_by_their_records(tmp_path: Path) -> None:
    both = places(tmp_path, *STOP)
    for one in both:
        one.trainer.held[[10, BINS + 90]] = 5
    ahead, away = (one.started() for one in both)
    through(both[0], ahead, 1, 3)
    rows = [(one.record, one.signatures) for one in ahead.logs.federation.records()][1:]
    away.logs.adopt(rows)
    number, record = 3, rows[-1][0]
    away.models.skip_to(number, record)
    assert (away.length(10), away._measures(3)) == (ahead.length(10), ahead._measures(3)) == (4, True)


def test_without_a_rule_all_rounds_are_done(tmp_path: Path) -> None:
    place, _ = places(tmp_path, "rounds=3")
    run = place.started()
    through(place, run, 1, 3)
    assert (run.length(4), why_over(run.logs.rounds(run.run), run.federation.stop)) == (4, "")


def test_the_value_of_a_round_is_the_metric_of_its_record() -> None:
    outcome: codec.Facts = {"metric": "auc", "figures": {"auc": ["0.812345", "0.7", "0.9"], "brier": ["0.1", "", ""]}}
    assert value_of(outcome) == "0.812345"
    assert value_of({"metric": "auc", "figures": {}, "unmeasured": "not every site is in the sum"}) == ""

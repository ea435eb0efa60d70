"""What a noised question costs: charged once before it is sent, taken up after a crash, refused when it is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl.errors.statistics import NoiseUnbounded
from p2pfl.errors.training import PassWouldOverspend, StudiesUnheard
from p2pfl.node.logs import Logs
from p2pfl.node.progress import unseen
from p2pfl.node.runs import set_back
from p2pfl.node.runs.question_noise import ITEM, QuestionCharge, QuestionNoise, aside_fact, over_digest
from p2pfl.peer.epoch import sums_run
from p2pfl.statistics.describe import Histogram
from p2pfl.training.privacy.account import CHARGED, Account, Mechanism
from tests.node.runs.homes import NAMES, Place, charges, places
from tests.statistics.hospitals import number

SUMS = 2
ASKED = Histogram(number("age", 0, 120), (0.0, 60.0))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    one, _ = places(tmp_path, "privacy.max_epsilon=2.1", "statistics.noise_multiplier=4")
    return one


def charge_of(place: Place, sums: int = SUMS) -> QuestionCharge:
    """As a process that has just begun makes it."""
    run, noise = place.started(), QuestionNoise.of(place.federation)
    assert noise is not None
    return QuestionCharge(noise, sums, place.federation, run.logs, run.run, sums_run(place.federation))


@pytest.mark.claim("STAT-9")
def test_a_question_is_charged_once_as_all_its_sums_beside_what_training_charged(place: Place) -> None:
    charge = charge_of(place)
    charge.check()
    assert charge.epsilon == ""
    epsilon = charge.charge(unseen)
    assert charge.charge(unseen) == epsilon == charge.epsilon, "a second attempt of its round, and its second sum"
    (entry,) = charges(place.started())
    wanted = Account().after(Mechanism(CHARGED * 4.0, 1.0, SUMS, 2), place.federation.privacy.delta)
    assert float(entry["after"]) == pytest.approx(wanted, abs=1e-5) and float(epsilon) == float(entry["after"])


@pytest.mark.claim("STAT-9")
def test_a_process_that_dies_before_a_word_has_left_costs_nothing_and_after_it_does(place: Place) -> None:
    charge_of(place).charge(unseen)
    again = charge_of(place)  # the one before was killed between its charge and its sum
    again.check()
    again.charge(unseen)
    assert len(charges(place.started())) == 1
    again.leaves()
    again.leaves()  # a second attempt, a second sum
    assert place.home.read(ITEM) is None
    charge_of(place).charge(unseen)
    assert len(charges(place.started())) == 2


def test_the_charge_of_another_question_is_not_taken_up(place: Place) -> None:
    charge_of(place).charge(unseen)
    charge_of(place, SUMS - 1).charge(unseen)
    assert [one["mechanism"]["steps"] for one in charges(place.started())] == [SUMS, SUMS - 1]


@pytest.mark.claim("STAT-9")
@pytest.mark.parametrize(
    ("over", "aside", "used"),
    [(NAMES, (), True), (NAMES[:2], (), False), (NAMES[:2], NAMES[2:], True), (NAMES[1:], NAMES[:1], False)],
)
def test_a_restored_home_takes_no_charge_up_that_the_ledger_shows_as_used(
    place: Place, monkeypatch: pytest.MonkeyPatch, over: Sequence[str], aside: Sequence[str], used: bool
) -> None:
    """The ledger that the others hand it has a noised sum with this site in it, or one that was void."""
    charge_of(place).charge(unseen)
    part = {"part": "sum 1", "noise": {"parts": 2}, "over": over_digest(over), **aside_fact(aside)}
    later = {"round": 1, "survivors": list(NAMES), "configuration": {"purpose": "sum", "statistic": part}}
    monkeypatch.setattr(Logs, "rounds", lambda logs, run: [later] if run == sums_run(place.federation) else [])
    charge_of(place).charge(unseen)
    assert len(charges(place.started())) == (2 if used else 1)


@pytest.mark.claim("DP-13")
def test_a_question_in_a_restored_home_ends_before_anybody_waits_for_it(place: Place) -> None:
    """It was refused in the middle: the others had opened its roll call, and began it anew."""
    lungs: Any = SimpleNamespace(first=bytes(32), name="lungs")
    set_back.found(place.home, lungs)
    with pytest.raises(StudiesUnheard, match="lungs"):
        charge_of(place).check()


@pytest.mark.claim("STAT-9")
def test_a_question_that_the_budget_does_not_hold_is_refused_before_it_is_asked(place: Place) -> None:
    for _ in range(2):
        charge = charge_of(place)
        charge.check()
        charge.charge(unseen)
        charge.leaves()
    with pytest.raises(PassWouldOverspend):
        charge_of(place).check()
    with pytest.raises(PassWouldOverspend):
        charge_of(place).charge(unseen)
    assert len(charges(place.started())) == 2


def test_where_no_noise_is_enough_the_question_is_refused_by_name(place: Place) -> None:
    noise = QuestionNoise.of(place.federation)
    assert noise is not None
    noise.check(ASKED, "histogram of age")
    for odd in (
        replace(noise, privacy=replace(noise.privacy, unit="none")),
        replace(noise, privacy=replace(noise.privacy, unit="patient"), patient=""),
        replace(noise, exceeds_sum=True),
    ):
        with pytest.raises(NoiseUnbounded, match="histogram of age"):
            odd.check(ASKED, "histogram of age")
    exact = replace(place.federation.statistics, noise_multiplier=0.0)
    assert QuestionNoise.of(replace(place.federation, statistics=exact)) is None

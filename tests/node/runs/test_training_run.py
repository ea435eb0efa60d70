"""A training as a run, on a real home with real logs and a trainer of four numbers: one pass, one update, one sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import codec
from p2pfl.cli.watch import metric_of
from p2pfl.errors.training import AccountUnreadable
from p2pfl.federation.membership import genesis_digest
from p2pfl.node.pledge import genesis_of
from p2pfl.node.runs import metric
from p2pfl.node.runs.metric import metrics_of
from p2pfl.node.runs.passes import ACCOUNT, PENDING
from p2pfl.node.runs.training import TrainingRun
from p2pfl.peer.epoch import training_run
from p2pfl.roster import Roster
from p2pfl.sharing import events as e
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.joint import Joint
from p2pfl.training.privacy.account import Mechanism
from p2pfl.training.privacy.accounts import Accounts
from tests.node.runs.homes import (
    NAMES,
    OTHERS,
    Place,
    agreed,
    applied,
    by_others,
    charges,
    finished,
    masked,
    places,
    recorded,
    row,
    summed,
)

Start = Callable[[Place, TrainingRun], TrainingRun]
SAME_PROCESS: Start = lambda place, run: run  # noqa: E731
NEXT_PROCESS: Start = lambda place, run: place.started()  # noqa: E731
starts = pytest.mark.parametrize("goes_on", [SAME_PROCESS, NEXT_PROCESS], ids=["in one process", "over a restart"])


# ── the account ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-4")
def test_an_update_that_is_paid_for_is_taken_up_after_a_crash_and_not_paid_for_again(place: Place) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    run = place.started()
    assert run.propose(1, 0).epsilon == offer.epsilon
    assert (place.trainer.passes, run.account.passes, len(charges(run))) == (1, 1, 1)


@pytest.mark.claim("DP-4")
def test_a_charge_whose_ledger_entry_a_crash_prevented_is_entered_at_the_next_start(place: Place) -> None:
    run = place.started()
    spent = run.account.epsilon(1e-5)
    run.passes.accounts.charge(1, 5)  # and the process dies before the site log has it
    run = place.started()
    (entry,) = charges(run)
    assert Mechanism.from_facts(entry["mechanism"]) == Mechanism.of_pass(place.federation.privacy)
    assert float(entry["before"]) == spent == 0.0
    assert float(entry["after"]) >= run.account.epsilon(1e-5) > 0.0
    run = place.started()
    assert len(charges(run)) == 1


@pytest.mark.claim("DP-4")
def test_an_account_that_was_rolled_back_or_taken_away_is_refused(place: Place) -> None:
    place.started().propose(1, 0)
    charged = place.home.read(ACCOUNT)
    for older in (Accounts().to_bytes(), None):
        with place.home.charging():
            if older is None:
                place.home.remove(ACCOUNT)
            else:
                place.home.replace(ACCOUNT, older)
        with pytest.raises(AccountUnreadable):
            place.started()
    with place.home.charging():
        place.home.replace(ACCOUNT, charged or b"")
    place.started()


def test_charges_that_the_site_log_lost_are_refused(place: Place) -> None:
    run = place.started()
    for _ in range(2):
        run.passes.accounts.charge(1, 5)  # one entry may be lost to a crash, two are not
    with pytest.raises(AccountUnreadable):
        place.started()


def test_a_site_says_that_it_spent_at_least_what_the_ledger_says_of_it(place: Place) -> None:
    run = place.started()
    mine = run.propose(1, 0).epsilon
    after, outcome = by_others(run, 1, 0)
    record, signatures = row(run, place.identities, 1, after, outcome, epsilon={NAMES[0]: "2.5", NAMES[1]: "2.75"})
    run.models.write_next(1)
    run.logs.finish(record, signatures)
    run.models.make_current(1)
    said = float(run.propose(2, 1).epsilon)
    assert float(mine) < 2.5 <= said <= 3.0
    assert float(place.started().propose(2, 1).epsilon) == said


# ── one update, one sum ───────────────────────────────────────────────────────────────────────────────────────


def equal(one: tuple[e.Vector, ...], other: tuple[e.Vector, ...]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a.words, b.words) for a, b in zip(one, other, strict=True))


def of_pass(run: TrainingRun, number: int, count: int) -> tuple[e.Vector, ...]:
    """The words of the trainer's `count`-th update in round `number`."""
    words, _ = run.updates.quantiser.quantise(np.full(4, 0.1 * count, np.float32), b"", bytes(range(32)))
    return (e.Vector(run.federation.sharing.field, words),)


@starts
def test_an_update_of_which_nothing_left_is_paid_for_once(place: Place, goes_on: Start) -> None:
    """It is summed in the next round."""
    run = place.started()
    offer = run.propose(1, 0)
    finished(place, run, 1, *by_others(run, 1, 0), survivors=list(OTHERS))
    run = goes_on(place, run)
    again = run.propose(2, 1)
    assert (again.epsilon, again.support) == (offer.epsilon, offer.support)
    assert again.model == run.digest_of(run.model) != offer.model
    assert equal(masked(run, 2, again)[:1], of_pass(run, 2, 1))
    assert (place.trainer.passes, run.account.passes, len(charges(run))) == (1, 1, 1)


@pytest.mark.claim("SUM-12")
@starts
@pytest.mark.parametrize("left_behind", [False, True])
def test_an_update_of_which_words_may_have_left_is_summed_in_no_later_round(
    place: Place, goes_on: Start, left_behind: bool
) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    masked(run, 1, offer)  # the process may die here, or go on: nobody knows what left
    if left_behind:
        run.left(e.LeftBehind(1, 0, ("uppsala",), True))
    else:
        finished(place, run, 1, *by_others(run, 1, 0))
    run = goes_on(place, run)
    again = run.propose(2, 0 if left_behind else 1)
    assert float(again.epsilon) > float(offer.epsilon)
    assert equal(masked(run, 2, again)[:1], of_pass(run, 2, 2))
    assert (place.trainer.passes, run.account.passes, len(charges(run))) == (2, 2, 2)


def set_back(place: Place) -> TrainingRun:
    """A home that is set back to before its update left; then the ledger says that the update was summed."""
    run = place.started()
    offer = run.propose(1, 0)
    held = place.home.read(PENDING)
    masked(run, 1, offer)
    place.home.replace(PENDING, held or b"")
    finished(place, run, 1, *by_others(run, 1, 0))
    return place.started()


@pytest.mark.claim("SUM-12")
def test_an_update_that_a_set_back_home_takes_for_unsent_is_in_no_second_sum(place: Place) -> None:
    run = set_back(place)
    assert equal(masked(run, 2, run.propose(2, 1))[:1], of_pass(run, 2, 2))
    assert (place.trainer.passes, run.account.passes, len(charges(run))) == (2, 2, 2)


def test_were_the_ledger_not_asked_the_update_would_be_in_two_certified_sums(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingRun, "_summed", lambda run, number: False)
    run = set_back(place)
    assert equal(masked(run, 2, run.propose(2, 1))[:1], of_pass(run, 2, 1))


def later(place: Place) -> Place:
    """The same home in the next epoch."""
    first = place.federation
    second = replace(
        first, roster=Roster(2, first.roster.members), origin=first.digest, genesis=genesis_digest(genesis_of(first))
    )
    return replace(place, federation=second)


@pytest.mark.claim("MEMBER-11")
def test_an_update_of_which_words_left_is_summed_in_no_later_epoch(place: Place) -> None:
    run = place.started()
    masked(run, 1, run.propose(1, 0))
    run = later(place).started()
    assert training_run(later(place).federation) == training_run(place.federation)
    run.propose(1, 0)  # the number is the same, the epoch is not
    assert place.trainer.passes == 2


def test_an_update_of_which_no_word_left_is_summed_in_the_next_epoch(place: Place) -> None:
    run = place.started()
    run.propose(1, 0)
    run = later(place).started()
    run.propose(1, 0)
    assert place.trainer.passes == 1


@starts
def test_an_update_reused_and_then_sent_is_spent(place: Place, goes_on: Start) -> None:
    run = place.started()
    run.propose(1, 0)
    run = goes_on(place, run)
    masked(run, 2, run.propose(2, 0))
    run = goes_on(place, run)
    run.propose(3, 0)
    assert place.trainer.passes == 2


@starts
def test_a_second_attempt_of_its_round_sums_the_same_update(place: Place, goes_on: Start) -> None:
    run = place.started()
    first = masked(run, 1, run.propose(1, 0))
    run = goes_on(place, run)
    second = masked(run, 1, run.propose(1, 0), attempt=1)  # under an ABANDON certificate of the first
    assert equal(first, second)
    assert place.trainer.passes == 1


def test_a_round_that_comes_to_rest_on_another_model_sums_the_update_that_it_has(place: Place) -> None:
    run = place.started()
    before = run.propose(2, 0)
    after, _ = by_others(run, 1, 0)
    moved = run.propose(2, 1)
    assert before.model != moved.model == after
    assert place.trainer.passes == 1


def test_what_was_sent_of_an_update_is_in_no_later_one(tmp_path: Path) -> None:
    """Compressed: one coordinate of an update is sent, what is held back comes later, and what was sent never again."""
    place, other = places(tmp_path, "compression.method=nominate", "compression.density=0.25")
    run = place.started()
    offer = run.propose(1, 0)
    sent = run.compressor.support({NAMES[0]: offer.support})
    masked(run, 1, offer)
    run = place.started()
    run.propose(2, 0)
    values = run.compressor.values(np.arange(4))
    assert sent is not None
    first, second = np.float32(0.1), np.float32(0.2)
    for position in range(4):
        wanted = second if position in sent else first + second
        assert abs(values[position] - wanted) < 1e-6
    for home in (place.home, other.home):
        home.close()


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("sharing.field=16",),
        ("compression.method=nominate", "compression.density=0.25"),
    ],
)
def test_masks_that_are_expanded_ahead_are_long_enough_for_the_words_that_come(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    place, other = places(tmp_path, *settings)
    run = place.started()
    ahead = run.shape(1)
    words = masked(run, 1, run.propose(1, 0))
    assert [bits for bits, _ in ahead] == [vector.bits for vector in words] == [run.federation.sharing.field, 61]
    assert all(most >= vector.words.size for (_, most), vector in zip(ahead, words, strict=True))
    for number in (1, 2, 3):
        finished(place, run, number, *summed(run, number))
    assert [bits for bits, _ in run.shape(4)] == [61]  # it only measures
    for home in (place.home, other.home):
        home.close()


# ── what a sum brings ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_sum_beyond_the_clipping_bound_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    place, other = places(tmp_path, "sharing.clip=1.0")
    run = place.started()
    after, outcome = by_others(run, 1, 0, by=0.25)
    assert "refused" not in outcome
    # 3 in each coordinate: norm 6, not 3.
    most = np.full(4, run.updates.quantiser.field.p // 2, run.updates.quantiser.field.dtype)
    total = (e.Vector(run.federation.sharing.field, most), e.Vector(61, np.zeros(Binary.size + 2, np.uint64)))
    model, outcome = run.apply(applied(2, 1, total, NAMES, b"", agreed(run)))
    assert (model, "refused" in outcome, "clipped" in outcome) == (after, True, False)
    for home in (place.home, other.home):
        home.close()


def test_a_metric_that_nobody_can_know_is_left_out_and_no_number(place: Place) -> None:
    place.trainer.held[3] = 7  # seven held out, none with the disease: there is no AUC
    run = place.started()
    _, outcome = summed(run, 1)
    assert outcome["metric"] == "auc" and "auc" not in outcome["figures"]
    assert outcome["figures"]["accuracy"][0] == "1.000000"
    assert metric_of(outcome) is None
    recorded(place, run, 1, run.digest_of(run.model), outcome)
    assert metrics_of(run.logs.rounds(run.run))[1].figure is None


@pytest.mark.filterwarnings("error::RuntimeWarning")
@given(
    st.lists(st.sampled_from([0, 1, -1, 1 << 53, (1 << 60) - 1, 1 - (1 << 60)]), min_size=8, max_size=8),
    st.integers(0, Binary.size - 8),
)
def test_the_metric_is_a_recorded_fact_whatever_a_liar_counts(chosen: list[int], first: int) -> None:
    counts = np.zeros(Binary.size, np.int64)
    counts[first : first + 8] = chosen
    outcome = metric.outcome(Joint([Binary()], "four").figures(counts), "")
    assert codec.read_facts(codec.facts(outcome)) == outcome
    metric_of(outcome)

"""A training as a run, on a real home with real books and a trainer of four numbers: what lies where, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.cli.watch import metric_of
from p2pfl.errors.round import BulkRejected, ModelLost
from p2pfl.errors.training import AccountUnreadable
from p2pfl.runs.models import BEHIND, MODEL, NEXT, SERVED
from p2pfl.runs.training import ACCOUNT, TrainingRun
from p2pfl.sharing import events as e
from p2pfl.training.privacy import Account, Mechanism
from tests.runs.places import (
    NAMES,
    Place,
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


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    made = places(tmp_path)
    yield made
    for one in made:
        one.home.close()


@pytest.fixture
def place(both: tuple[Place, Place]) -> Place:
    return both[0]


Start = Callable[[Place, TrainingRun], TrainingRun]
SAME_PROCESS: Start = lambda place, run: run  # noqa: E731
NEXT_PROCESS: Start = lambda place, run: place.started()  # noqa: E731
starts = pytest.mark.parametrize("goes_on", [SAME_PROCESS, NEXT_PROCESS], ids=["in one process", "over a restart"])


# ── what lies on the disk ─────────────────────────────────────────────────────────────────────────────────────


def test_a_crash_behind_each_of_two_ledger_entries_loses_no_model(place: Place) -> None:
    run = place.started()
    after, outcome = summed(run, 1)
    run.keep(1)
    recorded(place, run, 1, after, outcome)  # and the process dies before it adopts the model
    run = place.started()
    assert run.digest_of(run.model) == after
    summed(run, 2)
    run.keep(2)  # and dies again, before the ledger names the second model
    run = place.started()
    assert run.digest_of(run.model) == after
    assert place.home.read(MODEL) is not None


def test_the_model_that_the_ledger_names_is_the_model_after_a_start(place: Place) -> None:
    run = place.started()
    after, outcome = summed(run, 1)
    run.keep(1)
    recorded(place, run, 1, after, outcome)
    place.started()
    assert place.home.read(NEXT) is None  # so `model export` shows the newest, too


def test_two_applied_rounds_become_final_in_order_and_no_crash_between_loses_a_model(place: Place) -> None:
    run = place.started()
    first, outcome = summed(run, 1, 0)
    second, later = summed(run, 2, 1)
    assert second != first
    run.keep(1)
    assert place.started().digest_of(run.model) == run.digest_of(np.zeros(4, np.float32))
    recorded(place, run, 1, first, outcome)
    again = place.started()
    assert again.digest_of(again.model) == first
    run.adopt(1)
    run.keep(2)  # the second lies beside the first
    again = place.started()
    assert again.digest_of(again.model) == first
    run.keep(2)
    recorded(place, run, 2, second, later)
    again = place.started()
    assert again.digest_of(again.model) == second


def test_what_one_process_makes_final_of_two_applied_rounds_is_what_the_next_one_finds(place: Place) -> None:
    run = place.started()
    results = [summed(run, 1, 0), summed(run, 2, 1)]
    for number, (after, outcome) in enumerate(results, start=1):
        finished(place, run, number, after, outcome)
        assert run.digest_of(run.model) == after
    again = place.started()
    assert again.digest_of(again.model) == results[-1][0]
    assert place.home.read(NEXT) is None


def test_a_home_without_the_model_that_the_ledger_names_is_told_so(place: Place) -> None:
    run = place.started()
    finished(place, run, 1, *summed(run, 1))
    place.home.remove(MODEL)
    with pytest.raises(ModelLost):
        place.started()


# ── the account ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_update_that_is_paid_for_is_taken_up_after_a_crash_and_not_paid_for_again(place: Place) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    run = place.started()
    assert run.propose(1, 0).epsilon == offer.epsilon
    assert (place.trainer.passes, run.account.passes, len(charges(run))) == (1, 1, 1)


def test_a_charge_whose_ledger_entry_a_crash_prevented_is_entered_at_the_next_start(place: Place) -> None:
    run = place.started()
    spent = run.account.epsilon(1e-5)
    run.account.charge(place.federation.privacy)
    place.home.replace(ACCOUNT, run.account.to_bytes())  # and the process dies before the site log has it
    run = place.started()
    (entry,) = charges(run)
    assert Mechanism.from_facts(entry["mechanism"]) == Mechanism.of_pass(place.federation.privacy)
    assert float(entry["before"]) == spent == 0.0
    assert float(entry["after"]) >= run.account.epsilon(1e-5) > 0.0
    run = place.started()
    assert len(charges(run)) == 1


def test_an_account_that_was_rolled_back_or_taken_away_is_refused(place: Place) -> None:
    place.started().propose(1, 0)
    charged = place.home.read(ACCOUNT)
    for older in (Account().to_bytes(), None):
        if older is None:
            place.home.remove(ACCOUNT)
        else:
            place.home.replace(ACCOUNT, older)
        with pytest.raises(AccountUnreadable):
            place.started()
    place.home.replace(ACCOUNT, charged or b"")
    place.started()


def test_charges_that_the_site_log_lost_are_refused(place: Place) -> None:
    run = place.started()
    for _ in range(2):
        run.account.charge(place.federation.privacy)
    place.home.replace(ACCOUNT, run.account.to_bytes())  # one entry may be lost to a crash, two are not
    with pytest.raises(AccountUnreadable):
        place.started()


def test_a_site_says_that_it_spent_at_least_what_the_ledger_says_of_it(place: Place) -> None:
    run = place.started()
    mine = run.propose(1, 0).epsilon
    after, outcome = by_others(run, 1, 0)
    record, signatures = row(run, place.identities, 1, after, outcome, epsilon={NAMES[0]: "2.5", NAMES[1]: "2.75"})
    run.keep(1)
    run.books.finish(record, signatures)
    run.adopt(1)
    assert float(mine) < 2.5 == float(run.propose(2, 1).epsilon)
    assert float(place.started().propose(2, 1).epsilon) == 2.5


# ── one update, one sum ───────────────────────────────────────────────────────────────────────────────────────


def equal(one: tuple[e.Vector, ...], other: tuple[e.Vector, ...]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a.words, b.words) for a, b in zip(one, other, strict=True))


def of_pass(run: TrainingRun, number: int, count: int) -> tuple[e.Vector, ...]:
    """The words of the trainer's `count`-th update in round `number`."""
    words, _ = run.quantiser.quantise(np.full(4, 0.1 * count, np.float32), b"", bytes(range(32)))
    return (e.Vector(run.federation.sharing.field, words),)


@starts
def test_an_update_of_which_nothing_left_is_summed_in_the_next_round_and_paid_for_once(
    place: Place, goes_on: Start
) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    finished(place, run, 1, *by_others(run, 1, 0))  # summed without this site
    run = goes_on(place, run)
    again = run.propose(2, 1)
    assert (again.epsilon, again.support) == (offer.epsilon, offer.support)
    assert again.model == run.digest_of(run.model) != offer.model
    assert equal(masked(run, 2, again)[:1], of_pass(run, 2, 1))
    assert (place.trainer.passes, run.account.passes, len(charges(run))) == (1, 1, 1)


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


@pytest.mark.parametrize("settings", [
    (), ("sharing.field=16",), ("compression.method=nominate", "compression.density=0.25"),
])  # fmt: skip
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


# ── rounds that are applied and not final ─────────────────────────────────────────────────────────────────────


def test_a_round_is_applied_to_the_model_that_it_rests_on(place: Place) -> None:
    run = place.started()
    first, _ = by_others(run, 1, 0, by=0.5)
    second, _ = by_others(run, 2, 1, by=0.25)
    beside, _ = by_others(run, 3, 0, by=0.25)
    moved = {name: run.digest_of(np.full(4, by, np.float32)) for name, by in
             (("first", 0.5), ("second", 0.75), ("beside", 0.25))}  # fmt: skip
    assert {"first": first, "second": second, "beside": beside} == moved


@pytest.mark.parametrize("to", [0, 1, 2])
def test_to_retract_is_to_have_the_model_of_an_earlier_round_again(place: Place, to: int) -> None:
    run = place.started()
    models = [run.digest_of(run.model), by_others(run, 1, 0)[0], by_others(run, 2, 1)[0]]
    run.retract(to)
    assert run.propose(3, to).model == models[to]
    held = [run.model_bytes(model) is not None for model in models]
    assert held == [number <= to for number in range(3)]
    after, outcome = by_others(run, 3, to, by=0.125)
    assert after not in models
    if to == 0:
        finished(place, run, 3, after, outcome)  # the branch that went on
        assert place.started().digest_of(run.model) == after


def test_a_round_measures_when_the_rounds_that_it_rests_on_have_trained_all(place: Place) -> None:
    run = place.started()
    finished(place, run, 1, *by_others(run, 1, 0))
    by_others(run, 2, 1)
    by_others(run, 3, 2)  # of three rounds that train, two are not final yet
    assert run.propose(4, 3).configuration["purpose"] == "evaluation"
    run.retract(2)
    assert run.propose(4, 2).configuration["purpose"] == "training"


def test_the_model_that_is_measured_is_the_one_that_the_round_began_with(place: Place) -> None:
    run = place.started()
    by_others(run, 1, 0, by=0.5)
    masked(run, 2, run.propose(2, 1))
    assert np.array_equal(place.trainer.measured[-1], np.full(4, 0.5, np.float32))


def test_a_sum_beyond_the_clipping_bound_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    place, other = places(tmp_path, "sharing.clip=1.0")
    run = place.started()
    after, outcome = by_others(run, 1, 0, by=0.25)
    assert "refused" not in outcome
    most = np.full(4, run.quantiser.field.p // 2, run.quantiser.field.dtype)  # 3 in each coordinate: norm 6, not 3
    total = (e.Vector(run.federation.sharing.field, most), e.Vector(61, np.zeros(257, np.uint64)))
    model, outcome = run.apply(applied(2, 1, total, NAMES, b"", codec.facts(run.configuration)))
    assert (model, "refused" in outcome, "clipped" in outcome) == (after, True, False)
    for home in (place.home, other.home):
        home.close()


def test_a_metric_that_nobody_can_know_is_left_out_and_no_number(place: Place) -> None:
    place.trainer.counts[0, 3] = 7  # seven held out, none with the disease: there is no AUC
    run = place.started()
    _, outcome = summed(run, 1)
    assert (outcome["held_out"], outcome["auc"], outcome["accuracy"]) == (21, "", "1.000000")
    assert metric_of(outcome) is None
    recorded(place, run, 1, run.digest_of(run.model), outcome)
    assert run.all_metrics(run.books.rounds(run.run)) == {}


# ── a site that was away ──────────────────────────────────────────────────────────────────────────────────────


def ahead_by(place: Place, rounds: int) -> tuple[TrainingRun, list[bytes]]:
    """A site that finished so many rounds, and the models after each."""
    run = place.started()
    models = []
    for number in range(1, rounds + 1):
        after, outcome = by_others(run, number, number - 1, by=0.125 * number)
        finished(place, run, number, after, outcome)
        models.append(after)
    return run, models


def taken_over(place: Place, run: TrainingRun, ahead: TrainingRun) -> bytes:
    """The entries of the site that is ahead, as catchup.py takes them over; the digest of the model to fetch."""
    rows = ahead.books.rows(len(run.books.federation), 128, 1 << 20)
    place.home.replace(BEHIND, b"\x01")
    run.books.adopt(rows)
    return run.lacks(ahead.books.final_round(run.run), rows[-1][0])


def test_a_model_that_is_lacking_is_fetched_and_taken_over(both: tuple[Place, Place]) -> None:
    place, other = both
    ahead, models = ahead_by(other, 3)
    run = place.started()
    wanted = taken_over(place, run, ahead)
    assert wanted == models[-1] == run.lacks(3, b"")
    data = ahead.model_bytes(wanted)
    assert data is not None
    run.fetched(data, 3, "st-olav")
    assert run.lacks(3, b"") == b""
    assert run.digest_of(run.model) == wanted
    assert run.propose(4, 3).model == wanted
    again = place.started()
    assert (again.digest_of(again.model), place.home.read(BEHIND)) == (wanted, None)


@pytest.mark.parametrize("what", ["another model", "half of it", "nothing", "one bit"])
def test_another_model_than_the_one_that_is_lacking_is_refused_and_its_sender_named(
    both: tuple[Place, Place], what: str
) -> None:
    place, other = both
    ahead, models = ahead_by(other, 2)
    run = place.started()
    wanted = taken_over(place, run, ahead)
    right, older = (ahead.model_bytes(model) or b"" for model in (wanted, models[0]))
    wrong = {"another model": older, "half of it": right[:8], "nothing": b"",
             "one bit": bytes([right[0] ^ 1]) + right[1:]}[what]  # fmt: skip
    with pytest.raises(BulkRejected) as caught:
        run.fetched(wrong, 2, "st-olav")
    assert caught.value.fields["peer"] == "st-olav"
    assert run.lacks(2, b"") == wanted
    assert place.home.read(MODEL) is None
    run.fetched(right, 2, "uppsala")  # from another peer, then
    assert run.digest_of(run.model) == wanted


def test_a_crash_between_the_entries_and_their_model_leaves_a_home_that_fetches_it(both: tuple[Place, Place]) -> None:
    place, other = both
    ahead, models = ahead_by(other, 2)
    finished_once = place.started()
    finished(place, finished_once, 1, *by_others(finished_once, 1, 0, by=0.125))
    taken_over(place, finished_once, ahead)
    run = place.started()  # which has the model after round 1, and a ledger that names the one after round 2
    assert run.lacks(2, b"") == models[-1]
    assert run.model_bytes(models[-1]) is None
    assert run.model_bytes(models[0]) is None  # it serves nothing before it stands where its ledger does
    run.fetched(ahead.model_bytes(models[-1]) or b"", 2, "st-olav")
    assert place.started().digest_of(run.model) == models[-1]
    assert place.home.read(BEHIND) is None


def test_a_crash_before_the_entries_changes_nothing(both: tuple[Place, Place]) -> None:
    place, _ = both
    run = place.started()
    after, outcome = by_others(run, 1, 0)
    finished(place, run, 1, after, outcome)
    place.home.replace(BEHIND, b"\x01")  # and the process dies before it wrote one of them
    run = place.started()
    assert (run.lacks(1, b""), run.digest_of(run.model)) == (b"", after)


def test_entries_of_rounds_that_this_site_applied_need_no_model(both: tuple[Place, Place]) -> None:
    place, other = both
    ahead, models = ahead_by(other, 1)
    run = place.started()
    finished(place, run, 1, *by_others(run, 1, 0, by=0.125))
    record, _ = ahead.books.rows(len(ahead.books.federation) - 1, 1, 1 << 20)[0]
    place.home.replace(BEHIND, b"\x01")
    assert run.lacks(1, record) == b""
    assert run.model_bytes(models[0]) is not None
    assert place.home.read(BEHIND) is None


def test_models_before_the_last_are_served_for_a_while(place: Place) -> None:
    run, models = ahead_by(place, SERVED + 2)
    served = [run.model_bytes(model) is not None for model in models]
    assert served == [number >= len(models) - SERVED - 1 for number in range(len(models))]
    assert run.model_bytes(bytes(32)) is None


def test_a_record_names_the_model_of_this_sites_own_arithmetic(place: Place) -> None:
    run = place.started()
    after, outcome = by_others(run, 1, 0)
    record, _ = row(run, place.identities, 1, after, outcome)
    assert codec.read_facts(record)["model_after"] == run.digest_of(np.full(4, 0.5, np.float32)).hex()

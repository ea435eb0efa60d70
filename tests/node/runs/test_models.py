"""The models of a training: after rounds that are final, applied, retracted, or finished without this site."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.round import BulkRejected
from p2pfl.home import Home
from p2pfl.node.runs import models
from p2pfl.node.runs.models import MODEL, NEXT, SERVED
from p2pfl.node.runs.training import TrainingRun
from p2pfl.training.model import checkpoint
from p2pfl.training.update import TensorLayout
from tests.node.runs.homes import Place, by_others, finished, masked, recorded, row, summed

LAYOUT = TensorLayout((("w", (4,)),))

# ── what lies on the disk ─────────────────────────────────────────────────────────────────────────────────────


def test_a_crash_behind_each_of_two_ledger_entries_loses_no_model(place: Place) -> None:
    run = place.started()
    after, outcome = summed(run, 1)
    run.models.write_next(1)
    recorded(place, run, 1, after, outcome)  # and the process dies before it adopts the model
    run = place.started()
    assert run.digest_of(run.model) == after
    summed(run, 2)
    run.models.write_next(2)  # and dies again, before the ledger names the second model
    run = place.started()
    assert run.digest_of(run.model) == after
    assert place.home.read(MODEL) is not None


def test_the_model_that_the_ledger_names_is_the_model_after_a_start(place: Place) -> None:
    run = place.started()
    after, outcome = summed(run, 1)
    run.models.write_next(1)
    recorded(place, run, 1, after, outcome)
    place.started()
    assert place.home.read(NEXT) is None  # so `model export` shows the newest, too


def test_two_applied_rounds_become_final_in_order_and_no_crash_between_loses_a_model(place: Place) -> None:
    run = place.started()
    first, outcome = summed(run, 1, 0)
    second, later = summed(run, 2, 1)
    assert second != first
    run.models.write_next(1)
    assert place.started().digest_of(run.model) == run.digest_of(np.zeros(4, np.float32))
    recorded(place, run, 1, first, outcome)
    again = place.started()
    assert again.digest_of(again.model) == first
    run.models.make_current(1)
    run.models.write_next(2)  # the second lies beside the first
    again = place.started()
    assert again.digest_of(again.model) == first
    run.models.write_next(2)
    recorded(place, run, 2, second, later)
    again = place.started()
    assert again.digest_of(again.model) == second


def test_what_one_process_makes_final_is_what_the_next_one_finds(place: Place) -> None:
    """Of two applied rounds."""
    run = place.started()
    results = [summed(run, 1, 0), summed(run, 2, 1)]
    for number, (after, outcome) in enumerate(results, start=1):
        finished(place, run, number, after, outcome)
        assert run.digest_of(run.model) == after
    again = place.started()
    assert again.digest_of(again.model) == results[-1][0]
    assert place.home.read(NEXT) is None


def test_a_large_first_model_is_made_anew_once_nobody_holds_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "KEPT_BYTES", 0)
    held = place.started().models
    first = held.first
    assert first is held.current.model  # no round has moved it
    assert held._kept is None
    monkeypatch.setattr(held, "_first", lambda: None)  # as a weak reference says once it is gone
    assert held.first is not first
    assert held.first.tobytes() == first.tobytes()


def lost(home: Home) -> None:
    home.remove(MODEL)


def damaged(home: Home) -> None:
    path = home.path / MODEL
    *held, last = path.read_bytes()
    path.write_bytes(bytes([*held, last ^ 1]))


def another(home: Home) -> None:
    home.replace(MODEL, checkpoint.to_bytes(np.full(4, 9.0, np.float32), LAYOUT))


@pytest.mark.claim("HOME-8")
@pytest.mark.parametrize("spoil", [lost, damaged, another])
def test_a_model_that_is_not_as_the_ledger_names_it_is_lacking_and_taken_from_a_peer(
    both: tuple[Place, Place], spoil: Callable[[Home], None]
) -> None:
    place, other = both
    ahead, models = ahead_by(other, 2)
    ahead_by(place, 2)
    spoil(place.home)
    run = place.started()
    assert run.models.lacking == models[-1]
    assert run.models.why_lacking
    assert run.models.bytes_of(models[-1]) is None  # it serves none before it has its own
    run.models.accept_fetched(ahead.models.bytes_of(models[-1]) or b"", 2, "st-olav")
    assert run.digest_of(run.model) == models[-1]
    again = place.started()
    assert (again.models.lacking, again.digest_of(again.model)) == (b"", models[-1])


# ── rounds that are applied and not final ─────────────────────────────────────────────────────────────────────


def test_a_round_is_applied_to_the_model_that_it_rests_on(place: Place) -> None:
    run = place.started()
    first, _ = by_others(run, 1, 0, by=0.5)
    second, _ = by_others(run, 2, 1, by=0.25)
    beside, _ = by_others(run, 3, 0, by=0.25)
    moved = {
        name: run.digest_of(np.full(4, by, np.float32))
        for name, by in (("first", 0.5), ("second", 0.75), ("beside", 0.25))
    }
    assert {"first": first, "second": second, "beside": beside} == moved


@pytest.mark.parametrize("to", [0, 1, 2])
def test_to_retract_is_to_have_the_model_of_an_earlier_round_again(place: Place, to: int) -> None:
    run = place.started()
    models = [run.digest_of(run.model), by_others(run, 1, 0)[0], by_others(run, 2, 1)[0]]
    run.models.retract(to)
    assert run.propose(3, to).model == models[to]
    held = [run.models.bytes_of(model) is not None for model in models]
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
    run.models.retract(2)
    assert run.propose(4, 2).configuration["purpose"] == "training"


def test_the_model_that_is_measured_is_the_one_that_the_round_began_with(place: Place) -> None:
    run = place.started()
    by_others(run, 1, 0, by=0.5)
    masked(run, 2, run.propose(2, 1))
    assert np.array_equal(place.trainer.measured[-1], np.full(4, 0.5, np.float32))


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
    rows = ahead.logs.rows(len(run.logs.federation), 128, 1 << 20)
    run.logs.adopt(rows)
    return run.models.skip_to(ahead.logs.final_round(run.run), rows[-1][0])


def test_a_model_that_is_lacking_is_fetched_and_taken_over(both: tuple[Place, Place]) -> None:
    place, other = both
    ahead, models = ahead_by(other, 3)
    run = place.started()
    wanted = taken_over(place, run, ahead)
    assert wanted == models[-1] == run.models.lacking
    data = ahead.models.bytes_of(wanted)
    assert data is not None
    run.models.accept_fetched(data, 3, "st-olav")
    assert run.models.lacking == b""
    assert run.digest_of(run.model) == wanted
    assert run.propose(4, 3).model == wanted
    again = place.started()
    assert again.digest_of(again.model) == wanted


@pytest.mark.parametrize("what", ["another model", "half of it", "nothing", "one bit"])
def test_another_model_than_the_one_that_is_lacking_is_refused_and_its_sender_named(
    both: tuple[Place, Place], what: str
) -> None:
    place, other = both
    ahead, models = ahead_by(other, 2)
    run = place.started()
    wanted = taken_over(place, run, ahead)
    right, older = (ahead.models.bytes_of(model) or b"" for model in (wanted, models[0]))
    wrong = {
        "another model": older,
        "half of it": right[:8],
        "nothing": b"",
        "one bit": bytes([right[0] ^ 1]) + right[1:],
    }[what]
    with pytest.raises(BulkRejected) as caught:
        run.models.accept_fetched(wrong, 2, "st-olav")
    assert caught.value.fields["peer"] == "st-olav"
    assert run.models.lacking == wanted
    assert place.home.read(MODEL) is None
    run.models.accept_fetched(right, 2, "uppsala")  # from another peer, then
    assert run.digest_of(run.model) == wanted


def test_a_crash_between_the_entries_and_their_model_leaves_a_home_that_fetches_it(both: tuple[Place, Place]) -> None:
    place, other = both
    ahead, models = ahead_by(other, 2)
    finished_once = place.started()
    finished(place, finished_once, 1, *by_others(finished_once, 1, 0, by=0.125))
    taken_over(place, finished_once, ahead)
    run = place.started()  # which has the model after round 1, and a ledger that names the one after round 2
    assert run.models.lacking == models[-1]
    assert run.models.bytes_of(models[-1]) is None
    assert run.models.bytes_of(models[0]) is None  # it serves nothing before it stands where its ledger does
    run.models.accept_fetched(ahead.models.bytes_of(models[-1]) or b"", 2, "st-olav")
    assert place.started().digest_of(run.model) == models[-1]


def test_entries_of_rounds_that_this_site_applied_need_no_model(both: tuple[Place, Place]) -> None:
    place, other = both
    ahead, models = ahead_by(other, 1)
    run = place.started()
    finished(place, run, 1, *by_others(run, 1, 0, by=0.125))
    record, _ = ahead.logs.rows(len(ahead.logs.federation) - 1, 1, 1 << 20)[0]
    assert run.models.skip_to(1, record) == b""
    assert run.models.bytes_of(models[0]) is not None


def test_models_before_the_last_are_served_for_a_while(place: Place) -> None:
    run, models = ahead_by(place, SERVED + 2)
    served = [run.models.bytes_of(model) is not None for model in models]
    assert served == [number >= len(models) - SERVED - 1 for number in range(len(models))]
    assert run.models.bytes_of(bytes(32)) is None


def test_a_large_model_before_the_last_is_kept_for_whoever_is_fetching_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "KEPT_BYTES", 0)
    run, names = place.started(), list[bytes]()
    for number in range(1, SERVED + 4):
        names.append(run.digest_of(run.model))
        if number == 2:
            assert run.models.bytes_of(names[-1]) is not None  # a site has begun to fetch it
        finished(place, run, number, *by_others(run, number, number - 1))
        held = [name for name in names if run.models.bytes_of(name) is not None]
        assert held == ([names[1]] if 2 <= number < 2 + SERVED else [])
    assert not run.models._served


def test_a_question_for_a_part_is_answered_from_the_model_where_it_lies(place: Place) -> None:
    """Each question is for a few mebibytes; a copy of the model for each would be hundreds of times what is asked."""
    run = place.started()
    names = [run.digest_of(run.model)]
    finished(place, run, 1, *by_others(run, 1, 0))
    names += [run.digest_of(run.model), by_others(run, 2, 1)[0]]  # served, current, applied
    for name in names:
        one, again = (run.models.bytes_of(name) for _ in range(2))
        assert one is not None
        assert again is not None
        assert np.shares_memory(np.frombuffer(one), np.frombuffer(again))


def test_a_record_names_the_model_of_this_sites_own_arithmetic(place: Place) -> None:
    run = place.started()
    after, outcome = by_others(run, 1, 0)
    record, _ = row(run, place.identities, 1, after, outcome)
    assert codec.read_facts(record)["model_after"] == run.digest_of(np.full(4, 0.5, np.float32)).hex()


def test_entries_up_to_a_round_whose_sum_is_held_need_no_model_and_take_none(both: tuple[Place, Place]) -> None:
    """Another site shows a log that ends before what this one holds."""
    place, other = both
    ahead, models = ahead_by(other, 1)
    run = place.started()
    by_others(run, 1, 0, by=0.125)
    after, outcome = by_others(run, 2, 1, by=0.25)
    assert taken_over(place, run, ahead) == b""
    assert run.digest_of(run.model) == models[0]
    finished(place, run, 2, after, outcome)
    assert place.started().digest_of(run.model) == after

"""The state behind a model through the life of a home: kills, retracted rounds, a site that was away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfl.cli.model.held import model_of
from p2pfl.codec import Pieces
from p2pfl.errors.round import BulkRejected
from p2pfl.node.runs.models import MODEL, NEXT
from p2pfl.node.runs.training import TrainingRun
from p2pfl.training.model.file import held_state
from p2pfl.training.update import TensorLayout
from tests.node.runs.homes import Killed, Place, by_others, finished, places, summed

LAYOUT = TensorLayout((("w", (4,)),))
ADAM = ("server.method=adam", "server.learning_rate=0.1", "average.decay=0.5", "rounds=8")
MOVES = (0.5, -0.25, 0.75, 0.125)


@pytest.fixture(params=["momentum", "adam"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, Place]:
    return places(tmp_path, *ADAM, f"server.method={request.param}")


def through(place: Place, count: int, first: int = 1) -> TrainingRun:
    """Rounds of the two other sites, each final before the next."""
    run = place.started()
    for number in range(first, first + count):
        finished(place, run, number, *by_others(run, number, number - 1, MOVES[number - 1]))
    return run


def test_a_start_after_any_round_goes_on_with_the_very_bits(two: tuple[Place, Place]) -> None:
    place, other = two
    whole = through(place, 4)
    for number in range(1, 5):
        again = through(other, 1, number)  # a process for each round
    assert again.models.current.digest == whole.models.current.digest
    assert again.models.current.steps == 4
    assert not np.array_equal(again.model, again.models.current.model), "people use the running mean"


@pytest.mark.claim("HOME-8")
@pytest.mark.parametrize(
    ("verb", "item"), [("replace", NEXT), ("append", "ledger"), ("replace", MODEL), ("remove", NEXT)]
)
def test_a_kill_beside_any_write_of_a_final_round_loses_no_moment(
    two: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch, verb: str, item: str
) -> None:
    place, other = two
    wanted = through(other, 4).models.current.digest
    run = through(place, 2)
    after, outcome = by_others(run, 3, 2, MOVES[2])
    with monkeypatch.context() as patched:
        if verb == "append":
            patched.setattr(run.models, "make_current", dies)  # the ledger names it, and nothing came after
        else:
            done = getattr(place.home, verb)

            def guarded(wanted: str, *given: bytes | Pieces) -> None:
                if wanted == item:
                    raise Killed
                done(wanted, *given)

            patched.setattr(place.home, verb, guarded)
        with pytest.raises(Killed):
            finished(place, run, 3, after, outcome)
    run = place.started()
    if run.logs.final_round(run.run) == 2:
        finished(place, run, 3, *by_others(run, 3, 2, MOVES[2]))
    finished(place, run, 4, *by_others(run, 4, 3, MOVES[3]))
    assert run.models.current.digest == place.started().models.current.digest == wanted


def dies(number: int) -> None:
    raise Killed


def test_a_retracted_round_takes_its_moments_back(two: tuple[Place, Place]) -> None:
    place, other = two
    run, straight = through(place, 1), through(other, 1)
    by_others(run, 2, 1, 9.0)
    by_others(run, 3, 2, 9.0)
    run.models.retract(1)
    assert by_others(run, 4, 1, MOVES[1])[0] == by_others(straight, 4, 1, MOVES[1])[0]


def test_who_was_away_takes_the_state_whole_and_goes_on_with_the_same_bits(two: tuple[Place, Place]) -> None:
    place, other = two
    ahead, run = through(place, 3), through(other, 3)
    sent = bytes(ahead.models.bytes_of(ahead.models.current.digest) or b"")
    for item in other.home.items("checkpoints"):
        other.home.remove(item)
    run = other.started()
    assert run.models.lacking == ahead.models.current.digest and run.models.model_bytes == len(sent)
    for place_ in range(0, len(sent), 3):
        with pytest.raises(BulkRejected):
            run.models.accept_fetched(sent[:place_] + bytes([sent[place_] ^ 1]) + sent[place_ + 1 :], 3, "st-olav")
    run.models.accept_fetched(sent, 3, "st-olav")
    assert by_others(run, 4, 3, MOVES[3])[0] == by_others(ahead, 4, 3, MOVES[3])[0]
    assert other.started().models.current.digest == ahead.models.current.digest


def test_a_void_sum_and_a_round_that_measures_leave_the_state(tmp_path: Path) -> None:
    place, _ = places(tmp_path, *ADAM, "rounds=2")
    run = through(place, 1)
    before = run.models.current.digest
    after, outcome = by_others(run, 2, 1, by=1e6)
    assert (after == before, "refused" in outcome) == (False, False), "the quantiser clips; the sum is within its bound"
    run.models.retract(1)
    run = through(place, 1, 2)
    kept = run.models.current.digest
    assert summed(run, 3)[0] == kept


def test_a_step_beyond_every_float_is_void(tmp_path: Path) -> None:
    place, _ = places(tmp_path, "server.method=momentum", "server.learning_rate=1000")
    run = place.started()
    run.models.current.row("momentum")[:] = 3e38  # as after many rounds that all went one way
    vars(run.models.current).pop("names", None)
    before = run.models.current.digest
    after, outcome = by_others(run, 1, 0)
    assert after == before
    assert "not be finite" in outcome["refused"] and "clipped" not in outcome


def test_what_is_measured_exported_and_predicted_with_is_the_running_mean(two: tuple[Place, Place]) -> None:
    place, _ = two
    run = through(place, 3)
    summed(run, 4)
    state = run.models.current
    assert np.array_equal(place.trainer.measured[-1], state.shown)
    assert np.array_equal(place.trainer.trained[-1], state.model), "training goes on from the plain model"
    held = held_state(model_of(place.home), "a home")
    assert held.layout.tensors == LAYOUT
    assert np.array_equal(held.shown, state.shown)
    assert held.digest == run.logs.model_after(run.run)

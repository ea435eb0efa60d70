"""A training in low-rank subspaces as a run: what sites agree on, and what becomes of an update that comes late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.training import CompressionMisused
from p2pfl.node.runs.training import TrainingRun
from p2pfl.sharing import events as e
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.update import TensorLayout
from tests.node.runs.homes import OTHERS, Four, Place, applied, finished, masked, places, summed, times

LAYOUT = TensorLayout((("w", (40, 30)), ("bias", (40,))))
LENGTH = 40 + 30 + 40


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    both = places(tmp_path, "compression.method=lowrank", "compression.density=0.01")
    for one in both:
        one.trainer = Four(layout=LAYOUT)
    yield both[0]
    for one in both:
        one.home.close()


def change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return after.astype(np.float64) - before


def test_the_new_model_is_the_old_one_and_the_mean_theta_expanded(place: Place) -> None:
    run = place.started()
    first = run.model
    space = Subspace.of(LAYOUT, 0.01, first, first)
    finished(place, run, 1, *summed(run, 1))
    wanted = space.expand(np.full(LENGTH, 0.1))
    assert np.allclose(change(first, run.model), wanted, atol=1e-5)
    assert np.linalg.norm(wanted) > 0.5


def test_the_words_of_a_round_are_those_of_theta_alone(place: Place) -> None:
    run = place.started()
    words = masked(run, 1, run.propose(1, 0))
    assert words[0].words.size == LENGTH
    assert run.shape(1)[0] == (31, LENGTH)


def test_all_agree_on_the_subspace_of_a_round_and_it_turns_with_the_model(place: Place) -> None:
    """Who has other carriers proposes another configuration, and is in no sum with the others."""
    run = place.started()
    told = run.propose(1, 0).configuration["subspace"]
    assert told == Subspace.of(LAYOUT, 0.01, run.model, run.model).digest.hex()
    finished(place, run, 1, *summed(run, 1))
    again = run.propose(2, 1).configuration["subspace"]
    assert again == Subspace.of(LAYOUT, 0.01, np.zeros(1240, np.float32), run.model).digest.hex() != told
    for number in (2, 3):
        finished(place, run, number, *summed(run, number))
    assert "subspace" not in run.propose(4, 3).configuration  # it only measures


def by_others(run: TrainingRun, number: int) -> tuple[bytes, codec.Facts]:
    """Apply the sum of the two other sites, each of which moved θ by a line."""
    offer, space = run.propose(number, number - 1), run._subspace_on(number - 1)
    assert space is not None
    words, _ = run.updates.quantiser.quantise(np.linspace(-0.5, 0.5, space.length).astype(np.float32), b"", bytes(32))
    scalars = np.zeros(run.trainer.counts + 2, np.uint64)
    total = times((e.Vector(31, words), e.Vector(61, scalars)), len(OTHERS))
    return run.apply(applied(number, number - 1, total, OTHERS, b"", codec.facts(offer.configuration)))


@pytest.mark.parametrize("restarts", [False, True])
def test_an_update_that_never_left_is_carried_over_into_the_next_subspace(place: Place, restarts: bool) -> None:
    """It is paid for once; of it there is summed what lies in the subspace of the round that it comes to."""
    run = place.started()
    made_in = Subspace.of(LAYOUT, 0.01, run.model, run.model)
    run.propose(1, 0)
    first = run.model
    finished(place, run, 1, *by_others(run, 1), survivors=list(OTHERS))
    run = place.started() if restarts else run
    offer = run.propose(2, 1)
    space = Subspace.of(LAYOUT, 0.01, first, run.model)
    assert space.digest != made_in.digest
    wanted = space.project(made_in.expand(np.full(LENGTH, np.float32(0.1)).astype(np.float64)))
    words = masked(run, 2, offer)[0]
    found = run.updates.quantiser.dequantise(words.words, b"", LENGTH)
    assert np.allclose(found, wanted, atol=1e-5)
    assert np.linalg.norm(wanted[:70]) < np.linalg.norm(np.full(70, 0.1))
    assert (place.trainer.passes, run.account.passes) == (1, 1)


def test_a_pass_is_another_one_where_the_agreed_compression_is_another(place: Place, tmp_path: Path) -> None:
    """A seed repeats a pass only where all that its update follows from is the same."""
    run = place.started()
    inputs = run.maker.inputs(run.model, 0)
    others = places(tmp_path / "dense")
    for one in others:
        one.trainer = Four(layout=LAYOUT)
    try:
        assert others[0].started().maker.inputs(run.model, 0) != inputs
    finally:
        for one in others:
            one.home.close()


def test_a_state_of_another_model_is_refused(place: Place) -> None:
    run = place.started()
    run.propose(1, 0)
    state = b"".join(bytes(piece) for piece in run.compressor.to_pieces())
    place.trainer.layout = TensorLayout((("w", (41, 30)), ("bias", (40,))))
    other = place.started()
    for data in (state, state[:-1], b"", bytes(100)):
        with pytest.raises(CompressionMisused):
            other.compressor.restore(data)


def test_a_restart_finds_its_theta_and_the_carriers_it_was_made_with(place: Place) -> None:
    run = place.started()
    first = masked(run, 1, run.propose(1, 0))
    run = place.started()
    second = masked(run, 1, run.propose(1, 0), attempt=1)
    assert all(np.array_equal(a.words, b.words) for a, b in zip(first, second, strict=True))
    assert place.trainer.passes == 1

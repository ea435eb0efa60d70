"""A training whose positions one site names for all, in its turn, or nobody: what leaves a site, and what is summed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.round import SupportTooLarge
from p2pfl.node.runs import sizes
from p2pfl.node.runs.training import TrainingRun
from p2pfl.sharing import events as e
from p2pfl.training.compression.drawn import drawn_positions
from tests.node.runs.homes import ME, OTHERS, Place, applied, finished, masked, places, times

HALF = "compression.density=0.5"  # two of four numbers


@pytest.fixture
def led(tmp_path: Path) -> Iterator[Place]:
    """The first site of three leads the first round."""
    both = places(tmp_path, "compression.method=leader", HALF)
    yield both[0]
    for one in both:
        one.home.close()


def by_others(run: TrainingRun, number: int) -> tuple[bytes, codec.Facts]:
    """Apply a sum of the two others, without this site: the leader of the first round is not in it."""
    offer = run.propose(number, number - 1)
    words, _ = run.updates.quantiser.quantise(np.full(2, 0.5, np.float32), b"", bytes(32))
    total = times((e.Vector(31, words), e.Vector(61, np.zeros(run.trainer.counts + 2, np.uint64))), len(OTHERS))
    return run.apply(applied(number, number - 1, total, OTHERS, b"", codec.facts(offer.configuration)))


def test_a_site_names_positions_in_its_turn_and_is_silent_in_the_others(led: Place) -> None:
    run = led.started()
    offer = run.propose(1, 0)
    assert offer.configuration["leader"] == ME and len(offer.support) > 4
    finished(led, run, 1, *by_others(run, 1), survivors=list(OTHERS))
    offer = run.propose(2, 1)
    assert offer.configuration["leader"] == OTHERS[0] and offer.support == b""


@pytest.mark.claim("DP-4")
@pytest.mark.parametrize("restarts", [False, True])
def test_an_update_that_waited_is_named_by_the_rules_of_the_round_it_comes_to(led: Place, restarts: bool) -> None:
    """It is paid for once; what a leader named is forgotten with its turn, on the disk too."""
    run = led.started()
    assert run.propose(1, 0).support
    finished(led, run, 1, *by_others(run, 1), survivors=list(OTHERS))
    run = led.started() if restarts else run
    assert run.propose(2, 1).support == b""
    assert led.started().propose(2, 1).support == b""
    assert led.trainer.passes == 1


def test_a_model_whose_positions_one_leader_cannot_send_is_refused_before_a_pass(
    led: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found by the leader alone, when its pass was charged, and then by the next one."""
    monkeypatch.setattr(sizes, "most_support", lambda n: 5)
    with pytest.raises(SupportTooLarge):
        led.started()
    assert led.trainer.passes == 0


def test_where_the_leader_is_away_the_sum_is_over_positions_of_the_model(led: Place) -> None:
    run = led.started()
    before, name = run.model, run.models.on(0).names[0]
    finished(led, run, 1, *by_others(run, 1), survivors=list(OTHERS))
    moved = np.flatnonzero(run.model != before)
    assert np.array_equal(moved, drawn_positions(name, 2, 4))
    assert np.allclose(run.model[moved], 0.5, atol=1e-6)


def test_random_positions_are_those_of_the_model_and_no_site_names_any(tmp_path: Path) -> None:
    place, other = places(tmp_path, "compression.method=random", HALF)
    run = place.started()
    offer = run.propose(1, 0)
    assert offer.support == b"" and "leader" not in offer.configuration
    words = masked(run, 1, offer)
    assert words[0].words.size == 2 and run.shape(1)[0] == (31, 2)
    sent = drawn_positions(run.models.on(0).names[0], 2, 4)
    held = np.setdiff1d(np.arange(4), sent)
    residual = run.compressor.values(np.arange(4))
    assert np.allclose(residual[held], 0.1, atol=1e-6), "error feedback"
    for home in (place.home, other.home):
        home.close()


def test_a_pass_proposed_while_the_round_before_becomes_final_knows_its_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store.finish runs in one thread and `propose` in another: the ledger names the round, and the model after it is
    not the current one yet."""
    place, other = places(tmp_path, "compression.method=leader", "compression.density=0.5")
    run = place.started()
    offer = run.propose(1, 0)
    words, _ = run.updates.quantiser.quantise(np.full(2, 0.5, np.float32), b"", bytes(32))
    total = times((e.Vector(31, words), e.Vector(61, np.zeros(run.trainer.counts + 2, np.uint64))), len(OTHERS))
    done = run.apply(applied(1, 0, total, OTHERS, b"", codec.facts(offer.configuration)))
    right, said = run._leader(1), []
    make_current = run.models.make_current

    def slowly(number: int) -> None:
        beside = threading.Thread(target=lambda: said.append(run.propose(2, 1).configuration["leader"]))
        beside.start()
        beside.join()
        make_current(number)

    monkeypatch.setattr(run.models, "make_current", slowly)
    finished(place, run, 1, *done, survivors=list(OTHERS))
    for home in (place.home, other.home):
        home.close()
    assert said == [right]

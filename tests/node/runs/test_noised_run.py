"""A training in which each site adds a part of the noise, as a run: one noise for each update, told and charged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.distributed_noise import NoiseGridTooCoarse
from p2pfl.federation.distributed_noise import sensitivity
from p2pfl.keys import Secret
from p2pfl.node.runs.looks import MEASURED
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.runs.updates import NoisedUpdates
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.steps import noise_steps
from p2pfl.training.privacy.account import CHARGED, Mechanism
from p2pfl.training.update import TensorLayout
from tests.node.runs.homes import NAMES, Four, Killed, Place, applied, charges, finished, masked, places, times

SETTINGS = (
    "privacy.noise=distributed",
    "privacy.steps_per_round=1",
    "local.optimiser=sgd",
    "local.learning_rate=0.2",
    "privacy.max_epsilon=50",
)
LAYOUT = TensorLayout((("w", (40, 30)), ("bias", (40,))))


@dataclass
class Summing(Four):
    """Its updates are the same in each pass, and have no noise of their own."""

    expected_batch: float = 2.0

    def train(self, *given: object) -> np.ndarray:
        found = super().train(*given)  # type: ignore[arg-type]
        return np.full(found.shape, 0.25, np.float32)


def home(folder: Path, *settings: str) -> Iterator[Place]:
    both = places(folder, *SETTINGS, *settings)
    counted = iter(range(1, 1 << 30))
    for one in both:
        one.trainer, one.draw = Summing(), lambda count: (b"%032d" % next(counted))[-count:].rjust(count, b"0")
    yield both[0]
    for one in both:
        one.home.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield from home(tmp_path)


@pytest.fixture
def lowrank(tmp_path: Path) -> Iterator[Place]:
    for one in home(tmp_path, "compression.method=lowrank", "compression.density=0.05"):
        one.trainer = Summing(layout=LAYOUT)
        yield one


def killed_in_its_pass(place: Place, run: TrainingRun) -> TrainingRun:
    """The next process, after one that died while the pass of round 1 was made."""
    place.trainer.dies = True
    with pytest.raises(Killed):
        run.propose(1, 0)
    place.trainer.dies = False
    return place.started()


@pytest.mark.claim("NOISE-2")
def test_what_is_summed_is_the_rounded_update_and_noise_of_the_pass_own_seed(place: Place) -> None:
    run = place.started()
    words = masked(run, 1, run.propose(1, 0))[0].words
    assert isinstance(run.updates, NoisedUpdates)
    grid = run.updates._grid_before(0)
    ((_, seed),) = place.trainer.seeds
    noise = noise_steps(BitStream(Secret(seed), "training/discrete-noise"), 4, grid.sigma)
    wanted = np.rint(0.25 / grid.step).astype(np.int64) + noise
    assert FIELDS[31].centred(words).tolist() == wanted.tolist()
    assert np.abs(noise).max() > 0


@pytest.mark.claim("NOISE-2", "NOISE-3")
def test_a_process_that_died_in_its_pass_comes_to_the_same_words_at_one_charge(place: Place) -> None:
    run = place.started()
    run = killed_in_its_pass(place, run)
    first = masked(run, 1, run.propose(1, 0))[0].words
    run = place.started()
    second = masked(run, 1, run.propose(1, 0), attempt=1)[0].words
    (seed, again) = (one for _, one in place.trainer.seeds)
    assert np.array_equal(first, second), "another attempt adds no second noise, and takes none off"
    assert seed == again
    assert len(charges(run)) == 1


@pytest.mark.claim("NOISE-3")
def test_both_figures_are_charged_and_noted_and_the_grid_is_in_the_configuration(place: Place) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    private = place.federation.privacy
    (charge,) = charges(run)
    mechanism = Mechanism(CHARGED * private.noise_multiplier, private.sample_rate, 1, 2)
    assert charge["mechanism"] == mechanism.facts()
    assert Mechanism.from_facts(dict(charge["mechanism"])) == mechanism == Mechanism.of_pass(private)
    assert float(charge["alone"]) > float(charge["after"])
    assert run.passes.accounts.alone() == pytest.approx(float(charge["alone"]), abs=1e-5)
    told = offer.configuration["noise"]
    assert (told["parts"], told["quorum"]) == (2, 3)
    assert float(told["sensitivity"]) == sensitivity(place.federation, 2.0, 0) == 0.1
    assert float(told["step"]) * told["sigma"] == pytest.approx(1.1 * 0.1 / 2**0.5)
    assert offer.configuration["mechanism"] == "poisson-gaussian-of-parts"


def test_what_passes_spent_against_all_others_is_no_part_of_other_accounts(place: Place) -> None:
    run = place.started()
    run.propose(1, 0)
    assert replace(run.passes.accounts, item=MEASURED).alone() is None


@pytest.mark.claim("NOISE-2")
def test_how_many_numbers_were_clipped_is_not_summed(place: Place) -> None:
    """They are clipped before they have noise: their number would be a figure of records."""
    place.federation = replace(place.federation, sharing=replace(place.federation.sharing, scale=0.2))
    run = place.started()
    vectors = masked(run, 1, run.propose(1, 0))
    assert FIELDS[61].centred(vectors[-1].words)[place.trainer.counts] == 0
    held = FIELDS[31].centred(vectors[0].words)
    assert isinstance(run.updates, NoisedUpdates)
    grid = run.updates._grid_before(0)
    assert np.abs(held - grid.most).max() < 12 * grid.sigma


def test_the_model_moves_by_the_mean_of_what_was_opened(place: Place) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    vectors = masked(run, 1, offer)
    total = times(vectors, 3)
    facts = codec.facts(offer.configuration)
    finished(place, run, 1, *run.apply(applied(1, 0, total, NAMES, b"", facts)))
    assert isinstance(run.updates, NoisedUpdates)
    mean = FIELDS[31].centred(vectors[0].words) * run.updates._grid_before(0).step
    assert np.allclose(run.model, mean.astype(np.float32), rtol=1e-6)


def test_a_sum_of_fewer_sites_than_the_quorum_moves_no_model(place: Place) -> None:
    """No certificate names so few; were there one, the sum would have too little noise to be used."""
    run = place.started()
    offer = run.propose(1, 0)
    total = times(masked(run, 1, offer), 2)
    _, outcome = run.apply(applied(1, 0, total, NAMES[:2], b"", codec.facts(offer.configuration)))
    assert "refused" in outcome


@pytest.mark.claim("NOISE-2")
@pytest.mark.parametrize("restarts", [False, True])
def test_an_update_that_missed_its_round_is_lost_where_its_subspace_has_turned(lowrank: Place, restarts: bool) -> None:
    """Projected, its noise would have another law: a new pass is made, with its own charge."""
    run = lowrank.started()
    offer = run.propose(1, 0)
    grid_words = [np.full(run.compressor.length, 12345, np.int64)] * 2
    total = FIELDS[31].sum([FIELDS[31].encode(one) for one in grid_words] + [FIELDS[31].zeros(run.compressor.length)])
    scalars = e.Vector(61, np.zeros(lowrank.trainer.counts + 2, np.uint64))
    outcome = run.apply(applied(1, 0, (e.Vector(31, total), scalars), NAMES, b"", codec.facts(offer.configuration)))
    finished(lowrank, run, 1, *outcome, survivors=list(NAMES[1:]), epsilon=dict.fromkeys(NAMES, "0"))
    run = lowrank.started() if restarts else run
    words = masked(run, 2, run.propose(2, 1))
    assert words[0].words.size == run.compressor.length
    assert (lowrank.trainer.passes, len(charges(run))) == (2, 2)


@pytest.mark.claim("NOISE-2")
def test_a_pass_that_was_begun_for_the_grid_of_another_round_is_not_repeated(tmp_path: Path) -> None:
    """A refused round leaves the model as it is and counts: by a schedule the next one's grid is another."""
    for place in home(tmp_path, "local.schedule=cosine"):
        run = place.started()
        run = killed_in_its_pass(place, run)
        facts = codec.facts({**run.configuration, **run.updates.facts(0), "unmeasured": ""})
        beyond = FIELDS[31].encode(np.full(4, FIELDS[31].p // 2, np.int64))
        scalars = e.Vector(61, np.zeros(place.trainer.counts + 2, np.uint64))
        model, outcome = run.apply(applied(1, 0, (e.Vector(31, beyond), scalars), NAMES[1:], b"", facts))
        assert "refused" in outcome
        finished(place, run, 1, model, outcome, survivors=list(NAMES[1:]), epsilon=dict.fromkeys(NAMES, "0"))
        offer = run.propose(2, 1)
        assert isinstance(run.updates, NoisedUpdates)
        before, now = run.updates._grid_before(0), run.updates._grid_before(1)
        assert now.step != before.step and offer.configuration["noise"]["step"] == repr(now.step)
        words = FIELDS[31].centred(masked(run, 2, offer)[0].words)
        noise = noise_steps(BitStream(Secret(place.trainer.seeds[-1][1]), "training/discrete-noise"), 4, now.sigma)
        assert words.tolist() == (np.rint(0.25 / now.step).astype(np.int64) + noise).tolist(), "on the grid agreed on"
        assert len(charges(run)) == 2, "what had begun is lost with its charge"


def test_an_update_that_never_left_is_sent_in_the_next_round_of_the_same_model(place: Place) -> None:
    run = place.started()
    first = run.propose(1, 0)
    again = run.propose(2, 0)
    assert (first.support, again.support) == (b"", b"")
    assert first.configuration == again.configuration and "noise" in again.configuration
    assert place.trainer.passes == 1


def test_a_scale_for_which_the_field_has_no_room_is_refused_at_the_start(place: Place) -> None:
    sharing = replace(place.federation.sharing, scale=1e6, clip=1e6)
    place.federation = replace(place.federation, sharing=sharing)
    with pytest.raises(NoiseGridTooCoarse):
        place.started()

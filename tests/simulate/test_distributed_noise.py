"""Noise of which each site adds a part, audited through real rounds: the sum keeps its claim, and faults are caught.

Three sites, so q = 3 and one colluder: two honest sites' noise is all that is left in the sum, the least that there can
be. The guesser takes the colluder's words away and sees the sum of the other two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from p2pfl.errors import P2PFLError
from p2pfl.errors.distributed_noise import NoiseGridTooCoarse, NoiseNotShared
from p2pfl.errors.training import CompressionMisused
from p2pfl.federation.distributed_noise import parts_of
from p2pfl.roster import Quorums
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate import training as simulated
from p2pfl.simulate.training import federation_of, simulate_training
from p2pfl.training.gradients.clipping import SummingOptimizer
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.steps import noise_steps
from p2pfl.training.privacy.account import CHARGED, Account, Mechanism, alone_after
from tests.simulate.audited import Audit, Opening, epsilon_of
from tests.simulate.test_training import Fast, sites

NOISE, DELTA = 1.1, 1e-5
CLAIM = 1 / (CHARGED * NOISE)
ALONE = CLAIM * math.sqrt(2)  # against both others together
ROOM = ("sharing.scale=100", "sharing.clip=200")
SHARED = ("privacy.noise=distributed", "local.optimiser=sgd", "local.learning_rate=1", *ROOM)
LOWRANK = (*SHARED, "compression.method=lowrank", "compression.density=0.2")


def opened(audit: Audit, sites: Sequence[int] = (2,)) -> np.ndarray:
    """How far rows moved, by the real sum less the words of `sites`, in units of the clip.    (ROWS,)"""
    for one in audit.sites:
        one.nominate(audit.model, 0, audit.subspace)
    words = [one.words(None, audit.subspace, bytes(32)) for one in audit.sites]
    field, grid = audit.sites[0].quantiser.field, audit.sites[0].grid(0)
    (total,) = Opening([words], int(field.name)).opened()
    values = grid.values(field.combine([total], [words[place] for place in sites]))
    change = values if audit.subspace is None else audit.subspace.expand(values)
    return -change.reshape(-1, len(audit.direction)) @ audit.direction


def shown(audit: Audit, sites: Sequence[int] = (2,)) -> float:
    return audit.mu(opened(audit, sites) > 0.5)


@pytest.mark.claim("NOISE-1", "DP-2")
def test_the_opened_sum_keeps_the_claim_against_the_colluders_it_is_made_for() -> None:
    found = shown(Audit(*LOWRANK))
    assert 0.3 * CLAIM < found <= CLAIM
    private = federation_of(["a", "b", "c"], (*LOWRANK, "privacy.steps_per_round=1", "privacy.sample_rate=1")).privacy
    assert epsilon_of(found, DELTA) <= Account([Mechanism.of_pass(private)]).epsilon(DELTA)


@pytest.mark.claim("NOISE-1")
def test_against_all_others_together_the_other_figure_holds_and_the_first_does_not() -> None:
    found = shown(Audit(*LOWRANK), sites=(1, 2))
    assert CLAIM * 0.8 < found <= ALONE


@pytest.mark.claim("NOISE-1")
@pytest.mark.parametrize("fault", ["half of it", "none at honest sites"])
def test_too_little_noise_in_the_sum_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def faulty(stream: BitStream, count: int, sigma: int) -> np.ndarray:
        calls.append(count)
        drawn = noise_steps(stream, count, sigma)
        return drawn // 2 if fault == "half of it" else drawn * (len(calls) == 3)

    monkeypatch.setattr(simulated, "noise_steps", faulty)
    assert shown(Audit(*LOWRANK)) > CLAIM


@pytest.mark.claim("NOISE-1")
def test_the_same_noise_at_all_sites_is_caught() -> None:
    """The colluder, which has no gradient, subtracts its own noise three times."""
    audit = Audit(*LOWRANK)
    for one in audit.sites:
        one.draw = lambda count: bytes(count)
    assert audit.mu(opened(audit, sites=[2, 2, 2]) > 0.5) > CLAIM


@pytest.mark.claim("NOISE-1")
def test_a_clip_that_is_missing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def unclipped(self: SummingOptimizer) -> None:
        for p in self.params:
            total = p.grad_sample.double().reshape(len(p.grad_sample), -1).sum(0)
            p.grad_sample = None
            p.summed_grad = total if p.summed_grad is None else p.summed_grad + total

    monkeypatch.setattr(SummingOptimizer, "clip", unclipped)
    assert shown(Audit(*LOWRANK)) > CLAIM


@pytest.mark.claim("NOISE-1")
@pytest.mark.parametrize("n", range(3, 21))
def test_every_set_that_can_be_certified_holds_the_noise_that_was_calibrated(n: int) -> None:
    """U has q members or more, whoever falls silent: without q − 2 colluders two are left, and two parts are enough."""
    q = Quorums(n).q
    for colluders in (None, *range(1, q - 1)):
        parts = parts_of(q, colluders)
        against = q - 2 if colluders is None else colluders
        assert all(size - against >= parts for size in range(q, n + 1))
        assert parts >= 2


@pytest.mark.claim("NOISE-1")
def test_no_round_is_summed_with_fewer_sites_than_were_calibrated_for() -> None:
    """Of five sites one may be away, and of the rounds of two that are away none is ever opened."""
    for away, final in ((1, 1), (2, 0)):
        federation = SimulatedFederation(5, rounds=1, length=8)
        gone = set(federation.roster.names[:away])
        for name, peer in federation.peers.items():
            if name not in gone:
                federation.start(peer)
        try:
            federation.settle(60_000)
        except RuntimeError:
            assert away == 2, "they go on asking"
        for name in set(federation.roster.names) - gone:
            assert len(federation.peers[name].disk.ledger) == final


# ── a training ────────────────────────────────────────────────────────────────────────────────────────────────

QUICK = ("rounds=4", "privacy.sample_rate=0.3", "privacy.steps_per_round=1", "privacy.max_epsilon=100")
LEARNS = (*QUICK, "privacy.noise=distributed", "local.optimiser=sgd", "local.learning_rate=2.0")


def test_a_training_learns_and_its_account_has_both_figures() -> None:
    (found,) = simulate_training(Fast(), sites(5), settings=LEARNS)
    assert found.final > 0.9
    passes = [Mechanism(CHARGED * NOISE, 0.3, 1, 2)] * 4
    assert found.epsilon == Account(passes).epsilon(DELTA)
    alone = Account(passes).alone(DELTA)
    assert alone == Account([one.alone for one in passes]).epsilon(DELTA) > found.epsilon
    assert alone_after(passes[0], found.epsilon, DELTA) == alone
    assert Account([Mechanism(NOISE, 0.3, 4)]).alone(DELTA) is None


def test_the_same_noise_is_less_in_the_sum_than_each_sites_own() -> None:
    """Records without gradients: what moves the model is noise, of deviation √(n/parts) in place of √n."""
    spread = []
    for settings in (("privacy.noise=local",), SHARED):
        audit = Audit("local.optimiser=sgd", "local.learning_rate=1", *settings)
        audit.present[:] = False
        one = [audit._site(f"site-{k}", audit._records(audit.direction, [])) for k in range(3)]
        state = simulated.StateLayout.of(one[0].trainer.layout, audit.federation.server, audit.federation.average)
        after, _ = simulated._round(one, audit.first, state.first(audit.first, audit.federation.server), 0, bytes(32))
        spread.append(float((after.model - audit.first).std()))
    assert spread[1] / spread[0] == pytest.approx(math.sqrt(1 / 2), rel=0.05)


@pytest.mark.claim("NOISE-3")
@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ("privacy.steps_per_round=2", "privacy.steps_per_round"),
        ("compression.method=nominate", "compression.method"),
        ("local.optimiser=adam", "local.optimiser"),
        ("local.optimiser=task", "local.optimiser"),
        ("local.learning_rate=null", "local.learning_rate"),
        ("local.personal=[0]", "local.personal"),
        ("sharing.field=16", "sharing.field"),
        ("privacy.colluders=3", "privacy.colluders"),
    ],
)
def test_what_it_does_not_hold_with_is_refused_by_name(change: str, setting: str) -> None:
    with pytest.raises(NoiseNotShared) as caught:
        federation_of([f"site-{k}" for k in range(5)], (*LEARNS, change))
    assert caught.value.fields["setting"] == setting
    assert isinstance(caught.value, P2PFLError) and caught.value.code == "P2P-TRAIN-130"


def test_fewer_colluders_take_less_noise_at_each_site() -> None:
    names = [f"site-{k}" for k in range(5)]
    assert federation_of(names, LEARNS).privacy.parts == 2
    assert federation_of(names, (*LEARNS, "privacy.colluders=1")).privacy.parts == 3


def test_noised_steps_of_another_grid_are_not_summed() -> None:
    audit = Audit(*LOWRANK)
    site = audit.sites[0]
    site.nominate(audit.model, 0, audit.subspace)
    site.compressor.step /= 2
    with pytest.raises(CompressionMisused):
        site.words(None, audit.subspace, bytes(32))


def test_a_schedule_too_small_for_the_grid_at_its_end_is_refused_at_the_start() -> None:
    """As at a site: it was found by the round that came to it, when the noise of all others was spent."""
    few = ("privacy.steps_per_round=1", "privacy.sample_rate=0.5", "privacy.max_epsilon=90")
    seen: list[int] = []

    def train(*settings: str) -> None:
        told = (*SHARED, *few, *settings)
        simulate_training(Fast(), sites(), settings=told, progress=lambda seed, number, figures: seen.append(number))

    with pytest.raises(NoiseGridTooCoarse) as caught:
        train("rounds=1000", "local.schedule=cosine")
    assert not seen and "a record moves" in caught.value.evidence
    train("rounds=1")
    assert seen == [1]

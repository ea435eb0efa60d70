"""The mechanism keeps its ε when it is audited through the whole pipeline, and the audit catches what would break it.

Each fault is planted into the code that runs, and the same audit then shows more than the claim: a check that passed
either way would be none. A sound mechanism fails one audit in ten thousand; all draws here are repeated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from p2pfl.keys import Secret
from p2pfl.training.gradients.clipping import ClippingOptimizer, KeystreamOptimizer
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account, Mechanism
from tests.simulate.audited import COLUMNS, ROWS, Audit, epsilon_of, least_mu, upper_rate

NOISE, DELTA = 1.1, 1e-5
CLAIM = 1 / NOISE  # μ of one step over every record
METHODS = {
    "none": ("compression.method=none",),
    "lowrank": ("compression.method=lowrank", "compression.density=0.2"),
    "nominate": ("compression.method=nominate", "compression.density=0.75"),
    "leader": ("compression.method=leader", "compression.density=0.25"),
}
NORMALS = BitStream.normals


def shown(audit: Audit, sign: float = 1.0) -> float:
    """μ that one round shows, guessed from how far rows moved: half of the clip or more, says the guesser."""
    return audit.mu(audit.along(audit.play(sign)) > 0.5)


def named(audit: Audit, behind: Callable[[np.ndarray], np.ndarray] = lambda values: values) -> float:
    """μ that positions show alone: a canary is where its coordinate is nominated."""
    nomination = audit.play(behind=behind).nomination
    assert nomination is not None
    guessed = np.isin(np.arange(ROWS) * COLUMNS, nomination)
    return audit.mu(guessed)


@pytest.mark.claim("DP-2")
@pytest.mark.parametrize("method", ["none", "lowrank"])
def test_what_a_guesser_tells_of_a_canary_keeps_the_claim(method: str) -> None:
    found = shown(Audit(*METHODS[method]))
    assert 0.5 * CLAIM < found <= CLAIM, "a bound, and one that says something"
    claimed = Account([Mechanism(NOISE, 1.0, 1)]).epsilon(DELTA)
    assert epsilon_of(found, DELTA) <= claimed


@pytest.mark.claim("DP-2", "DP-8")
@pytest.mark.parametrize("method", ["nominate", "leader"])
def test_nominated_positions_tell_no_more_than_the_claim(method: str) -> None:
    assert 0.0 < named(Audit(*METHODS[method])) <= CLAIM


@pytest.mark.claim("DP-2")
def test_two_rounds_together_keep_the_claim_of_two_rounds() -> None:
    """The canaries' gradients turn round between them, so the difference of two rounds tells most."""
    audit = Audit(*METHODS["lowrank"])
    assert CLAIM / 2 < two_rounds(audit) <= 2**0.5 * CLAIM


def two_rounds(audit: Audit) -> float:
    first, second = (audit.along(audit.play(sign)) for sign in (1.0, -1.0))
    return audit.mu(first - second > 1.0)


# ── what would break it is caught ─────────────────────────────────────────────────────────────────────────────


def half(stream: BitStream, count: int) -> np.ndarray:
    return NORMALS(stream, count) / 2


def on_too_few(stream: BitStream, count: int) -> np.ndarray:
    return NORMALS(stream, count) * (np.arange(count) < count // 2)


@pytest.mark.claim("DP-2")
@pytest.mark.parametrize("noise", [half, on_too_few])
def test_noise_that_is_halved_or_on_half_of_the_coordinates_is_caught(
    noise: Callable[[BitStream, int], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BitStream, "normals", noise)
    assert shown(Audit(*METHODS["lowrank"])) > CLAIM


def unclipped(self: ClippingOptimizer) -> None:
    for p in self.params:
        summed = p.grad_sample.sum(0).reshape(-1)
        p.summed_grad = summed if p.summed_grad is None else p.summed_grad + summed
        p.grad_sample = None


def noised_before_the_clip(self: KeystreamOptimizer) -> None:
    """Each record's gradient is noised, and then clipped with its noise: what is clipped is hardly noise any more."""
    for p in self.params:
        drawn = NORMALS(self._noise, p.grad_sample.numel()).reshape(p.grad_sample.shape)
        p.grad_sample = p.grad_sample + torch.from_numpy(drawn * self.noise_multiplier).to(p.dtype)
    PLAIN_CLIP(self)


PLAIN_CLIP = ClippingOptimizer.clip


@pytest.mark.claim("DP-2")
def test_a_clip_that_is_missing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClippingOptimizer, "clip", unclipped)
    assert shown(Audit(*METHODS["lowrank"])) > CLAIM


@pytest.mark.claim("DP-2")
def test_noise_before_the_clip_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClippingOptimizer, "clip", noised_before_the_clip)
    monkeypatch.setattr(BitStream, "normals", lambda stream, count: np.zeros(count))
    assert shown(Audit(*METHODS["lowrank"])) > CLAIM


@pytest.mark.claim("DP-2", "DP-8")
@pytest.mark.parametrize("method", ["nominate", "leader"])
def test_noise_behind_the_selection_is_caught_by_positions_alone(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = BitStream(Secret(bytes(32)), "training/noise")
    monkeypatch.setattr(BitStream, "normals", lambda stream, count: np.zeros(count))
    late = named(Audit(*METHODS[method]), lambda values: values + NOISE * NORMALS(stream, values.size))
    assert late > CLAIM


@pytest.mark.claim("DP-2", "DP-3")
def test_the_same_noise_in_two_rounds_is_caught() -> None:
    audit = Audit(*METHODS["lowrank"])
    for one in audit.sites:
        one.draw = lambda count: bytes(count)
    assert two_rounds(audit) > 2**0.5 * CLAIM


@pytest.mark.claim("DP-2", "DP-8")
@pytest.mark.parametrize("sums", ["as released", "without their noise"])
def test_carriers_made_of_clipped_sums_without_noise_are_caught_by_what_they_are(
    sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every peer holds a round's carriers, so they tell whatever they were made of, with all noise on what follows.

    The fault: beside the noised sums the real trainer's clipped ones are kept, and lead the next round.
    """
    audit, kept = Audit(*METHODS["lowrank"]), list[np.ndarray]()

    def keeping(optimizer: KeystreamOptimizer) -> None:
        kept.append(np.concatenate([p.summed_grad.numpy() for p in optimizer.params]).astype(np.float64))
        NOISED(optimizer)

    monkeypatch.setattr(KeystreamOptimizer, "add_noise", keeping)
    seen = audit.play()
    assert audit.subspace is not None and len(kept) == len(audit.sites)
    moved = seen.after
    if sums == "without their noise":
        moved = (audit.first - audit.subspace.expand(sum(kept)) / len(kept)).astype(np.float32)
    turned = audit.sites[0].compressor.subspace(audit.first, moved)
    assert turned is not None and turned.digest != audit.subspace.digest
    left = turned.pieces[0].left[:, 0] * np.sign(turned.pieces[0].right[:, 0] @ audit.direction)
    told = audit.mu(left < np.median(left))
    assert told > CLAIM if sums == "without their noise" else told <= CLAIM


NOISED = KeystreamOptimizer.add_noise


# ── the bounds themselves ─────────────────────────────────────────────────────────────────────────────────────


def test_a_guesser_who_is_always_right_shows_what_the_number_of_trials_allows() -> None:
    nobody, all_ = np.zeros(1000, bool), np.ones(1000, bool)
    assert 4.0 < least_mu(nobody, all_) < 6.0
    assert least_mu(all_, all_) == 0.0
    assert upper_rate(0, 1000) == pytest.approx(1 - (5e-5) ** (1 / 1000), rel=1e-6)


def test_epsilon_of_a_gaussian_mechanism_is_that_of_the_account() -> None:
    """Two ways to the same figure; the account's is an upper bound, by its own .01."""
    for noise in (0.5, 1.1, 4.0):
        claimed = Account([Mechanism(noise, 1.0, 1)]).epsilon(DELTA)
        assert epsilon_of(1 / noise, DELTA) <= claimed <= epsilon_of(1 / noise, DELTA) + 0.05

"""Carriers that saw private data are caught in the real trainer by what its sum tells, with all its clip and noise.

A model of many matrices; each is a trial. Its bystanders' gradients all lie along one pair of directions, and half of
the matrices have one record more, the canary, with a longer gradient along another pair. Public carriers stand still,
so a canary moves θ by the clip at most. Carriers made of the records' own gradients turn to the canary, and with them
turns what all bystanders add: one record then moves the sum by as much as all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.simulate.training import _Site, federation_of, seeded
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.gradients.clipping import KeystreamOptimizer
from p2pfl.training.local import Trainer
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.records.records import Arrays, Records, SiteRecords
from p2pfl.training.update import FlatVector
from tests.simulate.audited import LOUD, SETTINGS, least_mu, opened, quantised
from tests.training.settings import Small

BLOCKS, WIDTH, BYSTANDERS = 100, 26, 6
ROUNDS = 8  # from the same model, each with noise of its own: so many trials of each matrix
DENSITY = 0.08  # rank 1
NOISE = 1.1
CLAIM = 1 / NOISE
NAMES = ("site-0", "site-1", "site-2")
SIDES = np.eye(WIDTH)  # gradients lie along outer products of these


class Blocks(Small):
    """Many matrices; a record (t, x, k) has the gradient e_k xᵀ in matrix t, and none in the others."""

    name: ClassVar[str] = "blocks"
    learning_rate, expected_batch = 1.0, 1.0

    def model(self) -> nn.Module:
        return Side()

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.gather(1, targets[:, None])[:, 0]


class Side(nn.Module):
    """The matrices beside each other: a record goes through its own."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(BLOCKS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + WIDTH): which matrix, and what goes in ► (B, WIDTH)"""
        own, given = x[:, :1], x[:, 1:]
        return torch.stack([layer(given * (own == t)) for t, layer in enumerate(self.all)]).sum(0)


def records(present: np.ndarray) -> SiteRecords:
    """BYSTANDERS of each matrix, and a canary of those that are `present` (BLOCKS,)."""
    x, y = [], []
    for t in range(BLOCKS):
        for kind in [0] * BYSTANDERS + [1] * int(present[t]):
            x.append(np.concatenate([[t], (LOUD, 20 * LOUD)[kind] * SIDES[kind]]))
            y.append(kind)
    names = tuple(str(place).encode() for place in range(len(y)))
    held = Records(Arrays(np.array(x, np.float32), np.array(y, np.int64), names))
    return SiteRecords(held, held)


class CarriersAudit:
    """Sites of one training, the first of which has the records; θ of its pass, as the opened sum tells it."""

    def __init__(self, present: np.ndarray) -> None:
        settings = (*SETTINGS, "compression.method=lowrank", f"compression.density={DENSITY}")
        federation, nobody = federation_of(NAMES, settings), silent()
        self.sites = []
        for name in NAMES:
            held = records(present) if name == NAMES[0] else nobody
            trainer = Trainer(task=Blocks(), site=held, privacy=federation.privacy, local=federation.local)
            self.sites.append(_Site(name, trainer, federation, seeded(2, name)))
        self.model = self.sites[0].trainer.initial(bytes(32))
        self.subspace = self.sites[0].compressor.subspace(self.model, self.model)

    def play(self) -> np.ndarray:
        """One round.    (BLOCKS, numbers of θ for each matrix)"""
        for one in self.sites:
            one.nominate(self.model, 0, self.subspace)
        words = [quantised(one, one.compressor.values(None, self.subspace)) for one in self.sites]
        return opened(self.sites, words)[0].reshape(BLOCKS, -1)


def silent() -> SiteRecords:
    """Two records without a gradient."""
    held = Records(Arrays(np.zeros((2, 1 + WIDTH), np.float32), np.zeros(2, np.int64), (b"0", b"1")))
    return SiteRecords(held, held)


def shown(monkeypatch: pytest.MonkeyPatch, rounds: int) -> float:
    """μ that so many rounds show to a guesser who knows the code, and what θ is with and without each canary.

    What is nearer is guessed: of a Gaussian mechanism no guess does better.
    """
    with monkeypatch.context() as without:
        without.setattr(BitStream, "normals", lambda stream, count: np.zeros(count))
        gone, there = (CarriersAudit(np.full(BLOCKS, each)).play() for each in (False, True))
    present = np.arange(BLOCKS) % 2 == 0
    audit = CarriersAudit(present)
    told = np.concatenate([nearer(audit.play(), gone, there) for _ in range(rounds)])
    present = np.tile(present, rounds)
    return least_mu(told[~present], told[present])


def nearer(found: np.ndarray, gone: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Of which matrices θ lies nearer to that with the canary, whichever way its carriers point.    (BLOCKS,)"""

    def distance(to: np.ndarray) -> np.ndarray:
        return np.minimum(((found - to) ** 2).sum(1), ((found + to) ** 2).sum(1))

    return distance(there) < distance(gone)


# ── faults of the trainer ─────────────────────────────────────────────────────────────────────────────────────

FROM = Trainer._from


@contextmanager
def of_records(trainer: Trainer, model: FlatVector, subspace: Subspace | None) -> Iterator[None]:
    """A pass along carriers of its records' own gradients, in the place of the round's."""
    with FROM(trainer, model, None):
        total = np.zeros(trainer.parameters, np.float32)
        for rows in np.array_split(np.arange(trainer.units), max(1, trainer.units // 50)):
            trainer._gradients(rows)
            total += np.concatenate([p.grad_sample.sum(0).numpy().ravel() for p in trainer._trained])
            trainer._model.zero_grad(set_to_none=True)
    with FROM(trainer, model, Subspace.of(trainer.layout, DENSITY, np.zeros_like(total), total)):
        yield


@pytest.mark.claim("DP-2", "DP-8")
def test_public_carriers_keep_the_claim_beside_bystanders(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0.2 * CLAIM < shown(monkeypatch, ROUNDS) <= CLAIM, "a bound, and one that says something"


@pytest.mark.claim("DP-2", "DP-8")
def test_a_trainer_whose_carriers_saw_its_records_is_caught_by_the_opened_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_from", of_records)
    assert shown(monkeypatch, 1) > CLAIM


@pytest.mark.claim("DP-2", "DP-8")
def test_that_faulty_trainer_clips_and_noises_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """So nothing but its carriers is what the audit has caught."""
    noised = list[int]()

    def counting(optimizer: KeystreamOptimizer) -> None:
        assert all(float(p.summed_grad.abs().max()) <= BLOCKS * (BYSTANDERS + 1) for p in optimizer.params)
        noised.append(sum(p.numel() for p in optimizer.params))
        NOISED(optimizer)

    monkeypatch.setattr(Trainer, "_from", of_records)
    monkeypatch.setattr(KeystreamOptimizer, "add_noise", counting)
    audit = CarriersAudit(np.ones(BLOCKS, bool))
    audit.play()
    assert noised == [audit.subspace.length] * len(NAMES)


NOISED = KeystreamOptimizer.add_noise

"""Noised sums alone choose what a site sends: of the trainer, its optimiser, the compressor and the quantiser together.

Where two sites' noised sums come out the same, whatever their records are, all that leaves them is the same to the bit:
positions and words, round after round. So nothing but those sums is in it. To make them the same, the clipped sums are
taken for zero and the noise is drawn alike; all else is the code that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.sharing.quantiser import Quantiser
from p2pfl.simulate.training import _round, _Site, federation_of, seeded
from p2pfl.training.gradients.clipping import KeystreamOptimizer
from p2pfl.training.local import Trainer
from p2pfl.training.model.state import StateLayout
from p2pfl.training.records.records import SiteRecords
from tests.training.settings import Small, records

QUICK = ("rounds=2", "privacy.sample_rate=0.3", "privacy.steps_per_round=2", "privacy.max_epsilon=100")
NAMES = ("site-0", "site-1", "site-2")


class Wide(Small):
    shape = (40,)
    learning_rate = 0.2

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Dropout(0.2), nn.Linear(30, 1))


def sent(settings: Sequence[str], of: str, count: int, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All that the first site sends in two rounds, when its `count` records are those called `of`."""
    federation = federation_of(NAMES, (*QUICK, *settings))
    held = records(10, (40,), "held out")
    sites, left = [], list[bytes]()
    for name in NAMES:
        mine = records(count, (40,), of) if name == NAMES[0] else records(30, (40,), name)
        trainer = Trainer(task=Wide(), site=SiteRecords(mine, held), privacy=federation.privacy, local=federation.local)
        sites.append(_Site(name, trainer, federation, seeded(0, name)))
    nominate, quantise = _Site.nominate, Quantiser.quantise

    def nominating(site: _Site, *given: object) -> bytes:
        said = nominate(site, *given)  # type: ignore[arg-type]
        if site is sites[0]:
            left.append(said)
        return said

    def quantising(quantiser: Quantiser, *given: object) -> tuple[np.ndarray, int]:
        words, cut = quantise(quantiser, *given)  # type: ignore[arg-type]
        if quantiser is sites[0].quantiser:
            left.append(words.tobytes() + bytes([cut]))
        return words, cut

    monkeypatch.setattr(_Site, "nominate", nominating)
    monkeypatch.setattr(Quantiser, "quantise", quantising)
    first = sites[0].trainer.initial(bytes(32))
    state = StateLayout.of(sites[0].trainer.layout, federation.server, federation.average).first(
        first, federation.server
    )
    for number in range(2):
        state, _ = _round(sites, first, state, number, bytes(32))
    monkeypatch.setattr(_Site, "nominate", nominate)
    monkeypatch.setattr(Quantiser, "quantise", quantise)
    return left


def nothing(optimizer: KeystreamOptimizer) -> Iterator[torch.Tensor]:
    """The clipped sums, taken for zero: what is noised then is the same, whatever the records are."""
    for p in optimizer.params:
        yield torch.zeros(p.numel(), dtype=torch.float64)


WAYS = {
    "none": ("local.optimiser=adam", "local.learning_rate=0.01", "sharing.field=16"),
    "nominate": ("compression.method=nominate", "local.optimiser=momentum", "local.schedule=cosine"),
    "both scores": ("compression.method=nominate", "compression.scores=both"),
    "leader": ("compression.method=leader", "compression.density=0.1"),
    "random": ("compression.method=random", "compression.density=0.1"),
    "lowrank": ("compression.method=lowrank", "compression.density=0.2", "server.method=adam"),
}


@pytest.mark.claim("DP-8")
@pytest.mark.parametrize("way", WAYS)
def test_all_that_leaves_a_site_follows_from_its_noised_sums(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeystreamOptimizer, "sums", nothing)
    mine = sent(WAYS[way], "mine", 40, monkeypatch)
    assert len(mine) == 4
    names = [bool(said) for said in mine[::2]]
    assert names == {"nominate": [True, True], "both scores": [True, True], "leader": [True, False]}.get(
        way, [False] * 2
    )
    assert sent(WAYS[way], "others", 57, monkeypatch) == mine, "the number of records is in nothing, either"


def looking(optimizer: KeystreamOptimizer) -> None:
    """A learning rate that follows the clipped sum before its noise."""
    length = float(sum(p.summed_grad.square().sum() for p in optimizer.params)) ** 0.5
    NOISED(optimizer)
    for p in optimizer.params:
        assert p.grad is not None
        p.grad /= 1.0 + length


def counting(optimizer: KeystreamOptimizer) -> None:
    """A divisor that follows the batch."""
    NOISED(optimizer)
    for p in optimizer.params:
        assert p.grad is not None
        p.grad /= 1.0 + COUNTED.pop()


def counted(optimizer: KeystreamOptimizer) -> None:
    """How many records a step saw, which is gone once they are clipped."""
    COUNTED[:] = [len(optimizer.params[0].grad_sample)] * len(optimizer.params)
    CLIPPED(optimizer)


COUNTED: list[int] = []
NOISED, CLIPPED = KeystreamOptimizer.add_noise, KeystreamOptimizer.clip


@pytest.mark.claim("DP-8")
@pytest.mark.parametrize("leak", [looking, counting])
def test_a_trainer_that_looks_at_more_than_noised_sums_is_caught(
    leak: Callable[[KeystreamOptimizer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeystreamOptimizer, "sums", nothing)
    monkeypatch.setattr(KeystreamOptimizer, "add_noise", leak)
    monkeypatch.setattr(KeystreamOptimizer, "clip", counted)
    assert sent((), "mine", 40, monkeypatch) != sent((), "others", 57, monkeypatch)

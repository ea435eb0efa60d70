"""Layers that stay at home: trained under one clip with all others, noised as they are, and behind them in a vector."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.errors.models import ModelFileBroken
from p2pfl.errors.personal import NothingIsShared, PersonalFitsNothing, PersonalIsFrozen
from p2pfl.errors.training import ModelMisfit
from p2pfl.federation.optimisers import SiteOptimiser
from p2pfl.keys import Secret
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.gradients.clipping import KeystreamOptimizer
from p2pfl.training.local import Trainer
from p2pfl.training.model.checkpoint import pieces_of
from p2pfl.training.model.personal import PersonalState, divided
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account
from p2pfl.training.update import TensorLayout, layout_of
from tests.training.settings import Small, privacy, site

SEED = Secret(bytes(range(32)), "seed of a test's pass")
FEW = privacy(steps_per_round=6, sample_rate=0.2, max_epsilon=9.0)
LAST = ("2",)  # of Small: the last layer, so that a vector has the model's own order
FIRST = ("0",)


class Loud(Small):
    """Its gradients are far longer than the clipping bound."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 1e4 * super().loss(outputs, targets)


class Twice(Loud):
    """Each record is seen twice in a step."""

    copies: ClassVar[int] = 2


class Wide(Loud):
    """Of a layer that is worth carriers, and of one that is personal and would be."""

    shape = (40,)

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 1))


def trainer(personal: tuple[str, ...], task: Small | None = None, private: object = FEW) -> Trainer:
    chosen = task or Small()
    return Trainer(
        task=chosen,
        site=site(60, chosen.shape),
        privacy=private,  # type: ignore[arg-type]
        local=SiteOptimiser(personal=personal),
    )


def start_of(which: Trainer, seed: bytes = bytes(32)) -> np.ndarray:
    return np.concatenate([which.initial(seed), which.first_personal(seed)])


# ── which they are ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_prefix_ends_where_a_name_does() -> None:
    layout = TensorLayout((("head.weight", (2,)), ("header.weight", (3,)), ("head", (1,)), ("body.head.bias", (4,))))
    shared, personal = divided(layout, ["head"])
    assert [name for name, _ in personal.tensors] == ["head.weight", "head"]
    assert [name for name, _ in shared.tensors] == ["header.weight", "body.head.bias"]
    assert divided(layout, []) == (layout, TensorLayout(()))


def test_layers_that_cannot_stay_are_refused_by_name() -> None:
    class Frozen(Small):
        def trainable(self, name: str) -> bool:
            return name.startswith("2.")

    with pytest.raises(PersonalFitsNothing, match="head") as nothing:
        trainer(("2", "head"))
    assert "0.weight" in nothing.value.evidence
    with pytest.raises(PersonalIsFrozen, match="0"):
        trainer(("0",), Frozen())
    with pytest.raises(NothingIsShared):
        trainer(("0", "2"))
    with pytest.raises(NothingIsShared):
        trainer(("2",), Frozen())


# ── one pass ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-14")
def test_a_pass_is_to_the_bit_that_of_a_model_that_is_shared_whole() -> None:
    """The same clip, noise and steps: what leaves is a part of what would leave, at the same ε."""
    whole, parted = trainer(()), trainer(LAST)
    first = start_of(whole)
    assert np.array_equal(first, start_of(parted))
    expected = whole.train(first, Account().charge(FEW), SEED)
    found = parted.train(first, Account().charge(FEW), SEED)
    assert np.array_equal(found, expected)
    assert (parted.parameters, parted.personal.parameters) == (15, 4)
    assert np.array_equal(parted.evaluate(first + found), whole.evaluate(first + found))


def clipped_sum(which: Trainer, units: list[int], subspace: Subspace | None, patch: pytest.MonkeyPatch) -> np.ndarray:
    """What one step on `units` sums before the noise, over shared and personal coordinates."""
    seen: list[np.ndarray] = []

    def see(self: KeystreamOptimizer) -> None:
        seen.append(np.concatenate([p.summed_grad.numpy().ravel() for p in self.params]))
        for p in self.params:
            p.grad = torch.zeros_like(p)

    patch.setattr(KeystreamOptimizer, "add_noise", see)
    with which._from(start_of(which), subspace):
        sgd = torch.optim.SGD(which._moving.parameters, lr=0.0)
        which._step(KeystreamOptimizer(sgd, FEW, 1.0, BitStream(SEED, "training/noise")), np.array(units, np.int64))
    return seen[0]


@pytest.mark.claim("DP-14")
@pytest.mark.parametrize("task", [Loud(), Twice(), Wide()], ids=["whole", "copies", "subspace"])
def test_one_record_moves_shared_and_personal_together_by_the_clip(
    task: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = trainer(FIRST if task.shape == (4,) else LAST, task)
    first, subspace = which.initial(bytes(32)), None
    if task.shape != (4,):
        subspace = Subspace.of(which.layout, 0.1, first, first)
    shared = which.parameters if subspace is None else subspace.length
    moved = clipped_sum(which, [3], subspace, monkeypatch)
    assert len(moved) == shared + which.personal.parameters
    assert np.linalg.norm(moved) == pytest.approx(FEW.max_grad_norm, rel=1e-4)
    parts = np.linalg.norm(moved[:shared]), np.linalg.norm(moved[shared:])
    assert min(parts) > 0.01, "both have a part of the one clip"


@pytest.mark.claim("DP-14")
@pytest.mark.parametrize("carried", [False, True], ids=["whole", "subspace"])
def test_noise_lies_on_shared_and_personal_numbers_alike(carried: bool) -> None:
    """Steps without records: what is left is noise alone."""
    private = privacy(sample_rate=1e-9, steps_per_round=200, max_epsilon=1e6, noise_multiplier=2.0, max_grad_norm=0.5)
    which = trainer(LAST, Wide(), private)
    first = which.initial(bytes(32))
    subspace = Subspace.of(which.layout, 0.1, first, first) if carried else None
    found = which.train(start_of(which), Account().charge(private), SEED, subspace=subspace)
    shared = which.parameters if subspace is None else subspace.length
    expected = Wide.learning_rate * 2.0 * 0.5 / Wide.expected_batch * 200**0.5
    assert found.shape == (shared + which.personal.parameters,)
    for part in (found[:shared], found[shared:]):
        assert abs(part.std() / expected - 1) < 5 / (2 * len(part)) ** 0.5


def test_the_model_lies_where_the_vector_says_when_personal_layers_come_first() -> None:
    which = trainer(FIRST)
    local = np.arange(which.whole.parameters, dtype=np.float32)
    which.train_within(local, Account().charge(FEW), SEED)
    named = which.whole.split(local)
    for name, p in which._plain.named_parameters():
        assert np.array_equal(p.detach().numpy(), named[name]), name
    assert [name for name, _ in which.whole.tensors] == ["2.weight", "2.bias", "0.weight", "0.bias"]
    assert [name for name, _ in layout_of(which._plain).tensors] == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.claim("DP-14")
def test_the_personal_values_are_among_what_names_a_pass() -> None:
    """The same noise over another personal vector would be another pass: it is never repeated from it."""
    which = trainer(LAST)
    first = start_of(which)
    other = first.copy()
    other[-1] += 1.0
    assert which.inputs(first) == which.inputs(first.copy()) != which.inputs(other)
    assert which.inputs(first) != trainer(()).inputs(first)


# ── the item ──────────────────────────────────────────────────────────────────────────────────────────────────

HEAD = TensorLayout((("head.weight", (2, 3)), ("head.bias", (2,))))
STATE = PersonalState(HEAD, bytes(range(32)), 7, np.arange(8, dtype=np.float32), -np.arange(8, dtype=np.float32))


def test_what_a_site_keeps_of_its_layers_comes_back_as_it_was() -> None:
    data = b"".join(STATE.to_file())
    found = PersonalState.from_file(data)
    assert (found.layout, found.run, found.charge) == (HEAD, STATE.run, 7)
    assert np.array_equal(found.before, STATE.before) and np.array_equal(found.after, STATE.after)
    assert b"".join(found.to_file()) == data


@pytest.mark.parametrize(
    "facts",
    [
        {"format": "pt", "run": "00" * 32},
        {"format": "pt", "run": "00" * 31, "charge": "7"},
        {"format": "pt", "run": "AB" * 32, "charge": "7"},
        {"format": "pt", "run": "00" * 32, "charge": "07"},
        {"format": "pt", "run": "00" * 32, "charge": "7", "more": ""},
    ],
)
def test_an_item_that_does_not_say_of_which_pass_it_is_is_refused(facts: dict[str, str]) -> None:
    tensors = {kind + name: part for kind in ("before/", "after/") for name, part in HEAD.split(STATE.after).items()}
    with pytest.raises(ModelMisfit):
        PersonalState.from_file(b"".join(pieces_of(tensors, facts)))


@pytest.mark.parametrize("names", [("before/w",), ("before/w", "after/v"), ("after/w", "before/w"), ("w", "v")])
def test_an_item_of_other_tensors_is_refused(names: tuple[str, ...]) -> None:
    tensors = {name: np.zeros(2, np.float32) for name in names}
    with pytest.raises(ModelMisfit):
        PersonalState.from_file(b"".join(pieces_of(tensors, {"format": "pt", "run": "00" * 32, "charge": "7"})))


def test_an_item_with_a_number_that_is_not_finite_is_refused() -> None:
    broken = dataclasses.replace(STATE, after=np.full(8, np.nan, np.float32))
    with pytest.raises(ModelFileBroken):
        PersonalState.from_file(b"".join(broken.to_file()))

"""A pass in a subspace: each record's gradient of θ is that of its whole gradient, clipped and noised in θ alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.keys import Secret
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.gradients.projection import CARRIERS, Projected, ProjectingModule
from p2pfl.training.local import PassStopped, Trainer
from p2pfl.training.privacy.account import Account
from p2pfl.training.update import layout_of, read_vector
from tests.training.settings import Small, privacy, site

SEED = Secret(bytes(range(32)), "seed of a test's pass")


class Twice(nn.Module):
    """One layer that each record passes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(30, 30), nn.Linear(30, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 1)), (40,)),
    "linear over a sequence": (lambda: nn.Linear(40, 30), (5, 40)),
    "linear without bias": (lambda: nn.Linear(40, 30, bias=False), (40,)),
    "convolution": (lambda: nn.Conv2d(4, 20, 3, stride=2, padding=1), (4, 9, 9)),
    "convolution of the same size": (lambda: nn.Conv2d(4, 20, 3, padding="same", dilation=2), (4, 9, 9)),
    "convolution in groups": (lambda: nn.Conv2d(8, 40, 3, groups=2), (8, 6, 6)),
    "convolution in space": (lambda: nn.Conv3d(3, 20, 3, padding=1, bias=False), (3, 4, 5, 6)),
    "convolution of a series": (lambda: nn.Conv1d(8, 40, 5), (8, 12)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(20, 8, 3), (20, 5, 5)),
    "one layer twice": (Twice, (30,)),
}


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("kind", MODELS)
def test_each_records_gradient_of_theta_is_that_of_its_whole_gradient(kind: str) -> None:
    """∂loss/∂θ is the projection of ∂loss/∂W, whether or not the latter was ever formed."""
    torch.manual_seed(1)
    model, shape = MODELS[kind][0](), MODELS[kind][1]
    layout, start = layout_of(model), read_vector(model)
    moved = start + np.random.default_rng(2).normal(size=start.size).astype(np.float32)
    space = Subspace.of(layout, 0.2, start, moved)
    assert any(piece.rank for piece in space.pieces)
    x = torch.randn(3, *shape)
    wanted = []
    for row in range(3):
        model.zero_grad()
        model(x[row : row + 1]).square().sum().backward()
        whole = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])
        wanted.append(space.project(whole))
    wrapped = ProjectingModule(model)
    projected = Projected([p for p in wrapped.parameters() if p.requires_grad], space)
    wrapped(x).square().sum().backward()
    projected.take_gradients()
    found = torch.cat([p.grad_sample.flatten(1) for p in projected.parameters], 1).detach().numpy()  # type: ignore[attr-defined]
    assert found.shape == (3, space.length)
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


class Wide(Small):
    """Small, of a layer that is worth carriers."""

    shape = (40,)
    learning_rate = 0.5

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 1))


def made(private: object, task: Small | None = None) -> tuple[Trainer, np.ndarray, Subspace]:
    trainer = Trainer(task=task or Wide(), site=site(60, (40,)), privacy=private)  # type: ignore[arg-type]
    first = trainer.initial(bytes(32))
    return trainer, first, Subspace.of(trainer.layout, 0.1, first, first)


FEW = privacy(sample_rate=0.5, steps_per_round=6, max_epsilon=1e6)


def test_the_model_of_a_pass_lies_where_its_theta_says() -> None:
    trainer, first, space = made(FEW)
    theta = trainer.train_within(first.copy(), Account().charge(FEW), SEED, subspace=space)
    assert theta is not None
    assert theta.shape == (space.length,)
    assert theta.dtype == np.float32
    assert np.allclose(read_vector(trainer._plain) - first, space.expand(theta.astype(np.float64)), atol=1e-5)
    assert np.linalg.norm(theta) > 0.1


def test_a_pass_leaves_the_model_that_it_starts_from_as_it_was() -> None:
    """Its memory is read in place, and small tensors train in their own; from memory that is only to be read, too."""
    trainer, first, space = made(FEW)
    before = first.tobytes()
    theta = trainer.train(first, Account().charge(FEW), SEED, subspace=space)
    assert first.tobytes() == before
    assert (
        trainer.train(np.frombuffer(before, "<f4"), Account().charge(FEW), SEED, subspace=space).tobytes()
        == theta.tobytes()
    )
    moved = trainer.train(first, Account().charge(FEW), SEED)
    assert first.tobytes() == before
    assert np.any(moved)


@pytest.mark.claim("DP-1")
def test_the_noise_of_a_pass_lies_in_theta_with_its_full_deviation() -> None:
    """Steps without records: what is left is noise alone, σC/divisor in each number of θ and step."""
    private = privacy(sample_rate=1e-9, steps_per_round=400, max_epsilon=1e6, noise_multiplier=2.0, max_grad_norm=0.5)
    trainer, first, space = made(private)
    theta = trainer.train_within(first.copy(), Account().charge(private), SEED, subspace=space)
    assert theta is not None
    task = trainer._task
    expected = task.learning_rate * 2.0 * 0.5 / task.expected_batch * 400**0.5
    assert abs(theta.std() / expected - 1) < 5 / (2 * space.length) ** 0.5
    assert abs(theta.mean()) < 5 * expected / space.length**0.5
    outside = read_vector(trainer._plain) - first
    assert np.allclose(space.expand(space.project(outside)), outside, atol=1e-4)


class Loud(Wide):
    """Its gradients are far longer than the clipping bound."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 1e4 * super().loss(outputs, targets)


def test_a_record_moves_theta_by_no_more_than_the_clipping_bound() -> None:
    """One step over all records with hardly any noise: no longer than their number times C."""
    private = privacy(sample_rate=1.0, steps_per_round=1, noise_multiplier=0.01, max_grad_norm=0.1, max_epsilon=1e9)
    trainer, first, space = made(private, Loud())
    theta = trainer.train(first, Account().charge(private), SEED, subspace=space)
    step = np.linalg.norm(theta) * trainer._task.expected_batch / trainer._task.learning_rate
    noise = 0.01 * 0.1 * space.length**0.5
    assert 0.1 < step <= 60 * 0.1 + 2 * noise


def test_a_pass_is_repeated_to_the_bit_in_its_subspace_and_after_one_without() -> None:
    trainer, first, space = made(FEW)
    alone = trainer.train(first, Account().charge(FEW), SEED)
    found = trainer.train(first, Account().charge(FEW), SEED, subspace=space)
    assert trainer.train(first, Account().charge(FEW), SEED, subspace=space).tobytes() == found.tobytes()
    assert trainer.train(first, Account().charge(FEW), SEED).tobytes() == alone.tobytes()


def test_a_pass_that_was_stopped_leaves_no_carriers_behind() -> None:
    trainer, first, space = made(FEW)
    trainer.stopping = True
    with pytest.raises(PassStopped):
        trainer.train(first, Account().charge(FEW), SEED, subspace=space)
    assert not any(hasattr(p, CARRIERS) for p in trainer._plain.parameters())

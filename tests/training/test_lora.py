"""Low-rank adapters: exact under hooks, silent at first, merged into plain weights."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from safetensors.torch import save_file
from torch import nn

from p2pfl.keys import Secret
from p2pfl.training import lora
from p2pfl.training.local import Trainer
from p2pfl.training.models import build
from p2pfl.training.privacy.account import Account
from p2pfl.training.records.records import Arrays, Records, SiteRecords
from p2pfl.training.resnet import SmallCnn, architecture
from p2pfl.training.tasks.images import Images
from p2pfl.training.update import write_vector
from tests.training.settings import privacy


def some(model: nn.Module) -> nn.Module:
    """The model with adapters that are not silent."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if lora.is_adapter(name):
                parameter.normal_()
    return model


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 8)), (12,)),
    "one axis": (nn.Sequential(nn.Conv1d(6, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(40, 9)), (6, 5)),
    "strides": (nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1, dilation=2), nn.Tanh()), (6, 9, 9)),
    "three axes": (nn.Sequential(nn.Conv3d(4, 8, 3, bias=False), nn.Tanh()), (4, 5, 5, 5)),
    "cnn": (SmallCnn(1, 2, (8, 16)), (1, 8, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_adapters_gradient_under_hooks_is_each_records_own(name: str) -> None:
    plain, shape = CASES[name]
    model = lora.adapted(some(copy.deepcopy(plain)), 2, without_layers=("fc",))
    some(model).double()  # in float32 what cancels in a sum of large parts would decide
    trained = [one for one, p in model.named_parameters() if p.requires_grad and lora.is_adapter(one)]
    assert trained
    for one, parameter in model.named_parameters():
        parameter.requires_grad_(lora.is_adapter(one))
    torch.manual_seed(1)
    x = torch.randn(4, *shape, dtype=torch.float64)
    hooked = GradSampleModule(model, loss_reduction="sum")
    torch.autograd.backward((hooked(x) ** 2).flatten(1).sum(1).sum())
    found = {one: p.grad_sample.clone() for one, p in hooked.named_parameters() if p.requires_grad}  # type: ignore[attr-defined]
    assert len(found) == len(trained)
    hooked.disable_hooks()
    for row in range(4):
        hooked.zero_grad()
        torch.autograd.backward((hooked(x[row : row + 1]) ** 2).sum())
        for one, parameter in hooked.named_parameters():
            if parameter.requires_grad:
                assert torch.allclose(found[one][row], parameter.grad, rtol=1e-9, atol=1e-9), one  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_merged_weights_fit_the_plain_model_and_give_the_same(name: str) -> None:
    plain, shape = CASES[name]
    model = some(lora.adapted(copy.deepcopy(plain), 2))
    found = {one: torch.from_numpy(values) for one, values in lora.merged(model).items()}
    other = copy.deepcopy(plain)
    other.load_state_dict(found)
    model, other, unlike = model.double(), other.double(), copy.deepcopy(plain).double()
    torch.manual_seed(1)
    x = torch.randn(3, *shape, dtype=torch.float64)
    assert torch.allclose(model(x), other(x), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(unlike(x), other(x), rtol=1e-3, atol=1e-3)


def test_a_layer_that_an_adapter_would_not_make_smaller_stays_whole() -> None:
    model = lora.adapted(nn.Sequential(nn.Linear(4, 4), nn.Linear(40, 40), nn.Conv2d(8, 8, 3, groups=8)), 4)
    assert [type(layer).__name__ for layer in model] == ["Linear", "Adapted", "Conv2d"]


# ── as a task ─────────────────────────────────────────────────────────────────────────────────────────────────


class Few(Images):
    architecture, widths, size, train, rank = "cnn", (8, 16), 16, "lora", 2
    expected_batch = 4.0


PRIVACY = privacy(sample_rate=0.5, steps_per_round=3, max_epsilon=99)


def made(task: Images) -> Trainer:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(8, task.channels, task.size, task.size)).astype(np.float32)
    records = Records(Arrays(x, np.arange(8) % 2, [bytes([row]) for row in range(8)]))
    return Trainer(task=task, site=SiteRecords(records, records), privacy=PRIVACY)


def test_adapters_and_the_head_alone_train_travel_and_get_noise() -> None:
    trainer = made(Few())
    names = [name for name, _ in trainer.layout.tensors]
    assert names == [
        *(f"conv{place}.{part}.weight" for place in (1, 2) for part in ("down", "up")),
        *("fc.weight", "fc.bias"),
    ]
    before = {name: p.clone() for name, p in trainer._plain.named_parameters()}
    update = trainer.train(trainer.initial(bytes(32)), Account().charge(PRIVACY), Secret(bytes([1]) * 32))
    assert update.shape == (trainer.parameters,) and (update != 0).all()
    for name, parameter in trainer._plain.named_parameters():
        assert torch.equal(parameter, before[name]) or name in names


def test_the_first_model_is_the_frozen_one_the_same_bits_everywhere() -> None:
    task = Few()
    one, other = build(task), build(task)
    first = one.first(task, bytes(32))
    assert np.array_equal(first, other.first(task, bytes(32))) and one.frozen == other.frozen
    parts = one.layout.split(first)
    assert not parts["conv2.up.weight"].any() and parts["conv2.down.weight"].any()
    write_vector(one.model, first)
    plain = architecture("cnn", 1, 2, task.widths)
    plain.load_state_dict({name: torch.from_numpy(values) for name, values in lora.merged(one.model).items()})
    torch.manual_seed(1)
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(one.model(x), plain(x))


def test_pretrained_weights_lie_under_the_adapters(tmp_path: Path) -> None:
    held = {name: torch.full_like(p, 0.5) for name, p in SmallCnn(1, 9, (8, 16)).named_parameters()}
    save_file(held, tmp_path / "w.safetensors")
    task = Few()
    task.weights = (
        str(tmp_path / "w.safetensors"),
        hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest(),
    )
    values = dict(build(task).model.named_parameters())
    assert all((values[name] == 0.5).all() for name in ("conv1.base.weight", "conv2.base.bias", "bn1.weight"))
    assert values["fc.weight"].shape == (2, 256), "the head starts anew"


def test_adapters_of_a_resnet_are_a_hundredth_of_it() -> None:
    task = Few()
    task.architecture, task.rank, task.size = "resnet18", 4, 32
    built = build(task)
    assert built.layout.parameters == 144_326
    whole = sum(p.numel() for p in architecture("resnet18", 1, 2).parameters())
    assert built.layout.parameters < 0.014 * whole

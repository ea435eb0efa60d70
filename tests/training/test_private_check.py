"""What the step that is tried at start sees of a model, and what it leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.errors.task_process import TrialDiverged
from p2pfl.errors.training import ModelNotPrivate
from p2pfl.training import models
from p2pfl.training.gradients.projection import ProjectingModule
from p2pfl.training.models import build, device_of
from p2pfl.training.private_check import check_private
from tests.training.settings import Small, site


def checked(task: Small) -> nn.Module:
    model = build(task).model
    check_private(task, model, site(8, (4,)).train, device_of("cpu"))
    return model


class FoldsRows(Small):
    """A layer that sees two rows of each record: whose gradient a row is cannot be told from the rows."""

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (2, 2)), nn.Flatten(0, 1), nn.Linear(2, 1), nn.Unflatten(0, (-1, 2)), Mean()
        )


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


class OneRow(Small):
    """A layer that sees one row, whatever the records."""

    def model(self) -> nn.Module:
        return AddsOne()


class AddsOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.one = nn.Linear(4, 1), nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.one(torch.ones(1, 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("task", [FoldsRows(), OneRow()])
def test_a_layer_whose_rows_are_not_the_records_is_refused(task: Small) -> None:
    with pytest.raises(ModelNotPrivate) as caught:
        checked(task)
    assert "has no gradient for each record" in caught.value.evidence


class Less(nn.Module):
    """What each record has beyond one of its batch."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self.which = which

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        other = {
            "first": x[:1],
            "last": x[-1:],
            "before": x.roll(1, 0).detach(),
            "next": x.roll(-1, 0).detach(),
            "itself": 0.5 * x,
        }[self.which]
        return x - other


class Beyond(Small):
    def __init__(self, which: str) -> None:
        self.which = which

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), Less(self.which), nn.Tanh(), nn.Linear(3, 1))


@pytest.mark.parametrize("which", ["first", "last", "before", "next"])
def test_a_layer_that_takes_something_of_one_record_of_its_batch_is_refused(which: str) -> None:
    """The last of a batch is nobody's own: each record's gradient would change with it, and no clip bounds that."""
    with pytest.raises(ModelNotPrivate) as caught:
        checked(Beyond(which))
    assert "changes with the other records of its batch" in caught.value.evidence
    checked(Beyond("itself"))


class Holds(Small):
    """A model that the task keeps: no new one, as it should be."""

    def __init__(self) -> None:
        self._one = super().model()

    def model(self) -> nn.Module:
        return self._one


def test_a_large_model_is_not_copied_and_one_that_comes_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Holds()
    assert build(task).model is not build(task).model
    copied = build(Small()).first(Small(), bytes(32))
    monkeypatch.setattr(models, "COPIED_BYTES", 0)
    assert build(Small()).first(Small(), bytes(32)).tobytes() == copied.tobytes()
    assert build(task).model is task.model()
    with pytest.raises(ModelNotPrivate) as caught:
        build(task)
    assert "each call makes a new one" in caught.value.evidence


class HoldsALayer(Holds):
    """A new model each time, around a layer that the task keeps."""

    def model(self) -> nn.Module:
        return nn.Sequential(self._one, nn.ReLU())


def test_a_large_model_of_which_a_layer_comes_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "COPIED_BYTES", 0)
    task = HoldsALayer()
    build(task)
    with pytest.raises(ModelNotPrivate) as caught:  # else a prediction would write into the model of a pass
        build(task)
    assert "returned layer 0.0 that it had returned before" in caught.value.evidence


class Frozen(Small):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))

    def trainable(self, name: str) -> bool:
        return name.startswith("2.")


def test_what_does_not_train_keeps_its_values() -> None:
    before = build(Frozen()).model.state_dict()
    after = checked(Frozen()).state_dict()
    assert [name for name in after if torch.equal(before[name], after[name])] == ["0.weight", "0.bias"]


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_no_gradient_of_the_batch_is_made_of_a_layer_behind_the_first() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    made = list[str]()
    for name, p in model.named_parameters():
        p.register_hook(lambda gradient, name=name: made.append(name))  # type: ignore[no-untyped-call]
    wrapped, x = ProjectingModule(model), torch.randn(3, 4)
    wrapped(x).square().sum().backward()
    assert set(made) == {"0.weight", "0.bias"}  # with nothing before it, that is how it hears of what comes back
    found = {name: p.grad_sample for name, p in model.named_parameters()}  # type: ignore[attr-defined]
    for row in range(3):
        plain = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
        plain.load_state_dict({name: p.detach() for name, p in model.named_parameters()})
        plain(x[row : row + 1]).square().sum().backward()
        for name, p in plain.named_parameters():
            np.testing.assert_allclose(found[name][row], p.grad, rtol=1e-4, atol=1e-6)


def test_a_forward_pass_that_fails_leaves_every_parameter_to_train() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(6, 2))
    wrapped = ProjectingModule(model)
    with pytest.raises(RuntimeError):
        wrapped(torch.randn(3, 4))
    assert all(p.requires_grad for p in model.parameters())


class DividesByZero(Small):
    """What it says of a record is no number, whatever its weights are."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 1), Nought())


class Nought(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 0.0 * 0.0


def test_a_gradient_that_is_not_finite_is_found_before_a_pass_is_charged() -> None:
    with pytest.raises(TrialDiverged) as caught:
        checked(DividesByZero())
    assert "the gradient of 0." in caught.value.evidence

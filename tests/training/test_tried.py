"""Records that a tried step does not see: each goes through the model and the loss once, and the odd one is named."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from p2pfl.errors.training import RecordFails, RecordMisfit
from p2pfl.training import tried as tried_module
from p2pfl.training.records.records import Arrays, Records
from p2pfl.training.tried import AT_ONCE, first_model, try_records
from tests.training.settings import Small, arrays

COUNT, ODD = 3 * AT_ONCE, 2 * AT_ONCE + 5
CPU = torch.device("cpu")


class Three(Small):
    """Labels 0 to 2, as torch's own loss takes them."""

    def model(self) -> torch.nn.Module:
        return torch.nn.Linear(4, 3)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(1e3 * outputs, targets, reduction="none")


def tried(label: int = 0, value: float = 0.0) -> None:
    """All records are tried, of which one has this label and this number."""
    held, task = arrays(COUNT, (4,)), Three()
    x, y = held.x.copy(), held.y.copy()
    x[ODD, 1], y[ODD] = value, label
    records = Records(Arrays(x, y, held.identities))
    try_records(task, first_model(task, CPU), records, np.arange(COUNT), CPU)


class Seen(Small):
    """Says how many records come at once."""

    seen: ClassVar[list[int]] = []

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(targets))
        return super().loss(outputs, targets)


@pytest.mark.parametrize(("numbers", "most"), [(1 << 20, AT_ONCE), (4 * 5, 5), (1, 1)])
def test_of_large_records_few_go_through_the_model_at_once(
    numbers: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tried_module, "MEASURED_NUMBERS", numbers)
    monkeypatch.setattr(Seen, "seen", [])
    task = Seen()
    try_records(task, first_model(task, CPU), Records(arrays(COUNT, (4,))), np.arange(COUNT), CPU)
    assert max(Seen.seen) == most and sum(Seen.seen) == COUNT


def test_records_that_can_be_trained_on_are_passed() -> None:
    tried(2)


@pytest.mark.claim("CLI-2")
@pytest.mark.parametrize("label", [-77, 4711])
def test_a_label_that_is_none_is_told_by_its_records_place_and_the_tasks_line(label: int) -> None:
    with pytest.raises(RecordFails) as caught:
        tried(label)
    assert caught.value.evidence.startswith(f"record {ODD + 1}: test_tried.py:")
    assert caught.value.evidence.endswith(": IndexError")
    assert str(label) not in caught.value.render(), "a value is not told"


def test_a_number_that_is_none_and_a_loss_that_overflows_are_told_by_place() -> None:
    with pytest.raises(RecordMisfit) as misfit:
        tried(value=float("nan"))
    assert f"record {ODD + 1}: its input" in misfit.value.evidence
    with pytest.raises(RecordFails) as caught:
        tried(value=3e38)
    assert caught.value.evidence == f"record {ODD + 1}: its loss is not finite"

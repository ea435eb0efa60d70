"""An augmentation that would put one record into the example of another is refused before the first pass."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from p2pfl.errors.training import AugmentMixes
from p2pfl.federation.scan_schema import CHANGES
from p2pfl.training.augment_check import check_augment
from p2pfl.training.local import Trainer
from p2pfl.training.models import device_of
from p2pfl.training.task import Task
from p2pfl.training.tasks.images import Images
from tests.training.settings import Small, privacy, records, site


class Mixup(Small):
    """As it is written everywhere: a share from numpy, an order from torch."""

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        share = float(np.random.beta(1.0, 1.0))
        return share * x + (1.0 - share) * x[torch.randperm(len(x))]


class Seldom(Mixup):
    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return super().augment(x) if random.random() < 0.5 else x


class Cut(Small):
    def augment(self, x: torch.Tensor) -> torch.Tensor:
        x[:, :2] = x.roll(1, 0)[:, :2]
        return x


class Centred(Small):
    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean()


class Shuffled(Small):
    """Inputs and labels by one order: each example is whole, and stands in another record's place."""

    def augment_pair(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        order = torch.randperm(len(x))
        return x[order], y[order]


class MixedLabels(Small):
    def augment_pair(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, y.float() + 0.1 * y.float().mean()


class Longer(Small):
    def augment_pair(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([x, x]), torch.cat([y, y])


class Jittered(Small):
    """Noise and a scale for each record, from three generators."""

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        scale = torch.from_numpy(np.random.uniform(0.9, 1.1, (len(x), 1))).to(x.dtype)
        return x * scale + 0.1 * torch.randn_like(x) + random.random()


class OneByOne(Small):
    """Draws as many numbers as a record's values say, so those of the next record are others."""

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([one + torch.randn(1 + int(one[0] > 0)).sum() for one in x])


class OneByOneOfNumpy(Small):
    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([one + float(np.random.normal(size=1 + int(one[0] > 0)).sum()) for one in x])


class OneByOneOfPython(Small):
    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([one + sum(random.random() for _ in range(1 + int(one[0] > 0))) for one in x])


class UntilPositive(Small):
    """As a crop that is drawn again until it holds what is looked for: as many draws may come of two orders."""

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([one * self._place(one) for one in x])

    def _place(self, one: torch.Tensor) -> int:
        while one[found := int(torch.randint(4, ()))] <= 0 < one.max():
            pass
        return 1 + found


class OwnGenerator(Small):
    """Flips a record, `often` as it draws from a generator that nobody seeds."""

    def __init__(self, often: float) -> None:
        self.often, self.random = often, np.random.default_rng()

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([one.flip(0) if self.random.random() < self.often else one for one in x])


class EachFew(Small):
    """Of each few calls one is augmented."""

    def __init__(self, few: int) -> None:
        self.few, self.calls = few, 0

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return 2 * x if self.calls % self.few == 0 else x


def checked(task: Task, count: int = 8) -> None:
    check_augment(task, site(count, (4,)).train, device_of("cpu"))


@pytest.mark.claim("DP-1")
@pytest.mark.parametrize("task", [Mixup(), Seldom(), Cut(), Centred(), Shuffled(), MixedLabels(), Longer()])
def test_an_augmentation_that_mixes_records_is_refused_before_a_pass(task: Small) -> None:
    with pytest.raises(AugmentMixes) as caught:
        Trainer(task=task, site=site(40, (4,)), privacy=privacy())
    assert caught.value.evidence.startswith(("what it makes of one record changes", "it makes 6 inputs and 6 labels"))


@pytest.mark.parametrize("task", [Small(), Jittered(), OneByOne()])
def test_an_augmentation_of_each_record_by_itself_passes(task: Small) -> None:
    checked(task)
    checked(task, 3)


@pytest.mark.parametrize(
    "task",
    [OneByOneOfNumpy(), OneByOneOfPython(), UntilPositive(), *map(OwnGenerator, (0.5, 0.05)), *map(EachFew, (2, 3, 5))],
)
def test_an_augmentation_whose_draws_do_not_repeat_is_not_taken_for_one_that_mixes(task: Task) -> None:
    for _ in range(2):
        checked(task, 40)


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_that_a_scan_may_be_augmented_by_passes(change: str) -> None:
    class Scans(Images):
        size, augmentation = 12, (change,)

        def __init__(self) -> None:
            pass

    check_augment(Scans(), records(8, (1, 12, 12)), device_of("cpu"))


def test_the_generators_of_torch_numpy_and_python_are_as_before() -> None:
    def stand() -> tuple[object, ...]:
        return torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]

    before = stand()
    checked(Jittered())
    assert stand() == before


def test_a_task_that_counts_its_steps_is_tried_and_trains_from_the_first() -> None:
    class Later(Small):
        """It mixes from the start, and each time more: two trials of it must begin alike to be compared."""

        step = 0

        def augment(self, x: torch.Tensor) -> torch.Tensor:
            self.step += 1
            return x + self.step * x.mean(0, keepdim=True)

    task = Later()
    with pytest.raises(AugmentMixes):
        checked(task)
    assert task.step == 0

"""A pass is repeated bit for bit from its seed, and `inputs` tells every pass that would be another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.federation.optimisers import SiteOptimiser
from p2pfl.keys import Secret
from p2pfl.training import local
from p2pfl.training.local import Trainer
from p2pfl.training.privacy.account import Account
from p2pfl.training.records.records import Arrays, Records, SiteRecords
from p2pfl.training.repeatable import repeatable
from tests.training.settings import PRIVACY, Images, Small, arrays, privacy, site

SEED = Secret(bytes(range(32)), "seed of a test's pass")
FEW = privacy(steps_per_round=6, sample_rate=0.2, max_epsilon=9.0)


class Forgetful(Images):
    """Pictures, and a layer that draws of torch's generator."""

    def model(self) -> nn.Module:
        layers = list(super().model().children())
        return nn.Sequential(*layers[:-1], nn.Dropout(0.5), layers[-1])


class Frozen(Small):
    """A layer that does not train, with weights that the task brings."""

    scale = 0.5

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), *super().model().children())

    def trainable(self, name: str) -> bool:
        return not name.startswith("0.")

    def pretrained(self) -> Mapping[str, NDArray[np.float32]]:
        return {"0.weight": np.full((4, 4), self.scale, np.float32)}


def trainer() -> Trainer:
    return Trainer(task=Forgetful(), site=site(40, (1, 28, 28)), privacy=FEW)


def one_pass(which: Trainer, seed: Secret = SEED) -> np.ndarray:
    return which.train(which.initial(bytes(32)), Account().charge(which._privacy), seed)


def test_a_pass_leaves_no_trace_in_the_next_one_or_in_torch() -> None:
    which = trainer()
    model, state = which.initial(bytes(32)), torch.random.get_rng_state()
    first = which.train(model, Account().charge(FEW), SEED)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    which.evaluate(which.initial(bytes(32)))
    one_pass(which, Secret(bytes(32)))
    assert np.array_equal(one_pass(which), first)
    assert not np.array_equal(one_pass(which, Secret(bytes(32))), first)


def test_the_first_model_is_the_same_after_a_pass() -> None:
    """A run may begin anew in one process, with another membership, before its first round is final."""
    which = trainer()
    before = which.initial(bytes(32))
    one_pass(which)
    assert np.array_equal(which.initial(bytes(32)), before)


def test_a_pass_that_fails_puts_torch_back_as_it_was() -> None:
    which = trainer()
    which.stopping = True
    with pytest.raises(local.PassStopped):
        one_pass(which)
    assert not torch.are_deterministic_algorithms_enabled()


def test_passes_of_several_threads_leave_torch_as_the_first_found_it() -> None:
    """Sites in one process: whoever began first may end first."""
    first, second = repeatable(1), repeatable(2)
    with first:
        second.__enter__()
    assert torch.are_deterministic_algorithms_enabled(), "the second still runs"
    second.__exit__(None, None, None)
    assert not torch.are_deterministic_algorithms_enabled()


def of(held: Arrays) -> SiteRecords:
    return SiteRecords(Records(held), site(20, (4,)).held_out)


@pytest.mark.claim("DP-3")
def test_whatever_an_update_follows_from_is_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    held = arrays(40, (4,))
    x, y = held.x.copy(), held.y.copy()
    x[3, 1] = np.nextafter(x[3, 1], np.float32(9))
    y[5] = 1 - y[5]
    renamed = (b"another", *held.identities[1:])

    class Faster(Frozen):
        learning_rate = 0.02

    class Divided(Frozen):
        expected_batch = 3.0

    class Momentum(Frozen):
        def optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=0.9)

    class Rescaled(Frozen):
        scale = 0.75

    tasks: list[Small] = [Frozen(), Faster(), Divided(), Momentum(), Rescaled()]
    others = [
        dataclasses.replace(held, x=x),
        dataclasses.replace(held, y=y),
        dataclasses.replace(held, identities=renamed),
        Arrays(held.x[:-1], held.y[:-1], held.identities[:-1]),
    ]
    settings = [{"noise_multiplier": 1.2}, {"max_grad_norm": 2.0}, {"sample_rate": 0.03}, {"steps_per_round": 81}]
    made = [Trainer(task=task, site=of(held), privacy=PRIVACY) for task in tasks]
    made += [Trainer(task=Frozen(), site=of(other), privacy=PRIVACY) for other in others]
    made += [Trainer(task=Frozen(), site=of(held), privacy=privacy(**other)) for other in settings]
    chosen = [SiteOptimiser("momentum"), SiteOptimiser(schedule="linear", rounds=3), SiteOptimiser(warmup_steps=2)]
    made += [Trainer(task=Frozen(), site=of(held), privacy=PRIVACY, local=one) for one in chosen]
    model = made[0].initial(bytes(32))
    names = [which.inputs(model) for which in made]
    names.append(made[0].inputs(model, 1))
    moved = model.copy()
    moved[0] = np.nextafter(moved[0], np.float32(9))
    names.append(made[0].inputs(moved))
    monkeypatch.setattr(local, "threads_and_versions", lambda: ("another machine",))
    names.append(made[0].inputs(model))
    assert all(names)
    assert len(set(names)) == len(names)


def test_equal_inputs_have_one_name_whichever_object_holds_them() -> None:
    one, other = (Trainer(task=Frozen(), site=site(40, (4,)), privacy=PRIVACY) for _ in range(2))
    model = one.initial(bytes(32))
    assert one.inputs(model) == other.inputs(model.copy())


def test_a_device_whose_sums_may_differ_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    which = Trainer(task=Small(), site=site(40, (4,)), privacy=PRIVACY)
    monkeypatch.setattr(which, "_device", torch.device("cuda"))
    assert which.inputs(which.initial(bytes(32))) == b""

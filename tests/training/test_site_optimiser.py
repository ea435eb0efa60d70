"""A site's optimiser and its learning rate over the steps of a training: what peers.yaml says is what steps do."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from p2pfl.errors.federation import SettingsDoNotFit, WrongValue
from p2pfl.errors.optimisers import OptimiserTwice
from p2pfl.federation import Federation
from p2pfl.federation.optimisers import SiteOptimiser
from p2pfl.keys import Secret
from p2pfl.training.gradients.clipping import KeystreamOptimizer
from p2pfl.training.local import Trainer
from p2pfl.training.privacy.account import Account
from p2pfl.training.site_optimiser import optimiser_of
from tests.examples import examples
from tests.federation.sample import peers_yaml
from tests.training.settings import Small, privacy, site

FEW = privacy(sample_rate=0.2, steps_per_round=4, max_epsilon=100.0)
SEED = Secret(bytes(range(32)), "seed of a pass")


# ── the schedule ──────────────────────────────────────────────────────────────────────────────────────────────


def rates(settings: SiteOptimiser, steps_per_round: int) -> list[float]:
    return [settings.factor(step, steps_per_round) for step in range(settings.rounds * steps_per_round)]


def test_each_schedule_is_what_its_name_says() -> None:
    assert rates(SiteOptimiser(rounds=2), 2) == [1.0] * 4
    assert rates(SiteOptimiser(schedule="linear", rounds=2), 2) == [1.0, 0.75, 0.5, 0.25]
    assert rates(SiteOptimiser(schedule="linear", warmup_steps=2, rounds=3), 2) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert rates(SiteOptimiser(schedule="step", decay_steps=2, decay=0.1, rounds=2), 2) == [1.0, 1.0, 0.1, 0.1]
    cosine = rates(SiteOptimiser(schedule="cosine", rounds=2), 2)
    assert cosine == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])


@given(
    st.sampled_from(("constant", "linear", "cosine", "step")), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9)
)
@examples(60)
def test_a_rate_is_above_nothing_at_most_its_own_and_falls_once_it_has_risen(
    schedule: str, warmup: int, rounds: int, steps: int
) -> None:
    warmup = min(warmup, rounds * steps - 1)
    found = rates(SiteOptimiser(schedule=schedule, warmup_steps=warmup, decay_steps=3, rounds=rounds), steps)
    assert all(0.0 < one <= 1.0 for one in found)
    assert found[:warmup] == sorted(found[:warmup])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    last = rounds * steps - 1
    one = SiteOptimiser(schedule=schedule, warmup_steps=warmup, decay_steps=3, rounds=rounds)
    assert one.factor(last + 100, steps) == one.factor(last, steps), "a round more is trained as the last one"


def test_peers_yaml_says_it_and_a_rise_without_an_end_is_refused() -> None:
    found = Federation.parse(peers_yaml("local.optimiser=adam", "local.learning_rate=0.5", "rounds=3")).local
    assert found == SiteOptimiser("adam", 0.5, rounds=3)
    with pytest.raises(SettingsDoNotFit):
        peers_yaml("rounds=2", "privacy.steps_per_round=5", "local.warmup_steps=10")
    with pytest.raises(WrongValue):
        peers_yaml("local.momentum=1.0")


# ── what a pass does with it ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of each step that is taken."""
    found: list[float] = []
    step = KeystreamOptimizer.step

    def told(self: KeystreamOptimizer, *given: object) -> object:
        found.append(self.original_optimizer.param_groups[0]["lr"])
        return step(self, *given)

    monkeypatch.setattr(KeystreamOptimizer, "step", told)
    return found


def test_the_steps_of_a_round_have_the_rates_of_their_places_in_the_training(seen: list[float]) -> None:
    chosen = SiteOptimiser("sgd", 0.8, schedule="linear", rounds=4)
    which = Trainer(task=Small(), site=site(40, (4,)), privacy=FEW, local=chosen)
    for before in (0, 2):
        which.train(which.initial(bytes(32)), Account().charge(FEW), SEED, before)
    assert seen == [0.8 * (1 - step / 16) for step in (0, 1, 2, 3, 8, 9, 10, 11)]


def test_a_pass_of_a_later_round_repeats_to_the_bit_and_another_rounds_differs() -> None:
    chosen = SiteOptimiser("momentum", 0.1, schedule="cosine", rounds=4)
    which = Trainer(task=Small(), site=site(40, (4,)), privacy=FEW, local=chosen)
    model = which.initial(bytes(32))
    first, again, other = (which.train(model, Account().charge(FEW), SEED, before) for before in (2, 2, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert which.inputs(model, 2) == which.inputs(model, 2) != which.inputs(model, 1)


def test_the_sites_choice_makes_that_optimiser_at_the_tasks_rate_or_its_own() -> None:
    weights = [nn.Parameter(torch.zeros(2))]
    plain = optimiser_of(Small(), SiteOptimiser(), weights)
    assert (type(plain), plain.param_groups[0]["lr"]) == (torch.optim.SGD, Small.learning_rate)
    momentum = optimiser_of(Small(), SiteOptimiser("momentum", momentum=0.8), weights).param_groups[0]
    assert (momentum["momentum"], momentum["lr"]) == (0.8, Small.learning_rate)
    adam = optimiser_of(Small(), SiteOptimiser("adam", 0.002), weights)
    assert (type(adam), adam.param_groups[0]["lr"]) == (torch.optim.Adam, 0.002)
    assert optimiser_of(Small(), SiteOptimiser("task", 0.3), weights).param_groups[0]["lr"] == 0.3


def test_a_task_with_its_own_optimiser_leaves_no_second_choice_and_is_paced(seen: list[float]) -> None:
    class Own(Small):
        def optimiser(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.SGD(parameters, lr=0.4)

    for chosen in (SiteOptimiser("adam"), SiteOptimiser(learning_rate=0.1)):
        with pytest.raises(OptimiserTwice):
            Trainer(task=Own(), site=site(40, (4,)), privacy=FEW, local=chosen)
    paced = SiteOptimiser(schedule="linear", rounds=1)
    which = Trainer(task=Own(), site=site(40, (4,)), privacy=FEW, local=paced)
    which.train(which.initial(bytes(32)), Account().charge(FEW), SEED)
    assert seen == [0.4 * factor for factor in (1.0, 0.75, 0.5, 0.25)]

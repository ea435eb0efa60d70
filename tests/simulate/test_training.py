"""A training in one process: what a site runs, its sums in the field, and a budget that is kept."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfl import simulate_training
from p2pfl.errors.federation import WrongValue
from p2pfl.errors.training import BudgetTooSmall, PassWouldOverspend, WrongSimulation
from p2pfl.simulate.training import held_out, summary
from p2pfl.training.privacy.account import Account, Mechanism
from p2pfl.training.privacy.plan import least_noise
from p2pfl.training.records.records import Arrays, Records
from tests.training.settings import Small, arrays

QUICK = ("rounds=3", "privacy.sample_rate=0.2", "privacy.steps_per_round=10", "privacy.max_epsilon=100")


class Fast(Small):
    learning_rate = 0.5
    expected_batch = 20.0


def sites(count: int = 3) -> dict[str, object]:
    return {f"site-{place}": arrays(120, (4,), f"site {place}") for place in range(count)}


def test_a_training_learns_and_says_what_it_spent_and_would_send() -> None:
    seen: list[tuple[int, int]] = []
    (found,) = simulate_training(
        Fast(), sites(), settings=QUICK, progress=lambda seed, number, figures: seen.append((seed, number))
    )
    assert found.metric == "auc" and len(found.figures) == 4
    assert found.final > found.figures[0]["auc"].value and found.final > 0.8
    assert seen == [(0, 1), (0, 2), (0, 3)]
    history = [Mechanism(1.1, 0.2, 10)] * 3
    assert found.epsilon == Account(history).epsilon(1e-5)
    parameters = len(found.model)
    assert found.dense_bytes == 2 * 2 / 3 * 4 * parameters * 3 == found.sent_bytes, "a 31-bit word is four bytes"


def test_the_same_seed_is_the_same_training_and_another_is_not() -> None:
    first, again, other = simulate_training(Fast(), sites(), settings=QUICK, seeds=(4, 4, 5))
    assert np.array_equal(first.model, again.model)
    assert not np.array_equal(first.model, other.model)
    told = summary([first, other])
    assert told["mean"] == (first.final + other.final) / 2 and len(told["by_round"]) == 4


def test_records_that_are_divided_already_are_held_out_alike_whatever_the_seed() -> None:
    whole = {name: Records(arrays(120, (4,), name)) for name in sites()}
    divided = {name: held_out(4, name, records) for name, records in whole.items()}
    first, second = simulate_training(Fast(), whole, settings=QUICK, seeds=(4, 5))
    again, other = simulate_training(Fast(), divided, settings=QUICK, seeds=(4, 5))
    assert np.array_equal(first.model, again.model) and first.figures == again.figures
    assert not np.array_equal(second.model, other.model)


@pytest.mark.parametrize(
    "settings", [("sharing.field=16",), ("compression.method=nominate", "compression.density=0.5")]
)
def test_fields_and_supports_are_those_of_a_federation(settings: tuple[str, ...]) -> None:
    (found,) = simulate_training(Fast(), sites(), settings=(*QUICK, *settings))
    assert found.federation.raw.count(settings[0].rpartition("=")[2].encode())
    assert found.final > 0.7


def test_a_budget_chooses_the_least_noise_that_keeps_it() -> None:
    (found,) = simulate_training(Fast(), sites(), settings=QUICK, epsilon=4.0)
    noise = found.federation.privacy.noise_multiplier
    assert found.epsilon <= 4.0 < Account([Mechanism(noise - 0.001, 0.2, 30)]).epsilon(1e-5)


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(0.5, 0.01, 100), (3.0, 0.02, 640), (8.0, 0.5, 20)])
def test_the_least_noise_is_enough_and_a_thousandth_less_is_not(epsilon: float, rate: float, steps: int) -> None:
    noise = least_noise(epsilon, 1e-5, rate, steps)
    assert Account([Mechanism(noise, rate, steps)]).epsilon(1e-5) <= epsilon
    assert Account([Mechanism(noise - 0.001, rate, steps)]).epsilon(1e-5) > epsilon


def test_a_budget_that_no_noise_keeps_is_refused() -> None:
    with pytest.raises(BudgetTooSmall):
        least_noise(1e-6, 1e-5, 1.0, 1_000_000)


def test_a_training_beyond_its_budget_ends_as_at_a_site() -> None:
    with pytest.raises(PassWouldOverspend):
        simulate_training(Fast(), sites(), settings=("rounds=3", "privacy.sample_rate=0.9"))


def test_two_sites_and_settings_that_no_peers_yaml_takes_are_refused() -> None:
    with pytest.raises(WrongSimulation):
        simulate_training(Fast(), sites(2))
    with pytest.raises(WrongValue):
        simulate_training(Fast(), sites(), settings=("rounds=none",))


@pytest.mark.claim("DP-14")
def test_sites_whose_conventions_differ_learn_with_heads_of_their_own() -> None:
    """One of three writes the label the other way round: a shared head is a compromise, a personal one is right."""
    held = sites()
    odd = arrays(120, (4,), "site 2")
    held["site-2"] = Arrays(odd.x, 1 - odd.y, odd.identities)
    settings = (*QUICK[1:], "rounds=6", "privacy.noise_multiplier=0.6")
    (shared,) = simulate_training(Fast(), held, settings=settings)
    (own,) = simulate_training(Fast(), held, settings=(*settings, "local.personal=[2]"))
    assert own.final > 0.9 > 0.8 > shared.final
    assert (len(own.model), own.model.size + own.personal["site-0"].size) == (15, len(shared.model))
    heads = [values[:3] for values in own.personal.values()]
    assert float(heads[0] @ heads[2]) < 0.0 < float(heads[0] @ heads[1])
    assert own.sent_bytes / shared.sent_bytes == 15 / 19
    assert own.epsilon == shared.epsilon

"""What a budget buys is what the account charges: no batch beyond it, and not a round more."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.training.privacy.account import CHARGED, Account, Mechanism
from p2pfl.training.privacy.plan import most_rounds, privacy_plan
from tests.examples import examples


def test_every_batch_of_a_plan_stays_within_the_budget_and_none_wastes_it() -> None:
    found = privacy_plan(epsilon=3.0, delta=1e-5, records=150, rounds=8, steps=80, sites=5, numbers=14)
    assert [one.batch for one in found.batches] == [8, 16, 32, 64]
    for one in found.batches:
        account = Account([Mechanism(one.noise_multiplier, one.sample_rate, 640)])
        assert one.batch / 150 - 1e-6 < one.sample_rate <= one.batch / 150
        assert account.epsilon(1e-5) == one.epsilon <= 3.0
        less = Account([Mechanism(one.noise_multiplier - 0.001, one.sample_rate, 640)])
        assert less.epsilon(1e-5) > 3.0
        assert one.relative_noise == pytest.approx(
            one.noise_multiplier * math.sqrt(14) / (one.batch * math.sqrt(5 * 640))
        )
        assert one.uses == pytest.approx(640 * one.sample_rate)


def test_the_batch_that_is_worth_it_is_the_smallest_that_is_nearly_as_good() -> None:
    found = privacy_plan(epsilon=3.0, delta=1e-5, records=150, rounds=8, steps=80, sites=5, numbers=14)
    least = min(one.relative_noise for one in found.batches)
    assert found.best.relative_noise <= 1.1 * least
    assert all(one.relative_noise > 1.1 * least for one in found.batches if one.batch < found.best.batch)


@pytest.mark.parametrize("parts", [2, 3])
def test_noise_in_parts_keeps_the_budget_and_says_what_is_left_against_all_others(parts: int) -> None:
    budget = {"epsilon": 1.0, "delta": 1e-5, "records": 40, "rounds": 20, "steps": 1, "sites": 5, "numbers": 14}
    found, local = privacy_plan(**budget, parts=parts), privacy_plan(**budget)
    for one, own in zip(found.batches, local.batches, strict=True):
        charged = Mechanism(CHARGED * one.noise_multiplier, one.sample_rate, 20, parts)
        assert one.mechanism(20) == charged
        assert Account([charged]).epsilon(1e-5) == one.epsilon <= 1.0
        alone = Mechanism(charged.noise_multiplier / math.sqrt(parts), one.sample_rate, 20)
        assert Account([alone]).epsilon(1e-5) == one.alone > one.epsilon
        assert own.alone == own.epsilon and own.parts == 1
        less = one.relative_noise / own.relative_noise
        assert less == pytest.approx(one.noise_multiplier / own.noise_multiplier / math.sqrt(parts)) and less < 0.8
    for noise, rounds in found.rounds.items():
        assert rounds == most_rounds(1.0, 1e-5, found.best.sample_rate, 1, CHARGED * noise)


@given(noise=st.floats(0.7, 4.0), rate=st.floats(0.005, 0.3), steps=st.integers(1, 100))
@examples(6)
def test_so_many_rounds_stay_within_the_budget_and_one_more_does_not(noise: float, rate: float, steps: int) -> None:
    rounds = most_rounds(3.0, 1e-5, rate, steps, noise)

    def spent(count: int) -> float:
        return Account([Mechanism(noise, rate, count * steps)]).epsilon(1e-5)

    assert rounds == 0 or spent(rounds) <= 3.0
    assert rounds == 100_000 or spent(rounds + 1) > 3.0

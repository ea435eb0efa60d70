"""The audit of one trained model (benchmarks/canary_audit.py): its bound is a bound, and a training keeps ε.

Trainings take minutes, so `make thorough` alone has them; `make test` audits the mechanism (test_mechanism_audit.py).
"""

from __future__ import annotations

import bisect
import math

import numpy as np
import pytest

from benchmarks.canary_audit import CONFIDENCE, DELTA, SETTINGS, WITHOUT, audit, least_epsilon
from tests.examples import THOROUGH

CANARIES, GUESSES = 300, 150
nightly = pytest.mark.skipif(THOROUGH < 1, reason="a training: make thorough")


@pytest.mark.claim("DP-2")
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("guesses", [20, 150])
def test_a_mechanism_that_tells_all_that_it_may_is_accused_in_one_of_twenty_audits(
    epsilon: float, guesses: int
) -> None:
    """Of a coin told truly with chance e^ε / (1 + e^ε) each, the chance of so many right guesses is known exactly."""
    chance = 1 / (1 + math.exp(-epsilon))
    accuses = bisect.bisect(
        range(guesses + 1), epsilon, key=lambda right: least_epsilon(CANARIES, guesses, right, DELTA)
    )
    rest = range(accuses, guesses + 1)
    assert sum(math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k) for k in rest) <= CONFIDENCE


@pytest.mark.claim("DP-2")
def test_guesses_that_are_all_right_speak_against_as_much_as_their_number_lets_them() -> None:
    bounds = [least_epsilon(1000, guesses, guesses, 0.0) for guesses in (30, 100, 1000)]
    assert np.allclose(bounds, [2.25, 3.49, 5.81], atol=0.01)
    assert least_epsilon(1000, 100, 50, 0.0) == 0.0


@nightly
def test_what_a_trained_model_tells_of_canaries_keeps_the_claim() -> None:
    found = audit(CANARIES, GUESSES, 0, SETTINGS)
    assert found.bound <= found.epsilon


@nightly
def test_a_model_that_is_trained_without_privacy_tells_of_its_canaries() -> None:
    """So the guesser can guess: it needs ten times the rounds of the other training, and no clip.

    Eight rounds teach no canary, with noise or without, so that the other test fails alone for a model that tells far
    more than its ε. A noise that is lacking is found by the mechanism's audit (test_mechanism_audit.py).
    """
    assert audit(CANARIES, GUESSES, 0, WITHOUT).bound > 1.0

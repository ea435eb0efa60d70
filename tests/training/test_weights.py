"""Why weights by records are refused: a secret weight is no secret, and records count alike without one."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from p2pfl.errors.optimisers import WeightsTellSizes
from p2pfl.federation import Federation, draft
from p2pfl.keys import Secret
from p2pfl.training.noise.bit_stream import BitStream
from tests.federation.sample import peers_yaml, replaced


@pytest.mark.claim("DP-6")
@pytest.mark.parametrize("word", ["records", "secret"])
def test_weights_that_would_tell_a_sites_size_are_refused_with_the_reason(word: str) -> None:
    with pytest.raises(WeightsTellSizes) as caught:
        Federation.parse(replaced("weights: equal", f"weights: {word}"))
    assert "wherever it lies" in caught.value.render()
    with pytest.raises(WeightsTellSizes):
        draft.override(f"weights={word}")
    assert Federation.parse(peers_yaml()).weights == "equal"


def test_a_secret_weight_is_read_off_the_noise_of_two_sums() -> None:
    """The attack of docs/adr/0048: nobody sends w, and Σw is opened only once, over all sites; x is away in one round.

    Updates without signal, as with a small learning rate: what differs in the two sums is the variance of their noise.
    """
    sizes = {"a": 120, "b": 300, "x": 210}
    assert abs(guessed(sizes, "x") - sizes["x"]) < 3
    alike = dict.fromkeys(sizes, 1)
    assert [round(guessed(alike, name)) for name in sizes] == [1, 1, 1], "without weights no noise tells a size"


def guessed(weights: dict[str, int], away: str) -> float:
    """The weight of the site that is away in the second round, from what the two rounds open."""
    m, std, whole = 200_000, 0.05, sum(weights.values())

    def opened(names: list[str], number: int) -> np.ndarray:
        total = np.zeros(m)
        for name in names:
            stream = BitStream(Secret(hashlib.sha256(f"{name} {number}".encode()).digest()), "training/noise")
            total += weights[name] * stream.normals(m) * std
        return total / whole

    both, without = opened([*weights], 1), opened([name for name in weights if name != away], 2)
    return whole / std * float(np.sqrt(both.var() - without.var()))

"""Every integer comes as often as the discrete Gaussian says, also where no float decides a chance."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from p2pfl.keys import Secret
from p2pfl.training.noise import discrete_gaussian as sampler
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.discrete_gaussian import discrete_gaussian


def bits(number: int = 0) -> BitStream:
    return BitStream(Secret(number.to_bytes(32, "big"), "seed of a test's noise"), "training/noise")


def excess(found: np.ndarray, variance: int) -> float:
    """How many standard deviations χ² of the counts lies above its mean."""
    most = 5 * math.isqrt(variance) + 5
    weights = np.exp(-(np.arange(-most, most + 1) ** 2) / (2.0 * variance))
    expected = weights / weights.sum() * len(found)
    kept = expected > 5
    seen = np.array([np.count_nonzero(found == place) for place in range(-most, most + 1)])
    chi = float(((seen - expected)[kept] ** 2 / expected[kept]).sum())
    return (chi - kept.sum()) / math.sqrt(2 * kept.sum())


@pytest.mark.claim("DP-11")
@pytest.mark.parametrize("variance", [1, 2, 9, 50])
def test_each_integer_comes_as_often_as_it_should(variance: int) -> None:
    assert abs(excess(discrete_gaussian(bits(), 60_000, variance), variance)) < 4


@pytest.mark.claim("DP-11")
def test_where_no_float_decides_they_come_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "MARGIN", 2.0)
    assert abs(excess(discrete_gaussian(bits(), 1200, 4), 4)) < 4


@pytest.mark.parametrize("variance", [10**6, 1 << 62, 1 << 80])
def test_it_is_as_wide_as_asked_for_and_not_lopsided(variance: int) -> None:
    found = discrete_gaussian(bits(), 40_000, variance) / math.sqrt(variance)
    assert abs(found.mean()) < 0.02
    assert abs(found.std() - 1.0) < 0.02
    assert abs((found**4).mean() - 3.0) < 0.15
    assert len(set(found.tolist())) > (30_000 if variance > 1 << 60 else 4000)


def test_each_bit_is_used_once_and_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = bits()
    both = discrete_gaussian(stream, 5, 10**6).tolist() + discrete_gaussian(stream, 5, 10**6).tolist()
    assert len(set(both)) == 10
    assert discrete_gaussian(bits(), 10, 10**6).tolist() == discrete_gaussian(bits(), 10, 10**6).tolist()
    monkeypatch.setattr(sampler, "BLOCK", 100)
    assert abs(excess(discrete_gaussian(bits(1), 30_050, 9), 9)) < 4


def test_a_variance_that_is_none_is_refused() -> None:
    for variance in (0, -1, (1 << 80) + 1):
        with pytest.raises(ValueError, match="σ²"):
            discrete_gaussian(bits(), 1, variance)


class Given:
    """Words that the test chose."""

    def __init__(self, *words: int) -> None:
        self.left = list(words)

    def words(self, count: int) -> np.ndarray:
        found, self.left = self.left[:count], self.left[count:]
        return np.array(found, np.uint64)


def test_a_uniform_number_that_begins_as_the_chance_is_parted_from_it_by_more_bits() -> None:
    """The first 64 bits of exp(−1) say nothing: the next ones do, and as many as it takes."""
    digits = 400
    context = sampler.Context(prec=digits)
    chance = Fraction(context.exp(sampler.Decimal(-1)))
    first, second = (int(chance * (1 << 64 * (place + 1))) % (1 << 64) for place in range(2))
    assert sampler._decided(Given(second - 1), first, Fraction(1))
    assert not sampler._decided(Given(second + 1), first, Fraction(1))
    third = int(chance * (1 << 192)) % (1 << 64)
    assert sampler._decided(Given(second, third - 1), first, Fraction(1))
    assert not sampler._decided(Given(second, third + 1), first, Fraction(1))
    assert sampler._decided(Given(), (1 << 64) - 1, Fraction(0))

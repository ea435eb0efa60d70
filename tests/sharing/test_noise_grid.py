"""The grid of distributed noise: room for the tails, what a record moves at most, and the law of noises together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.distributed_noise import NoiseGridTooCoarse
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.noise_grid import LEAST_SIGMA, SMOOTHED, TAIL, NoiseGrid, noised_words
from tests.examples import examples


def grid(**changed: object) -> NoiseGrid:
    given = {"field": FIELDS[31], "n": 5, "clip": 10.0, "limit": 1.0, "sensitivity": 0.05, "noise": 1.1, "parts": 2}
    return NoiseGrid(**{**given, **changed})  # type: ignore[arg-type]


@given(
    bits=st.sampled_from([31, 61]),
    n=st.integers(3, 20),
    limit=st.floats(0.01, 100.0),
    part=st.floats(1e-3, 10.0),
    noise=st.floats(0.3, 30.0),
    parts=st.integers(1, 14),
)
@examples(200)
def test_every_sites_sum_and_twelve_deviations_fit_into_the_field(
    bits: int, n: int, limit: float, part: float, noise: float, parts: int
) -> None:
    given = {"field": FIELDS[bits], "n": n, "limit": limit, "clip": 10 * limit}
    found = grid(**given, sensitivity=part * limit, noise=noise, parts=parts)
    assert n * (found.most + TAIL * found.sigma) <= FIELDS[bits].half
    assert found.sigma >= LEAST_SIGMA
    assert found.step * found.sigma == pytest.approx(noise * part * limit / math.sqrt(parts), rel=1e-12)


@given(seed=st.integers(0, 1 << 32), length=st.integers(1, 300), loud=st.floats(0.0, 50.0), limit=st.floats(0.05, 2.0))
@examples(150)
def test_a_record_moves_the_steps_by_no_more_than_is_charged_for(
    seed: int, length: int, loud: float, limit: float
) -> None:
    """Whatever is clipped of either neighbour, and however both were rounded to float32 on the way here."""
    dice, found = np.random.default_rng(seed), grid(limit=limit, clip=2 * limit)
    u = dice.normal(size=length) * loud
    record = dice.normal(size=length) * (dice.random(length) < dice.choice([0.05, 0.5, 1.0]))
    record *= found.sensitivity / max(float(np.linalg.norm(record)), 1e-9)
    one, other = (found.steps(each.astype(np.float32)) for each in (u, u + record))
    assert float(np.linalg.norm((one - other).astype(np.float64))) <= found.moved(length)


def test_a_record_that_hits_the_bound_is_nearly_charged_for() -> None:
    """The bound says something: rounding costs it less than one in a thousand here."""
    found = grid()
    assert found.moved(1000) < 1.001 * found.sensitivity / found.step
    assert 0.998 * 1.1 < found.held(1000) < 1.1


@pytest.mark.claim("NOISE-2")
def test_nothing_is_clipped_behind_the_noise_and_a_sum_is_read_back() -> None:
    """Beyond the field's half a word wraps: what it stands for is right modulo p."""
    found, p, half = grid(), FIELDS[31].p, FIELDS[31].half
    noised = np.array([0, 5, -7, half, -half, half + 3, -half - 9, 3 * p + 11], np.int64)
    words = noised_words(FIELDS[31], noised)
    assert [(int(a) - int(b)) % p for a, b in zip(words, noised, strict=True)] == [0] * len(noised)
    assert found.values(words)[:3].tolist() == [0.0, 5 * found.step, -7 * found.step]


def test_a_sum_beyond_what_honest_sites_come_to_is_found() -> None:
    found, length = grid(), 50
    most = found.most + math.floor(TAIL * found.sigma)
    fair = np.full(length, 3 * found.sigma, np.int64)
    assert found.within_bound(noised_words(FIELDS[31], fair), 3)
    assert not found.within_bound(noised_words(FIELDS[31], np.full(1, 3 * most + 3)), 3)
    loud = np.full(length, 3 * found.most, np.int64)  # each coordinate may be, and not all of them
    assert not grid(clip=1.0).within_bound(noised_words(FIELDS[31], loud), 3)


@pytest.mark.parametrize(
    "changed", [{"field": FIELDS[16]}, {"limit": 1e6, "clip": 1e6}, {"sensitivity": 1e-9}], ids=["16", "scale", "rate"]
)
def test_a_grid_too_coarse_for_the_noise_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(NoiseGridTooCoarse):
        grid(**changed)


def test_a_model_too_long_for_the_grid_is_refused() -> None:
    grid().check(1000, 0.99 * 1.1)
    with pytest.raises(NoiseGridTooCoarse) as caught:
        grid(limit=10.0).check(10**8, 0.99 * 1.1)
    assert "charged is 1.0890" in caught.value.evidence


# ── what the accounting stands on (docs/spec/distributed-noise.md §4) ──────────────────────────────────────────


def discrete(variance: float, reach: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * variance))
    return weights / weights.sum()


@pytest.mark.claim("NOISE-1")
@pytest.mark.parametrize(("sigma", "parts"), [(1.0, 2), (1.0, 4), (1.5, 3)])
def test_a_sum_of_discrete_gaussians_is_nearly_one_within_the_proven_bound(sigma: float, parts: int) -> None:
    """Kairouz, Liu, Steinke 2021: all ratios lie within e^±τ. At 1 000 steps τ is below 10^(−4·10⁶)."""
    reach, found = 60, np.array([1.0])
    for _ in range(parts):
        found = np.convolve(found, discrete(sigma**2, reach))
    near = slice(len(found) // 2 - 8, len(found) // 2 + 9)
    ratios = np.log(found[near] / discrete(parts * sigma**2, len(found) // 2)[near])
    tau = 10 * sum(math.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, parts))
    assert np.abs(ratios).max() <= tau
    assert 2 * math.pi**2 * LEAST_SIGMA**2 / 2 > 4e6 * math.log(10)


@pytest.mark.claim("NOISE-1")
def test_a_discrete_gaussian_is_a_rounded_continuous_one_of_little_less_variance() -> None:
    """N(0, σ² − g²), rounded at random by a discrete Gaussian of parameter g = 4 around it, is that of parameter σ."""
    sigma, smooth = 12.0, SMOOTHED
    y = np.linspace(-12 * sigma, 12 * sigma, 120_001)
    density = np.exp(-(y**2) / (2 * (sigma**2 - smooth)))
    density /= density.sum()
    wanted = discrete(sigma**2, 200)
    for k in (0, 1, 7, 25):
        # The kernel's own sum over the integers is the same everywhere but for e^(−2π²·16).
        kernel = np.exp(-((k - y) ** 2) / (2 * smooth)) / math.sqrt(2 * math.pi * smooth)
        assert float((density * kernel).sum()) == pytest.approx(wanted[200 + k], rel=1e-9)
    near = np.arange(-60, 61)
    for shift in (0.0, 0.3, 0.5):
        assert np.exp(-((near - shift) ** 2) / (2 * smooth)).sum() == pytest.approx(math.sqrt(2 * math.pi * smooth))

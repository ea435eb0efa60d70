"""The discrete Gaussian is exact: integers alone decide, each piece has its probability, the whole has its law."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest

from p2pfl.keys import Secret
from p2pfl.training.noise import steps as file
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.steps import MOST_SIGMA, noise_steps

VECTOR = Path(__file__).parent / "vectors" / "noise-steps.json"
MANY = 60_000


def stream(name: str = "a") -> BitStream:
    return BitStream(Secret(hashlib.sha256(name.encode()).digest()), "training/discrete-noise")


def pmf(sigma: int, reach: int) -> np.ndarray:
    """exp(−k²/2σ²) for k = −reach … reach, over their sum."""
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2.0 * sigma * sigma))
    return weights / weights.sum()


@pytest.mark.claim("NOISE-2")
@pytest.mark.parametrize("sigma", [1, 2, 7])
def test_each_integer_comes_with_its_probability(sigma: int) -> None:
    reach = 4 * sigma
    found = noise_steps(stream(), MANY, sigma)
    inside = found[np.abs(found) <= reach]
    counts = np.bincount(inside + reach, minlength=2 * reach + 1)
    wanted = pmf(sigma, reach) * len(inside)
    chi = float(((counts - wanted) ** 2 / wanted).sum())
    assert chi < 2 * reach + 5 * math.sqrt(4 * reach), "five deviations of a chi-square of that many freedoms"


@pytest.mark.claim("NOISE-2")
@pytest.mark.parametrize("sigma", [1000, 123_457, MOST_SIGMA])
def test_a_wide_one_has_the_moments_of_a_gaussian_and_independent_neighbours(sigma: int) -> None:
    found = noise_steps(stream(), MANY, sigma) / sigma
    assert abs(found.mean()) < 5 / math.sqrt(MANY)
    assert abs(found.var() - 1) < 5 * math.sqrt(2 / MANY)
    assert abs((found**4).mean() - 3) < 5 * math.sqrt(96 / MANY)
    assert abs((found[1:] * found[:-1]).mean()) < 5 / math.sqrt(MANY)


@pytest.mark.parametrize(("above", "below"), [(0, 1), (1, 1), (1, 3), (7, 2), (5, 5)])
def test_a_decision_is_true_with_its_exponential(above: int, below: int) -> None:
    found = file._exponential(stream(), np.full(MANY, above), below)
    chance = math.exp(-above / below)
    assert abs(found.mean() - chance) <= 5 * math.sqrt(chance * (1 - chance) / MANY)


@pytest.mark.parametrize("bound", [1, 2, 3, 1000, (1 << 62) - 57])
def test_integers_below_a_bound_are_uniform(bound: int) -> None:
    found = file._below(stream(), MANY, bound)
    assert found.min() >= 0 and found.max() < bound
    assert abs((found / bound).mean() - (bound - 1) / bound / 2) < 5 / math.sqrt(12 * MANY)


@pytest.mark.claim("NOISE-2")
def test_no_float_decides_anything() -> None:
    """In the whole file there is no float, no division but that of integers, and no random number of another's."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(file))))
    assert not any(isinstance(one, ast.Constant) and isinstance(one.value, float) for one in nodes)
    assert not any(isinstance(one, ast.Div) for one in nodes)
    names = {one.attr for one in nodes if isinstance(one, ast.Attribute)}
    assert not names & {"random", "exp", "log", "sqrt", "float64", "normals", "uniforms"}
    assert noise_steps(stream(), 10, 5).dtype == np.int64


def test_the_draws_are_those_of_the_vector() -> None:
    told = json.loads(VECTOR.read_text())
    source = BitStream(Secret(bytes.fromhex(told["secret"])), told["label"], bytes.fromhex(told["context"]))
    found = noise_steps(source, told["count"], told["sigma"])
    assert found[: len(told["first"])].tolist() == told["first"]
    assert hashlib.sha256(found.astype("<i8").tobytes()).hexdigest() == told["sha256"]


@pytest.mark.parametrize("sigma", [0, -1, MOST_SIGMA + 1])
def test_a_sigma_for_which_the_integers_have_no_room_is_refused(sigma: int) -> None:
    with pytest.raises(ValueError, match="sigma"):
        noise_steps(stream(), 1, sigma)


def test_products_fit_where_sigma_is_largest() -> None:
    """The largest proposal's square, and the largest bound of a draw: its factor grows by one at a time."""
    assert ((file.FAR - 1) * MOST_SIGMA) ** 2 < 1 << 63
    assert 2 * MOST_SIGMA**2 * 1000 < 1 << 63, "after k failures in a row with a chance of 1/k!"

"""Carriers are orthonormal, public, the same bits everywhere; θ and the model's change are each other's transpose."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.federation.optimisers import ModelAverage, ServerOptimiser
from p2pfl.keys import Secret, digest
from p2pfl.training.compression import subspace as file
from p2pfl.training.compression.subspace import Expanded, Subspace, length_of, orthonormal, ranks
from p2pfl.training.model.state import StateLayout
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.server import after
from p2pfl.training.update import TensorLayout
from tests.examples import examples

VECTOR = Path(__file__).parent / "vectors" / "subspace.json"
LAYOUT = TensorLayout((("conv.weight", (16, 8, 3, 3)), ("conv.bias", (16,)), ("fc.weight", (40, 30)), ("out", (2, 40))))


def vectors(seed: int, layout: TensorLayout = LAYOUT) -> tuple[np.ndarray, np.ndarray]:
    """A first model and one that has moved."""
    dice = np.random.default_rng(seed)
    first = dice.uniform(-1, 1, layout.parameters).astype(np.float32)
    return first, first + dice.uniform(-0.1, 0.1, layout.parameters).astype(np.float32)


def subspace(seed: int = 1, density: float = 0.3) -> Subspace:
    return Subspace.of(LAYOUT, density, *vectors(seed))


@given(seed=st.integers(0, 1 << 32), density=st.floats(0.001, 1.0))
@examples(30)
def test_what_is_projected_and_what_is_expanded_are_each_others_transpose(seed: int, density: float) -> None:
    space, dice = subspace(seed, density), np.random.default_rng(seed)
    theta, change = dice.normal(size=space.length), dice.normal(size=LAYOUT.parameters)
    one, other = float(space.expand(theta) @ change), float(theta @ space.project(change))
    assert abs(one - other) <= 1e-9 * (1 + abs(one))


@given(seed=st.integers(0, 1 << 32), density=st.floats(0.001, 1.0))
@examples(30)
def test_a_change_is_no_longer_than_its_theta(seed: int, density: float) -> None:
    """So what is clipped in θ is clipped in the model too."""
    space = subspace(seed, density)
    theta = np.random.default_rng(seed).normal(size=space.length)
    assert np.linalg.norm(space.expand(theta)) <= np.linalg.norm(theta) * (1 + 1e-12)


@given(seed=st.integers(0, 1 << 32), density=st.floats(0.001, 1.0))
@examples(20)
def test_a_change_that_is_expanded_in_blocks_moves_a_model_by_the_same_bits(seed: int, density: float) -> None:
    space, theta = subspace(seed, density), np.random.default_rng(seed).normal(size=length_of(LAYOUT, density))
    _, model = vectors(seed)
    for server in (ServerOptimiser(), ServerOptimiser("momentum", learning_rate=0.7, momentum=0.5)):
        layout = StateLayout.of(LAYOUT, server, ModelAverage())
        state = layout.first(model, server)
        found, whole = (
            after(state, server, ModelAverage(), one, 3) for one in (Expanded(space, theta), space.expand(theta))
        )
        assert found is not None and whole is not None
        assert found.data.tobytes() == whole.data.tobytes()
    with pytest.raises(ValueError, match="float64"):
        after(
            state,
            ServerOptimiser(),
            ModelAverage(),
            Expanded(smaller := Subspace(space.pieces[:1]), np.zeros(smaller.length)),
            3,
        )


def test_blocks_of_a_change_cover_it_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    space = subspace()
    theta = np.random.default_rng(0).normal(size=space.length)
    whole = space.expand(theta)
    monkeypatch.setattr(file, "BLOCK", 100)
    blocks = list(Expanded(space, theta).blocks())
    assert [one.start for one, _ in blocks] == [0, *(one.stop for one, _ in blocks[:-1])]
    assert blocks[-1][0].stop == LAYOUT.parameters
    assert max(change.size for _, change in blocks) <= 100
    assert np.concatenate([change for _, change in blocks]).tobytes() == whole.tobytes()


@given(seed=st.integers(0, 1 << 32))
@examples(20)
def test_a_change_of_the_rank_of_the_carriers_is_found_again_whole(seed: int) -> None:
    """Of what has moved, the directions in which it has moved are those that it may move in next."""
    first, _ = vectors(seed)
    rank = max(ranks(LAYOUT, 0.3))
    dice, moved = np.random.default_rng(seed), np.zeros(LAYOUT.parameters)
    for (start, stop), (rows, columns) in (((0, 1152), (16, 72)), ((1168, 2368), (40, 30))):
        moved[start:stop] = (dice.normal(size=(rows, rank)) @ dice.normal(size=(rank, columns))).ravel()
    model = first + moved.astype(np.float32)
    change = model.astype(np.float64) - first
    space = Subspace.of(LAYOUT, 0.3, first, model)
    assert np.allclose(space.expand(space.project(change)), change, atol=1e-5)


def few_moved(first: np.ndarray) -> np.ndarray:
    model = first.copy()
    model[1168:1198] += 1.0  # one row of fc
    return model


@pytest.mark.parametrize(
    "moved",
    [
        lambda first: first,
        few_moved,
        lambda first: first + np.float32(1e-30),
        lambda first: first * np.float32(1e30),
        lambda first: first + np.float32(1.0),  # rank one
    ],
    ids=["nothing", "one row", "less than a float", "much", "everything alike"],
)
def test_carriers_are_orthonormal_whatever_has_moved(moved: object) -> None:
    first, _ = vectors(3)
    space = Subspace.of(LAYOUT, 0.5, first, moved(first))  # type: ignore[operator]
    for piece in space.pieces:
        for carriers in (piece.left, piece.right):
            assert np.allclose(carriers.T @ carriers, np.eye(piece.rank), atol=1e-12)


def test_columns_of_one_span_are_filled_up_with_others() -> None:
    dice = np.random.default_rng(0)
    found = orthonormal(np.ones((10, 3)), lambda: dice.normal(size=10))
    assert np.allclose(found.T @ found, np.eye(3), atol=1e-12)
    assert np.allclose(np.abs(found[:, 0]), 10**-0.5)


@given(density=st.floats(0.0001, 1.0))
@examples(50)
def test_the_rank_is_the_largest_that_the_density_pays_for(density: float) -> None:
    chosen = ranks(LAYOUT, density)
    rank = max(chosen)
    assert rank in (0, 1) or length_of(LAYOUT, density) <= density * LAYOUT.parameters
    assert rank >= 1 or density > 0.5  # else the whole model would fit
    assert all(one in (0, rank) for one in chosen)
    assert chosen[1] == chosen[3] == 0  # a bias, and a matrix of 80 entries


def test_a_model_of_small_tensors_trains_whole() -> None:
    layout = TensorLayout((("weight", (1, 20)), ("bias", (1,))))
    space = Subspace.of(layout, 0.01, *vectors(1, layout))
    theta = np.arange(21.0)
    assert np.array_equal(space.expand(theta), theta)
    assert np.array_equal(space.project(theta), theta)


def test_the_bits_do_not_follow_from_how_much_is_worked_on_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = subspace(5)
    theta = np.random.default_rng(5).normal(size=found.length)
    change = found.expand(theta)
    for block in (1, 100, 5000):
        monkeypatch.setattr(file, "BLOCK", block)
        again = subspace(5)
        assert again.digest == found.digest
        assert again.expand(theta).tobytes() == change.tobytes()


def test_the_first_round_has_carriers_that_the_first_model_alone_decides() -> None:
    first, other = vectors(8)
    same, again, unlike = (Subspace.of(LAYOUT, 0.3, one, one).digest for one in (first, first.copy(), other))
    assert same == again != unlike


def test_the_bits_are_those_of_the_vector() -> None:
    """Other machines, other releases of numpy: the same carriers and the same change."""
    told = json.loads(VECTOR.read_text())
    layout = TensorLayout(tuple((name, tuple(shape)) for name, shape in told["layout"]))
    first = np.frombuffer(bytes.fromhex(told["first"]), "<f4").copy()
    model = np.frombuffer(bytes.fromhex(told["model"]), "<f4").copy()
    space = Subspace.of(layout, told["density"], first, model)
    theta = np.frombuffer(bytes.fromhex(told["theta"]), "<f8").copy()
    assert [space.digest.hex(), space.expand(theta).astype("<f8").tobytes().hex()] == [told["digest"], told["change"]]


def folded(terms: list[float]) -> float:
    """A sum by halves, one number at a time."""
    while len(terms) > 1:
        half = (len(terms) + 1) // 2
        terms = [
            one + (terms[half + place] if half + place < len(terms) else 0.0) for place, one in enumerate(terms[:half])
        ]
    return terms[0]


def test_carriers_are_those_of_single_numbers_in_the_order_that_is_specified() -> None:
    """Rank one, in Python's own floats: three times l = Hr/‖Hr‖, r = Hᵀl/‖Hᵀl‖."""
    layout = TensorLayout((("w", (26, 25)),))
    first, model = vectors(4, layout)
    (piece,) = Subspace.of(layout, 0.1, first, model).pieces
    h = [
        [float(a) - float(b) for a, b in zip(*rows, strict=True)]
        for rows in zip(model.reshape(26, 25), first.reshape(26, 25), strict=True)
    ]
    named = digest("carriers", layout.digest, model.tobytes())
    stream = BitStream(Secret(named), "training/carriers", b"w")
    right = [2.0 * float(one) - 1.0 for one in stream.uniforms(25)]

    def unit(column: list[float]) -> list[float]:
        for _ in range(2):
            length = math.sqrt(folded([one * one for one in column]))
            column = [one / length for one in column]
        return column

    for _ in range(3):
        left = unit([folded([x * y for x, y in zip(row, right, strict=True)]) for row in h])
        right = unit([folded([x * y for x, y in zip(row, left, strict=True)]) for row in zip(*h, strict=True)])
    assert (piece.left[:, 0].tolist(), piece.right[:, 0].tolist()) == (left, right)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_theta_or_a_change_of_another_length_is_refused(wrong: int) -> None:
    space = subspace()
    with pytest.raises(ValueError, match="shape"):
        space.expand(np.zeros(space.length + 1 - 2 * wrong))
    with pytest.raises(ValueError, match="shape"):
        space.project(np.zeros(space.parameters - 1 + 2 * wrong))

"""Vectors and models: nothing moves on the way, the first model is the same bits everywhere, the mean is exact."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from p2pfl.training.update import BLOCK, TensorLayout, apply_mean, first_model, layout_of, read_vector, write_vector
from tests.training.settings import Images, Small
from tests.training.vectors.generate import vectors

VECTOR = Path(__file__).parent / "vectors" / "first-model.json"


def test_a_vector_written_into_a_model_is_read_back_bit_for_bit() -> None:
    model = Images().model()
    vector = np.arange(layout_of(model).parameters, dtype=np.float32) / 7
    write_vector(model, vector)
    assert read_vector(model).tobytes() == vector.tobytes()


def test_names_and_shapes_follow_the_model_and_frozen_parameters_stay_out() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    model[0].bias.requires_grad_(False)
    layout = layout_of(model)
    assert layout.tensors == (("0.weight", (3, 4)), ("1.weight", (1, 3)), ("1.bias", (1,)))
    assert layout.parameters == len(read_vector(model)) == 16


def test_another_shape_or_name_is_another_digest() -> None:
    first = TensorLayout((("w", (2, 3)),))
    assert len({first.digest, TensorLayout((("w", (3, 2)),)).digest, TensorLayout((("v", (2, 3)),)).digest}) == 3
    assert first.digest == TensorLayout((("w", (2, 3)),)).digest


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="parameters"):
        TensorLayout((("w", (2, 3)),)).split(np.zeros(5, dtype=np.float32))


def test_the_first_model_does_not_depend_on_torch_but_on_the_public_seed() -> None:
    torch.manual_seed(1)
    first = first_model(Images().model(), bytes(32))
    torch.manual_seed(2)
    assert first.tobytes() == first_model(Images().model(), bytes(32)).tobytes()
    assert first.tobytes() != first_model(Images().model(), bytes(31) + b"\1").tobytes()


def test_the_first_model_is_the_pinned_vector() -> None:
    vector = json.loads(VECTOR.read_text())
    found = first_model(Small().model(), bytes.fromhex(vector["seed"]))
    assert found.astype("<f4").tobytes().hex() == vector["small"]
    images = first_model(Images().model(), bytes.fromhex(vector["seed"]))
    assert hashlib.sha256(images.astype("<f4").tobytes()).hexdigest() == vector["images_sha256"]


def test_norms_start_at_one_biases_at_zero_and_weights_within_their_bound() -> None:
    model = Images().model()
    named = layout_of(model).split(first_model(model, bytes(32)))
    assert np.all(named["1.weight"] == 1)
    assert np.all(named["1.bias"] == 0)
    assert np.all(named["0.bias"] == 0)
    bound = 1 / np.sqrt(32 * 7 * 7)
    assert np.abs(named["9.weight"]).max() <= np.float32(bound)
    assert abs(named["9.weight"].std() / (bound / np.sqrt(3)) - 1) < 0.01


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(1, 20))
def test_the_mean_is_applied_in_float64_and_rounded_once(values: list[float], survivors: int) -> None:
    total = np.array(values)
    model = np.linspace(-3, 3, len(values)).astype(np.float32)
    wanted = [np.float32(float(m) + t / survivors) for m, t in zip(model, values, strict=True)]
    assert apply_mean(model, total, survivors).tobytes() == np.array(wanted, dtype=np.float32).tobytes()


def test_the_mean_of_a_large_model_is_that_of_each_of_its_parts() -> None:
    draw = np.random.default_rng(7)
    model, total = draw.standard_normal(2 * BLOCK + 5).astype(np.float32), draw.standard_normal(2 * BLOCK + 5)
    parts = [apply_mean(model[at : at + 1000], total[at : at + 1000], 3) for at in range(0, model.size, 1000)]
    assert apply_mean(model, total, 3).tobytes() == np.concatenate(parts).tobytes()


@given(st.data(), st.integers(1, 20))
def test_a_mean_on_a_support_is_the_mean_that_is_zero_elsewhere(data: st.DataObject, survivors: int) -> None:
    model = np.array([0.0, -0.0, 1.5, -3.25, 1e-45, 7.0, -0.0, 2.0], dtype=np.float32)
    places = data.draw(st.lists(st.integers(0, model.size - 1), unique=True).map(sorted))
    support = np.array(places, dtype=np.int64)
    sums = np.array(data.draw(st.lists(st.floats(-9.0, 9.0), min_size=len(places), max_size=len(places))), np.float64)
    whole = np.zeros(model.size)
    whole[support] = sums
    before = model.copy()
    assert apply_mean(model, sums, survivors, support).tobytes() == apply_mean(model, whole, survivors).tobytes()
    assert model.tobytes() == before.tobytes()
    with pytest.raises(ValueError, match="float64"):
        apply_mean(model, np.append(sums, 0.0), survivors, support)


def test_what_does_not_fit_is_refused_rather_than_broadcast() -> None:
    model = np.zeros(3, dtype=np.float32)
    for total, survivors in ((np.zeros(1), 2), (np.zeros(3, dtype=np.float32), 2), (np.zeros(3), 0)):
        with pytest.raises(ValueError):
            apply_mean(model, total, survivors)


def test_the_vectors_are_those_that_their_script_writes() -> None:
    for name, vector in vectors().items():
        assert json.loads((VECTOR.parent / name).read_text()) == vector

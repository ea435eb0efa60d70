"""The keystream: what it draws is exact, uniform, normal, and never torch's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from p2pfl.keys import Secret, derive
from p2pfl.training.noise.bit_stream import BLOCK_WORDS, BitStream
from p2pfl.training.records.sampling import poisson_batches, shuffled_batches
from tests.training.settings import draw_of

SEED = bytes(range(32))


def stream(name: str = "a") -> BitStream:
    return BitStream(Secret(hashlib.sha256(name.encode()).digest()), "training/noise")


def test_the_words_are_the_bytes_of_aes_ctr_under_the_derived_key() -> None:
    key = derive(SEED, "training/noise", b"")
    plain = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(8 * 5))
    found = BitStream(Secret(SEED), "training/noise").words(5)
    assert found.astype("<u8").tobytes() == plain


def test_no_part_of_the_stream_is_handed_out_twice_whatever_the_cuts() -> None:
    whole = stream().words(BLOCK_WORDS + 7)
    parts = stream()
    joined = np.concatenate([parts.words(1), parts.words(BLOCK_WORDS - 3), parts.words(9)])
    assert np.array_equal(whole, joined)


def test_another_label_or_secret_or_context_is_another_stream() -> None:
    first = stream().words(4)
    others = [
        stream("b"),
        BitStream(Secret(hashlib.sha256(b"a").digest()), "training/sampling"),
        BitStream(Secret(hashlib.sha256(b"a").digest()), "training/noise", b"context"),
    ]
    assert not any(np.array_equal(first, other.words(4)) for other in others)


def test_uniforms_lie_in_the_half_open_unit_interval_on_the_53_bit_grid() -> None:
    found = stream().uniforms(10_000)
    assert found.min() >= 0.0
    assert found.max() < 1.0
    assert np.array_equal(found * 2.0**53, np.floor(found * 2.0**53))


def test_normals_have_the_moments_of_a_standard_normal() -> None:
    count = 400_000
    found = stream().normals(count)
    assert abs(found.mean()) < 5 / np.sqrt(count)
    assert abs(found.std() - 1) < 5 / np.sqrt(2 * count)
    assert abs((found**3).mean()) < 5 * np.sqrt(15 / count)
    assert abs((found**4).mean() - 3) < 5 * np.sqrt(96 / count)
    # Neighbours, and the two halves that come from one pair of uniforms, are uncorrelated.
    assert abs((found[:-1] * found[1:]).mean()) < 5 / np.sqrt(count)
    assert abs((found[: count // 2] * found[count // 2 :]).mean()) < 5 / np.sqrt(count // 2)
    assert abs((found[: count // 2] ** 2 * found[count // 2 :] ** 2).mean() - 1) < 5 * np.sqrt(8 / (count // 2))


def test_normals_do_not_depend_on_torch_and_numpy_seeds() -> None:
    first = stream().normals(10)
    torch.manual_seed(3)
    np.random.seed(3)
    assert np.array_equal(first, stream().normals(10))


def test_a_draw_is_true_with_its_probability_and_always_at_one() -> None:
    count, rate = 200_000, 0.02
    hits = int(stream().below(count, rate).sum())
    assert abs(hits - count * rate) < 5 * np.sqrt(count * rate * (1 - rate))
    assert stream().below(1000, 1.0).all()


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        stream().below(1, probability)


def test_a_secret_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        BitStream(Secret(bytes(16)), "training/noise")


def test_each_record_is_in_each_batch_with_the_rate_independently() -> None:
    records, rate, steps = 50, 0.1, 4000
    seen = np.zeros((steps, records))
    for step, rows in enumerate(poisson_batches(stream(), records, rate, steps)):
        seen[step, rows] = 1
    spread = np.sqrt(rate * (1 - rate) / steps)
    assert np.abs(seen.mean(axis=0) - rate).max() < 5 * spread
    sizes = seen.sum(axis=1)
    # Poisson sampling: the size of a batch is binomial, so it varies; shuffled batches of fixed size do not.
    assert abs(sizes.var() - records * rate * (1 - rate)) < 0.5
    assert abs(np.mean(seen[:, 0] * seen[:, 1]) - rate**2) < 5 * rate / np.sqrt(steps)


def test_empty_batches_are_yielded_and_counted() -> None:
    batches = list(poisson_batches(stream(), 3, 0.02, 500))
    assert len(batches) == 500
    assert sum(len(rows) == 0 for rows in batches) > 400


def test_a_shuffled_pass_has_every_record_once() -> None:
    rows = np.concatenate(list(shuffled_batches(stream(), 103, 16)))
    assert sorted(rows.tolist()) == list(range(103))


def test_the_stream_is_that_of_the_pinned_vector() -> None:
    vector = json.loads((Path(__file__).parent / "vectors" / "keystream.json").read_text())
    source = BitStream(Secret(bytes.fromhex(vector["secret"])), vector["label"], bytes.fromhex(vector["context"]))
    assert [f"{word:016x}" for word in source.words(len(vector["words"]))] == vector["words"]


def test_the_draws_of_these_tests_differ_by_name() -> None:
    assert draw_of("a")(32) != draw_of("b")(32)

"""The compiled loops and numpy give the same bits: each is checked against the other, for every field."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.sharing import ValueNotFinite, WordOutOfRange
from p2pfl.sharing import chunks, kernel
from p2pfl.sharing.field import FIELDS, Field, Words
from p2pfl.sharing.forms import MOST_WORDS, Forms
from p2pfl.sharing.masking import combine
from p2pfl.sharing.prg import Keystream, expand
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import examples
from tests.simulate import promises

LOOPS = kernel.COMPILED
pytestmark = pytest.mark.skipif(
    LOOPS is None, reason="the compiled loops are not built here, or not for this processor"
)

FIELD = st.sampled_from(list(FIELDS.values()))
LENGTH = st.one_of(st.integers(0, 70), st.integers(1020, 1030), st.integers(4090, 9000))  # round a block, and a chunk
SEED = st.integers(0, 2**32)
KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def compiled_again() -> Iterator[None]:
    yield
    kernel.COMPILED = LOOPS


def drawn(field: Field, size: int, seed: int) -> Words:
    return np.random.default_rng(seed).integers(0, field.p, size, dtype=np.uint64).astype(field.dtype)


def without(loops: bool) -> None:
    kernel.COMPILED = None if loops else LOOPS


@given(FIELD, LENGTH, st.integers(0, 9), st.integers(0, 4), st.integers(0, 4), SEED)
@examples(150)
def test_masks_are_the_same(field: Field, size: int, start: int, plus: int, minus: int, seed: int) -> None:
    x, keys = drawn(field, size, seed), [secrets.token_bytes(32) for _ in range(plus + minus)]
    masked = combine(x, keys[:plus], keys[plus:], field, start)
    without(loops=True)
    assert np.array_equal(masked, combine(x, keys[:plus], keys[plus:], field, start))
    without(loops=False)


@given(FIELD, LENGTH, st.integers(0, 9), st.integers(0, 4), st.integers(0, 4), SEED)
@examples(60)
def test_masks_of_nothing_are_the_same(field: Field, size: int, start: int, plus: int, minus: int, seed: int) -> None:
    """And what lay where they are made is not read."""
    keys = [secrets.token_bytes(32) for _ in range(plus + minus)]
    made, same = drawn(field, size, seed), drawn(field, size, seed + 1)
    combine(None, keys[:plus], keys[plus:], field, start, made)
    without(loops=True)
    combine(None, keys[:plus], keys[plus:], field, start, same)
    assert np.array_equal(made, same)
    assert np.array_equal(made, combine(field.zeros(size), keys[:plus], keys[plus:], field, start))
    without(loops=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loops", [True, False])
def test_floats_of_the_other_byte_order_become_the_same_words(
    loops: bool, dtype: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not loops:
        monkeypatch.setattr(kernel, "COMPILED", None)
    values = np.random.default_rng(3).uniform(-1.2, 1.2, 3000).astype(dtype)
    swapped = values.astype(values.dtype.newbyteorder())
    quantiser = Quantiser(FIELDS[31], 4, 0.0, 1.0, False)
    assert quantiser.count_over(swapped) == quantiser.count_over(values) > 0
    words, _ = quantiser.quantise(swapped, bytes(32), bytes(32))
    assert np.array_equal(words, quantiser.quantise(values, bytes(32), bytes(32))[0])


@pytest.mark.parametrize("bits", FIELDS)
def test_a_word_that_is_refused_takes_its_place_from_the_next_streams(bits: int) -> None:
    """In 16 bits one word of 4 369 is refused: some of these are refused twice."""
    field = FIELDS[bits]
    size = 400_000
    masked = combine(field.zeros(size), [KEY], [], field)
    without(loops=True)
    assert np.array_equal(masked, expand(KEY, field, 0, size))


def test_some_words_are_refused_there() -> None:
    field = FIELDS[16]
    stream = np.empty(400_000, field.dtype)
    Keystream(KEY, 1).fill(stream)
    assert np.count_nonzero(stream >= field.p) > 50


@given(FIELD, LENGTH, st.integers(1, 6), st.integers(0, 5), SEED)
@examples(100)
def test_sums_are_the_same(field: Field, size: int, plus: int, minus: int, seed: int) -> None:
    vectors = [drawn(field, size, seed + each) for each in range(plus + minus)]
    total = field.combine(vectors[:plus], vectors[plus:])
    without(loops=True)
    assert np.array_equal(total, field.combine(vectors[:plus], vectors[plus:]))
    without(loops=False)


@given(FIELD, LENGTH.filter(bool), st.integers(2, 5), st.integers(0, 7), SEED)
@examples(100)
def test_words_of_a_letter_are_read_wherever_they_begin(
    field: Field, size: int, count: int, offset: int, seed: int
) -> None:
    vectors = [drawn(field, size, seed + each) for each in range(count)]
    letters = [memoryview(bytes(offset) + vector.tobytes())[offset:] for vector in vectors]
    assert np.array_equal(field.sum([field.from_bytes(letter) for letter in letters]), field.sum(vectors))
    spoilt = vectors[0].copy()
    spoilt[seed % size] = field.p
    for loops in (True, False):
        without(loops)
        with pytest.raises(WordOutOfRange) as raised:
            field.from_bytes(memoryview(bytes(offset) + spoilt.tobytes())[offset:])
        assert f"word {seed % size} of {size} " in raised.value.evidence
    without(loops=False)


@given(FIELD, st.one_of(st.integers(1, 70), st.integers(260_000, MOST_WORDS)), st.booleans(), SEED)
@examples(60)
def test_tags_are_the_same(field: Field, size: int, largest: bool, seed: int) -> None:
    words = np.full(size, field.p - 1, field.dtype) if largest else drawn(field, size, seed)
    challenge = seed.to_bytes(32, "big")
    tag = Forms(challenge, field).tag(words)
    assert Forms(challenge, field).tag(np.frombuffer(memoryview(b"-" + words.tobytes())[1:], field.dtype)) == tag
    without(loops=True)
    assert Forms(challenge, field).tag(words) == tag
    without(loops=False)


@given(FIELD, LENGTH, st.sampled_from([0.0, 0.5, 1e6]), st.booleans(), st.booleans(), SEED)
@examples(100)
def test_floats_become_the_same_words_and_words_the_same_floats(
    field: Field, size: int, clip: float, rotate: bool, single: bool, seed: int
) -> None:
    quantiser = Quantiser(field, 5, clip, 1.0, rotate)
    values = np.random.default_rng(seed).normal(size=size)
    values[: size // 3] = np.round(values[: size // 3])  # nothing to round, and the limit itself
    u, rounding = values.astype(np.float32 if single else np.float64), secrets.token_bytes(32)

    def all_of_it() -> tuple[bytes, int, bytes, bool, bool]:
        words, cut = quantiser.quantise(u, bytes(32), rounding)
        back = quantiser.dequantise(words, bytes(32), size)
        return words.tobytes(), cut, back.tobytes(), quantiser.within_bound(words, 1), quantiser.within_bound(words, 5)

    compiled = all_of_it()
    without(loops=True)
    assert compiled == all_of_it()
    without(loops=False)


@given(FIELD, LENGTH.filter(bool), SEED)
@examples(50)
def test_the_extent_of_any_words_is_the_same(field: Field, size: int, seed: int) -> None:
    quantiser = Quantiser(field, 5, 1.0, 1.0, False)
    words = drawn(field, size, seed)
    compiled = quantiser._extent(words)
    without(loops=True)
    assert compiled == quantiser._extent(words)
    without(loops=False)


@given(LENGTH, st.sampled_from([np.float32, np.float64]), st.floats(0.01, 3.0), SEED)
@examples(100)
def test_as_many_floats_lie_over_the_limit(size: int, dtype: type[Any], limit: float, seed: int) -> None:
    quantiser = Quantiser(FIELDS[31], 5, 0.0, limit, False)
    values = np.random.default_rng(seed).normal(size=size).astype(dtype)
    values[::7] = dtype(limit)
    values[1::7] = -dtype(limit)
    over = quantiser.count_over(values)
    without(loops=True)
    assert over == quantiser.count_over(values)
    without(loops=False)


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_is_refused_by_its_place(loops: bool, odd: float, dtype: type[Any]) -> None:
    quantiser = Quantiser(FIELDS[31], 5, 0.0, 1.0, False)
    without(loops=loops)
    for place in (0, 1023, 1024, 4999):
        values = np.full(5000, np.finfo(dtype).max, dtype)
        values[place] = odd
        with pytest.raises(ValueNotFinite) as counted:
            quantiser.count_over(values)
        with pytest.raises(ValueNotFinite) as rounded:
            quantiser.quantise(values, KEY, KEY)
        assert counted.value.evidence == rounded.value.evidence == f"coordinate {place} of 5000"


@pytest.mark.parametrize("bits", FIELDS)
def test_words_at_an_odd_address_are_summed_as_well(bits: int) -> None:
    field = FIELDS[bits]
    plain = drawn(field, 5000, 1)
    odd = np.frombuffer(b"\0" + plain.tobytes(), np.uint8)[1:].view(field.dtype)
    assert not odd.flags.aligned
    assert np.array_equal(field.sum([odd, odd, plain]), field.sum([plain, plain, plain]))
    assert np.array_equal(combine(odd, [bytes(32)], [], field), combine(plain, [bytes(32)], [], field))


def test_lengths_that_do_not_fit_are_refused_before_anything_is_read() -> None:
    assert LOOPS is not None
    words, short, floats = np.zeros(8, "<u4"), np.zeros(7, "<u4"), np.zeros(8)
    p = FIELDS[31].p
    with pytest.raises(ValueError, match="fit"):
        LOOPS.combine(short, words, [bytes(32)], [], 4, p, 0)
    with pytest.raises(ValueError, match="key of 32"):
        LOOPS.combine(words, words, [bytes(31)], [], 4, p, 0)
    with pytest.raises(ValueError, match="lengths"):
        LOOPS.add_up(words, [words, short], [], 4, p)
    with pytest.raises(ValueError, match="lengths"):
        LOOPS.decode(floats, short, 1.0, 4, p)
    with pytest.raises(ValueError, match="fit"):
        LOOPS.extent(words, 4, p, 5)
    with pytest.raises(ValueError, match="no field"):
        LOOPS.extent(words, 4, p - 2, 0)


def by_numpy(peer: SimulatedPeer) -> None:
    """This peer alone does all that it does without the compiled loops."""
    mortal = peer._mortal

    def without_them(act: Callable[[], None]) -> None:
        without(loops=True)
        try:
            mortal(act)
        finally:
            without(loops=False)

    peer._mortal = without_them  # type: ignore[method-assign]


@pytest.mark.parametrize("bits", FIELDS)
def test_peers_with_them_and_peers_without_make_one_round(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes chunks, sums and tags of the others, and signs the same digests of the masked sums and of the sum."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4096)
    federation = SimulatedFederation(4, length=9_001, bits=bits)
    for name in ("site-1", "site-3"):
        by_numpy(federation.peers[name])
    federation.run()
    promises.check(federation)
    for peer in federation.peers.values():
        assert peer.disk.totals[0][0].words.tolist() == federation.expected(1)
    assert len({tuple(peer.disk.ledger) for peer in federation.peers.values()}) == 1


def test_what_is_in_use_is_told() -> None:
    assert kernel.in_use() in ("VAES", "AES-NI")
    without(loops=True)
    assert kernel.in_use() == "numpy"

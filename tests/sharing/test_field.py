"""Field arithmetic against Python integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.sharing import NotInField, ShareCountWrong, WordOutOfRange, WordsMissized
from p2pfl.sharing.field import BLOCK_BYTES, FIELDS, Field, Words, blocks
from tests.examples import examples

ALL = [*FIELDS.values(), Field("test", 5, 2), Field("test", 251, 2), Field("test", 2**32 - 5, 4)]
fields = st.sampled_from(ALL)


def words(values: Sequence[int], field: Field) -> Words:
    return np.array(values, field.dtype)


def residues(field: Field) -> st.SearchStrategy[int]:
    """Uniform, and the edges where a carry or a borrow decides."""
    near = sorted({0, 1, field.half, field.half + 1, field.p - 1, min(field.delta, field.p - 1)})
    return st.one_of(st.sampled_from(near), st.integers(0, field.p - 1))


@given(st.data(), fields)
def test_add_and_subtract_are_those_of_the_integers_mod_p(data: st.DataObject, field: Field) -> None:
    x = data.draw(st.lists(residues(field), min_size=1, max_size=20))
    y = data.draw(st.lists(residues(field), min_size=len(x), max_size=len(x)))
    a, b = words(x, field), words(y, field)
    assert field.add(a, b).tolist() == [(u + v) % field.p for u, v in zip(x, y, strict=True)]
    assert field.subtract(a, b).tolist() == [(u - v) % field.p for u, v in zip(x, y, strict=True)]
    assert (a.tolist(), b.tolist()) == (x, y)


@given(st.data(), fields)
def test_a_long_combination_keeps_exact_whatever_its_order(data: st.DataObject, field: Field) -> None:
    rows = data.draw(st.lists(st.tuples(residues(field), residues(field)), min_size=1, max_size=40))
    minus = data.draw(st.lists(st.tuples(residues(field), residues(field)), max_size=40))
    found = field.combine([words(row, field) for row in rows], [words(row, field) for row in minus])
    expected = [(sum(row[place] for row in rows) - sum(row[place] for row in minus)) % field.p for place in range(2)]
    assert found.tolist() == expected


@pytest.mark.parametrize("field", [Field("test", 5, 2), Field("test", 251, 2)], ids=lambda field: str(field.p))
def test_every_pair_of_a_small_field_adds_and_subtracts_exactly(field: Field) -> None:
    x, y = (part.ravel().astype(field.dtype) for part in np.meshgrid(range(field.p), range(field.p)))
    assert np.array_equal(field.add(x, y), (x.astype(int) + y) % field.p)
    assert np.array_equal(field.subtract(x, y), (x.astype(int) - y) % field.p)


def test_every_word_of_the_16_bit_field_meets_every_edge_value_exactly() -> None:
    field = FIELDS[16]
    x = np.arange(field.p).astype(field.dtype)
    for edge in (0, 1, 14, 15, 16, field.half, field.p - 16, field.p - 15, field.p - 1):
        y = np.full(field.p, edge, field.dtype)
        assert np.array_equal(field.add(x, y), (x.astype(int) + edge) % field.p)
        assert np.array_equal(field.subtract(x, y), (x.astype(int) - edge) % field.p)
        assert np.array_equal(field.subtract(y, x), (edge - x.astype(int)) % field.p)


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_the_output_may_be_either_input_also_across_blocks(field: Field) -> None:
    count = BLOCK_BYTES // field.word_bytes + 7
    x = np.remainder((np.arange(count, dtype=np.uint64) * np.uint64(2**40 + 15)).astype(field.dtype), field.p)
    y = x[::-1].copy()
    for operation in (field.add, field.subtract):
        expected = operation(x, y)
        for which in (0, 1):
            pair = [x.copy(), y.copy()]
            assert operation(pair[0], pair[1], out=pair[which]) is pair[which]
            assert np.array_equal(pair[which], expected)


@given(st.data(), fields)
def test_signed_integers_come_back_from_words(data: st.DataObject, field: Field) -> None:
    values = data.draw(st.lists(st.integers(-field.half, field.half), max_size=20))
    encoded = field.encode(np.array(values, np.int64))
    assert encoded.tolist() == [value % field.p for value in values]
    assert field.centred(encoded).tolist() == values
    narrow = np.array(values, field.signed)
    assert np.array_equal(field.encode(narrow), encoded)
    assert narrow.tolist() == field.centred_narrow(encoded).tolist() == values
    assert field.centred_narrow(encoded).dtype == field.signed


@pytest.mark.parametrize("field", ALL, ids=lambda field: str(field.p))
def test_an_integer_beyond_half_the_field_is_refused(field: Field) -> None:
    assert field.centred(field.encode(np.array([-field.half, field.half], np.int64))).tolist() == [
        -field.half,
        field.half,
    ]
    for value in (field.half + 1, -field.half - 1):
        with pytest.raises(NotInField):
            field.encode(np.array([value], np.int64))


@given(st.data(), fields)
def test_words_come_back_from_little_endian_bytes(data: st.DataObject, field: Field) -> None:
    values = data.draw(st.lists(residues(field), max_size=20))
    encoded = field.to_bytes(words(values, field))
    assert encoded == b"".join(value.to_bytes(field.word_bytes, "little") for value in values)
    assert field.from_bytes(encoded, len(values)).tolist() == values


@pytest.mark.claim("CODEC-1")
@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_a_word_of_p_or_more_from_a_peer_is_refused_and_the_peer_is_named(field: Field) -> None:
    for bad in (field.p, (1 << field.word_bits) - 1):
        data = (field.p - 1).to_bytes(field.word_bytes, "little") + bad.to_bytes(field.word_bytes, "little")
        with pytest.raises(WordOutOfRange, match="st-olav") as caught:
            field.from_bytes(data, peer="st-olav")
        assert caught.value.evidence == "word 1 of 2 is not below p"


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_bytes_of_another_length_are_refused(field: Field) -> None:
    for data, count in ((bytes(field.word_bytes + 1), None), (bytes(field.word_bytes), 2), (b"", 1)):
        with pytest.raises(WordsMissized):
            field.from_bytes(data, count)


def test_received_words_share_memory_with_the_bytes_and_cannot_be_written() -> None:
    received = FIELDS[31].from_bytes(bytes(8))
    assert not received.flags.writeable


def test_check_refuses_another_type_another_shape_and_a_word_of_p() -> None:
    field = FIELDS[31]
    for bad in (np.zeros(3, np.uint64), np.zeros((2, 2), field.dtype), words([field.p], field)):
        with pytest.raises(NotInField):
            field.check_words(bad)


def test_vectors_of_unlike_lengths_and_no_vectors_are_refused() -> None:
    field = FIELDS[16]
    with pytest.raises(ShareCountWrong):
        field.add(field.zeros(2), field.zeros(3))
    with pytest.raises(ShareCountWrong):
        field.sum([])


def test_a_modulus_that_no_step_covers_is_refused() -> None:
    for p, word_bytes in ((65537, 2), (2**15 + 3, 2), (4, 2), (2**31 - 1, 3), (2**31 + 11, 4)):
        with pytest.raises(ValueError, match=r"no field|neither"):
            Field("test", p, word_bytes)


@examples(20)
@given(st.integers(0, 300_000), st.sampled_from((2, 4, 8)))
def test_blocks_cover_every_word_once_in_order(count: int, word_bytes: int) -> None:
    covered = list(blocks(count, word_bytes))
    assert [place for block in covered for place in (block.start, block.stop)] == sorted(
        place for block in covered for place in (block.start, block.stop)
    )
    assert sum(block.stop - block.start for block in covered) == count
    assert all(0 < (block.stop - block.start) * word_bytes <= BLOCK_BYTES for block in covered)

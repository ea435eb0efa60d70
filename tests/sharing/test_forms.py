"""Random linear forms: linear, exact at the extremes, and as hard to deceive as was counted."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.sharing import NotInField
from p2pfl.sharing import forms, kernel
from p2pfl.sharing.field import FIELDS, Field, Words
from p2pfl.sharing.forms import MOST_SIDE, MOST_WORDS, TAG_BYTES, Forms, add, forms_of
from p2pfl.sharing.prg import expand
from tests.examples import examples
from tests.sharing import reference

each_field = pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
TOY = Field("toy", 3, 2)  # small enough to count every form
SIZES = st.one_of(st.integers(1, 50), st.integers(51, 30_000), st.integers(1, 170).map(lambda side: side * side))


def chunk(name: str, field: Field, count: int) -> Words:
    return expand(reference.key(name), field, 0, count)


def fix(monkeypatch: pytest.MonkeyPatch, u: Words, v: Words) -> None:
    """Every Forms from now on has these coefficients, (forms, 512) each, whatever its challenge."""
    monkeypatch.setattr(forms, "coefficients", lambda challenge, field: (u, v))


@given(st.sampled_from(list(FIELDS.values())), SIZES, st.integers(1, 7), st.binary(min_size=32, max_size=32))
@examples(60)
def test_the_tags_of_all_chunks_add_up_to_the_tag_of_their_sum(
    field: Field, count: int, peers: int, challenge: bytes
) -> None:
    chunks = [chunk(f"of peer {peer}", field, count) for peer in range(peers)]
    these = Forms(challenge, field)
    assert add(field, [these.tag(each) for each in chunks]) == these.tag(field.sum(chunks))


@given(st.sampled_from([*FIELDS.values(), TOY, Field("odd", 251, 2)]), st.integers(1, 600), st.data())
@examples(60)
def test_a_tag_is_that_of_the_slow_twin(field: Field, count: int, data: st.DataObject) -> None:
    edges = st.sampled_from([0, 1, field.half, field.p - 1])
    values = data.draw(st.lists(st.one_of(st.integers(0, field.p - 1), edges), min_size=count, max_size=count))
    challenge = data.draw(st.binary(min_size=32, max_size=32))
    expected = reference.form_tag(values, reference.form_coefficients(challenge, field), field)
    assert Forms(challenge, field).tag(np.array(values, field.dtype)) == expected


@each_field
@pytest.mark.parametrize("count", [131_071, 131_072, MOST_WORDS - 1, MOST_WORDS])
def test_a_large_chunk_has_the_tag_of_the_slow_twin(field: Field, count: int) -> None:
    challenge, words = reference.key("large"), chunk("large", field, count)
    expected = reference.form_tag(words.tolist(), reference.form_coefficients(challenge, field), field)
    assert Forms(challenge, field).tag(words) == expected


@each_field
@pytest.mark.parametrize("shift", [0, 32])
def test_the_largest_words_under_the_largest_coefficients_are_still_exact(
    field: Field, shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """p − 1 everywhere; and once more with v such that what its upper digits meet, 2³²·v mod p, is p − 1."""
    largest = np.full((forms_of(field), MOST_SIDE), field.p - 1, field.dtype)
    v = (field.p - 1) * pow(2**shift, -1, field.p) % field.p
    fix(monkeypatch, largest, np.full_like(largest, v))
    expected = (MOST_WORDS * (field.p - 1) ** 2 * v) % field.p
    tag = Forms(bytes(32), field).tag(np.full(MOST_WORDS, field.p - 1, field.dtype))
    assert tag == expected.to_bytes(field.word_bytes, "little") * forms_of(field)


@each_field
def test_no_sum_of_products_leaves_the_integers_that_a_float_holds(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound of the docstring, from the constants that the code uses without compiled loops."""
    monkeypatch.setattr(kernel, "COMPILED", None)
    these = Forms(bytes(32), field)
    digit, limb = 2 ** (8 * these._digit.itemsize) - 1, 2**these._limb_bits - 1
    assert MOST_SIDE * these._digits <= 2**forms.TERM_BITS
    assert digit * limb * MOST_SIDE * these._digits < 2**53
    assert (2 ** (8 * forms.PART_BYTES) - 1) * limb * MOST_SIDE < 2**53
    for part in (these._left, these._right):
        assert float(part.max()) <= limb and np.array_equal(part, np.rint(part))


@pytest.mark.claim("LIAR-1")
@each_field
@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 31])
def test_a_change_of_any_single_word_changes_the_tag_under_every_challenge_tried(field: Field, count: int) -> None:
    words = chunk("honest", field, count)
    for number in range(20):
        these = Forms(reference.key(f"challenge {number}"), field)
        honest = these.tag(words)
        for place, step in product(range(count), (1, field.half, field.p - 1)):
            lie = words.copy()
            lie[place] = (int(lie[place]) + step) % field.p
            assert these.tag(lie) != honest


@given(st.sampled_from(list(FIELDS.values())), st.integers(2, 2000), st.data())
@examples(100)
def test_a_lie_that_keeps_the_plain_sum_changes_the_tag(field: Field, count: int, data: st.DataObject) -> None:
    words = chunk("honest", field, count)
    first, second = data.draw(st.permutations(range(count)))[:2]
    step = data.draw(st.integers(1, field.p - 1))
    lie = words.copy()
    lie[first] = (int(lie[first]) + step) % field.p
    lie[second] = (int(lie[second]) - step) % field.p
    these = Forms(data.draw(st.binary(min_size=32, max_size=32)), field)
    assert these.tag(lie) != these.tag(words)


def test_each_form_misses_exactly_the_share_of_lies_that_the_bound_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 80 errors E ≠ 0 of a 2×2 chunk mod 3 under all 81 pairs (u, v): of rank 1, 2/p − 1/p²; of rank 2, less."""
    p, errors = TOY.p, [np.array(each, TOY.dtype) for each in product(range(3), repeat=4) if any(each)]
    vectors = list(product(range(p), repeat=2))
    pairs = list(product(vectors, vectors))
    missed: Counter[bytes] = Counter()
    for first in range(0, len(pairs), forms_of(TOY)):
        some = pairs[first : first + forms_of(TOY)]
        u, v = np.zeros((2, forms_of(TOY), MOST_SIDE), TOY.dtype)
        for form, pair in enumerate(some):
            u[form, :2], v[form, :2] = pair
        fix(monkeypatch, u, v)
        these = Forms(bytes(32), TOY)
        for error in errors:
            words = np.frombuffer(these.tag(error), TOY.dtype)
            missed[error.tobytes()] += int((words[: len(some)] == 0).sum())
    singular = [error for error in errors if (int(error[0]) * int(error[3]) - int(error[1]) * int(error[2])) % p == 0]
    of_rank_1 = {missed[error.tobytes()] for error in singular}
    of_rank_2 = {missed[error.tobytes()] for error in errors} - of_rank_1
    assert len(singular) == 32
    assert of_rank_1 == {81 * (2 * p - 1) // p**2}  # 45
    assert of_rank_2 == {81 // 9 + (81 - 81 // 9) // 3}  # Ev = 0 once in 9, and of the rest a third: 33


@pytest.mark.claim("LIAR-1")
@pytest.mark.parametrize("field", [*FIELDS.values(), TOY], ids=lambda field: field.name)
def test_the_forms_together_are_missed_less_often_than_2_to_the_minus_55(field: Field) -> None:
    missed = (2 / field.p) ** forms_of(field)
    assert forms_of(field) * field.word_bytes == TAG_BYTES
    assert missed < 2**-59.99 or field is TOY


def test_the_forms_of_a_challenge_are_drawn_independently_and_apart_by_field() -> None:
    rows: list[bytes] = []
    for field in FIELDS.values():
        u, v = forms.coefficients(reference.key("challenge"), field)
        assert [(a.tolist(), b.tolist()) for a, b in zip(u, v, strict=True)] == reference.form_coefficients(
            reference.key("challenge"), field
        )
        rows += [row.tobytes()[:32] for row in (*u, *v)]
    assert len(set(rows)) == 2 * (4 + 2 + 1)


@each_field
def test_each_form_of_a_tag_has_coefficients_of_its_own(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """With u = 0 one form sees nothing, and the words of the others stay what they were."""
    words, count = chunk("honest", field, 10), forms_of(field)
    u, v = forms.coefficients(reference.key("challenge"), field)
    whole = np.frombuffer(Forms(reference.key("challenge"), field).tag(words), field.dtype)
    assert np.all(whole != 0)
    for form in range(count):
        blind = u.copy()
        blind[form] = 0
        fix(monkeypatch, blind, v)
        found = np.frombuffer(Forms(bytes(32), field).tag(words), field.dtype)
        assert [int(word) for word in found] == [0 if each == form else int(whole[each]) for each in range(count)]


@each_field
def test_several_threads_get_the_tags_that_one_gets(field: Field) -> None:
    these = Forms(reference.key("threads"), field)
    chunks = [chunk(f"{number}", field, 20_000 + number) for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(these.tag, chunks)) == [these.tag(each) for each in chunks]


@each_field
def test_words_from_the_wire_and_every_second_word_are_tagged_like_a_copy(field: Field) -> None:
    these, words = Forms(reference.key("views"), field), chunk("views", field, 999)
    unaligned = field.from_bytes(memoryview(b"\1" + words.tobytes())[1:])
    assert these.tag(unaligned) == these.tag(words)
    assert these.tag(words[::2]) == these.tag(words[::2].copy())


@each_field
def test_a_tag_does_not_change_its_words(field: Field) -> None:
    words = chunk("kept", field, 50)
    kept = words.copy()
    words.setflags(write=False)
    Forms(reference.key("kept"), field).tag(words)
    assert np.array_equal(words, kept)


@each_field
def test_chunks_and_challenges_that_do_not_fit_are_refused(field: Field) -> None:
    these = Forms(bytes(32), field)
    for count in (0, MOST_WORDS + 1):
        with pytest.raises(ValueError, match="chunk"):
            these.tag(field.zeros(count))
    for wrong in (np.array([field.p], field.dtype), np.zeros(3, np.int64), field.zeros(4).reshape(2, 2)):
        with pytest.raises(NotInField):
            these.tag(wrong)
    for challenge in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="challenge"):
            Forms(challenge, field)

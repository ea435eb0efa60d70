"""Floats to words and back: cannot wrap, bounded, unbiased, exact residual; decimals exact."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.sharing import LimitInvalid, ShareCountWrong, SumCouldWrap, ValueNotFinite, ValueOverLimit
from p2pfl.sharing.field import FIELDS, Field
from p2pfl.sharing.fixed_point import FixedPoint
from p2pfl.sharing.prg import Keystream
from p2pfl.sharing.quantiser import Quantiser, largest
from p2pfl.sharing.rotation import BLOCK, Floats, Signs, hadamard, rotate, unrotate
from tests.examples import examples
from tests.sharing import reference

SEED, ROUNDING = reference.key("rotation"), reference.key("rounding")
fields = st.sampled_from(list(FIELDS.values()))
each_field = pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)


def floats(name: str, count: int, scale: float = 1.0) -> Floats:
    """(count,) reproducible floats, uniform in (−scale, scale)."""
    drawn = np.empty(count, "<u8")
    Keystream(reference.key(name), 1).fill(drawn)
    return ((drawn >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0) * scale


@pytest.mark.claim("SUM-4")
@given(fields, st.integers(1, 200))
def test_n_times_the_largest_integer_never_reaches_half_the_field(field: Field, n: int) -> None:
    bound = largest(field, n)
    assert 2 * n * bound < field.p <= 2 * n * (bound + 1) + 1


@each_field
def test_a_sum_of_extreme_vectors_does_not_wrap(field: Field) -> None:
    for n in (3, 7, 20):
        quantiser = Quantiser(field, n, 0.0, 1.0, False)
        for sign in (1.0, -1.0):
            words, _ = quantiser.quantise(np.full(5, 1e30 * sign), SEED, ROUNDING)
            total = field.sum([words] * n)
            found, most = field.centred(total) * int(sign), n * quantiser.largest
            # In 61 bits a float64 reaches L to 2⁻⁵³ only.
            assert most * (1 - 2**-52) <= int(found.min()) <= int(found.max()) <= most
            assert quantiser.within_bound(total, n)
            assert quantiser.dequantise_sum(total, n, SEED, 5).tolist() == pytest.approx([sign * n] * 5)


@pytest.mark.claim("SUM-4")
def test_a_field_too_small_for_the_peers_is_refused() -> None:
    tiny = Field("test", 251, 2)
    Quantiser(tiny, 125, 0.0, 1.0, False)
    for n in (126, 0):
        with pytest.raises(SumCouldWrap):
            Quantiser(tiny, n, 0.0, 1.0, False)


@pytest.mark.parametrize(
    ("clip", "limit"),
    [
        (-1.0, 1.0),
        (math.nan, 1.0),
        (math.inf, 1.0),
        (1.0, 0.0),
        (1.0, -2.0),
        (1.0, math.nan),
        (1.0, math.inf),
        (0.0, 5e-324),
        (0.0, 1e-320),
    ],
)
def test_a_clip_or_limit_that_is_no_positive_number_is_refused(clip: float, limit: float) -> None:
    with pytest.raises(LimitInvalid):
        Quantiser(FIELDS[31], 3, clip, limit, False)


@examples(40)
@given(st.data(), fields, st.integers(3, 20), st.floats(1e-6, 1e6))
def test_a_value_within_the_limit_comes_back_within_one_step(
    data: st.DataObject, field: Field, n: int, limit: float
) -> None:
    u = np.array(data.draw(st.lists(st.floats(-limit, limit), max_size=30)))
    quantiser = Quantiser(field, n, 0.0, limit, False)
    words, cut = quantiser.quantise(u, SEED, ROUNDING)
    back = quantiser.dequantise(words, SEED, u.size)
    assert np.all(np.abs(back - u) <= quantiser.step * (1 + 1e-9) + limit * 2.0**-50)
    assert cut == 0


def test_rounding_is_unbiased_and_of_the_variance_of_a_coin() -> None:
    quantiser = Quantiser(FIELDS[16], 5, 0.0, 1.0, False)
    count = 1_000_000  # several blocks, so that a keystream that stops early would show
    for level in (0.25, -7.5, 1000.9):
        words, _ = quantiser.quantise(np.full(count, level * quantiser.step), SEED, ROUNDING)
        found = FIELDS[16].centred(words).astype(np.float64)
        assert set(np.unique(found)) == {math.floor(level), math.ceil(level)}
        fraction = level - math.floor(level)
        sigma = math.sqrt(fraction * (1 - fraction) / count)
        for part in (found, *np.split(found, 10)):
            assert abs(part.mean() - level) < 5 * sigma * math.sqrt(count / part.size)


@pytest.mark.parametrize("rotated", [False, True], ids=["plain", "rotated"])
@each_field
def test_what_is_sent_and_the_residual_are_the_vector(field: Field, rotated: bool) -> None:
    quantiser = Quantiser(field, 5, 0.0, 4.0, rotated)
    u = floats("u", 10_000)
    words, _ = quantiser.quantise(u, SEED, ROUNDING)
    sent = quantiser.dequantise(words, SEED, u.size)
    assert np.array_equal(sent, quantiser.dequantise(words, SEED, u.size))
    assert np.abs(sent + (u - sent) - u).max() <= 2.0**-50
    assert np.abs(u - sent).max() < 8 * quantiser.step + 1e-14


def test_the_sum_of_five_quantised_vectors_is_their_sum_within_five_steps() -> None:
    for rotated, allowed in ((False, 5.0), (True, 12.0)):
        quantiser = Quantiser(FIELDS[16], 5, 0.0, 4.0, rotated)
        vectors = [floats(f"u{peer}", 9_000) for peer in range(5)]
        words = [quantiser.quantise(u, SEED, reference.key(f"r{peer}"))[0] for peer, u in enumerate(vectors)]
        total = quantiser.dequantise_sum(FIELDS[16].sum(words), 5, SEED, 9_000)
        assert np.abs(total - np.sum(vectors, axis=0)).max() < allowed * quantiser.step


def test_a_vector_longer_than_the_clip_is_shrunk_to_it() -> None:
    quantiser = Quantiser(FIELDS[31], 5, 2.0, 2.0, False)
    u = floats("u", 1000, 100.0)
    words, cut = quantiser.quantise(u, SEED, ROUNDING)
    back = quantiser.dequantise(words, SEED, u.size)
    assert cut == 0
    assert math.isclose(float(np.linalg.norm(back)), 2.0, rel_tol=1e-6)
    assert np.allclose(back, u * (2.0 / np.linalg.norm(u)), atol=2 * quantiser.step)


def test_coordinates_beyond_the_limit_are_cut_and_counted() -> None:
    quantiser = Quantiser(FIELDS[16], 5, 0.0, 1.0, False)
    words, cut = quantiser.quantise(np.array([0.5, 1.0, -1.0, 1.5, -9.0]), SEED, ROUNDING)
    assert cut == 2
    assert quantiser.dequantise(words, SEED, 5)[1:].tolist() == pytest.approx([1, -1, 1, -1])


@each_field
def test_a_vector_in_single_precision_is_taken_as_the_numbers_that_it_holds(field: Field) -> None:
    u = floats("u", 40_000, 0.2).astype(np.float32)  # several blocks
    u[:2] = 0.1, -0.1  # in single precision a little more than the limit
    quantiser = Quantiser(field, 5, 0.0, 0.1, False)
    words, cut = quantiser.quantise(u, SEED, ROUNDING)
    exact, same = quantiser.quantise(u.astype(np.float64), SEED, ROUNDING)
    assert np.array_equal(words, exact)
    assert cut == same
    assert cut == sum(abs(value) > 0.1 for value in u.tolist()) > 2


@examples(40)
@given(fields, st.integers(2, 20), st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=40), st.floats(1e-3, 2.0))
def test_the_words_of_a_vector_are_those_of_the_slow_twin(field: Field, n: int, u: list[float], limit: float) -> None:
    words, cut = Quantiser(field, n, 0.0, limit, False).quantise(np.array(u), SEED, ROUNDING)
    assert words.tolist() == reference.quantise(u, field, n, 0.0, limit, False, SEED, ROUNDING)
    assert cut == sum(abs(value) > limit for value in u)


@given(fields, st.integers(0, 300_000), st.lists(st.integers(0, 300_000), max_size=4), st.booleans())
@examples(20)
def test_words_made_in_steps_are_those_that_are_made_at_once(field: Field, m: int, stops: list[int], one: bool) -> None:
    quantiser, u = Quantiser(field, 4, 0.0, 0.7, False), floats("stepwise", m)
    u = u.astype(np.float32) if one else u  # type: ignore[assignment]
    expected, cut = quantiser.quantise(u, SEED, ROUNDING)
    out = field.zeros(m)
    begun = quantiser.begin(u, ROUNDING, out)
    over = 0
    for stop in (*sorted(stops), m):
        over += begun.upto(stop)
        assert np.array_equal(out[:stop], expected[:stop])
    assert over == cut


def test_words_that_hang_on_one_another_are_not_made_in_steps() -> None:
    for quantiser in (Quantiser(FIELDS[31], 4, 1.0, 1.0, False), Quantiser(FIELDS[31], 4, 0.0, 1.0, True)):
        with pytest.raises(ValueError, match="hang on no other"):
            quantiser.begin(floats("stepwise", BLOCK), ROUNDING, FIELDS[31].zeros(BLOCK))


def test_a_clipped_vector_is_rounded_again_until_its_norm_is_within_the_bound() -> None:
    quantiser = Quantiser(FIELDS[16], 5, 1e-3, 1.0, False)
    u = np.full(100_000, 3e-6)  # 0.02 of a step each: nearly all of the norm is rounding
    words, _ = quantiser.quantise(u, SEED, ROUNDING)
    assert quantiser.within_bound(words, 1)
    forged = FIELDS[16].encode(np.ones(100_000, np.int64))
    assert not quantiser.within_bound(forged, 1)


def test_when_every_draw_is_too_long_rounding_is_towards_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.sharing.quantiser.TRIES", 0)
    quantiser = Quantiser(FIELDS[16], 5, 100.0, 1.0, False)
    words, _ = quantiser.quantise(np.array([2.9, -2.9, 0.4]) * quantiser.step, SEED, ROUNDING)
    assert FIELDS[16].centred(words).tolist() == [2, -2, 0]


def test_a_sum_beyond_what_honest_peers_can_reach_is_seen() -> None:
    quantiser = Quantiser(FIELDS[31], 5, 0.0, 1.0, False)
    at_most = 3 * quantiser.largest
    assert quantiser.within_bound(FIELDS[31].encode(np.array([at_most, -at_most])), 3)
    assert not quantiser.within_bound(FIELDS[31].encode(np.array([0, -at_most - 1])), 3)


def test_the_rotation_is_an_isometry_and_inverts() -> None:
    u = floats("u", 3 * BLOCK)
    turned = rotate(u, Signs(SEED))
    for block in range(3):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        assert math.isclose(np.linalg.norm(turned[part]), np.linalg.norm(u[part]), rel_tol=1e-13)
    assert np.abs(unrotate(turned, Signs(SEED)) - u).max() < 1e-14
    assert not np.allclose(rotate(u, Signs(reference.key("another"))), turned)


def test_the_hadamard_transform_is_that_of_the_matrix() -> None:
    matrix = np.ones((1, 1))
    for _ in range(12):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    u = floats("u", 2 * BLOCK)
    assert np.abs(hadamard(u).reshape(2, BLOCK) - u.reshape(2, BLOCK) @ matrix.T / 64).max() < 1e-13


def test_the_rotation_spreads_one_large_coordinate_over_its_block() -> None:
    u = np.zeros(BLOCK)
    u[17] = 64.0
    assert np.abs(rotate(u, Signs(SEED))).tolist() == [1.0] * BLOCK


@pytest.mark.parametrize("m", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 17 * BLOCK + 3])
def test_lengths_grow_to_whole_blocks_and_come_back(m: int) -> None:
    quantiser = Quantiser(FIELDS[16], 5, 0.0, 8.0, True)
    words, _ = quantiser.quantise(floats("u", m), SEED, ROUNDING)
    assert words.size == quantiser.length(m) == -(-m // BLOCK) * BLOCK
    assert quantiser.dequantise(words, SEED, m).shape == (m,)


def test_the_same_keys_give_the_same_words_and_other_keys_others() -> None:
    quantiser = Quantiser(FIELDS[16], 5, 3.0, 1.0, True)
    u = floats("u", 5000).astype(np.float32)
    words = quantiser.quantise(u, SEED, ROUNDING)[0]
    assert np.array_equal(words, quantiser.quantise(u, SEED, ROUNDING)[0])
    assert not np.array_equal(words, quantiser.quantise(u, SEED, reference.key("x"))[0])
    assert not np.array_equal(words, quantiser.quantise(u, reference.key("x"), ROUNDING)[0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_by_its_place_and_not_shown(bad: float) -> None:
    u = floats("u", 100_000)
    u[70_001] = bad
    with pytest.raises(ValueNotFinite) as caught:
        Quantiser(FIELDS[31], 5, 1.0, 1.0, False).quantise(u, SEED, ROUNDING)
    assert caught.value.evidence == "coordinate 70001 of 100000"


def test_sums_of_another_length_or_of_more_survivors_than_peers_are_refused() -> None:
    quantiser = Quantiser(FIELDS[31], 5, 1.0, 1.0, False)
    for size, survivors in ((3, 5), (4, 0), (4, 6)):
        with pytest.raises(ShareCountWrong):
            quantiser.dequantise_sum(FIELDS[31].zeros(size), survivors, SEED, 4)
    with pytest.raises(ShareCountWrong):
        quantiser.quantise(np.zeros((2, 2)), SEED, ROUNDING)


cents = st.integers(-(10**8), 10**8)


@given(st.lists(st.lists(cents, min_size=3, max_size=3), min_size=3, max_size=20))
def test_fixed_point_sums_are_exact(rows: list[list[int]]) -> None:
    fixed = FixedPoint(FIELDS[61], 20, Decimal(1_000_000), 2)
    words = [fixed.encode([Decimal(cent) / 100 for cent in row]) for row in rows]
    expected = tuple(Decimal(sum(column)) / 100 for column in zip(*rows, strict=True))
    assert fixed.decode(FIELDS[61].sum(words)) == expected


@given(st.decimals(-1000, 1000, places=6), st.integers(0, 4))
def test_a_value_with_more_decimals_is_rounded_half_to_even(value: Decimal, decimals: int) -> None:
    fixed = FixedPoint(FIELDS[61], 5, Decimal(1000), decimals)
    assert fixed.decode(fixed.encode([value])) == (Decimal(round(Fraction(value) * 10**decimals)).scaleb(-decimals),)


def test_floats_integers_text_and_arrays_count_as_the_decimal_that_they_print() -> None:
    fixed = FixedPoint(FIELDS[61], 5, Decimal(1000), 2)
    expected = (Decimal("1.15"), Decimal("-3.00"), Decimal("2.68"))
    assert fixed.decode(fixed.encode([1.15, -3, "2.675"])) == expected
    assert fixed.decode(fixed.encode(np.array([1.15, -3.0, 2.68]))) == expected
    assert fixed.decode(fixed.encode([np.float64(1.15), np.int64(-3)])) == expected[:2]


@pytest.mark.parametrize("value", ["1000.01", "-1000.01", "1e30", "1e999999999", 1001])
def test_a_value_over_the_limit_is_refused_by_its_place_and_not_shown(value: str | int) -> None:
    fixed = FixedPoint(FIELDS[61], 5, Decimal(1000), 2)
    with pytest.raises(ValueOverLimit) as caught:
        fixed.encode([0, value])
    assert caught.value.evidence == "value 1 of 2; the limit is 1000"


@pytest.mark.parametrize("value", ["", "abc", "nan", "-inf", math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused(value: str | float) -> None:
    with pytest.raises(ValueNotFinite):
        FixedPoint(FIELDS[61], 5, Decimal(1000), 2).encode([value])


def test_the_limit_itself_is_accepted_also_when_it_has_more_decimals() -> None:
    fixed = FixedPoint(FIELDS[61], 5, Decimal("1.009"), 2)
    assert fixed.decode(fixed.encode(["1.009", "-1.009", "1e-999999"])) == (Decimal("1.01"), Decimal("-1.01"), 0)


def test_a_limit_whose_sum_could_wrap_or_that_is_no_positive_number_is_refused() -> None:
    FixedPoint(FIELDS[61], 5, Decimal(10) ** 15, 2)
    with pytest.raises(SumCouldWrap):
        FixedPoint(FIELDS[61], 5, Decimal(10) ** 16, 2)
    for limit, decimals in (("0", 2), ("NaN", 2), ("inf", 2), ("1", -1), ("1", 19)):
        with pytest.raises(LimitInvalid):
            FixedPoint(FIELDS[61], 5, Decimal(limit), decimals)

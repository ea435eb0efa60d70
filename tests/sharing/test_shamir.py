"""Shamir shares: enough of them give the secret, one fewer are the same for every secret, counted out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.sharing.shamir import combine, split
from tests.examples import examples
from tests.sharing import reference

EVERY_BYTE = bytes(range(256))


@st.composite
def dealt(draw: st.DrawFn, most: int = 40) -> tuple[bytes, int, list[bytes]]:
    """(secret, threshold, all shares) of one split."""
    secret = draw(st.binary(min_size=1, max_size=40))
    count = draw(st.integers(1, most))
    threshold = draw(st.integers(1, count))
    size = (threshold - 1) * len(secret)
    return secret, threshold, split(secret, threshold, count, draw(st.binary(min_size=size, max_size=size)))


@given(st.data(), dealt())
def test_any_threshold_shares_give_the_secret_in_any_order(
    data: st.DataObject, deal: tuple[bytes, int, list[bytes]]
) -> None:
    secret, threshold, shares = deal
    places = data.draw(st.permutations(range(len(shares))))[:threshold]
    assert combine({place: shares[place] for place in places}) == secret


@given(dealt())
def test_more_shares_than_the_threshold_give_the_secret_too(deal: tuple[bytes, int, list[bytes]]) -> None:
    secret, _, shares = deal
    assert combine(dict(enumerate(shares))) == secret


@given(st.data(), dealt())
def test_a_share_with_one_byte_changed_gives_another_secret_in_that_byte_alone(
    data: st.DataObject, deal: tuple[bytes, int, list[bytes]]
) -> None:
    secret, threshold, shares = deal
    some = {place: shares[place] for place in data.draw(st.permutations(range(len(shares))))[:threshold]}
    liar = data.draw(st.sampled_from(sorted(some)))
    at = data.draw(st.integers(0, len(secret) - 1))
    lie = bytearray(some[liar])
    lie[at] ^= data.draw(st.integers(1, 255))
    found = combine({**some, liar: bytes(lie)})
    assert [place for place in range(len(secret)) if found[place] != secret[place]] == [at]


@given(st.data(), dealt(most=12))
@examples(40)
def test_split_and_combine_are_those_of_the_slow_twin(
    data: st.DataObject, deal: tuple[bytes, int, list[bytes]]
) -> None:
    secret, threshold, _ = deal
    count = data.draw(st.integers(threshold, 12))
    size = (threshold - 1) * len(secret)
    coefficients = data.draw(st.binary(min_size=size, max_size=size))
    shares = split(secret, threshold, count, coefficients)
    assert shares == reference.shamir_split(secret, threshold, count, coefficients)
    some = {place: shares[place] for place in data.draw(st.sets(st.integers(0, count - 1), min_size=1))}
    assert combine(some) == reference.shamir_combine(some)


def test_the_twin_multiplies_as_fips_197_says() -> None:
    assert (reference.gf_times(0x57, 0x83), reference.gf_times(0x57, 0x13)) == (0xC1, 0xFE)


def test_all_products_of_the_field_are_those_of_the_slow_twin() -> None:
    """A polynomial c·x has c·(k + 1) at place k, and 255 places are all factors but 0."""
    shares = split(bytes(256), 2, 255, EVERY_BYTE)
    for place, share in enumerate(shares):
        assert list(share) == [reference.gf_times(byte, place + 1) for byte in EVERY_BYTE]


def test_one_share_below_a_threshold_of_two_takes_each_value_once() -> None:
    """Whatever the secret."""
    for secret in EVERY_BYTE:
        for share in split(bytes([secret]) * 256, 2, 5, EVERY_BYTE):
            assert sorted(share) == list(EVERY_BYTE)


@pytest.mark.parametrize("secret", [0, 1, 0x53, 255])
def test_two_shares_below_a_threshold_of_three_take_each_pair_once(secret: int) -> None:
    """Whatever the secret.

    All 65 536 choices of the two other coefficients of one byte, as the bytes of one long secret.
    """
    both = np.arange(65536)
    coefficients = (both & 255).astype(np.uint8).tobytes() + (both >> 8).astype(np.uint8).tobytes()
    shares = [np.frombuffer(each, np.uint8).astype(int) for each in split(bytes([secret]) * 65536, 3, 5, coefficients)]
    for first, second in combinations(shares, 2):
        assert np.array_equal(np.bincount(first * 256 + second, minlength=65536), np.ones(65536, int))


@pytest.mark.claim("SUM-9")
@given(st.data(), dealt(most=12))
def test_one_share_too_few_fit_every_secret(data: st.DataObject, deal: tuple[bytes, int, list[bytes]]) -> None:
    """For each of 256 secrets some polynomial has these shares: a value at the missing place that leads to it."""
    _, threshold, shares = deal
    places = data.draw(st.permutations(range(len(shares))))[:threshold]
    missing, known = places[0], {place: shares[place][:1] * 256 for place in places[1:]}
    assert sorted(combine({**known, missing: EVERY_BYTE})) == list(EVERY_BYTE)


def test_two_hundred_peers_split_and_combine() -> None:
    secret, threshold, count = reference.key("secret"), 133, 200
    coefficients = b"".join(reference.key(f"row {row}") for row in range(1, threshold))
    shares = split(secret, threshold, count, coefficients)
    assert len(set(shares)) == count
    assert combine({place: shares[place] for place in range(count - threshold, count)}) == secret
    assert combine({place: shares[place] for place in range(threshold - 1)}) != secret


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (-1, 3), (4, 3), (1, 0), (2, 256)])
def test_a_threshold_or_a_count_that_cannot_be_is_refused(threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split(b"secret", threshold, count, bytes(6 * max(0, threshold - 1)))


@pytest.mark.parametrize("size", [0, 11, 13, 18])
def test_coefficients_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="wanted 12"):
        split(b"secret", 3, 5, bytes(size))


@pytest.mark.parametrize("shares", [{}, {0: b"ab", 1: b"a"}, {-1: b"a"}, {255: b"a"}, {0: b"a", 256: b"b"}])
def test_shares_that_do_not_fit_together_are_refused(shares: dict[int, bytes]) -> None:
    with pytest.raises(ValueError):
        combine(shares)

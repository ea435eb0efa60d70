"""Textbook shares: they add up, and any n − 1 of them say nothing."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.sharing import NotInField, ShareCountWrong
from p2pfl.sharing.additive import complete, rand_bytes, reconstruct, split
from p2pfl.sharing.field import FIELDS, Field
from p2pfl.sharing.prg import expand
from tests.examples import examples
from tests.sharing import reference

SMALL = Field("test", 5, 2)
fields = st.sampled_from(list(FIELDS.values()))


@examples(50)
@given(st.data(), fields, st.integers(2, 20))
def test_shares_reconstruct_to_the_secret(data: st.DataObject, field: Field, n: int) -> None:
    x = np.array(data.draw(st.lists(st.integers(0, field.p - 1), min_size=1, max_size=10)), field.dtype)
    rand = data.draw(st.binary(min_size=rand_bytes(n), max_size=rand_bytes(n)))
    shares = split(x, n, rand, field)
    assert shares.shape == (n, x.size)
    assert np.array_equal(reconstruct(shares, field), x)


@pytest.mark.claim("SUM-1")
@pytest.mark.parametrize("n", [2, 3, 4])
def test_any_n_minus_1_shares_have_one_distribution_whatever_the_secret(n: int) -> None:
    """Exact: over all uniform rows of the field of five, each view occurs equally often, for every secret."""
    for held in combinations(range(n), n - 1):
        for secret in range(SMALL.p):
            views: Counter[tuple[int, ...]] = Counter()
            for rows in product(range(SMALL.p), repeat=n - 1):
                shares = complete(np.array([secret], SMALL.dtype), np.array(rows, SMALL.dtype)[:, None], SMALL)
                views[tuple(int(shares[place, 0]) for place in held)] += 1
            assert views == Counter(dict.fromkeys(product(range(SMALL.p), repeat=n - 1), 1))


@pytest.mark.claim("SUM-1")
@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_shares_of_an_extreme_secret_are_uniform_and_uncorrelated(field: Field) -> None:
    """Statistical, on the real fields: chi-square of each share and of each pair's joint cells, five sigma."""
    n, count, cells = 3, 60_000, 8
    for secret in (0, field.p - 1):
        x = np.full(count, secret, field.dtype)
        shares = split(x, n, reference.key("one") + reference.key("two"), field)
        cell = np.minimum(shares.astype(np.float64) / field.p * cells, cells - 1).astype(np.int64)
        for a, b in combinations(range(n), 2):
            for seen in (np.bincount(cell[a], minlength=cells), np.bincount(cells * cell[a] + cell[b], minlength=64)):
                expected = count / seen.size
                chi_square = float(((seen - expected) ** 2 / expected).sum())
                assert abs(chi_square - (seen.size - 1)) < 5 * np.sqrt(2 * (seen.size - 1))


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_a_split_is_the_completion_of_its_expanded_keys(field: Field) -> None:
    x = expand(reference.key("x"), field, 0, 50)
    keys = [reference.key("one"), reference.key("two")]
    rows = [reference.prg(key, field, 0, 50) for key in keys]
    assert split(x, 3, b"".join(keys), field).tolist() == reference.complete(x.tolist(), rows, field)


def test_three_salaries_add_up_and_no_share_shows_one() -> None:
    field, salaries = FIELDS[61], [410_000, 525_000, 630_000]
    dealt = [
        split(np.array([salary], field.dtype), 3, reference.key(f"{salary}a") + reference.key(f"{salary}b"), field)
        for salary in salaries
    ]
    held = [reconstruct(np.stack([shares[peer] for shares in dealt]), field) for peer in range(3)]
    assert int(reconstruct(np.stack(held), field)[0]) == sum(salaries)
    assert not {int(word) for shares in dealt for word in shares.ravel()} & set(salaries)


def test_random_bytes_of_another_length_are_refused() -> None:
    field = FIELDS[31]
    for rand in (b"", bytes(63), bytes(65), bytes(96)):
        with pytest.raises(ShareCountWrong):
            split(field.zeros(1), 3, rand, field)


def test_fewer_than_two_shares_words_of_p_and_rows_of_another_length_are_refused() -> None:
    field = FIELDS[31]
    with pytest.raises(ShareCountWrong):
        rand_bytes(1)
    with pytest.raises(NotInField):
        split(np.array([field.p], field.dtype), 2, bytes(32), field)
    with pytest.raises(NotInField):
        complete(field.zeros(1), np.array([[field.p]], field.dtype), field)
    with pytest.raises(ShareCountWrong):
        complete(field.zeros(2), np.zeros((1, 3), field.dtype), field)
    with pytest.raises(ShareCountWrong):
        reconstruct(field.zeros(3), field)

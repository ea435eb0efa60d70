"""Additive shares as in the textbook: the reference that the fast path is checked against.

x ∈ F_p^m is split into n rows that add up to x. n − 1 of them are uniform and independent of x, and the last is what
is missing; so any n − 1 rows together are uniform, whatever x is (Ito, Saito, Nishizeki 1987; Bogdanov et al. 2008).
In the seed form a uniform row is given as the 32-byte key that it expands from; `masking.py` is that form over the
oriented complete graph.
"""

from __future__ import annotations

import numpy as np

from p2pfl.errors.sharing import ShareCountWrong
from p2pfl.keys import SEED_BYTES
from p2pfl.sharing.field import Field, Words
from p2pfl.sharing.prg import expand

LEAST_SHARES = 2


def rand_bytes(n: int) -> int:
    """The bytes that `split` into n shares consumes: one 32-byte key for each share but the last."""
    if n < LEAST_SHARES:
        raise ShareCountWrong(evidence=f"{n} shares, wanted {LEAST_SHARES} or more")
    return SEED_BYTES * (n - 1)


def complete(x: Words, rows: Words, field: Field) -> Words:
    """(n, m) shares of x (m,): the n − 1 given uniform `rows`, and the row that makes the sum x.

    Perfectly hiding when the rows are uniform. Raises ShareCountWrong when their length is not m, NotInField.
    """
    if rows.ndim != 2 or rows.shape[1] != x.size or len(rows) < LEAST_SHARES - 1:
        raise ShareCountWrong(evidence=f"rows {rows.shape} for a vector of {x.size} words")
    field.check_words(x)
    last = x
    for row in rows:
        last = field.subtract(last, field.check_words(row))
    return np.concatenate([rows, last[None]])  # (n, m)


def split(x: Words, n: int, rand: bytes, field: Field) -> Words:
    """(n, m) shares of x (m,), the first n − 1 expanded from the keys in `rand`, which is exactly `rand_bytes(n)` long.

    Raises ShareCountWrong for n < 2 or another length of rand, NotInField for a word ≥ p.
    """
    if len(rand) != rand_bytes(n):
        raise ShareCountWrong(evidence=f"{len(rand)} random bytes for {n} shares, wanted {rand_bytes(n)}")
    keys = [rand[first : first + SEED_BYTES] for first in range(0, len(rand), SEED_BYTES)]
    return complete(x, np.stack([expand(key, field, 0, x.size) for key in keys]), field)


def reconstruct(shares: Words, field: Field) -> Words:
    """The (m,) vector that the (n, m) shares add up to."""
    if shares.ndim != 2 or not len(shares):
        raise ShareCountWrong(evidence=f"shares of shape {shares.shape}")
    return field.sum([field.check_words(row) for row in shares])

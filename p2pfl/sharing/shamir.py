"""Shamir shares of a short secret: any `threshold` of them give it back, one fewer say nothing about it.

Theory of operation. Each byte of the secret is the value at 0 of a polynomial of its own over GF(2⁸) (the field of AES:
x⁸ + x⁴ + x³ + x + 1), of degree threshold − 1, whose other coefficients are uniform; the share of place k is the value
of all these polynomials at k + 1, never 0. threshold − 1 values fit one polynomial for each possible value at 0, so
they are uniform and independent of the secret; threshold values fit exactly one (Shamir 1979, "How to share a secret").
Nothing here tells a wrong share from a right one: a caller checks each by its path before it combines them.

Places are public and may index tables and steer loops. Secret bytes, coefficients and shares may not: they meet only
shifts, masks and exclusive ors, on whole arrays. Never add a table that is indexed by one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

MOST_SHARES: Final = 255  # the non-zero elements of GF(2⁸)
BITS: Final = 8
REDUCTION: Final = np.uint8(0x1B)  # x⁸ = x⁴ + x³ + x + 1
ORDER: Final = 255


def split(secret: bytes, threshold: int, count: int, coefficients: bytes) -> list[bytes]:
    """`count` shares, each as long as `secret`; place k (from 0) holds the polynomials' values at k + 1.

    coefficients  (threshold − 1)·len(secret) uniform secret bytes, never used before: those of x, then of x², …
    Raises ValueError unless 1 ≤ threshold ≤ count ≤ 255 and the coefficients have that length.
    Time O(threshold·count·len(secret)), the same for all secrets. Vectors: vectors/shamir.json.
    """
    if not 1 <= threshold <= count <= MOST_SHARES:
        raise ValueError(f"threshold {threshold} of {count} shares, wanted 1 ≤ threshold ≤ count ≤ {MOST_SHARES}")
    if len(coefficients) != (threshold - 1) * len(secret):
        wanted = (threshold - 1) * len(secret)
        raise ValueError(f"{len(coefficients)} bytes of coefficients, wanted {wanted}")
    rows = np.frombuffer(secret + coefficients, np.uint8).reshape(threshold, len(secret))
    factors = np.arange(1, count + 1, dtype=np.uint8)
    masks = _masks(factors, len(secret))
    values = np.zeros((count, len(secret)), np.uint8)
    for row in rows[::-1]:  # Horner: the highest coefficient first
        values = _times(values, masks) ^ row  # (count, len(secret))
    return [value.tobytes() for value in values]


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The value at 0 of the polynomials of least degree through all `shares`, which are given by place (from 0).

    This is the secret if `threshold` or more shares of one split are given, and all of them are right.
    Raises ValueError for no share, shares of unlike lengths and places outside 0 … 254.
    """
    lengths = {len(share) for share in shares.values()}
    if len(lengths) != 1:
        raise ValueError(f"{len(shares)} shares of lengths {sorted(lengths)}: wanted one or more, of one length")
    strange = [place for place in shares if not 0 <= place < MOST_SHARES]
    if strange:
        raise ValueError(f"no places {strange}: the first is 0, the last {MOST_SHARES - 1}")
    (length,) = lengths
    rows = np.frombuffer(b"".join(shares.values()), np.uint8).reshape(len(shares), length)
    weights = _weights(np.array([place + 1 for place in shares]))
    products = _times(rows, _masks(weights, length))  # (shares, length)
    secret: Bytes = np.bitwise_xor.reduce(products, axis=0)
    return secret.tobytes()


def _masks(factors: Bytes, length: int) -> Bytes:
    """(8, k, length): bit 7 … bit 0 of each of the k public factors, as 255 or 0, once for each byte of a row."""
    bits = np.arange(BITS, dtype=np.uint8)[::-1]
    chosen = np.negative((factors >> bits[:, None]) & np.uint8(1))  # (8, k)
    return np.repeat(chosen[:, :, None], length, axis=2)


def _times(values: Bytes, masks: Bytes) -> Bytes:
    """(k, length) products in GF(2⁸) of secret `values` and the public factors behind `masks`: double and add."""
    product: Bytes = values & masks[0]
    for mask in masks[1:]:
        carry = product >> np.uint8(BITS - 1)
        product = (product << np.uint8(1)) ^ (carry * REDUCTION) ^ (values & mask)
    return product


def _tables() -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Powers of x + 1, and their logarithms (that of 0 is entered as 0, and adds nothing to a sum)."""
    powers, logarithms, element = np.zeros(ORDER, np.uint8), np.zeros(ORDER + 1, np.int64), 1
    for exponent in range(ORDER):
        powers[exponent], logarithms[element] = element, exponent
        doubled = element << 1
        element ^= doubled ^ (0x11B if doubled > ORDER else 0)
    return powers, logarithms


_POWER, _LOGARITHM = _tables()  # for places only


def _weights(x: npt.NDArray[Any]) -> Bytes:
    """(k,) Lagrange weights at 0 of the k unlike public points: Π over the others of x_j / (x_j − x_i)."""
    logarithm = _LOGARITHM[x].sum() - _LOGARITHM[x] - _LOGARITHM[x[:, None] ^ x].sum(axis=1)
    weights: Bytes = _POWER[logarithm % ORDER]
    return weights

"""Randomised Hadamard rotation in blocks of 4096: spreads a vector's largest coordinates over their block.

r = H·(s ∘ u) / 64, with H the 4096 × 4096 Hadamard matrix (H·H = 4096·I, and √4096 = 64 is exact in binary) and s a
public ±1 vector. It is an isometry, and its own inverse but for the order: u = s ∘ (H·r) / 64. Afterwards every
coordinate is near-Gaussian with the block's RMS, so a 16-bit word needs far less head room (Suresh et al. 2017).

Additions in one fixed order and divisions by a power of two only: the same bits on every machine.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from p2pfl.keys import derive
from p2pfl.sharing.prg import FIRST_STREAM, Keystream

Floats = npt.NDArray[np.float64]

BLOCK: Final = 4096
ROOT: Final = 64.0
BATCH: Final = 16 * BLOCK  # coordinates handled at once: half a MiB of float64 stays in cache


def padded(count: int) -> int:
    """`count` rounded up to whole blocks."""
    return -(-count // BLOCK) * BLOCK


class Signs:
    """The signs of one rotation, in order: one bit each of the keystream under the public `seed`; 1 means −1."""

    def __init__(self, seed: bytes) -> None:
        self._keystream = Keystream(derive(seed, "quantiser/rotation"), FIRST_STREAM)

    def next(self, count: int) -> Floats:
        """The next `count` signs; count is a multiple of 8."""
        drawn = np.empty(count // 8, np.uint8)
        self._keystream.fill(drawn)
        bits = np.unpackbits(drawn, bitorder="little").astype(np.float64)
        return np.subtract(1.0, bits + bits)


def rotate(values: Floats, signs: Signs) -> Floats:
    """H·(s ∘ values)/64 for the next values.size signs; values is (k·4096,)."""
    return hadamard(values * signs.next(values.size))


def unrotate(values: Floats, signs: Signs) -> Floats:
    """Undo `rotate`; `signs` yields the same signs again."""
    return hadamard(values) * signs.next(values.size)


def hadamard(values: Floats) -> Floats:
    """H·v/64 for each block v of 4096 in values (k·4096,): twelve levels of a + b, a − b."""
    # One column per block, so that every level adds long contiguous rows.
    source = np.ascontiguousarray(values.reshape(-1, BLOCK).T)  # (4096, k)
    target = np.empty_like(source)
    columns = source.shape[1]
    half = 1
    while half < BLOCK:
        pairs = source.reshape(-1, 2, half * columns)
        result = target.reshape(-1, 2, half * columns)
        np.add(pairs[:, 0], pairs[:, 1], out=result[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=result[:, 1])
        source, target = target, source
        half *= 2
    return np.ascontiguousarray(source.T).reshape(-1) / ROOT

"""Positions that follow from a public model alone: nobody names them, and they tell nothing of anybody."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.keys import Secret
from p2pfl.training.noise.bit_stream import BitStream

BLOCK: Final = 1 << 16  # strata worked on at a time


def drawn_positions(base: bytes, count: int, parameters: int) -> NDArray[np.int64]:
    """`count` positions below `parameters`, one in each of as many strata, in order: docs/spec/sharing.md.    (count,)

    base    digest of the model that the round starts from: each model draws others, and every site the same
    """
    stream = BitStream(Secret(base, "public seed of positions"), "training/positions")
    size, larger = divmod(parameters, count)  # the first strata have one coordinate more
    out = np.empty(count, np.int64)
    for first in range(0, count, BLOCK):
        place = np.arange(first, min(first + BLOCK, count), dtype=np.int64)
        sizes = np.where(place < larger, size + 1, size).astype(np.uint64)
        within = (stream.words(place.size) % sizes).astype(np.int64)
        out[place] = place * size + np.minimum(place, larger) + within
    return out

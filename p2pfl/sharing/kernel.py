"""The compiled inner loops (`_kernel.c`), where they were built and this processor has AES instructions.

Theory of operation. `compiled` is None without them, and numpy does the same, bit for bit: whoever has a choice asks
here first. Arrays are such as `takes` says, and words are below p, as everywhere here. All calls release the GIL.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl.keys import SEED_BYTES
from p2pfl.sharing.loops import MODULE, NUMPY

Array = npt.NDArray[Any]

MOST_VECTORS: Final = 64  # that one call adds up
TAG_BYTES: Final = 8  # of all forms of one chunk
WRITTEN_FOR: Final = ((2, 65521), (4, 2**31 - 1), (8, 2**61 - 1))  # bytes of a word, prime


class Compiled:
    """Typed calls into the compiled module. A field is the bytes of its word and its prime."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.instructions: str = module.INSTRUCTIONS  # "VAES" or "AES-NI"

    def combine(
        self, out: Array, x: Array | None, plus: Sequence[bytes], minus: Sequence[bytes], width: int, p: int, start: int
    ) -> None:
        """out = x + Σ PRG(plus) − Σ PRG(minus) mod p, from word `start` of the streams on. `out` may be x; no x: 0."""
        keys = [*plus, *minus]
        if any(len(key) != SEED_BYTES for key in keys) or start < 0:
            raise ValueError(f"a stream wants a key of {SEED_BYTES} bytes and a start ≥ 0")
        self._module.combine(out, b"" if x is None else x, b"".join(keys), len(plus), width, p, start)

    def add_up(self, out: Array, plus: Sequence[Array], minus: Sequence[Array], width: int, p: int) -> None:
        """out = Σ plus − Σ minus mod p: at least one, at most MOST_VECTORS of one length. `out` may be one of them."""
        self._module.add_up(out, (*plus, *minus), len(plus), width, p)

    def below(self, words: Array, width: int, p: int) -> bool:
        """Whether each of `words` is below p."""
        return bool(self._module.below(words, width, p))

    def tag(self, words: Array, columns: int, u: Array, v: Array, width: int, p: int) -> bytes:
        """uᵀAv mod p of each form, as words, of a chunk in rows of so many; u and v are (forms, 512). Not 61 bits."""
        tag = bytearray(TAG_BYTES)
        self._module.tag(tag, words, columns, u, v, width, p)
        return bytes(tag)

    def decode(self, out: npt.NDArray[np.float64], words: Array, step: float, width: int, p: int) -> None:
        """out = `step` times the signed integers that the words stand for. They may be the last bytes of `out`."""
        self._module.decode(out, words, step, width, p)

    def extent(self, words: Array, width: int, p: int, batch: int) -> tuple[int, float]:
        """The largest absolute value of those integers; their sum of squares, 0.0 where `batch` is 0.

        Squares are added as the quantiser adds them: folded within each `batch` words, one batch after another.
        """
        far, square = self._module.extent(words, width, p, batch)
        return int(far), float(square)

    def survey(self, values: Array, limit: float) -> tuple[bool, int]:
        """Whether all of (m,) float32 or float64 are finite; how many lie beyond ±limit, if they are."""
        finite, over = self._module.survey(values, values.dtype == np.float32, limit)
        return bool(finite), int(over)

    def round_up(
        self,
        out: Array,
        values: Array,
        *,
        limit: float,
        scale: float,
        most: int,
        key: bytes,
        stream: int,
        start: int,
        width: int,
        p: int,
        batch: int,
    ) -> tuple[int, float]:
        """out = the words of values·scale, rounded up with probability the fraction and cut to ±most.

        values  (m,) float32 or float64     start  bytes of the key's `stream` that came before; whole blocks
        Returns how many values lie beyond ±limit, and the integers' sum of squares as `extent` does.
        """
        single = values.dtype == np.float32
        over, square = self._module.round_up(
            out, values, single, limit, scale, most, key, stream, start, width, p, batch
        )
        return int(over), float(square)


COMPILED: Compiled | None = Compiled(MODULE) if MODULE is not None else None


def compiled(width: int, p: int) -> Compiled | None:
    """The compiled loops for this field; None where numpy is to do it."""
    return COMPILED if (width, p) in WRITTEN_FOR else None


def takes(array: Array) -> bool:
    """Whether the compiled loops may read and write it where it lies: a view of a letter may begin at an odd byte."""
    return array.flags.aligned and reads(array)


def reads(array: Array) -> bool:
    """Whether `below` and `add_up` may read it: at any byte. They do not see that numbers are of the other order."""
    return array.flags.c_contiguous and array.dtype.isnative


def in_use() -> str:
    """What the inner loops run on: "VAES", "AES-NI", or "numpy"."""
    return COMPILED.instructions if COMPILED is not None else NUMPY

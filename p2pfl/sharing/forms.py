"""Random linear forms: a few bytes that show a wrong sum, whichever peer added it (docs/spec/sharing.md §1.5).

Theory of operation. A chunk of k words is laid out row by row as a matrix A over F_p with ⌈√k⌉ columns, the last row
filled up with zeros. A form is uᵀAv mod p with u and v uniform. It is linear in the words, so the tags of the chunks
that are summed add up to the tag of their sum, and it needs √k random words where a plain form would need k.

What a lie has to beat. A wrong sum differs from the right one by some E ≠ 0. Ev = 0 with probability at most 1/p, and
given Ev ≠ 0, uᵀ(Ev) = 0 with probability 1/p: together at most 2/p − 1/p² (Schwartz 1980 and Zippel 1979 for degree 2).
Forms are drawn independently, 4, 2, 1 of them for the 16-, 31-, 61-bit field, so a lie passes with probability below
(2/p)^forms < 2^−59.99 in each of the three, which leaves 31 lies, each under a challenge of its own, below 2^−55
together. It holds only if u and v are unknown to anyone until every word of every chunk and of every sum is fixed: the
challenge has to come from nonces that were committed to before and are opened after.

What no form can see: a liar's tag of its own chunk is whatever it says, so it may let through a sum that is off by a
value of its choosing, as if its own input had been another.

The same u and v serve all chunks. Each chunk is checked by itself, and a false round passes only if *every* wrong chunk
in it does; that is no likelier than that one given chunk passes, however the others depend on it.

Coefficients (vectors/forms.json pins them): words of the PRG under key HKDF-SHA256(challenge, "forms", p as 8 bytes,
big-endian). Form f has u at words 1024·f … 1024·f + 511 and v at the 512 behind them; a chunk uses as many of each,
from the first, as its matrix has rows and columns.

Arithmetic. Products of float64 matrices are what numpy does fastest, ahead of integer loops, and here they are exact.
A word is one digit (16 or 31 bits) or two (61 bits: its low 32 and high 29, by which v gets a second coefficient,
2³²·v mod p); a coefficient is cut into limbs. digit bits + limb bits + 10 = 53, and no sum has more than 2¹⁰ terms, so
every sum and every part of one, in any order, fused or not, is an integer below 2⁵³: nothing is ever rounded, and all
machines get the same bits. Do not raise MOST_WORDS, DIGIT_BYTES or TERM_BITS alone. Where the loops are compiled, words
of 16 and 31 bits are multiplied as integers by them, in a fifth of the time: the same sums mod p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl.keys import SEED_BYTES, derive
from p2pfl.sharing import kernel
from p2pfl.sharing.field import Field, Words
from p2pfl.sharing.prg import expand
from p2pfl.sharing.rotation import Floats

TAG_BYTES: Final = 8  # 4, 2 or 1 words of 2, 4 or 8 bytes
MOST_SIDE: Final = 512  # rows and columns of the matrix of one chunk
MOST_WORDS: Final = MOST_SIDE * MOST_SIDE
DIGIT_BYTES: Final = 4  # at most, of a word
PART_BYTES: Final = 2  # of a sum A·v, when u multiplies it: digits again, of 16 bits, 512 terms
EXACT_BITS: Final = 53  # integers up to 2⁵³ are float64
TERM_BITS: Final = 10  # a row has at most 512 words of 2 digits
# One block of float64 digits is 128 KiB: it stays in the second-level cache between its conversion and its product, and
# is too small for a BLAS to wake threads of its own.
BLOCK: Final = 16 * 1024


def forms_of(field: Field) -> int:
    """How many forms a tag holds: 4, 2, 1 for words of 2, 4, 8 bytes."""
    return TAG_BYTES // field.word_bytes


class Forms:
    """The forms of one public `challenge` (32 bytes) over one field: built once per challenge, half a millisecond.

    `tag` changes nothing here, so several threads may call it at once. They gain no time by it: its steps take some ten
    microseconds each, less than the interpreter needs to change threads. Raises ValueError for another length.
    """

    def __init__(self, challenge: bytes, field: Field) -> None:
        if len(challenge) != SEED_BYTES:
            raise ValueError(f"a challenge is {SEED_BYTES} bytes, not {len(challenge)}")
        digit_bytes = min(field.word_bytes, DIGIT_BYTES)
        self._field = field
        self._digit = np.dtype(f"<u{digit_bytes}")
        self._digits = field.word_bytes // digit_bytes
        self._limb_bits = EXACT_BITS - TERM_BITS - 8 * digit_bytes  # 27 or 11
        u, v = self._u, self._v = coefficients(challenge, field)  # (forms, 512) each
        self._loops = kernel.compiled(field.word_bytes, field.p) if self._digits == 1 else None
        if self._loops is not None:
            return
        digits = [_shifted(v, 8 * digit_bytes * digit, field) for digit in range(self._digits)]
        each_digit = np.stack(digits, axis=2).reshape(len(v), -1)  # (forms, 512·digits): in the order of the words
        self._left = self._limbs(u)  # (columns, 512), columns = forms·limbs
        self._right = np.ascontiguousarray(self._limbs(each_digit).T)  # (512·digits, columns)

    def tag(self, words: Words) -> bytes:
        """TAG_BYTES: uᵀAv of each form, as little-endian words of the field, of a chunk of (k,) words < p.

        Raises NotInField for another type or a word ≥ p, ValueError unless 1 ≤ k ≤ 2¹⁸.
        Time O(k); memory: one block and √k sums. Vectors: vectors/forms.json.
        """
        self._field.check_words(words)
        if not 1 <= words.size <= MOST_WORDS:
            raise ValueError(f"a chunk of {words.size} words, wanted 1 to {MOST_WORDS}")
        columns = math.isqrt(words.size - 1) + 1
        if self._loops is not None:
            given = words if kernel.takes(words) else words.copy()
            return self._loops.tag(given, columns, self._u, self._v, self._field.word_bytes, self._field.p)
        sums = self._times_right(np.ascontiguousarray(words).view(self._digit), columns * self._digits)
        parts = sums.astype("<i8").view(f"<u{PART_BYTES}")  # (rows, columns·4): small enough to be multiplied exactly
        products = self._left[:, : len(sums)] @ parts.astype(np.float64)  # (columns, columns·4)
        return self._field.to_bytes(self._folded(products))

    def _times_right(self, digits: npt.NDArray[Any], width: int) -> Floats:
        """(rows, columns) sums A·v of each limb of each form, for the digits of A, `width` of them a row."""
        right = self._right[:width]
        rows, at_once = -(-digits.size // width), max(1, BLOCK // width)
        sums = np.empty((rows, right.shape[1]))
        block = np.empty(min(rows, at_once) * width)
        for first in range(0, rows, at_once):
            count = min(at_once, rows - first)
            given = digits[first * width : (first + count) * width]
            block[: given.size] = given
            block[given.size :] = 0.0  # fills up the last row
            np.matmul(block[: count * width].reshape(count, width), right, out=sums[first : first + count])
        return sums

    def _folded(self, products: Floats) -> Words:
        """(forms,) words: of each form the products of its own u and v, each at the place of its limbs and part."""
        forms, limbs = forms_of(self._field), len(self._left) // forms_of(self._field)
        table = products.astype(np.int64).reshape(forms, limbs, forms, limbs, -1)
        places = [
            self._limb_bits * (left + right) + 8 * PART_BYTES * part
            for left in range(limbs)
            for right in range(limbs)
            for part in range(table.shape[4])
        ]
        totals = [
            sum(value << place for value, place in zip(table[form, :, form].ravel().tolist(), places, strict=True))
            for form in range(forms)
        ]
        return np.array([total % self._field.p for total in totals], self._field.dtype)

    def _limbs(self, values: Words) -> Floats:
        """(forms·limbs, s) limbs of values (forms, s), the lowest first."""
        limbs = -(-self._field.bits // self._limb_bits)
        shifts = np.arange(limbs, dtype=np.uint64) * np.uint64(self._limb_bits)
        mask = np.uint64((1 << self._limb_bits) - 1)
        cut = (values.astype(np.uint64)[:, None, :] >> shifts[:, None]) & mask  # (forms, limbs, s)
        return cut.reshape(-1, values.shape[1]).astype(np.float64)


def coefficients(challenge: bytes, field: Field) -> tuple[Words, Words]:
    """u and v of each form, (forms, 512) uniform words < p each, from the PRG under the challenge."""
    key = derive(challenge, "forms", field.p.to_bytes(8, "big"))
    drawn = expand(key, field, 0, forms_of(field) * 2 * MOST_SIDE).reshape(-1, 2, MOST_SIDE)
    return np.ascontiguousarray(drawn[:, 0]), np.ascontiguousarray(drawn[:, 1])


def add(field: Field, tags: Sequence[bytes], chunks: int = 1) -> bytes:
    """Σ tags mod p, word by word: the tag of the sum of the chunks that they were made of.

    chunks   how many chunks' tags each of `tags` holds, one behind the other
    Raises ShareCountWrong for no tag, WordsMissized and WordOutOfRange for one that is no tag of this field. Those name
    "a peer": a caller that knows which one reads the tag by `field.from_bytes(tag, forms_of(field), peer=…)` before.
    """
    return field.to_bytes(field.sum([field.from_bytes(tag, forms_of(field) * chunks) for tag in tags]))


def _shifted(values: Words, bits: int, field: Field) -> Words:
    """2^bits · values mod p, by Python's integers."""
    shifted = [(int(value) << bits) % field.p for value in values.flat]
    return np.array(shifted, field.dtype).reshape(values.shape)

"""Three prime fields, exact, on numpy words.

Theory of operation. A *word* is an integer mod p in the smallest little-endian unsigned type that holds it. Two kinds
of prime need two kinds of step, neither of which branches on a value (nothing here leaks one through time):

- p with a spare bit (2³¹−1 in 32, 2⁶¹−1 in 64): x + y cannot overflow, and min(s, s − p) is s mod p, since s − p wraps
  to something large when s < p. Subtraction is min(d, d + p) likewise.
- p that fills its word (65521 in 16): δ = 2^w − p is small, so a carry out of the word is worth δ. Between
  operations an accumulator may hold any word congruent to its value, and `settle` brings it below p at the end.

`Accumulator` does these steps in place on one block that stays in the processor's cache, since a pass over memory
costs more than the arithmetic. Nothing here may draw randomness or accept a word ≥ p from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl.errors.sharing import NotInField, ShareCountWrong, WordOutOfRange, WordsMissized
from p2pfl.sharing import kernel

Words = npt.NDArray[np.unsignedinteger[Any]]
Integers = npt.NDArray[np.signedinteger[Any]]
AnyBuffer = bytes | bytearray | memoryview

BLOCK_BYTES: Final = 128 * 1024  # accumulator, stream, scratch and zeros: four of these fit a 1 MiB second-level cache
# By bytes of a word: made once, since each chunk asks several times.
UNSIGNED: Final[dict[int, np.dtype[np.unsignedinteger[Any]]]] = {size: np.dtype(f"<u{size}") for size in (2, 4, 8)}
MOST_DELTA: Final = 255  # a carry is worth δ, kept in one byte


def bytes_of(words: Words) -> memoryview:
    """The bytes of contiguous words, little-endian; a view, so the words must not change while it is in use."""
    return np.ascontiguousarray(words).view(np.uint8).data


def blocks(count: int, word_bytes: int) -> Iterator[slice]:
    """Slices that cover `count` words in order, each at most BLOCK_BYTES long."""
    step = BLOCK_BYTES // word_bytes
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


@dataclass(frozen=True)
class Field:
    """The integers mod the prime `p`, as little-endian words of `word_bytes` bytes (2, 4 or 8).

    Raises ValueError when p fits neither of the two shapes that the theory above covers.
    """

    name: str
    p: int
    word_bytes: int

    def __post_init__(self) -> None:
        if self.word_bytes not in (2, 4, 8) or self.p < 3 or self.p % 2 == 0:
            raise ValueError(f"no field of {self.p} in {self.word_bytes} bytes")
        if not self.spare_bit and not 0 < self.delta <= MOST_DELTA:
            raise ValueError(f"{self.p} neither leaves a bit of its word free nor lies just below 2^{self.word_bits}")

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """'<u2', '<u4' or '<u8': the bytes of a word are the same on every machine."""
        return UNSIGNED[self.word_bytes]

    @property
    def signed(self) -> np.dtype[np.signedinteger[Any]]:
        """'<i2', '<i4' or '<i8': as wide as a word; it holds every integer that a word can stand for."""
        return np.dtype(f"<i{self.word_bytes}")

    @property
    def bits(self) -> int:
        """Bits of a word that can be set: 16, 31 or 61."""
        return self.p.bit_length()

    @property
    def word_bits(self) -> int:
        return 8 * self.word_bytes

    @property
    def spare_bit(self) -> bool:
        """True when the sum of two words cannot overflow the word."""
        return 2 * self.p <= 1 << self.word_bits

    @property
    def delta(self) -> int:
        """2^word_bits − p: the value of a carry out of the word."""
        return (1 << self.word_bits) - self.p

    @property
    def half(self) -> int:
        """(p − 1)/2: the largest absolute value that a word can stand for."""
        return (self.p - 1) // 2

    def zeros(self, count: int) -> Words:
        """(count,) words, all 0."""
        return np.zeros(count, self.dtype)

    def check_words(self, words: Words) -> Words:
        """`words` itself, when it is a 1-D array of this field's type with all words < p; else raises NotInField."""
        if words.dtype != self.dtype or words.ndim != 1:
            raise NotInField(evidence=f"{words.ndim}-dimensional {words.dtype}, wanted 1 and {self.dtype}", p=self.p)
        if not self._holds(words):
            where = int(np.argmax(words >= self.p))
            raise NotInField(evidence=f"word {where} of {words.size} is not below p", p=self.p)
        return words

    def _holds(self, words: Words) -> bool:
        """Each of (m,) words of this field's type is below p."""
        loops = kernel.compiled(self.word_bytes, self.p)
        if loops is not None and kernel.reads(words):
            return loops.below(words, self.word_bytes, self.p)
        return not words.size or int(words.max()) < self.p

    def add(self, x: Words, y: Words, out: Words | None = None) -> Words:
        """x + y mod p, (m,) words < p; `out` may be x or y."""
        return self.sum((x, y), out)

    def subtract(self, x: Words, y: Words, out: Words | None = None) -> Words:
        """x − y mod p, (m,) words < p; `out` may be x or y."""
        return self.combine((x,), (y,), out)

    def sum(self, vectors: Sequence[Words], out: Words | None = None) -> Words:
        """Σ vectors mod p, (m,) words < p; at least one vector, all of one length. `out` may be one of them."""
        return self.combine(vectors, (), out)

    def combine(self, plus: Sequence[Words], minus: Sequence[Words], out: Words | None = None) -> Words:
        """Σ plus − Σ minus mod p, (m,) words < p, block by block in cache. Raises ShareCountWrong on unlike lengths."""
        sizes = {vector.size for vector in (*plus, *minus)} | ({out.size} if out is not None else set())
        if not plus or len(sizes) != 1:
            raise ShareCountWrong(evidence=f"{len(plus)} vectors to add, lengths {sorted(sizes)}")
        total = np.empty(plus[0].size, self.dtype) if out is None else out
        vectors = (*plus, *minus, total)
        loops = kernel.compiled(self.word_bytes, self.p)
        plain = all(kernel.reads(vector) and vector.dtype == self.dtype for vector in vectors)
        if loops is not None and len(vectors) <= kernel.MOST_VECTORS and plain:
            loops.add_up(total, plus, minus, self.word_bytes, self.p)
            return total
        accumulator = Accumulator(self)
        for block in blocks(total.size, self.word_bytes):
            accumulator.load(plus[0][block])
            for vector in plus[1:]:
                accumulator.add(vector[block])
            for vector in minus:
                accumulator.subtract(vector[block])
            accumulator.store(total[block])
        return total

    def encode(self, values: Integers) -> Words:
        """(m,) signed integers as words: v ≥ 0 is v, v < 0 is p + v. Raises NotInField beyond ±(p−1)/2."""
        if values.size and (int(values.max()) > self.half or int(values.min()) < -self.half):
            raise NotInField(evidence=f"an integer lies beyond ±{self.half}", p=self.p)
        narrow = values.astype(self.signed, copy=False)
        wrapped = np.right_shift(narrow, self.word_bits - 1)  # all ones where v < 0, else 0
        words: Words = wrapped.view(self.dtype)
        np.bitwise_and(words, self.dtype.type(self.p), out=words)
        return np.add(words, narrow.view(self.dtype), out=words)  # mod 2^w, as a negative v is 2^w + v

    def centred(self, words: Words) -> npt.NDArray[np.int64]:
        """The signed integers in [−(p−1)/2, (p−1)/2] that (m,) `words` stand for: undoes `encode`."""
        return self.centred_narrow(words).astype(np.int64, copy=False)

    def centred_narrow(self, words: Words) -> Integers:
        """`centred`, as integers no wider than a word: faster to work with."""
        below = np.subtract(self.dtype.type(self.half), words).view(self.signed)  # < 0 where the word is above
        np.right_shift(below, self.word_bits - 1, out=below)  # all ones there, else 0
        wrapped: Words = below.view(self.dtype)
        np.bitwise_and(wrapped, self.dtype.type(self.p), out=wrapped)
        return np.subtract(words, wrapped, out=wrapped).view(self.signed)

    def to_bytes(self, words: Words) -> bytes:
        """Little-endian bytes, word_bytes for each word. Raises NotInField for a word ≥ p or another type."""
        return self.check_words(words).tobytes()

    def from_bytes(self, data: AnyBuffer, count: int | None = None, *, peer: str = "a peer") -> Words:
        """(count,) words that share memory with `data` (read-only when it is), none of them ≥ p.

        Raises WordsMissized when the length is not that of `count` words (of whole words, without one), and
        WordOutOfRange for a word ≥ p; both name `peer`.
        """
        size = memoryview(data).nbytes
        if size % self.word_bytes or (count is not None and size != count * self.word_bytes):
            wanted = f"{count * self.word_bytes}" if count is not None else f"a multiple of {self.word_bytes}"
            raise WordsMissized(evidence=f"{size} bytes, wanted {wanted}", peer=peer)
        words: Words = np.frombuffer(data, self.dtype)
        if not self._holds(words):
            where = int(np.argmax(words >= self.p))
            raise WordOutOfRange(evidence=f"word {where} of {words.size} is not below p", peer=peer, p=self.p)
        return words


FIELDS: Final = {
    16: Field("16", 65521, 2),
    31: Field("31", 2**31 - 1, 4),
    61: Field("61", 2**61 - 1, 8),
}


class Accumulator:
    """A running sum mod p over one block of at most BLOCK_BYTES: load, add and subtract any number, store.

    Every word handed in is < p; what `store` writes is < p. Between them the block is only congruent to the sum.
    """

    def __init__(self, field: Field) -> None:
        size = BLOCK_BYTES // field.word_bytes
        self._field = field
        self._spare = field.spare_bit
        self._p = field.dtype.type(field.p)
        self._delta = field.dtype.type(field.delta)
        self._delta_byte = np.uint8(field.delta & 0xFF)  # used only where the field has no spare bit: then δ ≤ 255
        self._sum = np.empty(size, field.dtype)
        self._scratch = np.empty(size, field.dtype)
        self._carry = np.empty(size, np.bool_)
        self._size = 0

    def load(self, x: Words) -> None:
        """Start from x."""
        self._size = x.size
        self._sum[: x.size] = x

    def add(self, x: Words) -> None:
        """sum += x mod p."""
        total, scratch = self._sum[: self._size], self._scratch[: self._size]
        np.add(total, x, out=total)
        if self._spare:
            np.subtract(total, self._p, out=scratch)
            np.minimum(total, scratch, out=total)
            return
        # The carry out of the word: sum ≤ 2^w − 1 and x ≤ p − 1, so sum + x − 2^w + δ ≤ 2^w − 2: it cannot carry again.
        np.less(total, x, out=self._carry[: self._size])
        np.add(total, self._worth(), out=total)

    def subtract(self, x: Words) -> None:
        """sum −= x mod p."""
        total, scratch = self._sum[: self._size], self._scratch[: self._size]
        if self._spare:
            np.subtract(total, x, out=total)
            np.add(total, self._p, out=scratch)
            np.minimum(total, scratch, out=total)
            return
        # A borrow: sum < x ≤ p − 1, so sum − x + 2^w − δ ≥ 1: it cannot borrow again.
        np.less(total, x, out=self._carry[: self._size])
        np.subtract(total, x, out=total)
        np.subtract(total, self._worth(), out=total)

    def _worth(self) -> npt.NDArray[np.uint8]:
        """δ where the last comparison found a carry, 0 elsewhere."""
        carry = self._carry[: self._size].view(np.uint8)
        return np.multiply(carry, self._delta_byte, out=carry)

    def store(self, out: Words) -> None:
        """Write the sum, every word < p."""
        total, scratch = self._sum[: self._size], self._scratch[: self._size]
        if self._spare:
            out[...] = total
            return
        # sum < p: sum + δ does not wrap and is larger. sum ≥ p: it wraps to sum − p.
        np.add(total, self._delta, out=scratch)
        np.minimum(total, scratch, out=out)

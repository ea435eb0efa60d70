"""Floats ► words and back: clip, rotate, scale, round; settings under which a sum could wrap cannot be built.

Each peer's integer lies in [−L, L] with L = ⌊(p−1)/(2n)⌋, so a sum over at most n of them lies in [−(p−1)/2, (p−1)/2]
and its residue mod p is itself. Clip and limit come from the settings or earlier aggregates, never from the vector.

Rounding is stochastic, up with probability equal to the fraction, so its mean is the value. With an L2 clip it is
conditional: a draw whose norm exceeds the bound of Kairouz, Liu, Steinke 2021 (Proposition 4.1, β = e⁻¹⁰) is drawn
again, so a quantised vector's norm is bounded, not only likely to be. All float64, + − × ÷ √ in a fixed order.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from p2pfl.errors.sharing import LimitInvalid, ShareCountWrong, SumCouldWrap, ValueNotFinite
from p2pfl.keys import Secret, derive
from p2pfl.sharing import kernel
from p2pfl.sharing.field import BLOCK_BYTES, Field, Integers, Words
from p2pfl.sharing.prg import FIRST_STREAM, Keystream
from p2pfl.sharing.rotation import BATCH, Floats, Signs, padded, rotate, unrotate

Reals = npt.NDArray[np.float32] | npt.NDArray[np.float64]

BETA_LOG: Final = 10.0  # −ln β: a draw is refused with probability < 5·10⁻⁵
TRIES: Final = 16  # draws; all fail with probability < 10⁻⁶⁹, then values are rounded towards zero: no longer vector
LONG_BATCH: Final = 1 << 17  # floats; whole blocks of the keystream
FLOAT_BITS: Final = 53  # integers below 2⁵³ are float64 exactly
DRAW: Final = 2.0**-FLOAT_BITS


def largest(field: Field, n: int) -> int:
    """L = ⌊(p−1)/(2n)⌋, the largest integer that each of n peers may add. Raises SumCouldWrap when that is 0."""
    bound = (field.p - 1) // (2 * n) if n > 0 else 0
    # The proof, checked and not only said: n·L ≤ (p−1)/2, and an odd p makes ±(p−1)/2 distinct residues.
    if bound < 1 or 2 * n * bound >= field.p:
        raise SumCouldWrap(evidence=f"(p−1)/(2n) leaves {bound} as the largest integer", n=n, p=field.p)
    return bound


@dataclass(frozen=True)
class Quantiser:
    """Vectors of floats as words of `field`, for sums over at most `n` peers.

    clip    largest L2 norm of the vector; a longer one is shrunk to it. 0: none
    limit   largest absolute value of a coordinate, after the rotation if there is one: it becomes L
    rotate  randomised Hadamard in blocks of 4096; a vector then grows to whole blocks
    Raises SumCouldWrap, LimitInvalid.
    """

    field: Field
    n: int
    clip: float
    limit: float
    rotate: bool

    def __post_init__(self) -> None:
        largest(self.field, self.n)
        for setting, value, valid in (("clip", self.clip, self.clip >= 0), ("limit", self.limit, self.limit > 0)):
            if not (valid and math.isfinite(value)):
                raise LimitInvalid(evidence=f"{setting} is {value}", setting=setting)
        if not (math.isfinite(self.levels_per_unit) and self.step > 0):
            raise LimitInvalid(evidence=f"limit {self.limit} over {self.largest} levels", setting="limit")

    @property
    def largest(self) -> int:
        """L: integers lie in [−L, L]."""
        return largest(self.field, self.n)

    @property
    def step(self) -> float:
        """The value of one integer: limit / L."""
        return self.limit / self.largest

    @property
    def levels_per_unit(self) -> float:
        return self.largest / self.limit

    def length(self, m: int) -> int:
        """Words for a vector of m floats."""
        return padded(m) if self.rotate else m

    @property
    def _loops(self) -> kernel.Compiled | None:
        return kernel.compiled(self.field.word_bytes, self.field.p)

    @property
    def batch(self) -> int:
        """Floats that are rounded at once."""
        return BATCH if self.rotate else BLOCK_BYTES // 8

    def quantise(
        self, u: Reals, rotation_seed: bytes, rounding: Secret | bytes, out: Words | None = None
    ) -> tuple[Words, int]:
        """(length(m),) words for u (m,), and the number of coordinates that were cut to the limit.

        rotation_seed  32 public bytes, equal at all peers (from the attempt digest); unused without rotation
        rounding       32 secret fresh bytes of this peer: the keystream of the rounding is derived from them
        out            (length(m),) where the words are made; None: in an array of their own
        Raises ValueNotFinite. Time O(m); memory: the words and a few batches.
        """
        if u.ndim != 1:
            raise ShareCountWrong(evidence=f"a vector of shape {u.shape}")
        factor = self._shrinkage(u)
        secret = rounding.reveal() if isinstance(rounding, Secret) else rounding
        key = derive(secret, "quantiser/rounding")
        bound = self._norm_bound(self.length(u.size))
        words = np.empty(self.length(u.size), self.field.dtype) if out is None else out
        if words.shape != (self.length(u.size),) or words.dtype != self.field.dtype:
            raise ValueError(f"out is {words.shape} {words.dtype}, wanted {self.length(u.size)} of {self.field.dtype}")
        for stream in range(FIRST_STREAM, FIRST_STREAM + TRIES):
            cut, square = self._round(u, factor, rotation_seed, Draws(key, stream), words)
            if square <= bound:
                break
        else:
            cut, _ = self._round(u, factor, rotation_seed, None, words)
        return words, cut

    def begin(self, u: Reals, rounding: Secret | bytes, out: Words) -> StepwiseWords:
        """The words of `quantise` in `out`, made as they are asked for. Raises ValueError with a clip or rotation."""
        if self.clip or self.rotate or out.shape != u.shape or out.dtype != self.field.dtype:
            raise ValueError("only words that hang on no other ones are made a few at a time")
        secret = rounding.reveal() if isinstance(rounding, Secret) else rounding
        return StepwiseWords(self, u, self._rounder(Draws(derive(secret, "quantiser/rounding"), FIRST_STREAM)), out)

    def count_over(self, u: Reals) -> int:
        """How many of (m,) u lie beyond the limit: `quantise` cuts as many where it neither shrinks nor rotates.

        Raises ValueNotFinite. Time O(m), one batch of memory.
        """
        if (surveyed := self._surveyed(u)) is not None:
            return surveyed
        self._check_finite(u)
        limit, over = np.float64(self.limit), 0
        for first in range(0, u.size, self.batch):
            values = u[first : first + self.batch]
            if max(-float(values.min()), float(values.max())) > self.limit:
                over += int(np.count_nonzero(np.abs(values) > limit))
        return over

    def dequantise(self, words: Words, rotation_seed: bytes, m: int) -> Floats:
        """(m,) float64 that one peer's (length(m),) words stand for; u minus this is the exact residual."""
        return self.dequantise_sum(words, 1, rotation_seed, m)

    def dequantise_sum(self, words: Words, survivors: int, rotation_seed: bytes, m: int) -> Floats:
        """(m,) float64: the sum over `survivors` peers that (length(m),) words of the unmasked sum stand for.

        The same bits on every machine. Raises ShareCountWrong on a wrong length or more survivors than n.
        """
        if words.size != self.length(m) or not 1 <= survivors <= self.n:
            raise ShareCountWrong(evidence=f"{words.size} words for {m} floats, {survivors} survivors of {self.n}")
        return floats_of(words, self.field, self.step, rotation_seed if self.rotate else None, m)

    def within_bound(self, words: Words, survivors: int) -> bool:
        """True when no coordinate of the unmasked sum exceeds survivors × L, nor its norm survivors × the L2 bound.

        Honest peers cannot exceed either, so a sum beyond them holds a value that a liar chose.
        """
        far, square = self._extent(words)
        return far <= survivors * self.largest and square <= survivors * survivors * self._norm_bound(words.size)

    def _extent(self, words: Words) -> tuple[int, float]:
        """The largest absolute value of the integers, and their squared norm (0 without an L2 clip)."""
        if self._loops is not None and kernel.takes(words):
            batch = self.batch if self.clip else 0
            return self._loops.extent(words, self.field.word_bytes, self.field.p, batch)
        far, square = 0, 0.0
        for first in range(0, words.size, self.batch):
            values = self.field.centred(words[first : first + self.batch])
            far = max(far, int(np.abs(values).max()))
            square += sum_of_squares(values.astype(np.float64)) if self.clip else 0.0
        return far, square

    def _shrinkage(self, u: Reals) -> float:
        """min(1, clip/‖u‖), the factor of the L2 clip. Raises ValueNotFinite."""
        square = 0.0
        if self._surveyed(u) is None:
            self._check_finite(u)
        for first in range(0, u.size if self.clip else 0, self.batch):
            square += sum_of_squares(u[first : first + self.batch].astype(np.float64))
        if not self.clip or square <= self.clip * self.clip:
            return 1.0
        return self.clip / math.sqrt(square)

    def _surveyed(self, u: Reals) -> int | None:
        """How many lie beyond the limit, where the compiled loops can say and all are finite; else None."""
        if self._loops is None or not kernel.takes(u):
            return None
        finite, over = self._loops.survey(u, self.limit)
        return over if finite else None

    def _check_finite(self, u: Reals) -> None:
        for first in range(0, u.size, self.batch):
            finite = np.isfinite(u[first : first + self.batch])
            if not finite.all():
                raise ValueNotFinite(evidence=f"coordinate {first + int(np.argmin(finite))} of {u.size}")

    def _norm_bound(self, length: int) -> float:
        """The largest squared norm of a quantised vector of `length` integers; infinite without an L2 clip."""
        if not self.clip:
            return math.inf
        c = self.clip * self.levels_per_unit
        return c * c + length / 4 + math.sqrt(2 * BETA_LOG) * (c + math.sqrt(length) / 2)

    def _round(
        self, u: Reals, factor: float, rotation_seed: bytes, draws: Draws | None, words: Words
    ) -> tuple[int, float]:
        """Write the words of factor·u: coordinates beyond the limit, squared norm of the integers (0: no L2 clip)."""
        signs, rounder = Signs(rotation_seed), self._rounder(draws)
        over, square = 0, 0.0
        for first in range(0, words.size, self.batch):
            part: Reals = u[first : first + self.batch]
            if self.rotate or factor != 1.0:
                values = np.zeros(min(self.batch, words.size - first))
                np.multiply(part, factor, out=values[: part.size])
                part = rotate(values, signs) if self.rotate else values
            beyond, squared = rounder.round(part, words[first : first + self.batch])
            over, square = over + beyond, square + squared
        return over, square

    def _rounder(self, draws: Draws | None) -> Rounder | CompiledRounder:
        if self._loops is not None and draws is not None:
            return CompiledRounder(self, self.batch, draws, self._loops)
        return Rounder(self, self.batch, draws)


def floats_of(
    words: Words, field: Field, step: float, rotation_seed: bytes | None, m: int, out: Floats | None = None
) -> Floats:
    """(m,) float64: `step` times the integers that the words stand for, rotated back where there is a seed.

    words   (m,); with a rotation (padded(m),)
    out     (m,) where the numbers are written, front to back: without a rotation the words may be its last bytes
    The same bits on every machine. Raises ShareCountWrong on a wrong length.
    """
    if words.size != (m if rotation_seed is None else padded(m)):
        raise ShareCountWrong(evidence=f"{words.size} words for {m} floats")
    out = np.empty(m, np.float64) if out is None else out
    loops = kernel.compiled(field.word_bytes, field.p)
    if loops is not None and rotation_seed is None and kernel.takes(words):
        loops.decode(out, words, step, field.word_bytes, field.p)
        return out
    signs = Signs(rotation_seed) if rotation_seed is not None else None
    batch = BATCH if signs is not None else BLOCK_BYTES // 8
    for first in range(0, words.size, batch):
        integers = field.centred_narrow(words[first : first + batch])
        if signs is not None:
            values = np.multiply(integers, step, dtype=np.float64)
            out[first : first + batch] = unrotate(values, signs)[: m - first]
        else:
            np.multiply(integers, step, out=out[first : first + batch], dtype=np.float64)
    return out


@dataclass(frozen=True)
class Draws:
    """Where the rounding's random bits come from: one stream of a keystream."""

    key: bytes = dataclasses.field(repr=False)
    stream: int


class Rounder:
    """Rounds batches of at most `size` floats to words, one after another.

    Up with probability the fraction, by the next words of `draws`; towards zero without them. The scratch of one batch
    serves all, and stays in the processor's cache.
    """

    def __init__(self, quantiser: Quantiser, size: int, draws: Draws | None) -> None:
        self._of, self._most, self._field = quantiser, quantiser.largest, quantiser.field
        self._draws = Keystream(draws.key, draws.stream) if draws is not None else None
        self._scaled, self._low, self._chance = np.empty(size), np.empty(size), np.empty(size)
        self._drawn = np.empty(size, "<u8")
        self._up = np.empty(size, np.bool_)

    def round(self, values: Reals, out: Words) -> tuple[int, float]:
        """Write the words of (m,) values; how many lie beyond the limit, and the integers' sum of squares."""
        over, limit, scale = 0, self._of.limit, self._of.levels_per_unit
        within = max(-float(values.min()), float(values.max()))
        if within > limit:
            over = int(np.count_nonzero(np.abs(values) > np.float64(limit)))
        integers = self._integers(values, scale, within * scale)
        out[:] = self._field.encode(integers)
        return over, sum_of_squares(integers.astype(np.float64)) if self._of.clip else 0.0

    def _integers(self, values: Reals, scale: float, within: float) -> Integers:
        """Integers in [−L, L] for (m,) values·scale, none of which lies beyond ±`within`."""
        scaled = np.multiply(values, scale, out=self._scaled[: values.size], dtype=np.float64)
        if within > self._most:
            np.clip(scaled, -float(self._most), float(self._most), out=scaled)
        low = (np.floor if self._draws is not None else np.trunc)(scaled, out=self._low[: values.size])
        integers = low.astype(self._field.signed)
        if self._draws is not None:
            np.add(integers, self._drawn_up(self._draws, np.subtract(scaled, low, out=scaled)), out=integers)
        # float(most) may lie above most where it is beyond 2⁵³, so the integers are clipped as integers too.
        return integers if self._most < 1 << FLOAT_BITS else np.clip(integers, -self._most, self._most)

    def _drawn_up(self, draws: Keystream, fractions: Floats) -> npt.NDArray[np.int8]:
        """1 for each fraction in [0, 1] that is above 53 uniform bits in [0, 1), else 0."""
        drawn, chance = self._drawn[: fractions.size], self._chance[: fractions.size]
        draws.fill(drawn)
        np.right_shift(drawn, np.uint64(64 - FLOAT_BITS), out=drawn)
        chance[:] = drawn.view("<i8")  # the same below 2⁶³, and the processor converts signed integers in one step
        np.multiply(chance, DRAW, out=chance)
        return np.less(chance, fractions, out=self._up[: fractions.size]).view(np.int8)


class CompiledRounder:
    """`Rounder` with draws, in one pass of the compiled loops."""

    def __init__(self, quantiser: Quantiser, size: int, draws: Draws, compiled: kernel.Compiled) -> None:
        self._of, self._draws, self._compiled = quantiser, draws, compiled
        self._batch = size if quantiser.clip else 0
        self._start = 0

    def round(self, values: Reals, out: Words) -> tuple[int, float]:
        """As Rounder's."""
        start, self._start = self._start, self._start + 8 * values.size
        return self._compiled.round_up(
            out,
            values if kernel.takes(values) else values.astype(values.dtype.newbyteorder("=")),
            limit=self._of.limit,
            scale=self._of.levels_per_unit,
            most=self._of.largest,
            key=self._draws.key,
            stream=self._draws.stream,
            start=start,
            width=self._of.field.word_bytes,
            p=self._of.field.p,
            batch=self._batch,
        )


class StepwiseWords:
    """The words of (m,) floats, each rounded by itself: as many of the first as somebody has asked for."""

    def __init__(self, quantiser: Quantiser, floats: Reals, rounder: Rounder | CompiledRounder, out: Words) -> None:
        self._of, self._floats, self._rounder, self._out = quantiser, floats, rounder, out
        # Calls of the compiled loops are few: each lets go of the interpreter, which links want meanwhile.
        self._batch = LONG_BATCH if isinstance(rounder, CompiledRounder) else quantiser.batch
        self._done = 0

    def upto(self, stop: int) -> int:
        """Write the words before number `stop`, or a few more; how many of their floats lie beyond the limit.

        Raises ValueNotFinite: floats may have changed since somebody looked at them.
        """
        over = 0
        while self._done < min(stop, self._out.size):
            here = slice(self._done, self._done + self._batch)
            part = self._floats[here]
            over += self._of.count_over(part)
            self._rounder.round(part, self._out[here])
            self._done += part.size
        return over


def sum_of_squares(values: Floats) -> float:
    """Σ values², added in a fixed order: halves folded onto one another, whatever the machine's vectors are."""
    squares = np.zeros(1 << max(values.size - 1, 0).bit_length())
    np.multiply(values, values, out=squares[: values.size])
    while squares.size > 1:
        half = squares.size // 2
        squares = squares[:half] + squares[half:]
    return float(squares[0])

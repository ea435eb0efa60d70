"""The discrete Gaussian, sampled exactly from a keystream: P[x] ∝ exp(−x² / 2σ²) over all integers.

Canonne, Kamath, Steinke 2020, *The Discrete Gaussian for Differential Privacy*: a discrete Laplace number of scale
t = ⌊σ⌋ + 1 is accepted with chance exp(−(|y| − σ²/t)² / 2σ²). Every chance is one of exp(−γ) for a rational γ, decided
exactly: the first 64 bits of a uniform number are compared with exp(−γ) in float64, and where the two are nearer than
MARGIN, which bounds what float64 may be off, more bits are drawn and more digits computed until they part. So no float
shapes the distribution (Mironov 2012), and nearly all draws cost one comparison.

Pure: whoever calls brings the bits, and they are used once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

MARGIN: Final = 2.0**-40  # float64 is off by 2⁻⁴⁷ at most, as long as |y| stays below 40 t
MOST_VARIANCE: Final = 1 << 80
BLOCK: Final = 1 << 15  # numbers at a time
DIGITS: Final = 40  # of exp(−γ) at the first closer look; doubled until it is enough


class Words(Protocol):
    """Uniform 64-bit words, each handed out once: training/noise/bit_stream.py's BitStream."""

    def words(self, count: int, /) -> NDArray[np.uint64]: ...


def discrete_gaussian(bits: Words, count: int, variance: int) -> Integers:
    """`count` independent numbers of the discrete Gaussian; σ² = `variance`, a whole number from 1 to 2⁸⁰.    (count,)

    σ² is the distribution's parameter, and from σ² = 1 on its variance up to some parts in 10⁷.
    """
    if not 1 <= variance <= MOST_VARIANCE:
        raise ValueError(f"σ² = {variance}")
    found = np.empty(count, np.int64)
    for start in range(0, count, BLOCK):
        part = found[start : start + BLOCK]
        part[:] = _filled(len(part), lambda wanted: _accepted(bits, wanted, variance))
    return found


def _filled(count: int, draw: Callable[[int], Integers]) -> Integers:
    """`count` of what `draw` gives, which may be fewer than it was asked for: then it is asked for more."""
    parts, have = list[Integers](), 0
    while have < count:
        parts.append(draw(count - have)[: count - have])
        have += len(parts[-1])
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _accepted(bits: Words, count: int, variance: int) -> Integers:
    """Those of `count` discrete Laplace numbers that are of the Gaussian."""
    scale = math.isqrt(variance) + 1
    y = _filled(count, lambda wanted: _laplace(bits, wanted, scale))
    away = np.abs(y) - float(variance) / scale  # float64
    keep = _chance(
        bits,
        away * away / (2.0 * variance),
        lambda place: Fraction((abs(int(y[place])) * scale - variance) ** 2, 2 * variance * scale * scale),
    )
    return y[keep]


def _laplace(bits: Words, count: int, scale: int) -> Integers:
    """Of `count` tries those that give a number y: P[y] ∝ exp(−|y| / scale)."""
    low = _filled(count, lambda wanted: _below(bits, wanted, scale))
    low = low[_chance(bits, low / float(scale), lambda place: Fraction(int(low[place]), scale))]
    high = np.zeros(len(low), np.int64)  # how often in a row a chance of exp(−1) came true
    going = np.arange(len(low))
    while len(going):
        going = going[_chance(bits, np.ones(len(going)), lambda _: Fraction(1))]
        high[going] += 1
    size, minus = low + scale * high, bits.words(len(low)) >> np.uint64(63) == 1
    once = ~(minus & (size == 0))  # else 0 would come twice as often
    signed: Integers = np.where(minus, -size, size)[once]
    return signed


def _below(bits: Words, count: int, bound: int) -> Integers:
    """Of `count` tries those that give a uniform number of 0 … bound − 1."""
    found = (bits.words(count) >> np.uint64(64 - max(1, (bound - 1).bit_length()))).astype(np.int64)
    return found[found < bound]


def _chance(bits: Words, gamma: NDArray[np.float64], exact: Callable[[int], Fraction]) -> NDArray[np.bool_]:
    """Independent draws that are true with chance exp(−γ).    (N,)

    gamma   in float64, so near that exp(−γ) is off by less than MARGIN
    exact   γ at a place
    """
    words = bits.words(len(gamma))
    ahead = words.astype(np.float64) * 2.0**-64 - np.exp(-gamma)
    found: NDArray[np.bool_] = ahead < 0.0
    for place in np.flatnonzero(np.abs(ahead) <= MARGIN):
        found[place] = _decided(bits, int(words[place]), exact(int(place)))
    return found


def _decided(bits: Words, word: int, gamma: Fraction) -> bool:
    """Whether the uniform number that begins with the 64 bits of `word` lies below exp(−γ)."""
    if gamma == 0:
        return True
    drawn, length, digits = word, 64, DIGITS
    while True:
        context = Context(prec=digits)
        chance = context.exp(-context.divide(Decimal(gamma.numerator), Decimal(gamma.denominator)))
        # γ and exp are each off by a part of 10^(1 − digits); of exp(−γ) that makes γ exp(−γ) < 1 of those.
        off, low = Fraction(1, 10 ** (digits - 2)), Fraction(drawn, 1 << length)
        if low + Fraction(1, 1 << length) <= Fraction(chance) - off:
            return True
        if low >= Fraction(chance) + off:
            return False
        drawn, length, digits = drawn << 64 | int(bits.words(1)[0]), length + 64, 2 * digits

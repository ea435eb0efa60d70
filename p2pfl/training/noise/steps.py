"""Whole steps of discrete Gaussian noise, exact, by integers alone (Canonne, Kamath, Steinke 2020, algorithms 1 to 3).

P[X = k] is proportional to exp(−k²/2σ²) over all integers k. Every decision compares a uniform integer with an integer,
so no rounding leaves a gap in what can come out, as every float does (Mironov 2012). σ is an integer too: the grid on
which the noise lies is chosen such that it is one (sharing/noise_grid.py).

discrete_gaussian.py draws for any variance, where floats decide what they can decide rightly; these are the millions of
draws of every round, for which σ is at most 2²⁴ and 63 bits hold every product.

The one departure from the exact law: a proposal of 64 σ or more is refused, which would be taken with a chance below
10⁻⁸⁰⁰. Never add here: a float, numpy's or torch's generators, a seed option. Vector: tests/training/vectors.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.noise.bit_stream import BitStream

MOST_SIGMA: Final = 1 << 24  # then every product below fits into 63 bits
BLOCK: Final = 1 << 16  # numbers that are drawn at a time
FAR: Final = 64  # proposals of so many σ are refused

Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]


def noise_steps(stream: BitStream, count: int, sigma: int) -> Integers:
    """`count` independent draws of the discrete Gaussian of parameter `sigma`, an integer in 1 … 2²⁴.    (count,)"""
    if not 1 <= sigma <= MOST_SIGMA:
        raise ValueError(f"sigma {sigma}")
    out = np.empty(count, np.int64)
    for start in range(0, count, BLOCK):
        part = out[start : start + BLOCK]
        open_ = np.arange(len(part))
        while len(open_):
            drawn, taken = _proposals(stream, len(open_), sigma)
            # Taken with probability exp(−(|x| − σ)²/2σ²).
            taken[taken] = _exponential(stream, (np.abs(drawn[taken]) - sigma) ** 2, 2 * sigma * sigma)
            part[open_[taken]] = drawn[taken]
            open_ = open_[~taken]
    return out


def _proposals(stream: BitStream, count: int, sigma: int) -> tuple[Integers, Truths]:
    """`count` tries at the discrete Laplace distribution of scale σ, and which of them came to a draw."""
    offset = _below(stream, count, sigma)
    taken = _exponential(stream, offset, sigma)
    times = np.zeros(count, np.int64)
    going = np.flatnonzero(taken)
    while len(going):
        going = going[_exponential(stream, np.ones(len(going), np.int64), 1)]
        times[going] += 1
        going = going[times[going] < FAR]
    size = offset + sigma * times
    negative = (stream.words(count) >> np.uint64(63)).astype(np.bool_)
    # Zero comes with one sign alone, or it would come twice as often.
    return np.where(negative, -size, size), taken & (times < FAR) & ~(negative & (size == 0))


def _exponential(stream: BitStream, above: Integers, below: int) -> Truths:
    """For each a of `above` (≥ 0), true with probability exp(−a/below).    (count,)"""
    whole, rest = np.divmod(above, below)
    true = _of_a_part(stream, rest, below)
    while True:  # exp(−w − r) = exp(−1)^w · exp(−r)
        going = np.flatnonzero(true & (whole > 0))
        if not len(going):
            return true
        true[going] = _of_a_part(stream, np.ones(len(going), np.int64), 1)
        whole[going] -= 1


def _of_a_part(stream: BitStream, above: Integers, below: int) -> Truths:
    """The same for a ≤ below: the first k at which a draw of probability a/(below·k) fails is odd."""
    true = np.ones(len(above), np.bool_)
    going, k = np.arange(len(above)), 1
    while len(going):
        drawn = _below(stream, len(going), below * k)
        going = going[drawn < above[going]]
        k += 1
        true[going] = k % 2 == 1
    return true


def _below(stream: BitStream, count: int, bound: int) -> Integers:
    """Uniform integers on 0 … bound − 1, by rejection of masked words.    (count,)"""
    out = np.empty(count, np.int64)
    mask = np.uint64((1 << (bound - 1).bit_length()) - 1)
    open_ = np.arange(len(out))
    while len(open_):
        words = (stream.words(len(open_)) & mask).astype(np.int64)
        fits = words < bound
        out[open_[fits]] = words[fits]
        open_ = open_[~fits]
    return out

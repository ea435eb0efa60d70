"""What a round costs each site: letters and bytes by kind, fitted to real rounds and checked against one more of them.

The rounds are the real ones (counted.py). A kind of letter is said in one of three ways: by each site to each other
one, for each chunk to all, or by one site to all; and a letter's size follows the number of sites, of chunks, of votes
in a quorum, of steps in a Merkle path, or none of them. Which of these a kind has is read from the rounds that were
run, the simplest that fits them. Words are counted, not fitted: their bytes follow from the layout (sharing/chunks.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from p2pfl.keys import Identity, verify
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate.counted import WORDS_OF, MeasuredRound, chunks

FITTED_AT: Final = (4, 5, 6, 8, 11, 15)  # sites of the rounds that a fit is made of …
SEVERAL_CHUNKS: Final = (4, 3)  # … and one of so many sites, each of which owns so many chunks
CHECKED_AT: Final = 24  # sites of the round that it is checked against
FEW_WORDS: Final = 26_000  # of those rounds: each site owns a chunk, also of 24 and of 16 bits
WITHIN: Final = 0.002  # of a letter's size: so near is near enough for the simpler form

Scale = Callable[[int, int], float]  # of (sites, chunks)


def quorum(sites: int) -> int:
    """q = ⌊2n/3⌋ + 1, as roster.py has it for as many sites as a federation may have."""
    return 2 * sites // 3 + 1


# How many letters of a kind all sites send in a round …
COUNTS: Final[Mapping[str, Scale]] = {
    "each to each": lambda n, chunks: n * (n - 1),
    "each chunk to all": lambda n, chunks: chunks * (n - 1),
    "one to all": lambda n, chunks: n - 1,
}
# … and what a letter's size follows.
SIZES: Final[Mapping[str, Scale]] = {
    "sites": lambda n, chunks: n,
    "chunks": lambda n, chunks: chunks,
    "quorum": lambda n, chunks: quorum(n),
    "path": lambda n, chunks: _path(n),
}


def _path(n: int) -> float:
    """Mean steps from a leaf to the root of a Merkle tree of `n` leaves, which splits at a power of two."""
    if n <= 1:
        return 0.0
    left = 1 << (n - 1).bit_length() - 1
    return 1.0 + (left * _path(left) + (n - left) * _path(n - left)) / n


@dataclass(frozen=True, slots=True)
class LetterFit:
    """One kind of letter: `count` × COUNTS[of] of them a round, of `constant` bytes and so many for each of SIZES."""

    of: str
    count: float
    constant: float
    slopes: tuple[tuple[str, float], ...]

    def letters(self, sites: int, pieces: int) -> float:
        return self.count * COUNTS[self.of](sites, pieces)

    def size(self, sites: int, pieces: int) -> float:
        return self.constant + sum(slope * SIZES[what](sites, pieces) for what, slope in self.slopes)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What each site sends in one round, on the mean.

    letters, bytes   words included
    beyond           bytes beside the words
    cpu_s            processor seconds of a site: its letters, its signatures, masks and sums; no TLS, no disk
    """

    letters: float
    bytes: float
    beyond: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class TrafficFit:
    """Real rounds as a function of sites and words. How far it is off, `check` says.

    cpu       seconds of a site for each site, for each square of their number, for each word and site
    verify_s  of one signature, which each site checks of every letter that it gets
    """

    bits: int
    kinds: Mapping[str, LetterFit]
    cpu: tuple[float, float, float]
    verify_s: float

    def traffic(self, sites: int, words: int) -> Traffic:
        pieces = chunks(sites, words, self.bits)
        letters = sum(one.letters(sites, pieces) for one in self.kinds.values())
        beyond = sum(one.letters(sites, pieces) * one.size(sites, pieces) for one in self.kinds.values())
        whole = beyond + words_sent(sites, words, self.bits)
        cpu_s = self.cpu[0] * sites + self.cpu[1] * sites**2 + self.cpu[2] * sites * words
        return Traffic(letters / sites, whole / sites, beyond / sites, cpu_s + letters / sites * self.verify_s)


def words_sent(sites: int, words: int, bits: int) -> float:
    """Bytes of the words that all sites send: each to their owners but for its own part, then the sums to all."""
    return 2.0 * (sites - 1) * words * FIELDS[bits].word_bytes


def beyond(one: MeasuredRound) -> float:
    """Bytes of all letters of a real round but for the words in them."""
    return one.bytes - words_sent(one.sites, one.words, one.bits)


def fit(rounds: Sequence[MeasuredRound]) -> TrafficFit:
    """The simplest functions that these rounds have; all of one field, of five sizes or more."""
    kinds = sorted({kind for one in rounds for kind in one.by_kind})
    return TrafficFit(rounds[0].bits, {kind: _letter_fit(kind, rounds) for kind in kinds}, _cpu(rounds), _verify_s())


def _letter_fit(kind: str, rounds: Sequence[MeasuredRound]) -> LetterFit:
    held = [(one, one.by_kind[kind]) for one in rounds if kind in one.by_kind]
    places = [(one.sites, chunks(one.sites, one.words, one.bits)) for one, _ in held]
    counted = np.array([tally.letters for _, tally in held], np.float64)
    found = []
    for of, scale in COUNTS.items():
        over = np.array([scale(*place) for place in places])
        count = float(counted @ over / (over @ over))
        found.append((float(np.abs(count * over / counted - 1.0).max()), of, count))
    _, of, count = min(found)
    sizes = np.array([(tally.bytes - _words_in(kind, one)) / tally.letters for one, tally in held])
    return LetterFit(of, count, *_size_fit(sizes, places))


def _words_in(kind: str, one: MeasuredRound) -> float:
    """Chunks and sums carry each word once to all others but one, of n and of 1 sites: half of `words_sent` each."""
    return words_sent(one.sites, one.words, one.bits) / 2.0 if kind in WORDS_OF else 0.0


def _size_fit(
    sizes: np.ndarray[tuple[int], np.dtype[np.float64]], places: Sequence[tuple[int, int]]
) -> tuple[float, tuple[tuple[str, float], ...]]:
    """Constant and slopes of a letter's size: of as few of SIZES as come within WITHIN of all, else of the best two."""
    best: tuple[float, float, tuple[tuple[str, float], ...]] = (math.inf, 0.0, ())
    for many in range(3):
        for names in combinations(SIZES, many):
            columns = [np.ones(len(places)), *(np.array([SIZES[name](*place) for place in places]) for name in names)]
            rows = np.stack(columns, axis=1)
            solved = np.linalg.lstsq(rows / sizes[:, None], np.ones(len(sizes)), rcond=None)[0]
            off = float(np.abs(rows @ solved / sizes - 1.0).max())
            if off < best[0]:
                best = off, float(solved[0]), tuple(zip(names, map(float, solved[1:]), strict=True))
        if best[0] <= WITHIN:
            break
    return best[1], best[2]


def _cpu(rounds: Sequence[MeasuredRound]) -> tuple[float, float, float]:
    """Non-negative coefficients of a site's seconds over sites, their square, and words × sites."""
    rows = np.array([(one.sites, one.sites**2, one.sites * one.words) for one in rounds], np.float64)
    spent = np.array([one.cpu_s / one.sites for one in rounds])
    found, used = np.zeros(3), [0, 1, 2]
    while used:
        solved = np.linalg.lstsq(rows[:, used] / spent[:, None], np.ones(len(spent)), rcond=None)[0]
        if (solved >= 0.0).all():
            found[used] = solved
            break
        used.remove(used[int(np.argmin(solved))])
    return float(found[0]), float(found[1]), float(found[2])


def _verify_s(times: int = 50) -> float:
    """Processor seconds of one signature's check here: sites of a simulation share what they have checked."""
    identity = Identity(bytes(32))
    signed = identity.sign("record", b"a letter")
    begun = time.process_time()
    for _ in range(times):
        verify(identity.key, "record", b"a letter", signed)
    return (time.process_time() - begun) / times


@dataclass(frozen=True, slots=True)
class FitCheck:
    """A real round that the fit has not seen, and by which part of it the fit is off."""

    sites: int
    words: int
    letters: float
    bytes: float
    beyond: float
    cpu: float


def check(found: TrafficFit, one: MeasuredRound) -> FitCheck:
    """Signed: 0.01 where the fit says one part in a hundred more than the real round has."""
    said, n = found.traffic(one.sites, one.words), one.sites
    shared = said.cpu_s - said.letters * found.verify_s  # sites of a simulation check a signature once for all
    said_and_found = (
        (said.letters, one.letters),
        (said.bytes, one.bytes),
        (said.beyond, beyond(one)),
        (shared, one.cpu_s),
    )
    return FitCheck(one.sites, one.words, *(n * said_here / real - 1.0 for said_here, real in said_and_found))

"""What one sum holds, block by block: its public shape first, then this site's numbers in it, then the total's.

Reals travel in fixed point: v as round(v · 2^bits), with as many bits as `bound`, the largest absolute value that one
site may add, leaves room for. The error of a total is at most half a unit for each site: bound · sites · 2⁻⁵². What
lies beyond the bound is cut to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl.errors.statistics import SumsImpossible
from p2pfl.statistics.question import MOST_LIMIT, MOST_RECORDS, Ask, Floats, Integers, MovedBlock, OpenedSum

EXACT: Final = 1000  # bits of fixed point: as many as there is room for
MOST_BITS: Final = 1000  # of a bound so small that a float's exponent would run out


def bits_for(bound: float) -> int:
    """The largest b for which bound · 2^b is at most MOST_LIMIT."""
    bits = min(math.frexp(MOST_LIMIT)[1] - math.frexp(bound)[1], MOST_BITS) if bound > 0 else 0
    return bits if math.ldexp(bound, bits) <= MOST_LIMIT else bits - 1


@dataclass(frozen=True, slots=True)
class Block:
    """`labels` of consecutive numbers; `bits` of fixed point (0: integers), `limit` of one site in units of 2^−bits."""

    name: str
    labels: tuple[str, ...]
    bits: int
    limit: int
    people: bool
    first: int
    crowded: bool = False
    moves: float = math.inf  # how far one record moves it at most, in L2, before it is in fixed point; ∞: unbounded

    @property
    def span(self) -> slice:
        return slice(self.first, self.first + len(self.labels))


class SumPlan:
    """The public shape of one Ask, block by block."""

    def __init__(self, name: str, *, own: bool = False) -> None:
        self.name, self.own = name, own
        self._blocks: dict[str, Block] = {}
        self._parts: list[tuple[int, tuple[int, ...]]] = []

    @property
    def width(self) -> int:
        return sum(len(block.labels) for block in self._blocks.values())

    def bits(self, name: str) -> int:
        """Of fixed point, of a block."""
        return self._blocks[name].bits

    def counts(
        self,
        name: str,
        labels: Sequence[str],
        most: int = MOST_RECORDS,
        moves: float = math.inf,
        *,
        crowded: bool = False,
    ) -> SumPlan:
        """Counts of people, at most `most` at a site; `moves`: how far one record moves them in L2.

        crowded   of more people each than the smallest group (Ask.crowded)
        """
        return self._add(Block(name, tuple(labels), 0, max(most, 1), True, self.width, crowded, moves))

    def integers(self, name: str, labels: Sequence[str], most: int) -> SumPlan:
        """Integers that count no people, of absolute value at most `most` at a site."""
        return self._add(Block(name, tuple(labels), 0, max(most, 1), False, self.width))

    def reals(
        self, name: str, labels: Sequence[str], bound: float, moves: float = math.inf, bits: int = EXACT
    ) -> SumPlan:
        """Reals, of absolute value at most `bound` at a site; the limit is of the next power of two.

        So two sites whose `bound` differs in its last bit, as a logarithm's may, ask for the same. `bits`: as many
        behind the point at most, so that this site's number is rounded to them before it is summed.
        """
        power = math.ldexp(1.0, math.frexp(bound)[1]) if bound > 0 else 1.0
        bits = min(bits_for(power), bits)
        limit = max(math.ceil(math.ldexp(power, bits)), 1)
        return self._add(Block(name, tuple(labels), bits, limit, False, self.width, moves=moves))

    def total(self, of: tuple[str, int], parts: Sequence[tuple[str, int]]) -> SumPlan:
        """The entry `of` (block, place in it) is the sum of `parts`, at every site."""
        self._parts.append((self._place(of), tuple(map(self._place, parts))))
        return self

    def ask(self, values: Mapping[str, Any]) -> Ask:
        """This site's numbers, by block, each in its block's shape or any that flattens to it."""
        if values.keys() != self._blocks.keys():
            raise ValueError(f"{self.name}: {sorted(values)}, wanted {sorted(self._blocks)}")
        found = np.zeros(self.width, np.int64)
        for block in self._blocks.values():
            given = np.asarray(values[block.name]).reshape(-1)
            if block.bits or given.dtype.kind == "f":
                given = np.rint(np.ldexp(given.astype(np.float64), block.bits))
                given = np.clip(np.nan_to_num(given), -float(block.limit), float(block.limit))
            found[block.span] = given
        blocks = self._blocks.values()
        people = np.array([block.people for block in blocks for _ in block.labels], np.bool_)
        labels = tuple(_label(block.name, label) for block in blocks for label in block.labels)
        limit = max(block.limit for block in blocks)
        moved = tuple(MovedBlock(one.first, len(one.labels), one.bits, one.moves) for one in blocks)
        crowded = tuple(block.crowded for block in blocks for _ in block.labels)
        return Ask(self.name, found, limit, people, tuple(self._parts), labels, self.own, moved, crowded)

    def read(self, total: OpenedSum) -> Totals:
        """The opened numbers by block. Raises SumsImpossible where no tables could give them."""
        if total.values.shape != (self.width,) or total.sites < 1:
            raise SumsImpossible(evidence=f"{self.name}: {total.values.size} numbers, wanted {self.width}")
        if total.deviations is not None:
            return Totals(self._blocks, self._consistent(total.values), total.sites, (total.deviations**2).tolist())
        opened: list[int] = total.values.tolist()
        for block in self._blocks.values():
            least = 0 if block.people else -block.limit * total.sites
            if any(not least <= value <= block.limit * total.sites for value in opened[block.span]):
                raise SumsImpossible(evidence=f"{self.name}, {block.name}: a number beyond what {total.sites} can add")
        if any(opened[of] != sum(opened[part] for part in parts) for of, parts in self._parts):
            raise SumsImpossible(evidence=f"{self.name}: a total is not the sum of its parts")
        return Totals(self._blocks, opened, total.sites)

    def _consistent(self, values: Integers) -> list[int]:
        """Noised sums as numbers that a table could give: no count below 0, and each total that of its parts.

        A total of several sets of parts is that of the first: noise makes the others differ.
        """
        found: list[int] = values.tolist()
        for block in self._blocks.values():
            if block.people:
                found[block.span] = [max(one, 0) for one in found[block.span]]
        return add_up(found, self._parts)

    def _add(self, block: Block) -> SumPlan:
        if block.name in self._blocks:
            raise ValueError(f"{self.name} has {block.name} twice")
        self._blocks[block.name] = block
        return self

    def _place(self, entry: tuple[str, int]) -> int:
        block = self._blocks[entry[0]]
        return block.first + range(len(block.labels))[entry[1]]


def _label(block: str, label: str) -> str:
    """What one number is, for people who were not told of blocks: "bmi missing: no", "ward east"."""
    kind, colon, column = block.partition(":")
    if not colon or kind == "levels":
        return f"{column or block} {label}".strip()
    if label == kind or (kind, label) == ("known", "missing"):  # a column by itself: known, and missing
        return f"{column} {label}"
    return f"{column} {kind}" + (f": {label}" if label else "")


def totals_of(parts: Sequence[tuple[int, tuple[int, ...]]]) -> dict[int, tuple[int, ...]]:
    """By the place of a total its parts, the first that are named; each behind the totals that are among its parts."""
    first: dict[int, tuple[int, ...]] = {}
    for of, places in parts:
        first.setdefault(of, places)
    ordered: dict[int, tuple[int, ...]] = {}

    def put(of: int) -> None:
        if of in first and of not in ordered:
            for place in first[of]:
                put(place)
            ordered[of] = first[of]

    for of in first:
        put(of)
    return ordered


def add_up(values: list[int], parts: Sequence[tuple[int, tuple[int, ...]]]) -> list[int]:
    """`values` with each total made anew of its parts."""
    for of, places in totals_of(parts).items():
        values[of] = sum(values[place] for place in places)
    return values


@dataclass(frozen=True, slots=True)
class Totals:
    """What a sum opened, by the names of its blocks. spread: of each number the variance of its noise; () if exact."""

    blocks: Mapping[str, Block]
    opened: Sequence[int]
    sites: int
    spread: Sequence[float] = ()

    def counts(self, name: str) -> list[int]:
        return list(self.opened[self.blocks[name].span])

    def count(self, name: str) -> int:
        """The only number of a block of one."""
        (only,) = self.counts(name)
        return only

    def noise(self, name: str) -> list[float]:
        """The variance of the noise on each number of a block, in people or in what its reals are of; 0 if exact."""
        span = self.blocks[name].span
        return list(self.spread[span]) if self.spread else [0.0] * (span.stop - span.start)

    def exact(self, name: str) -> list[Fraction]:
        """The reals of a block without any rounding but that of the fixed point at each site."""
        bits = self.blocks[name].bits
        scale = Fraction(2) ** -bits
        return [value * scale for value in self.counts(name)]

    def reals(self, name: str) -> list[float]:
        return [float(value) for value in self.exact(name)]

    def real(self, name: str) -> float:
        (only,) = self.reals(name)
        return only


# ── this site's numbers ───────────────────────────────────────────────────────────────────────────────────────


def scaled(values: Floats, centre: float, half: float) -> Floats:
    """(values − centre) / half, in [−1, 1] for values within public bounds; NaN stays."""
    return (values - centre) / half


def present(*columns: Floats) -> npt.NDArray[np.bool_]:
    """(records,) True where every column has a value."""
    missing: npt.NDArray[np.bool_] = np.any([np.isnan(one) for one in columns], axis=0)
    return ~missing


def tally(codes: Floats, levels: int) -> Integers:
    """(levels,) how many of `codes`, which are indices without NaN, are each level."""
    return np.bincount(codes.astype(np.int64), minlength=levels).astype(np.int64)


def cells(codes: Sequence[Floats], shape: Sequence[int]) -> Integers:
    """How many records are in each cell of a table of `shape`, by their indices on each side, none of them NaN."""
    flat: Any = np.ravel_multi_index([one.astype(np.int64) for one in codes], tuple(shape))
    return np.bincount(flat, minlength=math.prod(shape)).astype(np.int64).reshape(shape)

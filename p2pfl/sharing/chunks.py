"""Who owns which words: a vector of segments cut into chunks, dealt over the members of U as a reduce-scatter.

A *segment* is a run of words in one field (the update in 16 or 31 bits, scalars in 61). Each is cut into chunks of at
most CHUNK_BYTES; their number is a multiple of the owners', so that every owner sums about as many words. The next
segment begins at the owner where the odd words of the last one ended, so no owner is first every time.

A short segment has fewer chunks, of LEAST_BYTES or a little less: each costs every member a letter to its owner, and
the owner two to every member, one of them signed. Ten numbers have one owner. docs/adr/0088.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl.sharing.field import FIELDS, Field

CHUNK_BYTES: Final = 512 * 1024
LEAST_BYTES: Final = 2 * 1024  # of a chunk, unless its segment ends there


@dataclass(frozen=True, slots=True)
class Segment:
    """`length` words of the field with `bits` (a key of FIELDS). Raises ValueError for any other."""

    bits: int
    length: int

    def __post_init__(self) -> None:
        if self.bits not in FIELDS or self.length < 0:
            raise ValueError(f"no segment of {self.length} words of {self.bits} bits")

    @property
    def field(self) -> Field:
        return FIELDS[self.bits]


@dataclass(frozen=True, slots=True)
class Layout:
    """The segments of one vector, in order."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """Words start … start+count−1 of segment number `segment`, summed by owner number `owner_position`.

    `index` counts chunks over the whole layout: it is k of the messages, and the leaf's index in the Merkle tree.
    """

    index: int
    segment: int
    start: int
    count: int
    owner_position: int

    @property
    def stop(self) -> int:
        return self.start + self.count


def plan(layout: Layout, owners: int) -> tuple[ChunkSpan, ...]:
    """All chunks of `layout` in order, dealt over `owners` members: every word once, loads about equal.

    A function of its arguments alone, so that all peers agree on it. Raises ValueError when owners < 1.
    """
    if owners < 1:
        raise ValueError(f"{owners} owners")
    chunks: list[ChunkSpan] = []
    first_owner = 0
    for number, segment in enumerate(layout.segments):
        start = 0
        for place, count in enumerate(_sizes(segment, owners)):
            chunks.append(ChunkSpan(len(chunks), number, start, count, (first_owner + place) % owners))
            start += count
        # The longer chunks come first; the next segment's begin about behind the last of them.
        first_owner = (first_owner + segment.length) % owners
    return tuple(chunks)


def _sizes(segment: Segment, owners: int) -> list[int]:
    """Words of each chunk: near-equal, longer ones first; fewer than `owners` only where they would be too short."""
    most, least = (max(1, size // segment.field.word_bytes) for size in (CHUNK_BYTES, LEAST_BYTES))
    rows = -(-segment.length // (owners * most))
    number = min(rows * owners, -(-segment.length // least))
    if not number:
        return []
    size, longer = divmod(segment.length, number)
    return [size + 1] * longer + [size] * (number - longer)

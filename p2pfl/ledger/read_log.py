"""Segment files ► entries in one chain, and a finding, with its number, for everything that is wrong.

Reading changes nothing and raises nothing for what it reads, so it can run beside a writer and under `verify`;
`Log.open` turns its faults into errors. The entries are those of the unbroken chain from the first one on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Protocol

from p2pfl.keys import Secret
from p2pfl.ledger.entry import FIRST, Entry, entry_hash
from p2pfl.ledger.segment import ENTRY, Damage, SegmentFrame, SegmentReader
from p2pfl.merkle import Tree, leaf_hash


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. fault=False: worth a line, but no sign of tampering."""

    log: str
    what: str
    entry: int | None = None
    segment: int | None = None
    fault: bool = True

    @property
    def place(self) -> str:
        """Which entry, which segment."""
        parts = [f"entry {self.entry}"] if self.entry is not None else []
        parts += [f"segment {self.segment}"] if self.segment is not None else []
        return ", ".join(parts) or "the log"

    def __str__(self) -> str:
        return f"{self.log} log, {self.place}: {self.what}"


class StoredSegments(Protocol):
    """What is read: `home.segments.SegmentFiles`, or a test's."""

    def numbers(self) -> list[int]: ...
    def reader(self) -> Callable[[int], bytes]: ...
    def key_of(self, number: int, salt: bytes) -> Secret: ...


@dataclass
class HashChain:
    """A log so far: its entries, the chain of their hashes, their Merkle tree."""

    entries: list[Entry] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    head: bytes = FIRST

    def add(self, record: bytes, signatures: dict[str, bytes]) -> None:
        """The next entry."""
        self.entries.append(Entry(len(self.entries), record, signatures, self.head))
        self.add_leaf(leaf_hash(record))
        self.head = entry_hash(self.head, record)

    def add_leaf(self, leaf: bytes) -> None:
        """Add a leaf to the tree alone, where the chain to its entry is unknown."""
        self.tree.append(leaf)

    @property
    def leaves(self) -> Sequence[bytes]:
        """The leaf hashes of the records."""
        return self.tree.leaves

    def sign(self, index: int, signatures: dict[str, bytes]) -> None:
        """Add signatures to entry `index`."""
        old = self.entries[index]
        self.entries[index] = Entry(index, old.record, {**signatures, **old.signatures}, old.previous)

    def root_at(self, size: int) -> bytes:
        """The Merkle root over the first `size` entries."""
        return self.tree.root(size)


@dataclass
class Reading:
    """What the segment files of one log hold."""

    log: str
    chain: HashChain = field(default_factory=HashChain)
    findings: list[Finding] = field(default_factory=list)
    broken: bool = False  # the chain ended before the frames did
    last: tuple[int, int, int] | None = None  # the last segment: its number, its bytes, those of them that are good

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.fault]


def read_log(stored: StoredSegments, log: str) -> Reading:
    """Read all segments of a log, oldest first."""
    reading = Reading(log)
    numbers = stored.numbers()
    for before, number in pairwise((0, *numbers)):  # by ranges: a stray file may bear any number
        if gap := number - before - 1:
            what = "the segment is missing" if gap == 1 else f"it and the {gap - 1} segments behind it are missing"
            reading.findings.append(Finding(log, what, len(reading.chain.entries), before + 1))
    read_segment = stored.reader()
    for number in numbers:
        try:
            data = read_segment(number)
        except FileNotFoundError:
            continue  # a writer beside us removed it after its first write failed; gaps are found above
        except OSError as error:
            what = f"the segment cannot be read: {error.strerror}"
            reading.findings.append(Finding(log, what, len(reading.chain.entries), number))
            continue
        reader = SegmentReader(data, partial(stored.key_of, number))
        for frame in reader:
            _place_frame(reading, frame, number)
        if reader.damage is not None:
            reading.findings.append(_damage(reading, reader.damage, number, last=number == numbers[-1]))
        reading.last = (number, len(data), reader.good_bytes)
    return reading


def _place_frame(reading: Reading, frame: SegmentFrame, number: int) -> None:
    """Add an opened frame to the chain, or say why it does not belong there."""
    chain, size = reading.chain, len(reading.chain.entries)
    if frame.kind == ENTRY:
        if frame.index == size and frame.previous == chain.head:
            chain.add(frame.record, dict(frame.signatures))
            return
        if not reading.broken:  # after the first break every later entry breaks too, and tells nothing new
            gap = f"entries {size} to {frame.index - 1} are missing"
            why = gap if frame.index > size else "it is of another history"
            what = f"the chain does not lead to entry {frame.index}: {why}"
            reading.findings.append(Finding(reading.log, what, size, number))
            reading.broken = True
    elif frame.index < size:
        chain.sign(frame.index, dict(frame.signatures))
    else:
        what = "signatures of an entry that is not there"
        reading.findings.append(Finding(reading.log, what, frame.index, number))


def _damage(reading: Reading, damage: Damage, number: int, *, last: bool) -> Finding:
    entry, at = len(reading.chain.entries), f"at byte {damage.offset}: {damage.why}"
    if damage.torn and last:
        return Finding(reading.log, f"an unfinished write {at}", entry, number, fault=False)
    return Finding(reading.log, at, entry, number)

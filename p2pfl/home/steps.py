"""What the steps of a round change, and its bytes in a journal (journal.py). Pure: bytes in, changes out.

A record is its length (4 bytes, big-endian), the same with every bit turned, and so many bytes of a sealed item. A last
one that never came to the medium whole is what a power cut leaves of a step that nobody was told of, and is dropped: it
is cut short, or ends in zeros, or has whole sectors of them, as a disk may write them in any order. Anything else that
does not open is damage.
docs/spec/home.md.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from p2pfl import codec
from p2pfl.errors.home import NotInLayout
from p2pfl.home.disk import has_hole
from p2pfl.home.sealing import MAGIC, OVERHEAD_BYTES, TAG_BYTES, rule_of

MOST_RECORD_BYTES: Final = 1 << 26
MOST_CHANGES: Final = 256  # in a record
MOST_WORK: Final = 4  # most bytes decrypted to explain damage, in sizes of the file
LENGTH: Final = struct.Struct(">II")  # and its complement: a length that was changed is no record cut short
EVERY_BIT: Final = 0xFFFFFFFF
SEGMENT: Final = re.compile(r"ledger/(federation|site)/[0-9]{8}\.segment")


@dataclass(frozen=True, slots=True)
class Put:
    """The item holds this; None: it is gone."""

    item: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Filed:
    """The item is a file: what the journal held of it before counts no more."""

    item: str


@dataclass(frozen=True, slots=True)
class SegmentTail:
    """A segment of a log holds these bytes from `start` on."""

    segment: str
    start: int
    data: bytes


Change = Put | Filed | SegmentTail


@dataclass
class Contents:
    """What the records of a journal come to: items by name (None: gone), and by segment what it may lack."""

    items: dict[str, bytes | None] = field(default_factory=dict)
    tails: dict[str, SegmentTail] = field(default_factory=dict)

    def take(self, change: Change) -> None:
        """The next change. Raises Malformed for a tail that begins before the one before."""
        if isinstance(change, Put):
            self.items[change.item] = change.data
        elif isinstance(change, Filed):
            self.items.pop(change.item, None)
        else:
            before = self.tails.get(change.segment)
            if before is None or change.start > before.start + len(before.data):
                # What lies in between was synced, and all before it.
                before = SegmentTail(change.segment, change.start, b"")
            if change.start < before.start:
                raise codec.Malformed(f"{change.segment}: bytes from {change.start} on begin before {before.start}")
            data = before.data[: change.start - before.start] + change.data
            self.tails[change.segment] = SegmentTail(change.segment, before.start, data)

    def changes(self) -> list[Change]:
        """The fewest changes that come to the same."""
        return [*(Put(item, data) for item, data in self.items.items()), *self.tails.values()]


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def packed(changes: Iterable[Change]) -> bytes:
    """The content of a record: msgpack of a row for each change, in order."""
    rows: list[tuple[str | int | bytes, ...]] = []
    for change in changes:
        match change:
            case Put(item, None):
                rows.append(("gone", item))
            case Put(item, bytes(data)):
                rows.append(("put", item, data))
            case Filed(item):
                rows.append(("file", item))
            case SegmentTail(segment, start, data):
                rows.append(("tail", segment, start, data))
    return codec.pack(rows)


def read_changes(data: codec.Buffer) -> list[Change]:
    """Undo `packed`. Raises Malformed."""
    rows = codec.unpack(data, most=MOST_RECORD_BYTES, items=MOST_CHANGES)
    if not isinstance(rows, tuple | list):
        raise codec.Malformed("no rows")
    changes = [_read_change(row) for row in rows]
    if packed(changes) != bytes(data):
        raise codec.Malformed("another form of these changes")
    return changes


def _read_change(row: Any) -> Change:
    match tuple(row) if isinstance(row, tuple | list) else ():
        case ("gone", str(item)):
            return Put(_stepwise(item), None)
        case ("put", str(item), bytes(data)):
            return Put(_stepwise(item), data)
        case ("file", str(item)):
            return Filed(_stepwise(item))
        case ("tail", str(segment), int(start), bytes(data)) if type(start) is int and start >= 0:
            if SEGMENT.fullmatch(segment):
                return SegmentTail(segment, start, data)
    raise codec.Malformed(f"a change of another form: {str(row)[:80]}")


def _stepwise(item: str) -> str:
    try:
        if rule_of(item).stepwise:
            return item
    except NotInLayout:
        pass
    raise codec.Malformed(f"{item[:60]!r} does not lie in a journal")


def read_journal(data: bytes, unseal: Callable[[bytes], bytes]) -> Contents:
    """What a journal's file holds, without a last record that never came to the medium whole.

    unseal   gives the content of a sealed record, or raises ValueError

    Raises ValueError, with the reason, for anything that this home did not write.
    """
    held, at = Contents(), 0
    while at < len(data):
        end = _end_of(data, at)
        if len(data) < end:
            break  # cut short
        try:
            if end <= at:
                raise ValueError(f"at {at} stands no record")
            changes = read_changes(unseal(data[at + LENGTH.size : end]))
        except ValueError:
            if _never_came(data, at, end, unseal):
                break
            raise
        for change in changes:
            held.take(change)
        at = end
    return held


def _end_of(data: bytes, at: int) -> int:
    """Where the record at `at` ends by its length; `at` where there is none."""
    body = at + LENGTH.size
    if len(data) < body:
        return body
    size, turned = LENGTH.unpack_from(data, at)
    return body + size if size ^ turned == EVERY_BIT and OVERHEAD_BYTES <= size <= MOST_RECORD_BYTES else at


def _never_came(data: bytes, at: int, end: int, unseal: Callable[[bytes], bytes]) -> bool:
    """The record at `at`, which does not open, is the last, and not all of it was written before the power went.

    Each is synced before the next one is written: where one opens behind it, it was whole.
    """
    if end > at:
        return end == len(data) and (not any(data[-TAG_BYTES:]) or has_hole(data, at + LENGTH.size))
    return has_hole(data, at) and not _opens_behind(data, at, unseal)


def _opens_behind(data: bytes, at: int, unseal: Callable[[bytes], bytes]) -> bool:
    """A record opens behind `at`; or there are marks of more of them than a write cut short leaves."""
    behind, work = at + LENGTH.size, MOST_WORK * len(data)
    while (behind := data.find(MAGIC, behind + 1)) >= 0:
        start = behind - LENGTH.size
        if not start < (end := _end_of(data, start)) <= len(data):
            continue
        work -= end - start
        try:
            if work >= 0:
                unseal(data[behind:end])
            return True
        except ValueError:
            continue
    return False

"""One entry of a log: its number, its exact bytes, who signed them, and its place in the chain of hashes.

A record is canonical JSON (`codec.facts`), and the bytes are the entry: they are hashed, signed and kept as written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from p2pfl.codec import Facts, Malformed, read_facts
from p2pfl.keys import digest
from p2pfl.ledger import federation_kinds, site_kinds  # noqa: F401  (each registers its kinds)
from p2pfl.ledger.kind import KINDS, Kind

__all__ = [
    "FIRST",
    "KINDS",
    "Entry",
    "UnknownKind",
    "entry_hash",
    "entry_of",
    "own_facts",
    "read_record",
    "render",
    "utc_text",
]

FIRST: Final = bytes(32)  # what the first entry holds as the hash of the one before
MOST_RECORD: Final = 1 << 20  # bytes
YEAR_9999: Final = 253402300799  # Unix seconds; the last that a datetime can show


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its number from 0, the record's bytes as written, signatures by name, the hash of the one before."""

    index: int
    record: bytes
    signatures: Mapping[str, bytes]
    previous: bytes

    @property
    def hash(self) -> bytes:
        return entry_hash(self.previous, self.record)


def entry_hash(previous: bytes, record: bytes) -> bytes:
    """SHA-256 over p2pfl/1/entry\\0, then the hash of the entry before and the record, each behind its length."""
    return digest("entry", previous, record)


class UnknownKind(ValueError):
    """A record of a kind that this version does not know."""


def _kind_of(held: Facts) -> type[Kind]:
    kind = KINDS.get(str(held.get("kind")))
    if kind is None:
        raise UnknownKind(f"kind {held.get('kind')!r} is not known to this version")
    return kind


def read_record(record: bytes) -> Facts:
    """The facts of a record. Raises UnknownKind, or ValueError that names the field that is wrong."""
    held = read_facts(record, MOST_RECORD)
    _kind_of(held).check_facts(held)
    return held


def own_facts(entry: Entry) -> Facts:
    """The facts of an entry of this home's own log, which `read_record` judged before it was appended.

    No second judgement: its frame authenticates, its hash is in the chain, and `ledger verify` judges all of it again.
    Raises Malformed for what is no map at all.
    """
    try:
        held = json.loads(entry.record)
    except ValueError as error:
        raise Malformed(f"record is not JSON: {error}") from None
    if not isinstance(held, dict):
        raise Malformed("record is not a map")
    return held


def entry_of(held: Facts) -> Kind:
    """The entry that these facts state. Raises UnknownKind, or ValueError that names the field that is wrong."""
    return _kind_of(held).of_facts(held)


def utc_text(seconds: float) -> str:
    """Unix seconds as `2026-11-30 16:14:47Z`; before 1970, or behind the year 9999, it is the first or last moment."""
    return datetime.fromtimestamp(min(max(seconds, 0), YEAR_9999), UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def render(entry: Entry) -> str:
    """One line for a person: number, time where there is one, what happened, how many signed."""
    try:
        held = read_facts(entry.record, MOST_RECORD)
        line = entry_of(held).line
    except ValueError as error:
        return f"{entry.index:>6}  unsupported: {error}"
    seconds = held.get("time", held.get("time_ms", 0) // 1000)
    at = utc_text(seconds) if seconds else "-" * 20
    signed = f"  [{len(entry.signatures)} signatures]" if entry.signatures else ""
    return f"{entry.index:>6}  {at}  {line}{signed}"

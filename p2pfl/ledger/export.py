"""What a site hands out of a log without any key: its size, root, signed head and leaf hashes; and two such, compared.

A leaf hash is SHA-256(0x00 ‖ record), so the file shows which entries two logs share and tells nothing of their content
(round records carry a salt; site entries do not, so a site log's export is for those who may read the log).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from p2pfl.codec import Facts, facts, read_facts
from p2pfl.errors.ledger import ExportMalformed
from p2pfl.ledger import note
from p2pfl.ledger.log import Log
from p2pfl.merkle import root_of

FORMAT: Final = "p2pfl-ledger-root/1"
MOST_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Exported:
    """One exported log; `root` is that of `leaves`."""

    log: str
    site: str
    leaves: tuple[bytes, ...]
    root: bytes
    head: bytes
    signed: str | None


class Relation(Enum):
    """How two logs stand to each other."""

    IDENTICAL = "identical"
    PREFIX = "prefix"
    FORK = "fork"
    UNLIKE = "unlike"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The finding. entry: the first that the two do not share (FORK, PREFIX). shorter: whose log is behind (PREFIX)."""

    relation: Relation
    text: str
    entry: int | None = None
    shorter: str | None = None


def export(log: Log, site: str) -> bytes:
    """The file: canonical JSON. `site` is the name of the home that the log is in."""
    held: Facts = {"format": FORMAT, "log": log.which, "site": site, "size": len(log), "root": log.root().hex()}
    held |= {"head": log.head().hex(), "signed_head": log.latest_head()}
    held |= {"leaves": [leaf.hex() for leaf in log.leaves()]}
    return facts(held) + b"\n"


def read(raw: bytes, path: str) -> Exported:
    """Read an exported file and check that it agrees with itself. Raises ExportMalformed, naming `path`."""
    try:
        held = read_facts(raw.removesuffix(b"\n"), MOST_BYTES)
        if held["format"] != FORMAT:
            raise ValueError(f"format {held['format']!r}")
        leaves = tuple(bytes.fromhex(leaf) for leaf in held["leaves"])
        exported = Exported(
            str(held["log"]), str(held["site"]), leaves, bytes.fromhex(held["root"]), bytes.fromhex(held["head"]),
            held["signed_head"],
        )
        if held["size"] != len(leaves) or any(len(leaf) != 32 for leaf in leaves) or root_of(leaves) != exported.root:
            raise ValueError("its root is not that of its leaves")
        if exported.signed is not None:
            head, _ = note.parse(exported.signed)
            if head.size > len(leaves) or root_of(leaves[: head.size]) != head.root:
                raise ValueError("its signed head is not of this log")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportMalformed(evidence=f"{type(error).__name__}: {error}", path=path) from None
    return exported


def signed_by(exported: Exported, key: bytes) -> bool:
    """True when the export's signed head is there and `key` made it."""
    return exported.signed is not None and note.signed_by(exported.signed, exported.site, key)


def compare(a: Exported, b: Exported) -> Comparison:
    """Identical, one a prefix of the other, or a fork and at which entry."""
    if a.log != b.log:
        return Comparison(Relation.UNLIKE, f"one is a {a.log} log and the other a {b.log} log")
    if a.leaves == b.leaves:
        return Comparison(Relation.IDENTICAL, f"{a.site} and {b.site} hold the same {len(a.leaves)} entries")
    shared = next((k for k, (x, y) in enumerate(zip(a.leaves, b.leaves, strict=False)) if x != y), None)
    if shared is not None:
        text = f"{a.site} and {b.site} hold different entries {shared}; the {shared} before are the same"
        return Comparison(Relation.FORK, text, shared)
    short, long = sorted((a, b), key=lambda each: len(each.leaves))
    behind = len(long.leaves) - len(short.leaves)
    text = f"{short.site} holds the first {len(short.leaves)} entries of {long.site}, {behind} fewer"
    return Comparison(Relation.PREFIX, text, len(short.leaves), short.site)

"""A log as a file for auditors, and to be compared: entries as they were signed, root, signed head.

Reading and checking it takes no key of any site. Where rounds are not to be shown, their leaf hashes stand in
their place (SHA-256(0x00 ‖ record): their records carry a salt, so a hash tells nothing of one); the entries that say
who the sites are stay whole, since without them no signature can be checked. docs/spec/ledger.md §6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pfl.codec import Facts, facts, read_facts
from p2pfl.errors.ledger import ExportMalformed, ExportTooLarge
from p2pfl.federation.membership import BEGINNINGS
from p2pfl.keys import SIGNATURE_BYTES, Identity, SignedRecord
from p2pfl.ledger.entry import Entry
from p2pfl.ledger.log import Log
from p2pfl.ledger.read_log import HashChain
from p2pfl.ledger.site_kinds import ActsEntry
from p2pfl.ledger.witness import HeldNotes
from p2pfl.merkle import leaf_hash, root_of
from p2pfl.roster import NAME

FORMAT: Final = "p2pfl-ledger-export/1"
MOST_BYTES: Final = 1 << 30  # as the auditor's program
_OF_A_LOG: Final = {"log", "site", "size", "root", "head", "signed_head", "entries"}
_OF_A_SITE: Final = _OF_A_LOG | {"cosigned", "seen", "waiting"}
WAITING: Final = "waiting"  # the kind of the signature over what waits, behind the last hash of the log


@dataclass(frozen=True, slots=True)
class Exported:
    """One exported log; `root` is that of `leaves`. `federation`: beside a site log, the federation log of its home.

    entries   None where the leaf hash stands in an entry's place; an entry's `previous` is not known then
    signed    the note of the newest head
    cosigned  of a site log: notes of its heads, each with the cosignature of another site
    seen      of a site log: notes of heads of other sites' logs that this site cosigned, or refused to
    waiting   of a site log: what people did that it does not hold yet, signed by its site; None where that is hidden
    """

    log: str
    site: str
    leaves: tuple[bytes, ...]
    root: bytes
    head: bytes
    signed: str | None
    entries: tuple[Entry | None, ...]
    federation: Exported | None = None
    cosigned: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    waiting: SignedRecord | None = None

    @property
    def beginnings(self) -> Exported:
        """The log that says who the sites are."""
        return self.federation or self


def waiting_of(log: Log, site: str, identity: Identity, acts: ActsEntry) -> SignedRecord:
    """What people did that the site log does not hold yet: the entry that would hold it, signed as of this log."""
    return acts.record, {site: identity.sign(WAITING, log.head() + acts.record)}


def export(
    log: Log,
    site: str,
    federation: Log | None = None,
    held: HeldNotes | None = None,
    waiting: SignedRecord | None = None,
    *,
    rounds: bool = True,
) -> bytes:
    """The file: canonical JSON.

    site         name of the home that the log is in
    federation   with a site log: the federation log of that home
    held         with a site log: the heads that the home holds, cosigned
    waiting      with a site log: what it does not hold yet
    rounds       False: leaf hashes in place of rounds, and of everything in a site log
    """
    found: Facts = {"format": FORMAT, **_facts_of(log, site, rounds)}
    if federation is not None:
        notes = held or HeldNotes()
        found["federation"] = _facts_of(federation, site, rounds)
        found["cosigned"] = _texts(notes.ours)
        found["seen"] = _texts(notes.cosigned) + _texts(notes.refused)
        found["waiting"] = _row(*waiting) if waiting is not None and rounds else None
    return facts(found) + b"\n"


def _texts(notes: Mapping[str, bytes]) -> list[str]:
    return [text.decode() for _, text in sorted(notes.items())]


def _facts_of(log: Log, site: str, rounds: bool) -> Facts:
    rows: list[Any] = []
    for entry, leaf in zip(log.records(), log.leaves(), strict=True):
        whole = rounds or (log.which == "federation" and read_facts(entry.record).get("kind") in BEGINNINGS)
        rows.append(_row(entry.record, entry.signatures) if whole else leaf.hex())
    return {
        "log": log.which,
        "site": site,
        "size": len(log),
        "root": log.root().hex(),
        "head": log.head().hex(),
        "signed_head": log.latest_head(),
        "entries": rows,
    }


def _row(record: bytes, signatures: Mapping[str, bytes]) -> Facts:
    return {"record": record.decode("ascii"), "signatures": {name: one.hex() for name, one in signatures.items()}}


def read_export(raw: bytes, path: str) -> Exported:
    """Read an exported file and check that it agrees with itself. Raises ExportMalformed, ExportTooLarge."""
    if len(raw) > MOST_BYTES:
        raise ExportTooLarge(evidence=f"{len(raw)} bytes", path=path, most=f"{MOST_BYTES >> 20} MiB")
    try:
        held = read_facts(raw.removesuffix(b"\n"), MOST_BYTES)
        if held.pop("format", None) != FORMAT:
            raise ValueError("it is not of this format")
        federation = _exported(held.pop("federation"), "federation") if "federation" in held else None
        found = _exported(held, "federation" if federation is None else "site", federation)
        if federation is not None and federation.site != found.site:
            raise ValueError("its two logs are of two sites")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ExportMalformed(evidence=why[:300], path=path) from None
    return found


def _exported(held: Any, log: str, federation: Exported | None = None) -> Exported:
    """One log. Raises ValueError, KeyError, TypeError, AttributeError."""
    if not isinstance(held, dict) or set(held) != (_OF_A_SITE if log == "site" else _OF_A_LOG):
        raise ValueError("a log has other fields")
    if held["log"] != log or not isinstance(held["site"], str) or not NAME.fullmatch(held["site"]):
        raise ValueError("it does not say which log it is, of which site")
    if held["signed_head"] is not None and not isinstance(held["signed_head"], str):
        raise ValueError("its signed head is no text")
    cosigned, seen = tuple(held.get("cosigned", ())), tuple(held.get("seen", ()))
    if not all(isinstance(text, str) for text in (*cosigned, *seen)):
        raise ValueError("a cosigned head is no text")
    waiting = _entry(held["waiting"]) if held.get("waiting") is not None else None
    chain, entries = HashChain(), list[Entry | None]()
    whole = True  # no entry is hidden so far, so the chain of hashes is known
    for row in held["entries"]:
        if isinstance(row, str):
            whole = False
            chain.add_leaf(_bytes(row, 32))
            entries.append(None)
            continue
        record, signatures = _entry(row)
        if whole:
            chain.add(record, signatures)
            entries.append(chain.entries[-1])
        else:
            chain.add_leaf(leaf_hash(record))
            entries.append(Entry(len(entries), record, signatures, b""))
    found = Exported(
        held["log"],
        held["site"],
        tuple(chain.leaves),
        _bytes(held["root"], 32),
        _bytes(held["head"], 32),
        held["signed_head"],
        tuple(entries),
        federation,
        cosigned,
        seen,
        waiting,
    )
    if held["size"] != len(entries) or chain.tree.root() != found.root:
        raise ValueError("its root is not that of its entries")
    if whole and chain.head != found.head:
        raise ValueError("its last hash is not that of its entries")
    return found


def _entry(row: Mapping[str, Any]) -> tuple[bytes, dict[str, bytes]]:
    if set(row) != {"record", "signatures"}:
        raise ValueError("an entry has other fields")
    return row["record"].encode("ascii"), {n: _bytes(one, SIGNATURE_BYTES) for n, one in row["signatures"].items()}


def _bytes(text: str, size: int) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != size or raw.hex() != text:
        raise ValueError(f"a value is not {size} bytes in hex")
    return raw


def root_at(exported: Exported, size: int) -> bytes:
    """The Merkle root over its first `size` entries."""
    return root_of(exported.leaves[:size])

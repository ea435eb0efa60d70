"""Two exported logs: whose signatures each bears, and whether they are one log, one a prefix of the other, or a fork.

A file proves nothing by itself: its sender could have written it. So it must hold a signed head over its own entries,
signed by the site that the file is of, with a key that the file itself establishes: a genesis that every site of it
signed, and changes that a quorum signed. Pure: exports in, findings out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from p2pfl.codec import Malformed
from p2pfl.errors.counts import counted
from p2pfl.errors.ledger import ExportRosterBroken, ExportUnsigned
from p2pfl.federation.membership import KIND as MEMBERSHIP
from p2pfl.federation.membership import Change, Lineage
from p2pfl.keys import verify
from p2pfl.ledger import entry as entries
from p2pfl.ledger import note
from p2pfl.ledger.entry import Entry
from p2pfl.ledger.export import WAITING, Exported, root_at
from p2pfl.roster import Roster

Keys = Mapping[str, frozenset[bytes]]  # by site, every key that it ever had


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified head: its number of entries, its root, and by signer the key."""

    site: str
    size: int = 0
    root: bytes = b""
    signers: Mapping[str, bytes] = field(default_factory=dict)


class Relation(Enum):
    """How two logs relate."""

    IDENTICAL = "identical"
    PREFIX = "prefix"
    FORK = "fork"
    UNLIKE = "unlike"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The finding. The entry is the first that the two do not share.

    shorter        of a prefix: the site that is behind
    heads          the signed heads of the two
    both_heads     of a fork: who signed both heads
    both_entries   of a fork: who signed both of the entries that differ
    """

    relation: Relation
    text: str
    entry: int | None = None
    shorter: str | None = None
    heads: tuple[Signed, Signed] | None = None
    both_heads: tuple[str, ...] = ()
    both_entries: tuple[str, ...] = ()


# ── the head of one file ──────────────────────────────────────────────────────────────────────────────────────


def rosters(exported: Exported, path: str) -> list[Roster]:
    """The roster of each epoch, as the log itself says; empty for an empty log. Raises ExportRosterBroken."""
    lineage: Lineage | None = None
    found: list[Roster] = []
    for one in exported.beginnings.entries:
        if one is None:
            continue
        try:
            held = entries.read_record(one.record)
            if lineage is None:
                lineage = Lineage.of_genesis(one.record)
                _all_signed(one, lineage.roster)
            elif held["kind"] == MEMBERSHIP:
                lineage = lineage.after(Change(one.record, one.signatures))
            else:
                continue
        except ValueError as error:
            raise ExportRosterBroken(path=path, evidence=f"entry {one.index}: {error}") from None
        found.append(lineage.roster)
    if exported.beginnings.leaves and not found:
        raise ExportRosterBroken(path=path, evidence="its first entry is not shown")
    return found


def _all_signed(genesis: Entry, roster: Roster) -> None:
    for member in roster.members:
        signature = genesis.signatures.get(member.name, b"")
        if not verify(member.key, "record", genesis.record, signature):
            raise Malformed(f"the genesis has no signature of {member.name}")


def check_head(exported: Exported, path: str) -> Signed:
    """The file's signed head, its cosignatures included. Raises ExportUnsigned, ExportRosterBroken."""
    keys = dict[str, frozenset[bytes]]()
    for roster in rosters(exported, path):
        keys |= {one.name: keys.get(one.name, frozenset()) | {one.key} for one in roster.members}
    if exported.federation is not None:
        _judge(exported.federation, keys, path)
    _check_signatures(exported.beginnings, keys, path)
    _check_waiting(exported, keys, path)
    return _judge(exported, keys, path)


def _check_signatures(federation: Exported, keys: Keys, path: str) -> None:
    """Raises ExportUnsigned at the first entry that bears a signature which is not that of a site by its name.

    No leaf covers the signatures beside it: which sites signed may differ from file to file, whether they did may not.
    """
    for one in filter(None, federation.entries):
        for name, signature in one.signatures.items():
            label = _label(one.record)
            if not any(verify(key, label, one.record, signature) for key in keys.get(name, ())):
                evidence = f"entry {one.index} has a signature of {name} that is none of its keys'"
                raise ExportUnsigned(path=path, site=federation.site, evidence=evidence)


def _check_waiting(exported: Exported, keys: Keys, path: str) -> None:
    """Raises ExportUnsigned unless what waits, where the file says that, is signed by its site as of these entries."""
    if exported.waiting is None:
        return
    site, (record, signatures) = exported.site, exported.waiting
    own, over = signatures.get(site, b""), exported.head + record
    if set(signatures) != {site} or not any(verify(key, WAITING, over, own) for key in keys.get(site, ())):
        raise ExportUnsigned(path=path, site=site, evidence=f"what waits for this log is not signed by {site}")


def _label(record: bytes) -> str:
    return MEMBERSHIP if b'"kind":"membership"' in record else "record"


def _judge(exported: Exported, keys: Keys, path: str) -> Signed:
    """Raises ExportUnsigned unless the head covers these entries, bears its site's signature, and no false one."""
    site, here = exported.site, len(exported.leaves)
    if exported.signed is None:
        if not here:
            return Signed(site)
        raise ExportUnsigned(path=path, site=site, evidence=f"it holds {counted(here, 'entry')} and no signed head")
    try:
        head, lines = note.parse_note(exported.signed)
        origin = _origin(exported)
        if head.origin != origin:
            raise ValueError(f"its head is of {head.origin[:80]!r}, the log is {origin}")
        if head.size > here or root_at(exported, head.size) != head.root:
            raise ValueError(f"its head over {counted(head.size, 'entry')} is not over those that it holds")
        _check_beside(exported, head)
        signers = dict(_signer(exported.signed, each, keys) for each in lines)
        for text in exported.cosigned:
            older, by = note.parse_note(text)
            if older.origin != origin or older.size > here or root_at(exported, older.size) != older.root:
                raise ValueError(
                    f"a head over {counted(older.size, 'entry')} that others cosigned is not over those that it holds"
                )
            _check_beside(exported, older)
            if site not in dict(_signer(text, each, keys) for each in by):
                raise ValueError(
                    f"a head over {counted(older.size, 'entry')} that others cosigned is not signed by {site}"
                )
    except ValueError as error:
        raise ExportUnsigned(path=path, site=site, evidence=str(error)) from None
    if site not in signers:
        raise ExportUnsigned(path=path, site=site, evidence=f"its head is signed by {', '.join(sorted(signers))} alone")
    return Signed(site, head.size, head.root, signers)


def _origin(exported: Exported) -> str:
    if exported.log == "site":
        return note.site_origin(exported.site)
    first = exported.entries[0] if exported.entries else None
    if first is None:
        raise ValueError("a head over no entry")
    return note.federation_origin(first.record)


def _check_beside(exported: Exported, head: note.Head) -> None:
    """Raises ValueError unless a site log's head states the federation log that the file holds."""
    if exported.federation is None:
        return
    stated = note.federation_of(head)
    if stated is None:
        raise ValueError("its head says nothing of the federation log")
    size, root = stated
    if size > len(exported.federation.leaves) or root_at(exported.federation, size) != root:
        raise ValueError(f"its head speaks of {size} other entries of the federation log than stand beside it")


def _signer(text: str, line: note.Signature, keys: Keys) -> tuple[str, bytes]:
    for key in keys.get(line.name, ()):
        if line.key_id == note.key_id(line.name, key) and note.signed_by(text, line.name, key):
            return line.name, key
    known = "with none of its keys" if line.name in keys else "and no site has that name"
    raise ValueError(f"its head has a signature of {line.name}, {known}")


# ── two of them ───────────────────────────────────────────────────────────────────────────────────────────────


def compare(a: Exported, b: Exported, heads: tuple[Signed, Signed] | None = None) -> Comparison:
    """Identical, one a prefix of the other, or a fork: at which entry, and who signed both sides of it."""
    if unlike := _unlike(a, b):
        return Comparison(Relation.UNLIKE, unlike, heads=heads)
    if a.leaves == b.leaves:
        text = f"{a.site} and {b.site} hold the same {counted(len(a.leaves), 'entry')}"
        return Comparison(Relation.IDENTICAL, text, heads=heads)
    shared = next((k for k, (x, y) in enumerate(zip(a.leaves, b.leaves, strict=False)) if x != y), None)
    if shared is not None:
        return _fork(a, b, shared, heads)
    short, long = sorted((a, b), key=lambda each: len(each.leaves))
    behind = len(long.leaves) - len(short.leaves)
    text = f"{short.site} holds the first {counted(len(short.leaves), 'entry')} of {long.site}, {behind} fewer"
    return Comparison(Relation.PREFIX, text, len(short.leaves), short.site, heads)


def _unlike(a: Exported, b: Exported) -> str:
    """Why these two have nothing in common by which one could be held against the other; empty where they have."""
    if a.log != b.log:
        return f"one is a {a.log} log and the other a {b.log} log"
    if a.log == "site" and a.site != b.site:
        return f"one is the log of {a.site} and the other that of {b.site}"
    first, other = _peers_file(a), _peers_file(b)
    if first and other and first != other:
        return f"they are of two federations: one began with peers.yaml {first[:16]}, the other with {other[:16]}"
    return ""


def _peers_file(exported: Exported) -> str:
    """SHA-256 of the peers.yaml with which its federation began; empty before it has. Two geneses of one are a fork."""
    first = next(iter(exported.beginnings.entries), None)
    return str(entries.read_record(first.record).get("federation_digest", "")) if first is not None else ""


def _fork(a: Exported, b: Exported, entry: int, heads: tuple[Signed, Signed] | None) -> Comparison:
    text = f"{a.site} and {b.site} hold different entries {entry}; the {entry} before are the same"
    if heads is None:
        return Comparison(Relation.FORK, text, entry)
    lines = [text]
    for head in heads:
        which = "the fork is signed" if head.size > entry else "it does not reach the fork"
        lines.append(
            f"  the head of {head.site} over {counted(head.size, 'entry')}, root {head.root.hex()[:16]}: {which}; "
            f"signers {', '.join(sorted(head.signers)) or 'none'}"
        )
    began = _began_anew(a, b)
    if began is not None:
        lines.append(
            f"  the change in entry {began} of the federation log let {a.site} go on from an older home: what it"
        )
        lines.append("  had written beyond that was lost, and having written otherwise since is no proof against it")
    proven = began is None and all(head.size > entry for head in heads)
    both_heads = _in_both(*(head.signers for head in heads)) if proven else ()
    both_entries = _in_both(*(_signers(one, entry) for one in (a, b)))
    lines += [f"  signed both heads: {', '.join(both_heads)}"] if both_heads else []
    lines += [f"  signed both entries {entry}: {', '.join(both_entries)}"] if both_entries else []
    return Comparison(Relation.FORK, "\n".join(lines), entry, None, heads, both_heads, both_entries)


def _began_anew(a: Exported, b: Exported) -> int | None:
    """Of two logs of one site: the entry of the federation log since which that site's log counts, where only one of
    the two was signed behind it; None where neither log began anew between them."""
    if a.log != "site":
        return None
    for after, before in ((a, b), (b, a)):
        for one in filter(None, after.beginnings.entries):
            held = entries.read_record(one.record) if b'"kind":"membership"' in one.record else {}
            anew = a.site in (*held.get("added", ()), *held.get("recovered", ()))
            if anew and _stated(before) <= one.index < _stated(after):
                return one.index
    return None


def _stated(exported: Exported) -> int:
    """How many entries of the federation log its site's head speaks of."""
    head = note.parse_note(exported.signed)[0] if exported.signed is not None else None
    return (note.federation_of(head) or (0, b""))[0] if head is not None else 0


def _in_both(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> tuple[str, ...]:
    """Names of the keys that are in both: a key, not a name, makes a site the same."""
    keys = set(other.values())
    return tuple(sorted(name for name, key in one.items() if key in keys))


def _signers(exported: Exported, index: int) -> dict[str, bytes]:
    """By signer of an entry, the key, as the log gives it; empty where the entry is not shown."""
    one = exported.entries[index]
    if one is None or exported.log != "federation":
        return {}
    return {
        name: key
        for name, key in _members(rosters(exported, ""))
        if name in one.signatures and verify(key, _label(one.record), one.record, one.signatures[name])
    }


def _members(found: Iterable[Roster]) -> Iterable[tuple[str, bytes]]:
    return ((one.name, one.key) for roster in found for one in roster.members)

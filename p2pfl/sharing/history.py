"""What convinces a peer that was away of the rounds that it missed: records and signatures, one following another.

Each record names the one that it rests on, so none can be left out or exchanged. A quorum signed it, or signed a record
that rests on it. docs/spec/sharing.md §11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from p2pfl import codec
from p2pfl.codec import Facts, Malformed
from p2pfl.federation.membership import BEGINNINGS, Change, Epochs
from p2pfl.federation.membership import KIND as MEMBERSHIP
from p2pfl.keys import SignedRecord, verify
from p2pfl.roster import Roster
from p2pfl.sharing.digests import base_digest

Base = tuple[int, bytes]
NO_BASE: Final[Base] = (0, bytes(32))


def check_rows(
    rows: Sequence[SignedRecord], roster: Roster, known: Mapping[bytes, Base], epochs: Epochs | None = None
) -> list[SignedRecord]:
    """The rows that hold, from the first on, with their valid signatures alone. Raises Malformed for one that lies.

    roster  of the epoch whose rounds they are; with `epochs` each row is judged by the roster that the log says
    known   by run, its last final round here and the digest of that record
    Left out are rows at the end that no quorum signed yet, unless a quorum signed one that rests on them.
    """
    read = _read_rows(rows, roster, known, epochs)
    covered: set[str] = set()
    held = len(read)
    for place in range(len(read) - 1, -1, -1):
        facts, (_, by), here = read[place]
        if facts.get("kind") in BEGINNINGS:
            continue  # judged when it was read
        if len(by) >= here.quorums.q or facts["run"] in covered:
            covered.add(facts["run"])  # what comes before it in its run is what it rests on
        else:
            held = place
    return [row for _, row, _ in read[:held]]


def _read_rows(
    rows: Sequence[SignedRecord], roster: Roster, known: Mapping[bytes, Base], epochs: Epochs | None
) -> list[tuple[Facts, SignedRecord, Roster]]:
    """Each row with its facts, its valid signatures, and the roster of its epoch. Raises Malformed."""
    last = dict(known)
    read: list[tuple[Facts, SignedRecord, Roster]] = []
    steps = epochs.copy() if epochs is not None else None
    for record, signed in rows:
        facts = codec.read_facts(record)
        here = roster if steps is None else steps.roster
        if steps is not None:
            before_it = steps.lineage
            steps.add_entry(record, signed)
            if before_it is not None and facts.get("kind") == MEMBERSHIP:
                signed = before_it.counted(Change(record, signed)).signatures
            here = here or steps.roster
        if here is None or facts.get("kind") in BEGINNINGS:
            read.append((facts, (record, _all_signed(facts, record, signed, steps)), roster))
            continue
        run = _run(facts, here)
        _check_follows(facts, last.get(run, NO_BASE))
        last[run] = (facts["round"], base_digest(record))
        valid = {
            name: one for name, one in signed.items() if name in here and verify(here[name].key, "record", record, one)
        }
        read.append((facts, (record, valid), here))
    return read


def _check_follows(facts: Facts, before: Base) -> None:
    """Raise Malformed unless this round's record rests on `before`, the last one of its run."""
    if (facts.get("rests_on"), facts.get("base")) != (before[0], before[1].hex()):
        raise Malformed(f"round {facts['round']} does not rest on the one before it")
    if facts["round"] <= before[0]:
        raise Malformed(f"round {facts['round']} comes after round {before[0]}")


def _all_signed(facts: Facts, record: bytes, signed: Mapping[str, bytes], steps: Epochs | None) -> Mapping[str, bytes]:
    """The signatures of an entry with which an epoch, or the log, begins. Raises Malformed when they do not hold."""
    lineage = steps.lineage if steps is not None else None
    if lineage is None:
        raise Malformed(f"an entry of kind {facts.get('kind')!r:.40} where a round belongs")
    if facts["kind"] == MEMBERSHIP:
        return signed  # `check_rows` has kept those that count
    names = lineage.roster.names  # and of an agreement, too: whom it lists is its author's to say, and who signs is not
    if facts["kind"] == "agreement" and facts.get("members") != list(names):
        raise Malformed("an agreement that is not of all sites of the genesis")
    for name in names:
        if name not in signed:
            raise Malformed(f"{facts['kind']} without the signature of {name!r}")
        if not verify(lineage.roster[name].key, "record", record, signed[name]):
            raise Malformed(f"the signature of {name} is not over this {facts['kind']}")
    return {name: signed[name] for name in names}


def to_adopt(rows: Sequence[SignedRecord], current: int) -> list[SignedRecord]:
    """The rows to take over as they are: all, but the last one if it is of round `current`, which is under way here.

    That round's sum can still be had from peers that finished it, and this peer wants it, not the record alone.
    """
    last = codec.read_facts(rows[-1][0]).get("round", 0) if rows else 0
    return list(rows[:-1] if last == current else rows)


def _run(facts: Facts, roster: Roster) -> bytes:
    if facts.get("kind") != "round" or facts.get("epoch") != roster.epoch or type(facts.get("round")) is not int:
        raise Malformed(f"an entry of kind {facts.get('kind')!r:.40} where a round belongs")
    try:
        return bytes.fromhex(facts["run"])
    except (KeyError, ValueError, TypeError) as error:
        raise Malformed(f"no run: {error}") from None

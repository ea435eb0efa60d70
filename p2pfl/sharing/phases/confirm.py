"""CONFIRM: one record of the round, a function of D, the nonces and the sum; q signatures make it final.

docs/spec/sharing.md §9. The record is what goes into every federation log, byte for byte. A peer that cannot compute
the sum itself (it came back without the masked sums) takes it from a peer that can, and checks it against the record.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from p2pfl import codec
from p2pfl.codec import Facts
from p2pfl.errors.round import BulkRejected, RecordDiffers
from p2pfl.keys import digest, verify
from p2pfl.messages import Confirm, Members, Total, Want
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.events import (
    Applied,
    Effect,
    Finished,
    LinkUp,
    Received,
    RecordStored,
    Send,
    Vector,
    Words,
)
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.phases import ballot, unmask
from p2pfl.sharing.state import State, total_digest

PART_BYTES: Final = 256 << 10
MOST_SEGMENTS: Final = 64
NOTHING: Final = "nothing"
MOST_BYTES: Final = 8 << 30  # of one fetched segment


def record(state: State, event: Applied) -> list[Effect]:
    """Write the round's record and make it durable."""
    facts = codec.facts(_record(state, event))
    if state.record and state.record != facts:
        # A record that this site signed before it restarted: another one now would be a second statement.
        raise RecordDiffers(peer=state.setting.me, evidence="the record on disk is not the one computed now")
    if state.record:
        return []  # durable, and said again when this process began
    for name, (theirs, _) in state.confirms.items():
        _same(state, facts, name, theirs)
    state.record = facts
    return [state.persist(RecordStored)]


def _record(state: State, event: Applied) -> Facts:
    members = state.members
    if members is None or not isinstance(members.message, Members):
        raise codec.Malformed("no members")
    proposed = proposals(members, state.setting.roster)
    mine = proposed[state.setting.me]
    clocks = sorted(proposal.clock_ms for proposal in proposed.values())
    return {
        "kind": "round",
        "run": state.setting.run.hex(),
        "epoch": state.setting.roster.epoch,
        "round": state.round,
        "attempt": state.attempt,
        "survivors": list(members.message.survivors),
        "left_out": [],
        "attempt_digest": state.attempt_digest.hex(),
        "view": state.view.hex(),
        "total": total_digest(state.total).hex(),
        "model_before": mine.model.hex(),
        "model_after": event.model.hex(),
        "configuration": codec.read_facts(mine.configuration),
        "outcome": event.outcome,
        "epsilon": {name: proposal.epsilon for name, proposal in proposed.items()},
        "site_heads": {name: proposal.site_head.hex() for name, proposal in proposed.items()},
        # The lower median: no minority of clocks can move the agreed time out of the honest range.
        "time_ms": clocks[(len(clocks) - 1) // 2],
        # V binds the nonces' bundles, and every nonce is checked before READY: all who confirm know one salt.
        "salt": digest("salt", state.attempt_digest, state.view).hex(),
    }


def send(state: State, event: RecordStored | None = None) -> list[Effect]:
    """The record is durable: sign it for the ledgers of all."""
    cosignature = state.setting.identity.sign("record", state.record)
    state.confirms[state.setting.me] = (state.record, cosignature)
    return [state.post(Confirm(state.record, cosignature))]


def accept(state: State, event: Received) -> list[Effect]:
    """Hold a member's confirmation, if its signature is good and it says what this peer computed."""
    message, sender = event.letter.message, event.letter.sender
    if not isinstance(message, Confirm):
        return []
    if not verify(state.setting.roster[sender].key, "record", message.record, message.cosignature):
        raise RecordDiffers(peer=sender, evidence="its signature is not over the record that it sent")
    if state.record and sender != state.setting.me:
        _same(state, state.record, sender, message.record)
    state.confirms[sender] = (message.record, message.cosignature)
    return []


def _same(state: State, record: bytes, sender: str, theirs: bytes) -> None:
    if theirs != record:
        try:
            ours, other = codec.read_facts(record), codec.read_facts(theirs)
            fields = [name for name in sorted({*ours, *other}) if ours.get(name) != other.get(name)]
        except codec.Malformed as error:
            fields = [str(error)]
        raise RecordDiffers(peer=sender, evidence=f"round {state.round}: {', '.join(fields)} differ")


def final(state: State) -> bool:
    """q members confirm this peer's own record, itself among them: its word is durable and on its way."""
    same = [1 for theirs, _ in state.confirms.values() if theirs == state.record]
    ours = state.setting.me in state.confirms and bool(state.total)
    return ours and len(same) >= state.setting.roster.quorums.q


def finish(state: State) -> list[Effect]:
    """The round stands."""
    cosignatures = {name: signature for name, (theirs, signature) in state.confirms.items() if theirs == state.record}
    return [Finished(state.record, cosignatures)]


# ── a peer that came back without the masked sums ─────────────────────────────────────────────────────────────


def settled_elsewhere(state: State) -> bool:
    """q members confirm one record, and this peer lacks a seed or the masked sums: it fetches the sum instead."""
    return not state.total and not state.wanted_from and _agreed(state) != b""


def _agreed(state: State) -> bytes:
    """The record that q members signed, or nothing."""
    held = [theirs for theirs, _ in state.confirms.values()]
    quorum = state.setting.roster.quorums.q
    return next((theirs for theirs in held if held.count(theirs) >= quorum), b"")


def want(state: State) -> list[Effect]:
    """Ask one of those who confirmed for the sum."""
    agreed = _agreed(state)
    holders = [name for name in state.setting.others if state.confirms.get(name, (b"", b""))[0] == agreed]
    # A process that was answered falsely, or not at all, has ended; the next one begins with another holder.
    state.wanted_from = holders[int.from_bytes(state.setting.incarnation[:4], "big") % len(holders)]
    return [state.post(Want("total"), state.wanted_from)]


def link_up(state: State, event: LinkUp) -> list[Effect]:
    """Repeat this attempt's letters to a new process; if it was asked for the sum, ask it again, from the start."""
    effects = ballot.link_up(state, event)
    if event.peer == state.wanted_from and not state.total:
        state.parts.clear()
        effects.append(Send(event.peer, state.seal(Want("total"))))
    return effects


def settled(state: State) -> list[Effect]:
    """The round is in this peer's ledger: it needs nobody any more. Who has heard that from all may leave."""
    return [state.post(Want(NOTHING))]


def serve(state: State, event: Received) -> list[Effect]:
    """Send the checked sum, in parts, to a peer that asks for it; one that wants nothing more is settled."""
    message = event.letter.message
    if isinstance(message, Want) and message.what == NOTHING:
        state.settled.add(event.letter.sender)
        return []
    return [Send(event.letter.sender, state.seal(part)) for part in parts_of(state.total)]


def parts_of(vectors: tuple[Vector, ...]) -> list[Total]:
    """A sum cut into messages. Segments without words travel as one empty part."""
    parts = []
    for segment, vector in enumerate(vectors):
        step = PART_BYTES // FIELDS[vector.bits].word_bytes
        for start in range(0, max(int(vector.words.size), 1), step):
            words = np.ascontiguousarray(vector.words[start : start + step]).tobytes()
            parts.append(Total(segment, vector.bits, int(vector.words.size), start, words, len(vectors)))
    return parts


def fetched(state: State, event: Received) -> list[Effect]:
    """Put the parts of a fetched sum together; the whole must be the one that q members signed."""
    message, sender = event.letter.message, event.letter.sender
    if not isinstance(message, Total) or sender != state.wanted_from or state.total:
        return []
    place = _next_part(state, message, sender)
    if (message.segment, message.start) < place or (not state.parts and (message.segment, message.start) != (0, 0)):
        return []  # of an answer to the same question before the link came up anew
    if (message.segment, message.start) != place:
        raise BulkRejected(peer=sender, evidence=f"a part of segment {message.segment} out of order")
    words = FIELDS[message.bits].from_bytes(message.words, peer=sender)
    parts = [*state.parts, (message, words)]
    if (message.segment + 1, message.start + words.size) != (message.segments, message.length):
        state.parts = parts
        return []
    vectors = _joined(parts)
    if total_digest(vectors).hex() != codec.read_facts(_agreed(state)).get("total"):
        raise BulkRejected(peer=sender, evidence="the sum that it sent is not the one that the quorum signed")
    state.parts = []
    state.total = vectors
    return unmask.apply(state)


def _next_part(state: State, part: Total, sender: str) -> tuple[int, int]:
    """(segment, start) of the part that comes next. Raises BulkRejected when `part` is not of one shape with the rest.

    Memory is taken for words that came, never for a length that was claimed.
    """
    shape = (part.bits, part.length, part.segments)
    if part.bits not in FIELDS or part.segment >= part.segments or part.segments > MOST_SEGMENTS:
        raise BulkRejected(peer=sender, evidence=f"segment {part.segment} of {part.segments}, {part.bits} bits")
    room, size = FIELDS[part.bits].word_bytes * part.length, len(part.words)
    if room > MOST_BYTES or FIELDS[part.bits].word_bytes * part.start + size > room or bool(size) != bool(room):
        evidence = f"{size} bytes from word {part.start} of segment {part.segment}, which has {part.length} words"
        raise BulkRejected(peer=sender, evidence=evidence)
    if not state.parts:
        return (0, 0)
    last, words = state.parts[-1]
    same = (last.bits, last.length, last.segments) if part.segment == last.segment else (*shape[:2], last.segments)
    if shape != same:
        raise BulkRejected(peer=sender, evidence=f"segment {part.segment} in another shape than before")
    reached = last.start + int(words.size)
    return (last.segment, reached) if reached < last.length else (last.segment + 1, 0)


def _joined(parts: list[tuple[Total, Words]]) -> tuple[Vector, ...]:
    """The fetched segments, each put together from its parts."""
    by_segment: dict[int, list[Words]] = {}
    for part, words in parts:
        by_segment.setdefault(part.segment, []).append(words)
    bits = {part.segment: part.bits for part, _ in parts}
    return tuple(Vector(bits[segment], np.concatenate(words)) for segment, words in by_segment.items())

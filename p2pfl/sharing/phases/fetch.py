"""How a peer comes by a sum that it cannot compute: it was not in U, or came back without the masked sums.

A holder sends it in parts. While it is masked, V in the certificate says whether it is the right one, and the seeds
come from UNMASK; of a final round, the record that q peers signed says it of the sum itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from p2pfl import codec
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import BulkRejected
from p2pfl.messages import Ballot, Handed, Letter, Question, Reveal, Total, Want, open_letter
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.digests import sum_digest, total_digest, view_digest
from p2pfl.sharing.events import Effect, LinkUp, Send, Vector, Words
from p2pfl.sharing.field import FIELDS, bytes_of
from p2pfl.sharing.phases import ballot, confirm, mask, questions, unmask
from p2pfl.sharing.state import State

PART_BYTES: Final = 256 << 10
MOST_SEGMENTS: Final = 64
AGAIN_S: Final = 10.0  # seconds without a part until another holder is asked
LONGEST_S: Final = 160.0  # the longest such wait
# Seconds between two answers on one link, and between two links that let it ask anew.
GIVEN_AGAIN_S: Final = AGAIN_S / 2
MORE_ASKED: Final = 500  # questions beyond one to each peer, 22 hours; a new link resets the count
GONE: Final = Total(0, 0, 0, 0, 0, b"", 0)  # no segment of it: its words are held no more
NONE: Final = replace(GONE, masked=1)  # … are not here: damaged on the disk, or still to come


def lacks_sum(state: State) -> bool:
    """The sum exists, this peer cannot compute it, and nobody is being asked for it."""
    if state.sum.total:
        return False
    gathering = state.sum.masked or (state.inside and state.gathering is not None and not state.restored)
    if gathering and not state.past("fetch"):
        return False  # it will soon compute the sum, or its last words are on their way
    known = state.certificate is not None or confirm.agreed(state) != b""
    may = state.sum.asked < len(state.names) + MORE_ASKED and (not state.sum.wanted or state.past("again"))
    return known and may and bool(_holders(state))


def _holders(state: State) -> list[str]:
    """Peers that should have it: signers of the agreed record, else those whose READYs the certificate names."""
    record = confirm.agreed(state)
    if record:
        found = [name for name, (theirs, _) in state.confirming.confirms.items() if theirs == record]
    else:
        found = [name for name in state.names if name in _vouched(state)]
    others = [name for name in found if name != state.context.me]
    held = [name for name in others if name not in (*state.sum.gone, *state.sum.without)] or others
    return [name for name in held if name not in state.peers.down] or held


def is_gone(state: State) -> bool:
    """More peers than may lie hold the words no more: one of them has this peer's own word that it lacks nothing.

    So this home was set back to before its ledger had the round. Its record is all that there is to have.
    """
    return not state.sum.here and len(state.sum.gone) > state.context.roster.quorums.c


def _vouched(state: State) -> set[str]:
    wires = state.certificate.message.ballots if state.certificate is not None else ()
    ballots = [open_letter(wire, state.context.roster, Ballot) for wire in wires]
    return {name for ballot in ballots for name in ballot.message.readys}


def want(state: State) -> list[Effect]:
    """Ask one of them; the next time another."""
    if state.sum.wanted:
        state.sum.without.clear()  # time went by: one that had no words may have them by now
    holders = _holders(state)
    start = int.from_bytes(state.context.incarnation[:4], "big") + state.sum.asked
    state.sum.wanted, state.sum.asked = holders[start % len(holders)], state.sum.asked + 1
    state.sum.parts.clear()
    wait = min(AGAIN_S * 2 ** max(0, state.sum.asked - len(state.names)), LONGEST_S)  # longer once all were asked
    return [Send(state.sum.wanted, state.seal(Want(Question.SUM, ()))), state.timer("again", wait)]


def link_up(state: State, event: LinkUp) -> list[Effect]:
    """Repeat this attempt's letters to a new process; if it was asked for the sum, ask it again, from the start."""
    effects = [*ballot.link_up(state, event), *_confirms(state, event.peer)]
    _may_ask_anew(state, event.peer)
    state.sum.asked = min(state.sum.asked, len(state.names))  # the peer that is back may have it
    answered = state.sum.wanted in state.sum.gone | state.sum.without
    state.sum.gone.discard(event.peer)
    state.sum.without.discard(event.peer)
    if answered and event.peer != state.sum.wanted and not is_gone(state):
        state.sum.wanted = ""  # it has said that it has nothing: nobody is waited for, and this one is asked at once
    if event.peer == state.sum.wanted and not state.sum.here:
        state.sum.parts.clear()
        effects.append(Send(event.peer, state.seal(Want(Question.SUM, ()))))
    return effects


def _may_ask_anew(state: State, peer: str) -> None:
    """What it was given before may be lost with its link; but links come up as often as a peer likes."""
    last = state.confirming.relinked.get(peer)
    if peer in state.confirming.served and (last is None or state.now - last >= GIVEN_AGAIN_S):
        state.confirming.relinked[peer] = state.now
        del state.confirming.served[peer]


def say_again(state: State, asker: str) -> list[Effect]:
    """All that this peer has said in this attempt, once for each link, to a peer that begins the round now."""
    if asker in state.said_again:
        return []
    state.said_again.add(asker)
    return [*state.repeated_to(asker), *_confirms(state, asker)]


# ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────


def serve(state: State, letter: Letter[Want]) -> list[Effect]:
    """Answer a question. A peer that wants nothing more is settled."""
    message, asker = letter.message, letter.sender
    if message.what == Question.VOTE:
        return questions.certificate(state, asker)
    if message.what == Question.CONFIRMS:
        return _confirms(state, asker)
    if message.what == Question.NOTHING:
        state.confirming.settled.add(asker)
        confirm.let_go(state)
        return []
    return _serve_sum(state, asker) if message.what == Question.SUM else []


def is_asked(state: State) -> bool:
    """The certificate is durable, and somebody asked for the sum before it came here."""
    return bool(state.voting.asked_sum) and "fetch" in state.due


def answer(state: State) -> list[Effect]:
    """Give the sum to those who asked before it was decided here."""
    askers, state.voting.asked_sum = sorted(state.voting.asked_sum), set()
    return [effect for asker in askers for effect in _serve_sum(state, asker)]


def _serve_sum(state: State, asker: str) -> list[Effect]:
    """Give the sum to a peer that asks for it, with what it needs to check it."""
    last = state.confirming.served.get(asker)
    if last is not None and state.now - last < GIVEN_AGAIN_S:
        return []  # a whole sum for each of many short questions would fill this site's memory
    state.confirming.served[asker] = state.now
    effects: list[Effect] = []
    if state.certificate is not None:
        effects.append(Send(asker, state.certificate))
    effects += _confirms(state, asker)
    if confirm.has_let_go(state):
        return [*effects, Send(asker, state.seal(GONE))]
    if state.sum.here and confirm.agreed(state) == state.confirming.record != b"":
        return effects + _parts_to(state, asker, state.sum.lent(), masked=False)
    if state.certificate is not None and state.sum.reveals:
        seeds = tuple((name, seed.reveal()) for name, seed in state.sum.reveals.items())
        effects.append(Send(asker, state.seal(Reveal(seeds))))
    return effects + _parts_to(state, asker, unmask.masked_again(state), masked=True)


def _parts_to(state: State, asker: str, vectors: tuple[Vector, ...], *, masked: bool) -> list[Effect]:
    """The sum in parts; or that there is none here, so that the asker turns to another holder at once."""
    return [Send(asker, state.seal(part)) for part in parts_of(vectors, masked=masked) or [NONE]]


def _confirms(state: State, peer: str) -> list[Effect]:
    """All confirmations that are held: those of sites that are gone count too, and no other peer may have them."""
    wires = tuple(letter.wire for letter in state.confirming.confirm_letters.values())
    return [Send(peer, state.seal(Handed(wires)))] if wires else []


def parts_of(vectors: tuple[Vector, ...], *, masked: bool) -> list[Total]:
    """A sum cut into messages. Segments without words travel as one empty part."""
    parts = []
    for segment, vector in enumerate(vectors):
        step = PART_BYTES // FIELDS[vector.bits].word_bytes
        for start in range(0, max(int(vector.words.size), 1), step):
            held = vector.words[start : start + step]
            words = held.tobytes() if masked else bytes_of(held)  # Y is unmasked where it lies; Σx stays as it is
            parts.append(Total(int(masked), segment, vector.bits, int(vector.words.size), start, words, len(vectors)))
    return parts


# ── put together ──────────────────────────────────────────────────────────────────────────────────────────────


def accept_part(state: State, letter: Letter[Total]) -> list[Effect]:
    """Put the parts of a fetched sum together; the whole must be the one that the certificate or a quorum binds."""
    message, sender = letter.message, letter.sender
    if sender != state.sum.wanted or state.sum.total:
        return []
    if message in (GONE, NONE):
        return _is_not_there(state, sender, state.sum.gone if message == GONE else state.sum.without)
    if message.masked and state.sum.masked:
        return []
    held = len(state.sum.parts)
    try:
        effects = _part_held(state, message, sender)
        # A peer that repeats what it sent brings nothing, and the timer stays: another one is asked at its time.
        return [*effects, *([state.timer("again", AGAIN_S)] if effects or len(state.sum.parts) != held else [])]
    except RemoteProtocolError:
        state.sum.wanted, state.sum.parts = "", []  # another holder is asked at once
        raise


def _is_not_there(state: State, holder: str, found: set[str]) -> list[Effect]:
    """Another holder is asked at once, and the question does not count: only those that took time make waits longer.

    Once more hold its words no more than may lie, or nobody is left who did not say so, again at its time.
    """
    found.add(holder)
    waits = is_gone(state) or state.sum.gone | state.sum.without >= set(_holders(state))
    state.sum.wanted, state.sum.parts = holder if waits else "", []
    state.sum.asked -= not waits
    return []


def _part_held(state: State, message: Total, sender: str) -> list[Effect]:
    if state.sum.parts and state.sum.parts[0][0].masked > message.masked and (message.segment, message.start) == (0, 0):
        state.sum.parts = []  # asked again, or on a new link: q have signed there meanwhile
    place = _next_part(state, message, sender)
    if (message.segment, message.start) < place or (not state.sum.parts and (message.segment, message.start) != (0, 0)):
        return []  # of an answer to the same question before the link came up anew
    if (message.segment, message.start) != place:
        # Parts are lacking in between: a full queue of its sender was given up. Another holder is asked at once.
        state.sum.wanted, state.sum.parts = "", []
        return []
    words = FIELDS[message.bits].from_bytes(message.words, peer=sender)
    if words.size != min(PART_BYTES // FIELDS[message.bits].word_bytes, message.length - message.start):
        # Each part puts off the next question: a word at a time would do so for years.
        raise BulkRejected(peer=sender, evidence=f"{words.size} words from word {message.start} of {message.length}")
    state.sum.parts.append((message, words))
    if (message.segment + 1, message.start + words.size) != (message.segments, message.length):
        return []
    vectors, state.sum.parts = _joined(state.sum.parts), []
    if message.masked:
        shape = tuple((vector.bits, int(vector.words.size)) for vector in vectors)
        # Not laid out before V fits: until then their shape is the sender's word.
        if _view(state, vectors, shape) != state.view or not state.view:
            raise BulkRejected(peer=sender, evidence="the masked sums that it sent are not those of the certificate")
        state.sum.masked = vectors
        return []
    agreed = confirm.agreed(state)
    theirs, _ = state.confirming.confirms.get(sender, (b"", b""))
    if (said := agreed or theirs) and total_digest(vectors).hex() != codec.read_facts(said).get("total"):
        raise BulkRejected(
            peer=sender, evidence=f"its sum is not the one that {'the quorum' if agreed else 'it'} signed"
        )
    if not agreed:
        # The letters by which its sender knows that q signed were given up with a queue: nothing to judge it by.
        state.sum.wanted = ""
        return []
    state.sum.total, state.sum.masked = vectors, ()
    return unmask.apply(state) if state.members is not None else []


def _view(state: State, vectors: tuple[Vector, ...], shape: tuple[tuple[int, int], ...]) -> bytes:
    """V of masked sums: by the plan of chunks that their shape and U give."""
    if not state.survivors:
        return b""
    attempt, pieces = state.attempt_digest, mask.pieces_under(state, shape)
    digests = [sum_digest(attempt, piece.index, mask.piece_of(vectors, piece)) for piece in pieces]
    return view_digest(attempt, digests)


def _configuration(state: State) -> bytes:
    """What the members agreed on; of a round that is known by its record alone, what a quorum signed."""
    if state.members is not None:
        return next(iter(proposals(state.members, state.context.roster).values())).configuration
    return codec.facts(codec.read_facts(confirm.agreed(state) or b"{}").get("configuration", {}))


def _next_part(state: State, part: Total, sender: str) -> tuple[int, int]:
    """(segment, start) of the part that comes next. Raises BulkRejected when `part` is not of one shape with the rest.

    Memory is taken for words that came, never for a length that was claimed.
    """
    shape = (part.bits, part.length, part.segments, part.masked)
    most = state.context.sum_bytes(_configuration(state)) - sum(words.nbytes for _, words in state.sum.parts)
    if part.bits not in FIELDS or part.segment >= part.segments or part.segments > MOST_SEGMENTS:
        raise BulkRejected(peer=sender, evidence=f"segment {part.segment} of {part.segments}, {part.bits} bits")
    room, size = FIELDS[part.bits].word_bytes * part.length, len(part.words)
    rest_of_it = room - FIELDS[part.bits].word_bytes * part.start
    if not size <= rest_of_it <= most or bool(size) != bool(room):
        evidence = f"{size} bytes from word {part.start} of segment {part.segment}, which has {part.length} words"
        raise BulkRejected(peer=sender, evidence=evidence)
    if not state.sum.parts:
        return (0, 0)
    last, words = state.sum.parts[-1]
    rest = (last.segments, last.masked)
    same = (last.bits, last.length, *rest) if part.segment == last.segment else (*shape[:2], *rest)
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

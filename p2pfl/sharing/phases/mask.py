"""MASK: from the accepted U to the masked vector, one chunk to each owner, and the signed hashes of all of them.

docs/spec/sharing.md §5. The attempt digest D is durable before the first word leaves, and a process masks once per
attempt, only under a bundle that it dealt itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from p2pfl import merkle
from p2pfl.errors.round import UnexpectedEvent
from p2pfl.keys import Secret
from p2pfl.messages import Chunk, Root
from p2pfl.sharing import prg
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.chunks import ChunkSpan, Layout, Segment, plan
from p2pfl.sharing.digests import chunk_leaf
from p2pfl.sharing.events import (
    Accepted,
    Ahead,
    Effect,
    FirstSent,
    GoOn,
    MasksReady,
    Quantise,
    Send,
    SomeSent,
    Vector,
    Words,
    WordsReady,
)
from p2pfl.sharing.field import FIELDS, bytes_of
from p2pfl.sharing.masking import SegmentMasks, combine
from p2pfl.sharing.parts import Gathering, Making
from p2pfl.sharing.phases import turns
from p2pfl.sharing.room import Room
from p2pfl.sharing.state import State

# Chunks for each owner that leave before the Root: the links are busy while the rest is made. Not all of them, as the
# Root would wait behind them, and no owner could check and hand on a sum before it has it.
LEADING: Final = 6

# Times in an attempt that masks are expanded before U is known: once, and again for whoever died and dealt anew. A liar
# makes up as many processes as it likes, and each would cost the others an expansion of the whole vector.
MOST_AHEAD: Final = 4


def request(state: State, event: Accepted) -> list[Effect]:
    """D is durable: start the clocks of MASK and GATHER and, in U, ask for the words."""
    members = state.members
    if members is None:
        return []
    effects: list[Effect] = []
    if members.sender == state.context.me and not state.restored:
        effects.append(state.post(members))
    seconds = members.message.deadline_ms / 1000
    parts = {"gone": 0.25, "lack": 0.4, "gather": 1.0, "ready": 2.0}
    effects += [state.timer(what, part * seconds) for what, part in parts.items()]
    state.missed = turns.is_missed(state)
    if state.inside:
        supports = tuple(proposal.support for proposal in proposals(members, state.context.roster).values())
        effects.append(Quantise(state.round, state.attempt, state.attempt_digest, state.survivors, supports))
    return effects


def outside(state: State) -> bool:
    """D is durable and this peer is not in U: it waits for the outcome of the attempt."""
    return "gather" in state.due and not state.inside


def hold_words(state: State, event: WordsReady) -> list[Effect]:
    """Hold x until its masks are there."""
    if state.unmasking.deal is None or state.restored or state.spent:
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="this process has no bundle to mask under")
    state.masking.words = event.vectors
    return []


def may_send(state: State) -> bool:
    """The words are here, and no masks for them are still being expanded: those would be made twice.

    In a round that was left meanwhile they stay here: it was said that nothing was sent.
    """
    masking = state.masking
    return masking.words is not None and not state.leaving.left and not (masking.expanding and _still_hold(state))


def is_long(state: State) -> bool:
    """The words are to be masked, and their owners sum more than one chunk each."""
    if not may_send(state):
        return False
    return len(pieces_under(state, _shape(state.masking.words or ()))) > len(state.owners)


def send_first(state: State, event: SomeSent | None = None) -> list[Effect]:
    """One chunk to each owner before more are made and masked, then two and three: links do not wait for the vector."""
    making = state.masking.making = state.masking.making or _begun(state)
    owners = len(state.owners)
    most = max(owners, min(LEADING * owners, len(making.pieces) - owners))
    made = _make(state, making, min(2 * len(making.hashes) + owners, most))
    more = len(making.hashes) < most
    return [*made, GoOn((SomeSent if more else FirstSent)(state.now, state.round, state.attempt))]


def send(state: State, event: FirstSent | None = None) -> list[Effect]:
    """y_i = x_i − Σ PRG(made) + Σ PRG(received) + PRG(own); chunk k to its owner; the hashes of all, signed, to all."""
    making, state.masking.making = state.masking.making or _begun(state), None
    chunks = _make(state, making, len(making.pieces))
    gathering = state.gathering = Gathering(making.segments, making.pieces)
    state.masking.mine = tuple(
        Vector(bits, one.out) for (bits, _), one in zip(making.segments, making.masks, strict=True)
    )
    # Sums of the others come to lie where the masks lay, rather than in pages that the system must clear first.
    gathering.words = tuple(
        Vector(bits, FIELDS[bits].zeros(length)) if (wiped := one.wiped()) is None else Vector(bits, wiped, one.room)
        for (bits, length), one in zip(making.segments, making.masks, strict=True)
    )
    # The hashes go before all other chunks: an owner can check and sum one while the next ones are on their way.
    root = state.seal(Root(state.attempt_digest, making.segments, b"".join(making.hashes)))
    gathering.roots[state.context.me] = root
    return [state.post(root), *chunks]


def _begun(state: State) -> Making:
    """What y is made of, and nothing of it made yet. x and the masks are in there, and nowhere else from here on."""
    vectors, ahead = state.masking.words or (), state.masking.ahead
    state.masking.words, state.masking.ahead, state.spent = None, (), True
    segments = _shape(vectors)
    masks = [_masks_of(state, place, vector, ahead[place : place + 1]) for place, vector in enumerate(vectors)]
    return Making(segments, pieces_under(state, segments), tuple(masks))


def _shape(vectors: tuple[Vector, ...]) -> tuple[tuple[int, int], ...]:
    """(bits, words) of each."""
    return tuple((vector.bits, int(vector.words.size)) for vector in vectors)


def _make(state: State, making: Making, upto: int) -> list[Effect]:
    """Mask and hash the chunks up to number `upto`, and send each to its owner."""
    me = state.context.me
    effects: list[Effect] = []
    for piece in making.pieces[len(making.hashes) : upto]:
        words = making.masks[piece.segment].apply(piece.start, piece.stop)
        data, owner = bytes_of(words), state.owners[piece.owner_position]
        making.hashes.append(merkle.leaf_hash(chunk_leaf(state.attempt_digest, piece.index, data)))
        if owner == me:
            state.masking.contributed[piece.index] = {me: words}
        else:
            # Not kept: a new process of its owner masks no more.
            effects.append(Send(owner, state.seal(Chunk(state.attempt_digest, piece.index, data))))
    return effects


def pieces_under(state: State, segments: tuple[tuple[int, int], ...]) -> tuple[ChunkSpan, ...]:
    """The chunks of such words under this attempt's owners; the state stays as it is."""
    return plan(Layout(tuple(Segment(bits, length) for bits, length in segments)), len(state.owners))


def piece_of(vectors: tuple[Vector, ...], piece: ChunkSpan) -> Words:
    """The words of one chunk: a view."""
    return vectors[piece.segment].words[piece.start : piece.stop]


@dataclass(frozen=True)
class Edges:
    """The seeds of this peer's edges to some peers, with the context of their streams."""

    place: Callable[[tuple[int, int], int], bytes]
    here: int
    made: dict[int, Secret]  # by the far end's place in the roster
    received: dict[int, Secret]
    own: Secret | None

    def streams(self, segment: int) -> tuple[list[Secret], list[Secret], list[Secret]]:
        """Stream keys of made and received edges, and of the self-mask where it is part of it."""
        here, place = self.here, self.place
        made = [prg.stream_key(seed, "prg/edge", place((here, j), segment)) for j, seed in self.made.items()]
        received = [prg.stream_key(seed, "prg/edge", place((j, here), segment)) for j, seed in self.received.items()]
        own = [prg.stream_key(self.own, "prg/self", place((here, here), segment))] if self.own is not None else []
        return made, received, own

    def masks(self, segments: tuple[tuple[int, int], ...], rooms: tuple[Room, ...] = ()) -> tuple[Vector, ...]:
        """−Σ PRG(made) + Σ PRG(received) + PRG(own), for (bits, words) of each segment: its room's last words."""
        found = []
        for segment, (bits, length) in enumerate(segments):
            made, received, own = self.streams(segment)
            room = rooms[segment] if rooms else None
            out = np.empty(length, FIELDS[bits].dtype) if room is None else room.last()
            found.append(Vector(bits, combine(None, [*received, *own], made, FIELDS[bits], out=out), room))
        return tuple(found)


def edges(state: State, peers: frozenset[str], *, own: bool) -> Edges:
    """This peer's edges to `peers`, whose seeds are all here. Raises UnexpectedEvent when one is not."""
    deal, me, names = state.unmasking.deal, state.context.me, state.names
    run, epoch, number, attempt = state.context.run, state.context.roster.epoch, state.round, state.attempt
    if deal is None:
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="no bundle")
    index = state.context.roster.index
    made = {index(to): seed for to, seed in state.masking.edges.items() if to in peers}
    received = {index(dealer): seed for dealer, seed in state.masking.received.items() if dealer in peers}
    if len(made) + len(received) != len(peers - {me}):
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="an edge of U has no seed here")

    def place(edge: tuple[int, int], segment: int) -> bytes:
        return prg.context(run, epoch, number, attempt, edge, segment)

    return Edges(place, names.index(me), made, received, deal.self_mask if own else None)


def ahead(state: State) -> list[Effect]:
    """Ask for the masks of the edges that are known now; those of peers outside of U are taken out of them later.

    One expansion at a time, and few in an attempt: without them the words are masked from the seeds, piece by piece.
    """
    masking = state.masking
    known = {name: bundle.digest for name, bundle in state.proposals.bundles.items() if name != state.context.me}
    if known == masking.ahead_with or masking.expanding or masking.expansions == MOST_AHEAD:
        return []
    masking.ahead, masking.ahead_with, masking.expanding = (), known, True
    masking.expansions += 1
    return [Ahead(state.round, state.attempt, known, edges(state, frozenset(known), own=True).masks)]


def hold(state: State, event: MasksReady) -> list[Effect]:
    """The masks have come, or word that there are none. They are void when a peer has dealt anew meanwhile."""
    if event.bundles == state.masking.ahead_with:
        state.masking.ahead, state.masking.expanding = event.masks if _still_hold(state) else (), False
    return []


def _still_hold(state: State) -> bool:
    """No peer has dealt anew since the masks were asked for."""
    bundles = state.proposals.bundles
    return all(name in bundles and bundles[name].digest == digest for name, digest in state.masking.ahead_with.items())


def _masks_of(state: State, segment: int, vector: Vector, ahead: tuple[Vector, ...]) -> SegmentMasks:
    """What hides one segment of x, over the edges to the members of U alone.

    y is made where the words lie, unless they are read-only, or else where the masks lay: one vector less in memory.
    """
    field, words = FIELDS[vector.bits], vector.words
    peers = frozenset(state.survivors) - {state.context.me}
    usable = [one for one in ahead if one.bits == vector.bits and one.words.size >= words.size]
    fits = [one.words[: words.size] for one in usable]
    room = next((one.room for one in usable if one.words.size == words.size), None)
    if not fits or not _still_hold(state):
        made, received, own = edges(state, peers, own=True).streams(segment)
        out = words if words.flags.writeable else np.empty(words.size, field.dtype)
        return SegmentMasks(field, words, None, [*received, *own], made, out, made=vector.made)
    known = state.masking.ahead_with.keys()
    more, less = edges(state, peers - known, own=False), edges(state, frozenset(known - peers), own=False)
    (made, received, _), (unmade, unreceived, _) = more.streams(segment), less.streams(segment)
    out = words if words.flags.writeable else fits[0]
    return SegmentMasks(field, words, fits[0], [*received, *unmade], [*made, *unreceived], out, room, vector.made)

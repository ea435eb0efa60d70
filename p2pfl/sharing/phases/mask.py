"""MASK: from the accepted U to the masked vector, one chunk to each owner, and the signed hashes of all of them.

docs/spec/sharing.md §5. The attempt digest D is durable before the first word leaves, and a process masks once per
attempt, only under a bundle that it dealt itself.
"""

from __future__ import annotations

import hashlib

from p2pfl import merkle
from p2pfl.errors.round import UnexpectedEvent
from p2pfl.keys import digest
from p2pfl.messages import Chunk, Members, Root
from p2pfl.sharing import prg
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.chunks import Chunk as Piece
from p2pfl.sharing.chunks import Layout, Segment, plan
from p2pfl.sharing.events import Accepted, Effect, Quantise, Send, Vector, Words, WordsReady
from p2pfl.sharing.field import FIELDS, bytes_of
from p2pfl.sharing.masking import mask
from p2pfl.sharing.state import State


def request(state: State, event: Accepted) -> list[Effect]:
    """D is durable: start the clocks of MASK and GATHER and, in U, ask for the words."""
    members = state.members
    if members is None or not isinstance(members.message, Members):
        return []
    effects: list[Effect] = []
    if members.sender == state.setting.me and not state.restored:
        sent = Send(None, members)
        state.outbox.append(sent)
        effects.append(sent)
    seconds = members.message.deadline_ms / 1000
    parts = {"patience": 0.25, "lack": 0.4, "gather": 1.0, "ready": 2.0}
    effects += [state.timer(what, part * seconds) for what, part in parts.items()]
    if state.inside:
        supports = tuple(proposal.support for proposal in proposals(members, state.setting.roster).values())
        effects.append(Quantise(state.round, state.attempt, state.attempt_digest, state.survivors, supports))
    return effects


def outside(state: State) -> bool:
    """D is durable, and this peer is not in U: it waits for what becomes of the attempt."""
    return "gather" in state.due and not state.inside


def send(state: State, event: WordsReady) -> list[Effect]:
    """y_i = x_i − Σ PRG(made) + Σ PRG(received) + PRG(own); chunk k to its owner; the hashes of all, signed, to all."""
    if state.deal is None or state.restored or state.segments:
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="this process has no bundle to mask under")
    lay_out(state, tuple((vector.bits, int(vector.words.size)) for vector in event.vectors))
    state.mine = tuple(
        Vector(vector.bits, _masked(state, segment, vector)) for segment, vector in enumerate(event.vectors)
    )
    me, hashes = state.setting.me, []
    effects: list[Effect] = []
    for piece in state.pieces:
        words = piece_of(state.mine, piece)
        owner = state.survivors[piece.owner_position]
        data = bytes_of(words)
        hashes.append(merkle.leaf_hash(piece_leaf(state.attempt_digest, piece.index, data)))
        if owner == me:
            state.contributed[piece.index] = {me: words}
        else:
            # Not kept: a new process of its owner masks no more.
            effects.append(Send(owner, state.seal(Chunk(state.attempt_digest, piece.index, data))))
    sent = state.post(Root(state.attempt_digest, state.segments, b"".join(hashes)))
    state.roots[me] = sent.letter
    return [*effects, sent]


def lay_out(state: State, segments: tuple[tuple[int, int], ...]) -> None:
    """Fix the attempt's chunks from the shape of the words, the same at every member."""
    state.segments = segments
    layout = Layout(tuple(Segment(bits, length) for bits, length in segments))
    state.pieces = plan(layout, len(state.survivors))


def piece_of(vectors: tuple[Vector, ...], piece: Piece) -> Words:
    """The words of one chunk: a view."""
    return vectors[piece.segment].words[piece.start : piece.stop]


def piece_leaf(attempt: bytes, index: int, data: bytes | memoryview) -> bytes:
    """The leaf of one masked chunk: bound to its attempt and place."""
    return digest("chunk", attempt, index.to_bytes(8, "big"), hashlib.sha256(data).digest())


def _masked(state: State, segment: int, vector: Vector) -> Words:
    """One segment of y_i, (m,) words, over the edges to the members of U alone."""
    deal, me, names, chosen = state.deal, state.setting.me, state.names, state.survivors
    if deal is None:
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="no bundle")
    here = names.index(me)

    def context(i: int, j: int) -> bytes:
        return prg.context(state.setting.run, state.setting.roster.epoch, state.round, state.attempt, (i, j), segment)

    made = [
        prg.stream_key(seed, "prg/edge", context(here, names.index(to)))
        for to, seed in deal.edges.items() if to in chosen
    ]  # fmt: skip
    received = [
        prg.stream_key(seed, "prg/edge", context(names.index(dealer), here))
        for dealer, seed in state.received.items() if dealer in chosen
    ]  # fmt: skip
    if len(made) + len(received) != len(chosen) - 1:
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="an edge of U has no seed here")
    own = prg.stream_key(deal.self_mask, "prg/self", context(here, here))
    out = vector.words if vector.words.flags.writeable else None  # in place, unless its owner wants to keep it
    return mask(vector.words, made, received, own, field=FIELDS[vector.bits], out=out)

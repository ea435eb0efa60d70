"""MASK: from the accepted U to the masked vector, its signed root, and one chunk to each owner.

docs/spec/sharing.md §5. The attempt digest D is durable before the first word leaves, and a process masks once per
attempt, only under a bundle that it dealt itself.
"""

from __future__ import annotations

import hashlib

import numpy as np

from p2pfl import merkle
from p2pfl.errors.round import UnexpectedEvent
from p2pfl.keys import digest
from p2pfl.messages import Chunk, Members, Root
from p2pfl.sharing import prg
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.chunks import Layout, Segment, plan
from p2pfl.sharing.events import (
    Accepted,
    Effect,
    GatherDeadline,
    Quantise,
    Send,
    SetTimer,
    Vector,
    Words,
    WordsReady,
)
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.masking import mask
from p2pfl.sharing.state import State


def request(state: State, event: Accepted) -> list[Effect]:
    """D is durable: ask for the words, and start the clock of MASK and GATHER."""
    members = state.members
    if members is None or not isinstance(members.message, Members):
        return []
    supports = tuple(proposal.support for proposal in proposals(members, state.setting.roster).values())
    deadline = event.now + members.message.deadline_ms / 1000
    timer = SetTimer(GatherDeadline(deadline, state.round, state.attempt))
    return [timer, Quantise(state.round, state.attempt, state.attempt_digest, supports)]


def send(state: State, event: WordsReady) -> list[Effect]:
    """y_i = x_i − Σ PRG(made) + Σ PRG(received) + PRG(own); the root to all, chunk k to its owner."""
    if state.deal is None or state.restored or state.lengths:
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="this process has no bundle to mask under")
    lay_out(state, event.vectors)
    masked = [_masked(state, segment, vector) for segment, vector in enumerate(event.vectors)]
    words = [masked[piece.segment][piece.start : piece.start + piece.count] for piece in state.pieces]
    raw = [np.ascontiguousarray(part).tobytes() for part in words]
    hashes = [merkle.leaf_hash(piece_leaf(state.attempt_digest, index, data)) for index, data in enumerate(raw)]
    root, paths = merkle.root_of(hashes), merkle.paths_of(hashes)
    sent = state.post(Root(state.attempt_digest, root))
    me = state.setting.me
    state.roots[me] = root
    effects: list[Effect] = [sent]
    for piece, data, part in zip(state.pieces, raw, words, strict=True):
        owner = state.names[piece.owner_position]
        if owner == me:
            state.partial[piece.index] = part.copy()
            state.contributed[piece.index] = {me}
        else:
            chunk = Chunk(state.attempt_digest, piece.index, data, paths[piece.index])
            effects.append(Send(owner, state.seal(chunk)))  # not kept: a new process of its owner masks no more
    return effects


def lay_out(state: State, vectors: tuple[Vector, ...]) -> None:
    """Fix the attempt's chunks from the shape of the words, the same at every member."""
    state.bits = tuple(vector.bits for vector in vectors)
    state.lengths = tuple(int(vector.words.size) for vector in vectors)
    segments = tuple(Segment(bits, length) for bits, length in zip(state.bits, state.lengths, strict=True))
    state.pieces = plan(Layout(segments), state.n)


def piece_leaf(attempt: bytes, index: int, data: bytes) -> bytes:
    """The Merkle leaf of one masked chunk: bound to its attempt and place."""
    return digest("chunk", attempt, index.to_bytes(8, "big"), hashlib.sha256(data).digest())


def _masked(state: State, segment: int, vector: Vector) -> Words:
    """One segment of y_i, (m,) words."""
    deal, me, names = state.deal, state.setting.me, state.names
    if deal is None:
        raise UnexpectedEvent(event="WordsReady", phase="MASK", evidence="no bundle")
    here = names.index(me)

    def context(i: int, j: int) -> bytes:
        return prg.context(state.setting.run, state.setting.roster.epoch, state.round, state.attempt, (i, j), segment)

    made = [prg.stream_key(seed, "prg/edge", context(here, names.index(to))) for to, seed in deal.edges.items()]
    received = [
        prg.stream_key(seed, "prg/edge", context(names.index(dealer), here)) for dealer, seed in state.received.items()
    ]
    own = prg.stream_key(deal.self_mask, "prg/self", context(here, here))
    return mask(vector.words, made, received, own, field=FIELDS[vector.bits])

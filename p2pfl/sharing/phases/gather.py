"""GATHER: owners sum what they own, sign a digest of each chunk's sum, and hand the masked sums to all.

docs/spec/sharing.md §6. Everything here is still masked by the self-masks, so any of it may be lost, repeated or left
lying about: an attempt that ends here has told nobody anything.
"""

from __future__ import annotations

import hashlib

import numpy as np

from p2pfl import merkle
from p2pfl.errors.round import BulkRejected, SeedRejected, SetsDiffer, TwoStatements, ViewsDiffer
from p2pfl.keys import digest
from p2pfl.messages import Bundle, Chunk, Nonce, Ready, Root, SumChunk, SumDigest
from p2pfl.sharing.events import Effect, Received, Send, SumsStored, Vector, Words
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.phases.mask import piece_leaf
from p2pfl.sharing.phases.share import commitment
from p2pfl.sharing.state import SUMS_ITEM, State, pack_sums


def root(state: State, event: Received) -> list[Effect]:
    """Hold a member's root under D."""
    message, sender = event.letter.message, event.letter.sender
    if not isinstance(message, Root):
        return []
    _same_digest(state, sender, message.attempt_digest)
    if state.roots.setdefault(sender, message.root) != message.root:
        raise TwoStatements(peer=sender, message="Root", evidence="two roots under one attempt digest")
    return []


def chunk(state: State, event: Received) -> list[Effect]:
    """Add a member's masked chunk to the sum that this peer owns; sign the sum when all are in."""
    message, sender = event.letter.message, event.letter.sender
    if not isinstance(message, Chunk):
        return []
    _same_digest(state, sender, message.attempt_digest)
    index = message.index
    if index not in state.contributed:
        raise BulkRejected(peer=sender, evidence=f"chunk {index} is not owned by this site")
    if sender in state.contributed[index]:
        return []
    if sender not in state.roots:
        raise BulkRejected(peer=sender, evidence=f"chunk {index} came before its root")
    leaf = piece_leaf(state.attempt_digest, index, message.words)
    if not merkle.check(state.roots[sender], leaf, index, len(state.pieces), message.path):
        raise BulkRejected(peer=sender, evidence=f"chunk {index} is not under the signed root")
    words = _words(state, sender, index, message.words)
    field = FIELDS[state.bits[state.pieces[index].segment]]
    field.add(state.partial[index], words, out=state.partial[index])
    state.contributed[index].add(sender)
    return _own_sum(state, index)


def _own_sum(state: State, index: int) -> list[Effect]:
    if len(state.contributed[index]) < state.n:
        return []
    summed = state.partial[index]
    digest_of_sum = sum_digest(state, index, summed)
    sent = state.post(SumDigest(state.attempt_digest, index, digest_of_sum))
    state.sum_digests[index] = digest_of_sum
    state.sums[index] = summed
    return [sent]


def sum_digest(state: State, index: int, words: Words) -> bytes:
    """H(Y_k): SHA-256 over D, k and the little-endian words."""
    data = hashlib.sha256(np.ascontiguousarray(words).data).digest()
    return digest("sum", state.attempt_digest, index.to_bytes(8, "big"), data)


def summed(state: State, event: Received) -> list[Effect]:
    """Hold an owner's digest of one chunk of the sum."""
    message, sender = event.letter.message, event.letter.sender
    if not isinstance(message, SumDigest):
        return []
    _same_digest(state, sender, message.attempt_digest)
    _owner(state, sender, message.index)
    if state.sum_digests.setdefault(message.index, message.sum_digest) != message.sum_digest:
        raise TwoStatements(peer=sender, message="SumDigest", evidence=f"two digests of chunk {message.index}")
    return []


def all_summed(state: State) -> bool:
    """Every chunk's digest is in and this peer's nonce is not yet open."""
    return bool(state.lengths) and not state.view and len(state.sum_digests) == len(state.pieces)


def open_nonce(state: State) -> list[Effect]:
    """V is fixed: open the nonce for it, and hand the owned sums to all."""
    deal = state.deal
    if deal is None:
        return []
    view = digest("view", state.attempt_digest, *(state.sum_digests[k] for k in range(len(state.pieces))))
    for sender, theirs in state.views.items():
        _same_view(sender, theirs, view)
    state.view = view
    state.nonces[state.setting.me] = deal.nonce.reveal()
    effects: list[Effect] = [state.post(Nonce(view, deal.nonce.reveal()))]
    for index in sorted(state.contributed):
        data = np.ascontiguousarray(state.sums[index]).tobytes()
        effects.append(Send(None, state.seal(SumChunk(state.attempt_digest, index, data))))
    return effects


def nonce(state: State, event: Received) -> list[Effect]:
    """Hold a member's nonce, if it is the one that its bundle committed to, for the view that this peer has."""
    message, sender = event.letter.message, event.letter.sender
    if not isinstance(message, Nonce):
        return []
    bundle = state.bundles[sender].message
    if not isinstance(bundle, Bundle) or bundle.nonce != commitment("nonce", message.nonce):
        raise SeedRejected(peer=sender, message="nonce", evidence=f"round {state.round}, attempt {state.attempt}")
    if state.view:
        _same_view(sender, message.view, state.view)
    state.nonces[sender] = message.nonce
    state.views[sender] = message.view
    return []


def _same_view(sender: str, theirs: bytes, ours: bytes) -> None:
    if theirs != ours:
        # The views alone do not show which owner told two; whoever shows another one may lie as well.
        raise ViewsDiffer(peer=sender, evidence=f"its view {theirs.hex()[:16]}, this site's {ours.hex()[:16]}")


def sum_chunk(state: State, event: Received) -> list[Effect]:
    """Hold the words of one chunk of the masked sum, if they are those of its digest."""
    message, sender = event.letter.message, event.letter.sender
    if not isinstance(message, SumChunk):
        return []
    _same_digest(state, sender, message.attempt_digest)
    _owner(state, sender, message.index)
    if message.index in state.sums:
        return []
    words = _words(state, sender, message.index, message.words)
    if state.sum_digests.get(message.index) != sum_digest(state, message.index, words):
        raise BulkRejected(peer=sender, evidence=f"sum of chunk {message.index} is not the one of its digest")
    state.sums[message.index] = words
    return []


def gathered(state: State) -> bool:
    """All of GATHER is held and checked: every root, nonce and sum, under one view."""
    everyone = len(state.roots) == len(state.nonces) == state.n
    same_view = all(view == state.view for view in state.views.values())
    return bool(state.view) and everyone and same_view and len(state.sums) == len(state.pieces)


def store(state: State) -> list[Effect]:
    """Make the masked sums and READY durable together; READY is sent only then."""
    state.masked = assemble(state)
    state.ready = state.seal(Ready(state.attempt_digest, state.view))
    state.partial.clear()
    state.sums.clear()
    return [state.persist(SumsStored, (SUMS_ITEM, pack_sums(state.masked, state.attempt_digest)))]


def assemble(state: State) -> tuple[Vector, ...]:
    """The chunks of Y put together, segment by segment."""
    vectors = []
    for segment, (bits, length) in enumerate(zip(state.bits, state.lengths, strict=True)):
        whole = FIELDS[bits].zeros(length)
        for piece in state.pieces:
            if piece.segment == segment:
                whole[piece.start : piece.start + piece.count] = state.sums[piece.index]
        vectors.append(Vector(bits, whole))
    return tuple(vectors)


def _words(state: State, sender: str, index: int, data: bytes) -> Words:
    piece = state.pieces[index]
    field = FIELDS[state.bits[piece.segment]]
    if len(data) != piece.count * field.word_bytes:
        raise BulkRejected(peer=sender, evidence=f"chunk {index} has {len(data)} bytes, wants {piece.count} words")
    return field.from_bytes(data, piece.count, peer=sender)


def _same_digest(state: State, sender: str, attempt_digest: bytes) -> None:
    if attempt_digest != state.attempt_digest:
        # Its word alone does not convict the coordinator.
        evidence = f"its attempt digest {attempt_digest.hex()[:16]}, this site's {state.attempt_digest.hex()[:16]}"
        raise SetsDiffer(peer=sender, coordinator=state.coordinator, evidence=evidence)


def _owner(state: State, sender: str, index: int) -> None:
    if index >= len(state.pieces) or state.names[state.pieces[index].owner_position] != sender:
        raise BulkRejected(peer=sender, evidence=f"chunk {index} is not owned by {sender}")

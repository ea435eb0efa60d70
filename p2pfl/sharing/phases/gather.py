"""GATHER: owners sum what they own, sign a digest of each chunk's sum, and hand the masked sums to all.

docs/spec/sharing.md §6. The self-masks still cover everything here, so any of it may be lost, repeated or leaked: an
attempt that ends here has told nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from p2pfl import merkle
from p2pfl.codec import Buffer
from p2pfl.errors.round import BulkRejected, SeedRejected, SetsDiffer
from p2pfl.messages import (
    Chunk,
    Handed,
    Item,
    Lacking,
    Letter,
    Message,
    Nonce,
    Question,
    Ready,
    Root,
    SumChunk,
    SumDigest,
    Want,
)
from p2pfl.sharing.digests import chunk_leaf, commitment, leaf_in_root, sum_digest, view_digest
from p2pfl.sharing.events import Effect, Send, SumsStored, Vector, Words
from p2pfl.sharing.field import FIELDS, Field, bytes_of
from p2pfl.sharing.phases import ahead, roots, tagged
from p2pfl.sharing.phases.mask import piece_of
from p2pfl.sharing.snapshot import pack_sums, persist
from p2pfl.sharing.state import State, hold_once

SIGNED: Final = (Item.ROOT, Item.NONCE, Item.TAGS)
MOST_LACKING: Final = 400  # items that one question names


def accept_root(state: State, letter: Letter[Root]) -> list[Effect]:
    """Hold the hashes of a member's chunks, if they are of the shape that this peer's vector has."""
    gathering = state.laid_out
    message, sender = letter.message, letter.sender
    if not _from_member(state, sender):
        return []
    same_digest(state, sender, message.attempt_digest)
    right = message.segments == gathering.segments and len(message.leaves) == merkle.HASH_BYTES * len(gathering.pieces)
    if sender not in gathering.roots and not right:
        raise BulkRejected(peer=sender, evidence=f"a vector of {message.segments}, this site's is {gathering.segments}")
    if not hold_once(gathering.roots, sender, letter, roots.TWO_ROOTS):
        return []
    roots.note(state)
    gathering.to_sum += [index for index in state.masking.contributed if _is_whole(state, index)]
    return []


def accept_chunk(state: State, letter: Letter[Chunk]) -> list[Effect]:
    """Hold a member's masked chunk that this peer owns; sum and sign when all are in and under their roots."""
    gathering = state.laid_out
    message, sender = letter.message, letter.sender
    if not _from_member(state, sender):
        return []
    same_digest(state, sender, message.attempt_digest)
    index = message.index
    if index not in state.masking.contributed:
        return _shown(state, sender, index, message.words)
    if sender in state.masking.contributed[index]:
        return []
    words = _words(state, sender, index, message.words)
    if sender in gathering.roots:
        _check_leaf(state, sender, index, message.words)
    else:
        state.masking.unchecked.add((sender, index))
    state.masking.contributed[index][sender] = words
    return _sum(state, index) if _is_whole(state, index) else []


def _shown(state: State, sender: str, index: int, data: Buffer) -> list[Effect]:
    """A chunk that its owner said it lacks goes to all, so that all see that its author does not withhold it."""
    gathering = state.laid_out
    if index >= len(gathering.pieces):
        raise BulkRejected(peer=sender, evidence=f"chunk {index} of {len(gathering.pieces)}")
    if sender not in gathering.roots:
        return []
    _check_leaf(state, sender, index, data)
    gathering.shown.add((sender, index))
    return []


def _check_leaf(state: State, sender: str, index: int, data: Buffer) -> None:
    leaf = merkle.leaf_hash(chunk_leaf(state.attempt_digest, index, data))
    if leaf != leaf_in_root(state.laid_out.roots[sender].message, index):
        raise BulkRejected(peer=sender, evidence=f"chunk {index} is not the one of its signed hash")


def may_sum(state: State) -> bool:
    """A root has come behind the last words of chunks that this peer owns."""
    return bool(state.laid_out.to_sum)


def sum_next(state: State) -> list[Effect]:
    """One chunk at a time: words that are not those of their root keep no other chunk unsummed."""
    return _sum(state, state.laid_out.to_sum.pop(0))


def _is_whole(state: State, index: int) -> bool:
    """Words and root of every member are here for a chunk that this peer owns, and its sum is not."""
    held, gathering = state.masking.contributed[index], state.laid_out
    return index not in gathering.sum_digests and all(
        name in held and name in gathering.roots for name in state.survivors
    )


def _sum(state: State, index: int) -> list[Effect]:
    """Sum a chunk that is whole; words that came before their root are checked against it now."""
    gathering, held = state.laid_out, state.masking.contributed[index]
    for name in state.survivors:
        if (name, index) in state.masking.unchecked:
            state.masking.unchecked.discard((name, index))
            try:
                _check_leaf(state, name, index, bytes_of(held[name]))
            except BulkRejected:
                del held[name]
                raise
    summed = field_of(state, index).sum([held[name] for name in state.survivors])
    said = sum_digest(state.attempt_digest, index, summed)
    letter = state.seal(SumDigest(state.attempt_digest, index, said, roots.own_digest(state)))
    gathering.sum_digests[index] = letter
    _hold(state, index, summed)
    # Its words leave at once: the digest has fixed them, and other chunks are still on their way to their owners.
    # Not from Y: a letter may wait for a slow peer when Y is unmasked where it lies.
    words = state.seal(SumChunk(state.attempt_digest, index, bytes_of(summed)))
    others = [name for name in state.survivors if name != state.context.me]
    return [state.post(letter), *(Send(name, words) for name in others), *ahead.write(state, _whole(state))]


def accept_digest(state: State, letter: Letter[SumDigest]) -> list[Effect]:
    """Hold an owner's digest of one chunk of the sum."""
    index, gathering = letter.message.index, state.gathering
    if gathering is None:
        return []  # a certificate came before the words: their sum is fetched whole
    same_digest(state, letter.sender, letter.message.attempt_digest)
    check_owner(state, letter.sender, index)
    hold_once(gathering.sum_digests, index, letter, f"two digests of chunk {index}")
    roots.note(state)
    return []


def all_summed(state: State) -> bool:
    """Every chunk's digest is in and this peer's nonce is not yet open."""
    gathering = state.laid_out
    return not state.view and len(gathering.sum_digests) == len(gathering.pieces)


def _view(state: State) -> bytes:
    """V of the digests held here; every chunk's is in."""
    gathering = state.laid_out
    signed = [gathering.sum_digests[index].message for index in range(len(gathering.pieces))]
    return view_digest(state.attempt_digest, [one.sum_digest for one in signed])


def open_nonce(state: State) -> list[Effect]:
    """V is fixed: open the nonce for it."""
    gathering = state.laid_out
    deal = state.unmasking.deal
    if deal is None:
        return []
    state.view = _view(state)
    letter = state.seal(Nonce(state.view, deal.nonce.reveal()))
    gathering.nonces[state.context.me] = letter
    return [state.post(letter)]


def accept_nonce(state: State, letter: Letter[Nonce]) -> list[Effect]:
    """Hold a member's nonce, if it is the one that its bundle committed to."""
    gathering = state.laid_out
    sender = letter.sender
    if not _from_member(state, sender):
        return []
    bundle = state.proposals.bundles[sender]
    if bundle.message.nonce != commitment("nonce", letter.message.nonce):
        where = f"round {state.round}, attempt {state.attempt}"
        raise SeedRejected(peer=sender, message="nonce", evidence=where, proof=(bundle, letter))
    hold_once(gathering.nonces, sender, letter, "a nonce opened for two views")
    return []


def accept_sum(state: State, letter: Letter[SumChunk]) -> list[Effect]:
    """Hold the words of one chunk of the masked sum, if they are those of its digest.

    Without the digest nobody has fixed them: they are let go, and asked for when they are overdue.
    """
    message, sender, gathering = letter.message, letter.sender, state.gathering
    if gathering is None or state.sum.masked or state.sum.total:
        return []
    same_digest(state, sender, message.attempt_digest)
    if message.index in gathering.sums or message.index >= len(gathering.pieces):
        return []
    words = _words(state, sender, message.index, message.words)
    signed = gathering.sum_digests.get(message.index)
    if signed is None:
        return []  # the queue that held its digest was given up, and the link repeats that behind these words
    if signed.message.sum_digest != sum_digest(state.attempt_digest, message.index, words):
        if sender != signed.sender:
            return []  # it hands on what it holds: its owner may have signed two digests, and shown it the other one
        raise BulkRejected(peer=sender, evidence=f"sum of chunk {message.index} is not the one of its digest")
    _hold(state, message.index, words)
    tagged.tag_sum(state, message.index)
    return ahead.write(state, _whole(state))


def same_view(state: State) -> bool:
    """All of U opened their nonces, for the view that this peer has."""
    gathering = state.laid_out
    if not state.view or len(gathering.nonces) < len(state.survivors):
        return False
    return all(letter.message.view == state.view for letter in gathering.nonces.values())


def other_view(state: State) -> str:
    """A member that was told other sums than this peer; empty when there is none."""
    gathering = state.laid_out
    for name, letter in gathering.nonces.items() if state.view else ():
        if letter.message.view != state.view:
            return name
    return ""


def gathered(state: State) -> bool:
    """All of GATHER is held and checked: every root, nonce and sum, under one view, and the tags that verify them."""
    gathering = state.laid_out
    if len(gathering.sums) < len(gathering.pieces) or not (gathering.checked or not state.context.verify):
        return False  # asked after every event
    return len(gathering.roots) == len(state.survivors) and same_view(state) and not gathering.under_others


def may_vouch(state: State) -> bool:
    """All is gathered, and READY breaks no promise that this peer gave to an earlier round."""
    return gathered(state) and state.peers.vows.may_vouch(state.round, state.base[0], state.chain)


def store(state: State) -> list[Effect]:
    """Make the masked sums and READY durable together; READY is sent only then."""
    gathering = state.laid_out
    state.sum.masked = _whole(state)
    state.voting.ready = state.seal(Ready(state.attempt_digest, state.view))
    state.peers.vows.vouched[state.round] = state.chain
    state.masking.contributed, state.masking.mine = {}, ()
    gathering.sums, gathering.words = {}, ()
    return [persist(state, SumsStored, (state.sums_item, pack_sums(state.sum.masked, state.attempt_digest)))]


def sums_came_late(state: State) -> bool:
    """The certificate was here before the last words of Y were, and now they are all here, under its V."""
    gathering = state.gathering
    if gathering is None or state.sum.masked or state.sum.total or len(gathering.sums) < len(gathering.pieces):
        return False
    return len(gathering.sum_digests) == len(gathering.pieces) and _view(state) == state.view


def keep_sums(state: State) -> list[Effect]:
    """Y is whole: no peer has to be asked for it."""
    gathering = state.laid_out
    state.sum.masked = _whole(state)
    gathering.sums, gathering.words = {}, ()
    return []


def _hold(state: State, index: int, words: Words) -> None:
    """Put chunk `index` of Y in its place: Y is one vector from the start, and this peer alone writes to it."""
    gathering = state.laid_out
    place = gathering.sums[index] = piece_of(_whole(state), gathering.pieces[index])
    place[...] = words


def _whole(state: State) -> tuple[Vector, ...]:
    gathering = state.laid_out
    if not gathering.words:
        gathering.words = tuple(Vector(bits, FIELDS[bits].zeros(length)) for bits, length in gathering.segments)
    return gathering.words


def views_differ(state: State) -> bool:
    """A member was told other sums, or says so, and what the owners signed has not yet been shown to all."""
    return "shown" not in state.due and other_view(state) != ""


def share_digests(state: State) -> list[Effect]:
    """Hand on what the owners signed. It proves an owner that told two sums; else the peer that differs lies."""
    gathering = state.laid_out
    state.due["shown"] = state.now
    wires = [gathering.sum_digests[index].wire for index in sorted(gathering.sum_digests)]
    groups = [tuple(wires[start : start + MOST_LACKING]) for start in range(0, len(wires), MOST_LACKING)]
    return [Send(None, state.seal(Handed(group))) for group in groups]


# ── what is lacking ───────────────────────────────────────────────────────────────────────────────────────────


def is_overdue(state: State) -> bool:
    """Two fifths of the deadline are over, and something is lacking that was not asked for yet."""
    return state.past("lack") and "asked" not in state.due and not gathered(state)


def ask(state: State) -> list[Effect]:
    """Say to all what is lacking and of whom: its author sends it to all, and holders of a signed one hand it on.

    So a member that withholds from one peer what it owes to all is seen to owe it.
    """
    gathering = state.laid_out
    state.due["asked"] = state.now
    lacking: list[Lacking] = []
    for item, held in _statements(state).items():
        lacking += [(name, item, 0) for name in state.survivors if name not in held]
    for index, words in state.masking.contributed.items():
        lacking += [(name, Item.CHUNK, index) for name in state.survivors if name not in words]
    for piece in gathering.pieces:
        if piece.index not in gathering.sums and piece.index not in state.masking.contributed:
            lacking.append((state.owners[piece.owner_position], Item.CHUNK, piece.index))
    # Who sends words that are not those of its Root may have shown the others another one.
    owed = {author for author, item, index in lacking if item == Item.CHUNK and index in state.masking.contributed}
    doubted = [name for name in gathering.roots if name in owed]
    shown = roots.show(state, doubted) if doubted else []
    return [*shown, Send(None, state.seal(Want(Question.WORDS, tuple(lacking[:MOST_LACKING]))))]


def _statements(state: State) -> Mapping[int, Mapping[str, Letter[Message]]]:
    """By item that is a signed letter, those that are held, by author."""
    gathering = state.laid_out
    return {Item.ROOT: gathering.roots, Item.NONCE: gathering.nonces, Item.TAGS: gathering.tags}


def help_out(state: State, asker: str, lacking: Sequence[Lacking]) -> list[Effect]:
    """Give what a member lacks and this peer has: its own masked words to all, to the member what others signed."""
    me, gathering, masked = state.context.me, state.gathering, state.sum.masked
    if gathering is None or not _from_member(state, asker):
        return []
    effects: list[Effect] = []
    handed: list[bytes] = []
    for author, item, index in lacking:
        if (known := _statements(state).get(item)) is not None:
            handed += [known[author].wire] if author in known else []
        elif item == Item.CHUNK and index < len(gathering.pieces):
            owner = state.owners[gathering.pieces[index].owner_position]
            if asker == owner and author in state.survivors:
                gathering.claims.setdefault(owner, set()).add((author, index))
                if author == me and state.masking.mine:
                    gathering.shown.add((me, index))
                    own = bytes_of(piece_of(state.masking.mine, gathering.pieces[index]))
                    effects.append(Send(None, state.seal(Chunk(state.attempt_digest, index, own))))
            elif author == owner and (masked or index in gathering.sums):
                handed.append(gathering.sum_digests[index].wire)
                words = piece_of(masked, gathering.pieces[index]) if masked else gathering.sums[index]
                effects.append(Send(asker, state.seal(SumChunk(state.attempt_digest, index, words.tobytes()))))
    return [*(Send(asker, state.seal(Handed(group))) for group in roots.groups(handed)), *effects]


def field_of(state: State, index: int) -> Field:
    """The field of chunk `index`."""
    gathering = state.laid_out
    return FIELDS[gathering.segments[gathering.pieces[index].segment][0]]


def _words(state: State, sender: str, index: int, data: Buffer) -> Words:
    gathering = state.laid_out
    piece, field = gathering.pieces[index], field_of(state, index)
    if len(data) != piece.count * field.word_bytes:
        raise BulkRejected(peer=sender, evidence=f"chunk {index} has {len(data)} bytes, wants {piece.count} words")
    return field.from_bytes(data, piece.count, peer=sender)


def _from_member(state: State, sender: str) -> bool:
    """The sender is in U: nothing of another peer counts here."""
    return sender in state.survivors


def same_digest(state: State, sender: str, attempt_digest: bytes) -> None:
    if attempt_digest != state.attempt_digest:
        # Its word alone does not convict the coordinator.
        evidence = f"its attempt digest {attempt_digest.hex()[:16]}, this site's {state.attempt_digest.hex()[:16]}"
        raise SetsDiffer(peer=sender, coordinator=state.coordinator, evidence=evidence)


def check_owner(state: State, sender: str, index: int) -> None:
    gathering = state.laid_out
    if index >= len(gathering.pieces) or state.owners[gathering.pieces[index].owner_position] != sender:
        raise BulkRejected(peer=sender, evidence=f"chunk {index} is not owned by {sender}")

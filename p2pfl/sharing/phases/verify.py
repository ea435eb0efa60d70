"""VERIFY, a step of GATHER: random linear forms that nobody could know before every sum was fixed.

docs/spec/sharing.md §6. The challenge follows from D, V and all opened nonces. Each member broadcasts the forms' values
on its own masked chunks, and all check that they add up to those on the sum. On a mismatch the owner opens what it was
given, still masked, and the signed hashes, tags and sum digest show to anyone who lied.
"""

from __future__ import annotations

import functools

from p2pfl import merkle
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import BulkRejected, FalseSum, FalseTag, TagsRejected
from p2pfl.messages import Letter, Opened, Tags
from p2pfl.sharing import forms
from p2pfl.sharing.digests import challenge, chunk_leaf, leaf_in_root, sum_digest
from p2pfl.sharing.events import Effect, Send, Words
from p2pfl.sharing.field import FIELDS, Field
from p2pfl.sharing.forms import TAG_BYTES, Forms
from p2pfl.sharing.phases import gather
from p2pfl.sharing.phases.mask import piece_of
from p2pfl.sharing.state import State, hold_once


def can_tag(state: State) -> bool:
    """The forms are known, and this peer has not yet told its values."""
    return state.setting.verify and not state.challenge and bool(state.mine) and gather.same_view(state)


def tag(state: State) -> list[Effect]:
    """Tell the forms' values on this peer's own masked chunks."""
    nonces = [state.nonces[name].message.nonce for name in state.survivors]
    state.challenge = challenge(state.attempt_digest, state.view, nonces)
    by_bits = _forms(state)
    mine = [by_bits[state.segments[piece.segment][0]].tag(piece_of(state.mine, piece)) for piece in state.pieces]
    letter = state.seal(Tags(state.challenge, b"".join(mine)))
    state.tags[state.setting.me] = letter
    return [state.post(letter)]


def _forms(state: State) -> dict[int, Forms]:
    return {bits: _forms_of(state.challenge, bits) for bits in {bits for bits, _ in state.segments}}


@functools.lru_cache(maxsize=8)
def _forms_of(challenge: bytes, bits: int) -> Forms:
    """Built once for tagging, checking and judging: they are public, and a function of the challenge."""
    return Forms(challenge, FIELDS[bits])


def accept_tags(state: State, letter: Letter[Tags]) -> list[Effect]:
    """Hold a member's tags."""
    message, sender = letter.message, letter.sender
    if sender not in state.survivors:
        return []
    if len(message.tags) != TAG_BYTES * len(state.pieces):
        raise TagsRejected(peer=sender, evidence=f"{len(message.tags)} bytes of tags for {len(state.pieces)} chunks")
    for piece in state.pieces:
        field = gather.field_of(state, piece.index)
        field.from_bytes(tag_of(message, piece.index), forms.forms_of(field), peer=sender)
    hold_once(state.tags, sender, letter, "two lists of tags")
    return []


def can_check(state: State) -> bool:
    """All tags and all sums are here, for one challenge."""
    if not state.challenge or state.compared or len(state.tags) < len(state.survivors):
        return False
    same = all(letter.message.challenge == state.challenge for letter in state.tags.values())
    return same and len(state.sums) == len(state.pieces) and len(state.roots) == len(state.survivors)


def check(state: State) -> list[Effect]:
    """Every chunk's sum has the values that its parts' values add up to; of one that has not, the owner opens all."""
    by_bits = _forms(state)
    state.compared = True
    for piece in state.pieces:
        bits = state.segments[piece.segment][0]
        parts = [tag_of(state.tags[name].message, piece.index) for name in state.survivors]
        if forms.add(FIELDS[bits], parts) != by_bits[bits].tag(state.sums[piece.index]):
            state.false[piece.index] = {}
    state.checked = not state.false
    return [effect for index in state.false for effect in _open(state, index)]


def tag_of(tags: Tags, index: int) -> bytes:
    """The tag of chunk `index`; empty when there is none."""
    return tags.tags[TAG_BYTES * index : TAG_BYTES * (index + 1)]


def _open(state: State, index: int) -> list[Effect]:
    """Show to all what this owner was given of chunk `index`: masked words, so nothing is told."""
    opened: list[Effect] = []
    for name, words in state.contributed.get(index, {}).items():
        letter = state.seal(Opened(state.attempt_digest, index, name, words.tobytes()))
        state.false[index][name] = letter
        opened.append(Send(None, letter))
    return opened


def accept_opened(state: State, letter: Letter[Opened]) -> list[Effect]:
    """Hold one member's chunk of a false sum, if it is the one of its signed hash."""
    message, sender = letter.message, letter.sender
    if message.index not in state.false:
        return []
    gather.same_digest(state, sender, message.attempt_digest)
    gather.check_owner(state, sender, message.index)
    author = message.author
    leaf = merkle.leaf_hash(chunk_leaf(state.attempt_digest, message.index, message.words))
    if author not in state.roots or leaf != leaf_in_root(state.roots[author].message, message.index):
        raise BulkRejected(peer=sender, evidence=f"what it opened of {author}'s chunk {message.index} is not signed")
    state.false[message.index][author] = letter
    return []


def can_judge(state: State) -> bool:
    """Everything of a false sum is open that was not judged yet."""
    return _to_judge(state) is not None


def _to_judge(state: State) -> int | None:
    ready = (index for index, held in state.false.items() if len(held) == len(state.survivors))
    return next((index for index in ready if index not in state.judged), None)


def judge(state: State) -> list[Effect]:
    """Name whoever lied about the chunk: with an error that carries the proof. Raises FalseTag, FalseSum."""
    index = _to_judge(state)
    if index is None:
        return []
    state.judged.add(index)
    held = state.false[index]
    by_bits = _forms(state)
    form = by_bits[state.segments[state.pieces[index].segment][0]]
    field = gather.field_of(state, index)
    words = {name: _words(one.message, field, state.pieces[index].count) for name, one in held.items()}
    for name in state.survivors:
        part = words[name]
        if part is None or tag_of(state.tags[name].message, index) != form.tag(part):
            members = (state.members,) if state.members is not None else ()
            proof = (*members, state.roots[name], state.tags[name], held[name])
            raise FalseTag(peer=name, evidence=f"chunk {index}", proof=proof)
    owner = state.owners[state.pieces[index].owner_position]
    summed = field.sum([part for name in state.survivors if (part := words[name]) is not None])
    signed = state.sum_digests[index]
    true = sum_digest(state.attempt_digest, index, summed)
    if true != signed.message.sum_digest and state.members is not None:
        roots = tuple(state.roots[name] for name in state.survivors)
        proof = (state.members, signed, *roots, *(held[name] for name in state.survivors))
        raise FalseSum(peer=owner, evidence=f"chunk {index}", proof=proof)
    return []  # all told the truth and the equation fails: it cannot be, and nothing is vouched for


def _words(opened: Opened, field: Field, count: int) -> Words | None:
    """The words that were opened; None when they are none of this field, of which nobody honest signs the hash."""
    try:
        return field.from_bytes(opened.words, count)
    except RemoteProtocolError:
        return None

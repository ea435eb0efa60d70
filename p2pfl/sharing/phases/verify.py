"""VERIFY, a step of GATHER: random linear forms that no peer could know before every sum was fixed.

docs/spec/sharing.md §6. The challenge follows from D, V and all opened nonces. Each member broadcasts the forms' values
on its own masked chunks, and all check that they add up to those on the sum. On a mismatch the owner opens what it was
given, still masked; the signed hashes, tags and sum digest then show all who the liar is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from p2pfl import merkle
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import BulkRejected, FalseSum, FalseTag, TagsRejected
from p2pfl.messages import Letter, Opened, Tags
from p2pfl.sharing import forms
from p2pfl.sharing.digests import challenge, chunk_leaf, leaf_in_root, sum_digest
from p2pfl.sharing.events import Effect, Send, Words
from p2pfl.sharing.field import FIELDS, Field
from p2pfl.sharing.forms import TAG_BYTES
from p2pfl.sharing.parts import Gathering
from p2pfl.sharing.phases import gather, roots, tagged
from p2pfl.sharing.phases.mask import piece_of
from p2pfl.sharing.state import State, hold_once


def can_tag(state: State) -> bool:
    """The forms are known, and this peer has not yet told its values."""
    gathering = state.laid_out
    return state.context.verify and not gathering.challenge and bool(state.masking.mine) and gather.same_view(state)


def tag(state: State) -> list[Effect]:
    """Tell the forms' values on this peer's own masked chunks."""
    gathering = state.laid_out
    nonces = [gathering.nonces[name].message.nonce for name in state.survivors]
    gathering.challenge = challenge(state.attempt_digest, state.view, nonces)
    mine = [tagged.forms_of(state, piece.index).tag(piece_of(state.masking.mine, piece)) for piece in gathering.pieces]
    letter = state.seal(Tags(gathering.challenge, b"".join(mine)))
    gathering.tags[state.context.me] = letter
    return [state.post(letter)]


def accept_tags(state: State, letter: Letter[Tags]) -> list[Effect]:
    """Hold a member's tags."""
    gathering = state.laid_out
    message, sender = letter.message, letter.sender
    if sender not in state.survivors:
        return []
    if len(message.tags) != TAG_BYTES * len(gathering.pieces):
        raise TagsRejected(
            peer=sender, evidence=f"{len(message.tags)} bytes of tags for {len(gathering.pieces)} chunks"
        )
    for field, chunks, here in _runs(gathering):
        field.from_bytes(message.tags[here], forms.forms_of(field) * chunks, peer=sender)
    hold_once(gathering.tags, sender, letter, "two lists of tags")
    tagged.tag_sums(state)  # while those of others are on their way; this peer's own have left
    return []


def can_check(state: State) -> bool:
    """All tags and all sums are here, for one challenge."""
    gathering = state.laid_out
    if not gathering.challenge or gathering.compared or len(gathering.tags) < len(state.survivors):
        return False
    same = all(letter.message.challenge == gathering.challenge for letter in gathering.tags.values())
    return same and len(gathering.sums) == len(gathering.pieces) and len(gathering.roots) == len(state.survivors)


def check(state: State) -> list[Effect]:
    """Compare the values on each chunk's sum with the sum of its parts' values; the owner opens a chunk that fails."""
    gathering = state.laid_out
    tagged.tag_sums(state)
    gathering.compared = True
    added = _tags_added(state)
    for piece in gathering.pieces:
        tag = added[TAG_BYTES * piece.index : TAG_BYTES * (piece.index + 1)]
        if tag != gathering.sum_tags[piece.index]:
            gathering.false[piece.index] = gathering.opened.pop(piece.index, {})
    gathering.opened = {}
    gathering.checked = not gathering.false
    opened = [effect for index in gathering.false for effect in _open(state, index)]
    # Under them it was summed: who holds another Root of a member would take what is opened for the owner's lie.
    return [*roots.show(state), *opened] if opened else []


def _runs(gathering: Gathering) -> Iterator[tuple[Field, int, slice]]:
    """Chunks in a row over one field: the field, how many they are, and where their tags lie in a list of tags.

    Tags are read and added by runs and not by chunks: with n owners, n² calls at each peer were most of a large round.
    """
    bits, at = (gathering.segments[piece.segment][0] for piece in gathering.pieces), 0
    for one, run in itertools.groupby(bits):
        chunks = sum(1 for _ in run)
        yield FIELDS[one], chunks, slice(at, at := at + TAG_BYTES * chunks)


def _tags_added(state: State) -> bytes:
    """TAG_BYTES for each chunk: the sum of all members' tags, which is that of a right sum."""
    gathering = state.laid_out
    lists = [gathering.tags[name].message.tags for name in state.survivors]
    return b"".join(
        forms.add(field, [tags[here] for tags in lists], chunks) for field, chunks, here in _runs(gathering)
    )


def tag_of(tags: Tags, index: int) -> bytes:
    """The tag of chunk `index`; empty when there is none."""
    return tags.tags[TAG_BYTES * index : TAG_BYTES * (index + 1)]


def _open(state: State, index: int) -> list[Effect]:
    """Show all what this owner was given of chunk `index`: the words are masked, so they tell nothing."""
    gathering = state.laid_out
    opened: list[Effect] = []
    for name, words in state.masking.contributed.get(index, {}).items():
        letter = state.seal(Opened(state.attempt_digest, index, name, words.tobytes()))
        gathering.false[index][name] = letter
        opened.append(Send(None, letter))
    return opened


def accept_opened(state: State, letter: Letter[Opened]) -> list[Effect]:
    """Hold one member's chunk of a false sum, if it is the one of its signed hash."""
    gathering = state.laid_out
    message, sender = letter.message, letter.sender
    if gathering.compared and message.index not in gathering.false:
        return []
    gather.same_digest(state, sender, message.attempt_digest)
    gather.check_owner(state, sender, message.index)
    author = message.author
    leaf = merkle.leaf_hash(chunk_leaf(state.attempt_digest, message.index, message.words))
    if author not in gathering.roots or leaf != leaf_in_root(gathering.roots[author].message, message.index):
        if not roots.are_the_same(state, message.index):
            return []  # its author may have signed two: the words may be those of the Root that its owner was shown
        raise BulkRejected(peer=sender, evidence=f"what it opened of {author}'s chunk {message.index} is not signed")
    held = gathering.false if gathering.compared else gathering.opened  # its owner may have compared before this peer
    held.setdefault(message.index, {})[author] = letter
    return []


def can_judge(state: State) -> bool:
    """All of a false sum that was not judged yet is open."""
    return _to_judge(state) is not None


def _to_judge(state: State) -> int | None:
    gathering = state.laid_out
    ready = (index for index, held in gathering.false.items() if len(held) == len(state.survivors))
    return next((index for index in ready if index not in gathering.judged), None)


def judge(state: State) -> list[Effect]:
    """Name the peer that lied about the chunk, by an error that carries the proof. Raises FalseTag, FalseSum."""
    gathering = state.laid_out
    index = _to_judge(state)
    if index is None:
        return []
    gathering.judged.add(index)
    held = gathering.false[index]
    form = tagged.forms_of(state, index)
    field = gather.field_of(state, index)
    words = {name: _words(one.message, field, gathering.pieces[index].count) for name, one in held.items()}
    for name in state.survivors:
        part = words[name]
        if part is None or tag_of(gathering.tags[name].message, index) != form.tag(part):
            members = (state.members,) if state.members is not None else ()
            proof = (*members, gathering.roots[name], gathering.tags[name], held[name])
            raise FalseTag(peer=name, evidence=f"chunk {index}", proof=proof)
    owner = state.owners[gathering.pieces[index].owner_position]
    summed = field.sum([part for name in state.survivors if (part := words[name]) is not None])
    signed = gathering.sum_digests[index]
    true = sum_digest(state.attempt_digest, index, summed)
    if true != signed.message.sum_digest and state.members is not None:
        roots = tuple(gathering.roots[name] for name in state.survivors)
        proof = (state.members, signed, *roots, *(held[name] for name in state.survivors))
        raise FalseSum(peer=owner, evidence=f"chunk {index}", proof=proof)
    return []  # impossible: all told the truth and the equation fails; nothing is vouched for


def _words(opened: Opened, field: Field, count: int) -> Words | None:
    """The words that were opened; None when they are not of this field: no honest peer signs the hash of such words."""
    try:
        return field.from_bytes(opened.words, count)
    except RemoteProtocolError:
        return None

"""Proofs against liars: a few letters under their author's signature that no honest peer would have signed together.

A proof is checked from its letters and the roster alone, so anyone can, years later, from a file. What only one peer
saw (words that came over a link, silence) proves nothing, and is told in ballots and in the site log instead.

| letters | what they prove |
|---|---|
| two Bundles or Proposes of one process in one attempt | it told two peers two things |
| two Members, Roots, SumDigests of one chunk, Nonces, Tags, READYs or ballots in one attempt | the same |
| one Members that does not hold together; one certificate that decides nothing | its author made it up |
| Bundle, Nonce | the nonce is not the one committed to |
| Members, Root, Tags, Opened | the tag that its author signed is not that of the words whose hash it signed |
| Members, SumDigest, every member's Root and Opened | the owner signed another sum than that of what it was given |
| Bundle, q−1 BackupShares | its dealer dealt shares that open something else |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pfl import merkle
from p2pfl.codec import Malformed
from p2pfl.errors import P2PFLError
from p2pfl.messages import (
    LARGE,
    SMALL,
    BackupShare,
    Ballot,
    Bundle,
    Certificate,
    Letter,
    Members,
    Message,
    Nonce,
    Opened,
    Propose,
    Ready,
    Root,
    SumDigest,
    Tags,
    carries,
    narrow,
    open_letter,
)
from p2pfl.roster import MOST_PEERS, Roster
from p2pfl.sharing import shamir
from p2pfl.sharing.certificate import check_certificate, compose, same_attempt
from p2pfl.sharing.chunks import CHUNK_BYTES, ChunkSpan, Layout, Segment, plan
from p2pfl.sharing.digests import (
    attempt_digest,
    chunk_leaf,
    commitment,
    leaf_in_root,
    roots_digest,
    share_leaf,
    sum_digest,
)
from p2pfl.sharing.field import FIELDS, Field
from p2pfl.sharing.forms import TAG_BYTES, Forms

MOST_LETTERS: Final = 2 * MOST_PEERS
ONE_PROCESS: Final = (Bundle, Propose)
ONE_ATTEMPT: Final = (Members, Root, SumDigest, Nonce, Tags, Ready, Ballot)


def fits(proof: Sequence[bytes]) -> bool:
    """True when the proof fits into one letter. A false sum of many sites does not: every member finds that itself."""
    return len(proof) <= MOST_LETTERS and sum(map(len, proof)) <= LARGE - SMALL


def convict(proof: Sequence[bytes], roster: Roster, run: bytes | None = None) -> str:
    """The name of the peer that these letters convict. Raises Malformed when they convict nobody.

    run   the run that they must belong to; None: any one
    """
    letters = [open_letter(wire, roster, Message) for wire in proof]
    if not letters:
        raise Malformed("no letters")
    first = letters[0]
    if any(not same_attempt(letter, first.envelope) for letter in letters):
        raise Malformed("letters of several attempts")
    if first.envelope.epoch != roster.epoch or run not in (None, first.envelope.run):
        raise Malformed("letters of another federation, epoch or run")
    kinds = tuple(type(letter.message) for letter in letters)
    try:
        if len(letters) == 1:
            return _made_up(first, roster)
        if kinds == (Bundle, Nonce):
            return _wrong_nonce(narrow(letters[0], Bundle), narrow(letters[1], Nonce))
        if kinds == (Members, Root, Tags, Opened):
            members, root = narrow(letters[0], Members), narrow(letters[1], Root)
            return _false_tag(members, root, narrow(letters[2], Tags), narrow(letters[3], Opened), roster)
        if kinds[:2] == (Members, SumDigest):
            return _false_sum(narrow(letters[0], Members), narrow(letters[1], SumDigest), letters[2:], roster)
        if kinds[0] is Bundle and set(kinds[1:]) == {BackupShare}:
            return _misdealt(narrow(letters[0], Bundle), [narrow(one, BackupShare) for one in letters[1:]], roster)
        if len(letters) == 2:
            return _two_statements(*letters)
    except P2PFLError as error:
        raise Malformed(f"it shows nothing: {error.evidence}") from None
    except (ValueError, KeyError) as error:
        raise Malformed(f"it shows nothing: {error}") from None
    raise Malformed("letters that prove nothing together")


def convicted(proof: Sequence[bytes], roster: Roster, run: bytes | None = None) -> str:
    """The name that `convict` gives; empty for letters that convict nobody."""
    try:
        return convict(proof, roster, run)
    except Malformed:
        return ""


def _two_statements(one: Letter[Message], other: Letter[Message]) -> str:
    kind = type(one.message)
    if type(other.message) is not kind or one.sender != other.sender or one.message == other.message:
        raise Malformed("no two statements of one peer")
    if kind in ONE_PROCESS:
        if one.envelope == other.envelope:
            return one.sender
        raise Malformed("of two processes")
    if kind not in ONE_ATTEMPT:
        raise Malformed(f"{kind.__name__} may be said twice")
    if carries(one, SumDigest) and carries(other, SumDigest) and one.message.index != other.message.index:
        raise Malformed("digests of two chunks")
    if carries(one, Tags) and carries(other, Tags) and one.message.challenge != other.message.challenge:
        raise Malformed("tags under two challenges")
    return one.sender


def _made_up(letter: Letter[Message], roster: Roster) -> str:
    try:
        if carries(letter, Members):
            compose(letter, roster)
        elif carries(letter, Certificate):
            check_certificate(letter, roster)
        else:
            raise Malformed("one letter that may be true")
    except Malformed as error:
        if isinstance(letter.message, (Members, Certificate)):
            return letter.sender
        raise error
    raise Malformed("it holds together")


def _wrong_nonce(bundle: Letter[Bundle], nonce: Letter[Nonce]) -> str:
    same = bundle.envelope == nonce.envelope
    if same and bundle.message.nonce != commitment("nonce", nonce.message.nonce):
        return bundle.sender
    raise Malformed("the nonce of its bundle")


def _false_tag(
    members: Letter[Members], root: Letter[Root], tags: Letter[Tags], opened: Letter[Opened], roster: Roster
) -> str:
    told, shown = tags.message, opened.message
    if root.sender != tags.sender:
        raise Malformed("a root and tags of two peers")
    piece, field = _piece(members, root, shown.index, roster)
    _check_opened(root, opened, piece)
    try:
        words = field.from_bytes(shown.words, piece.count)
    except P2PFLError:
        return root.sender  # it signed the hash of what are no words of this chunk
    if Forms(told.challenge, field).tag(words) == told.tags[TAG_BYTES * shown.index : TAG_BYTES * (shown.index + 1)]:
        raise Malformed("the tag is true")
    return root.sender


def _false_sum(
    members: Letter[Members], signed: Letter[SumDigest], rest: Sequence[Letter[Message]], roster: Roster
) -> str:
    chosen, owners, told = members.message.survivors, members.message.owners, signed.message
    roots = {one.sender: one for one in rest if carries(one, Root)}
    opened = {one.message.author: one for one in rest if carries(one, Opened)}
    shapes = {one.message.segments for one in roots.values()}
    if len(shapes) != 1:  # a liar's own root, made for this proof, would give the others' words another meaning
        raise Malformed("roots of several shapes")
    if set(roots) != set(chosen) or set(opened) != set(chosen):
        raise Malformed("not the words of every member")
    if told.roots != roots_digest([roots[name] for name in chosen]):
        raise Malformed("other roots than those that the owner summed under")
    attempt = attempt_digest(members)
    piece, field = _piece(members, roots[chosen[0]], told.index, roster)
    if told.attempt_digest != attempt or signed.sender != owners[piece.owner_position]:
        raise Malformed("not the owner's digest under this attempt digest")
    words = []
    for name in chosen:
        shown = opened[name].message
        if shown.index != told.index:
            raise Malformed("of another chunk")
        _check_opened(roots[name], opened[name], piece)
        words.append(field.from_bytes(shown.words, piece.count))
    if sum_digest(attempt, told.index, field.sum(words)) == told.sum_digest:
        raise Malformed("the sum is true")
    return signed.sender


def _check_opened(root: Letter[Root], opened: Letter[Opened], piece: ChunkSpan) -> None:
    """The opened words are those whose hash the author signed in its Root."""
    shown, said = opened.message, root.message
    if shown.author != root.sender:
        raise Malformed("words of another peer than the root")
    hashed = merkle.leaf_hash(chunk_leaf(said.attempt_digest, piece.index, shown.words))
    if shown.attempt_digest != said.attempt_digest or hashed != leaf_in_root(said, piece.index):
        raise Malformed("words that the root does not hold")


def _piece(members: Letter[Members], root: Letter[Root], index: int, roster: Roster) -> tuple[ChunkSpan, Field]:
    """Chunk `index` of a vector of the root's shape, cut for the members of its attempt, and its field."""
    said, chosen = root.message, members.message
    compose(members, roster)
    if said.attempt_digest != attempt_digest(members):
        raise Malformed("of another attempt")
    count, odd = divmod(len(said.leaves), merkle.HASH_BYTES)
    if odd or any(bits not in FIELDS for bits, _ in said.segments):
        raise Malformed("a shape that no vector has")
    # Measured before it is planned: what a Root claims to be large must have as many leaves.
    if sum(FIELDS[bits].word_bytes * size for bits, size in said.segments) > count * CHUNK_BYTES:
        raise Malformed("more words than its leaves can hold")
    pieces = plan(Layout(tuple(Segment(bits, size) for bits, size in said.segments)), len(chosen.owners))
    if len(pieces) != count or index >= count:
        raise Malformed("not one leaf for each chunk")
    return pieces[index], FIELDS[said.segments[pieces[index].segment][0]]


def _misdealt(bundle: Letter[Bundle], holders: Sequence[Letter[BackupShare]], roster: Roster) -> str:
    made = bundle.message
    shares: dict[int, bytes] = {}
    for letter in holders:
        place = roster.index(letter.sender)
        for dealer, share, salt, edge, path in letter.message.shares:
            shown = share_leaf(salt, edge, share)
            if dealer == bundle.sender and merkle.includes(made.shares, shown, place, len(roster.names), path):
                shares[place] = share
    enough = roster.quorums.q - 1
    if len(shares) < enough:
        raise Malformed(f"{len(shares)} valid shares, wants {enough}")
    chosen = dict(sorted(shares.items())[:enough])
    if made.self_mask == commitment("self-mask", shamir.combine(chosen)):
        raise Malformed("the shares are good")
    return bundle.sender

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
from p2pfl.keys import digest
from p2pfl.messages import (
    LARGE,
    SMALL,
    BackupShare,
    Ballot,
    Bundle,
    Certificate,
    Letter,
    Members,
    Nonce,
    Opened,
    Propose,
    Ready,
    Root,
    SumDigest,
    Tags,
    open_letter,
)
from p2pfl.roster import MOST_PEERS, Roster
from p2pfl.sharing import shamir
from p2pfl.sharing.certificate import check_certificate, compose, same_attempt
from p2pfl.sharing.chunks import CHUNK_BYTES, ChunkSpan, Layout, Segment, plan
from p2pfl.sharing.field import FIELDS, Field
from p2pfl.sharing.forms import TAG_BYTES, Forms
from p2pfl.sharing.phases.gather import leaf_of, roots_digest, sum_digest
from p2pfl.sharing.phases.mask import piece_leaf
from p2pfl.sharing.phases.share import commitment, leaf

MOST_LETTERS: Final = 2 * MOST_PEERS
ONE_PROCESS: Final = (Bundle, Propose)
ONE_ATTEMPT: Final = (Members, Root, SumDigest, Nonce, Tags, Ready, Ballot)


def fits(proof: Sequence[bytes]) -> bool:
    """The proof fits into one letter; a false sum of many sites does not, and every member finds it by itself."""
    return len(proof) <= MOST_LETTERS and sum(map(len, proof)) <= LARGE - SMALL


def check(proof: Sequence[bytes], roster: Roster, run: bytes | None = None) -> str:
    """The name of the peer that these letters convict. Raises Malformed when they convict nobody.

    run   of which they must be; None: of any one
    """
    letters = [open_letter(wire, roster) for wire in proof]
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
            return _wrong_nonce(*letters)
        if kinds == (Members, Root, Tags, Opened):
            return _false_tag(letters[0], letters[1], letters[2], letters[3], roster)
        if kinds[:2] == (Members, SumDigest):
            return _false_sum(letters, roster)
        if kinds[0] is Bundle and set(kinds[1:]) == {BackupShare}:
            return _misdealt(letters, roster)
        if len(letters) == 2:
            return _two_statements(*letters)
    except P2PFLError as error:
        raise Malformed(f"it shows nothing: {error.evidence}") from None
    except (ValueError, KeyError) as error:
        raise Malformed(f"it shows nothing: {error}") from None
    raise Malformed("letters that prove nothing together")


def convicts(proof: Sequence[bytes], roster: Roster, run: bytes | None = None) -> str:
    """`check`, with nobody's name (empty) for letters that convict nobody."""
    try:
        return check(proof, roster, run)
    except Malformed:
        return ""


def _two_statements(one: Letter, other: Letter) -> str:
    kind = type(one.message)
    if type(other.message) is not kind or one.sender != other.sender or one.message == other.message:
        raise Malformed("no two statements of one peer")
    if kind in ONE_PROCESS:
        if one.envelope == other.envelope:
            return one.sender
        raise Malformed("of two processes")
    if kind not in ONE_ATTEMPT:
        raise Malformed(f"{kind.__name__} may be said twice")
    if kind is SumDigest and getattr(one.message, "index", 0) != getattr(other.message, "index", 0):
        raise Malformed("digests of two chunks")
    if kind is Tags and getattr(one.message, "challenge", b"") != getattr(other.message, "challenge", b""):
        raise Malformed("tags under two challenges")
    return one.sender


def _made_up(letter: Letter, roster: Roster) -> str:
    try:
        if isinstance(letter.message, Members):
            compose(letter, roster)
        elif isinstance(letter.message, Certificate):
            check_certificate(letter, roster)
        else:
            raise Malformed("one letter that may be true")
    except Malformed as error:
        if isinstance(letter.message, (Members, Certificate)):
            return letter.sender
        raise error
    raise Malformed("it holds together")


def _wrong_nonce(bundle: Letter, nonce: Letter) -> str:
    made, told = bundle.message, nonce.message
    same = bundle.envelope == nonce.envelope
    if same and isinstance(made, Bundle) and isinstance(told, Nonce) and made.nonce != commitment("nonce", told.nonce):
        return bundle.sender
    raise Malformed("the nonce of its bundle")


def _false_tag(members: Letter, root: Letter, tags: Letter, opened: Letter, roster: Roster) -> str:
    told, shown = tags.message, opened.message
    if root.sender != tags.sender or not isinstance(told, Tags) or not isinstance(shown, Opened):
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


def _false_sum(letters: Sequence[Letter], roster: Roster) -> str:
    members, signed, *rest = letters
    chosen, owners = (named.survivors, named.owners) if isinstance(named := members.message, Members) else ((), ())
    told = signed.message
    roots = {one.sender: one for one in rest if isinstance(one.message, Root)}
    opened = {one.message.author: one for one in rest if isinstance(one.message, Opened)}
    shapes = {one.message.segments for one in roots.values() if isinstance(one.message, Root)}
    if len(shapes) != 1:  # a liar's own root, made for this proof, would give the others' words another meaning
        raise Malformed("roots of several shapes")
    if not isinstance(told, SumDigest) or set(roots) != set(chosen) or set(opened) != set(chosen):
        raise Malformed("not the words of every member")
    if told.roots != roots_digest([roots[name] for name in chosen]):
        raise Malformed("other roots than those that the owner summed under")
    attempt = digest("attempt", members.signed)
    piece, field = _piece(members, roots[chosen[0]], told.index, roster)
    if told.attempt_digest != attempt or signed.sender != owners[piece.owner_position]:
        raise Malformed("not the owner's digest under this attempt digest")
    words = []
    for name in chosen:
        shown = opened[name].message
        if not isinstance(shown, Opened) or shown.index != told.index:
            raise Malformed("of another chunk")
        _check_opened(roots[name], opened[name], piece)
        words.append(field.from_bytes(shown.words, piece.count))
    if sum_digest(attempt, told.index, field.sum(words)) == told.sum_digest:
        raise Malformed("the sum is true")
    return signed.sender


def _check_opened(root: Letter, opened: Letter, piece: ChunkSpan) -> None:
    """The opened words are those whose hash the author signed in its Root."""
    shown, said = opened.message, root.message
    if not isinstance(shown, Opened) or not isinstance(said, Root) or shown.author != root.sender:
        raise Malformed("words of another peer than the root")
    hashed = merkle.leaf_hash(piece_leaf(said.attempt_digest, piece.index, shown.words))
    if shown.attempt_digest != said.attempt_digest or hashed != leaf_of(root, piece.index):
        raise Malformed("words that the root does not hold")


def _piece(members: Letter, root: Letter, index: int, roster: Roster) -> tuple[ChunkSpan, Field]:
    """Chunk `index` of a vector of the root's shape, cut for the members of its attempt, and its field."""
    said, chosen = root.message, members.message
    compose(members, roster)
    if not isinstance(said, Root) or not isinstance(chosen, Members):
        raise Malformed("no root, or no members")
    if said.attempt_digest != digest("attempt", members.signed):
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


def _misdealt(letters: Sequence[Letter], roster: Roster) -> str:
    bundle, *holders = letters
    made = bundle.message
    if not isinstance(made, Bundle):
        raise Malformed("no bundle")
    shares: dict[int, bytes] = {}
    for letter in holders:
        place = roster.index(letter.sender)
        for dealer, share, salt, edge, path in letter.message.shares if isinstance(letter.message, BackupShare) else ():
            shown = leaf(salt, edge, share)
            if dealer == bundle.sender and merkle.check(made.shares, shown, place, len(roster.names), path):
                shares[place] = share
    enough = roster.quorums.q - 1
    if len(shares) < enough:
        raise Malformed(f"{len(shares)} valid shares, wants {enough}")
    chosen = dict(sorted(shares.items())[:enough])
    if made.self_mask == commitment("self-mask", shamir.combine(chosen)):
        raise Malformed("the shares are good")
    return bundle.sender

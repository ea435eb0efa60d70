"""What each peer still owes to an attempt: shown to people as the reason why it waits, and named in an ABANDON."""

from __future__ import annotations

from typing import Final

from p2pfl.sharing.parts import Gathering
from p2pfl.sharing.state import Phase, State

SHARE: Final = "its share"
ACK: Final = "its acknowledgement"
UPDATE: Final = "its update (it may still be training)"
MEMBERS: Final = "the set of members"
ROOT: Final = "its masked vector"
CHUNKS: Final = "chunks of its masked vector"
SUMS: Final = "the sums that it owns"
NONCE: Final = "its nonce"
WORDS: Final = "the words of the sums that it owns"
TAGS: Final = "the tags of its masked vector"
OPENED: Final = "what it was given of a false sum"
ORDER: Final = (SHARE, ACK, UPDATE, MEMBERS, ROOT, CHUNKS, SUMS, NONCE, WORDS, TAGS, OPENED)


def owes(state: State, peer: str) -> str:
    """What `peer` has yet to send before this attempt can be gathered here; empty when nothing."""
    if state.members is None:
        return _before_u(state, peer)
    gathering = state.gathering
    if peer not in state.survivors:
        return ""
    if gathering is not None and gathering.checked and gathering.sums and not gathering.under_others:
        return ""
    if gathering is None:
        return ROOT
    own = [piece.index for piece in gathering.pieces if state.owners[piece.owner_position] == peer]
    return _chunks(state, gathering, peer) or _sums(state, gathering, peer, own) or _tags(state, gathering, peer, own)


def _before_u(state: State, peer: str) -> str:
    if peer not in state.proposals.bundles:
        return SHARE
    if peer not in state.proposals.acks:
        return ACK
    if peer not in state.proposals.proposes:
        return UPDATE
    return MEMBERS if peer == state.coordinator else ""


def _chunks(state: State, gathering: Gathering, peer: str) -> str:
    if peer not in gathering.roots:
        return ROOT
    if any(peer not in senders for senders in state.masking.contributed.values()):
        return CHUNKS
    # An owner that says whose chunk it lacks waits itself: the author owes the chunk, unless it showed it.
    if any(
        (peer, index) in claimed and (peer, index) not in gathering.shown
        for claimed in gathering.claims.values()
        for author, index in claimed
        if author == peer
    ):
        return CHUNKS
    return ""


def _sums(state: State, gathering: Gathering, peer: str, own: list[int]) -> str:
    excused = bool(gathering.claims.get(peer, set()) - gathering.shown)
    if not excused and any(index not in gathering.sum_digests or index in gathering.under_others for index in own):
        return SUMS
    nonce = gathering.nonces.get(peer)
    if state.view and (nonce is None or nonce.message.view != state.view):
        return NONCE
    if state.voting.ready is None and state.view and any(index not in gathering.sums for index in own):
        return WORDS
    return ""


def _tags(state: State, gathering: Gathering, peer: str, own: list[int]) -> str:
    tags = gathering.tags.get(peer)
    told = tags is not None and tags.message.challenge == gathering.challenge
    if gathering.challenge and state.context.verify and not told:
        return TAGS
    if any(index in gathering.false for index in own):
        return OPENED
    return ""


def lacking(state: State) -> dict[str, str]:
    """By peer, what it owes up to GATHER; only peers that can go on, since the others wait for them."""
    names = state.survivors if state.members is not None else state.names
    owing = {name: what for name in names if name != state.context.me and (what := owes(state, name))}
    first = min(map(ORDER.index, owing.values()), default=0)
    return {name: what for name, what in owing.items() if what == ORDER[first]}


def to_blame(state: State) -> tuple[str, ...]:
    """The peers that an ABANDON of this peer names."""
    return tuple(lacking(state))


def waited_for(state: State, phase: Phase) -> dict[str, str]:
    """By peer, what this peer waits for in `phase`, in words for people."""
    others = state.context.others
    members = [name for name in (state.survivors or state.names) if name != state.context.me]
    if phase is Phase.BALLOT:
        silent = {
            name: "its vote" for name in members if name not in state.voting.ballots and name not in state.voting.readys
        }
        return silent or {name: "its vote" for name in others if name not in state.voting.ballots}
    if phase is Phase.UNMASK:
        return {name: "the seed of its self-mask" for name in members if name not in state.sum.reveals}
    if phase is Phase.CONFIRM:
        return {name: "its confirmation" for name in others if name not in state.confirming.confirms}
    if phase is Phase.FINAL:
        return {}
    return lacking(state)


def bulk(state: State) -> tuple[int, int]:
    """Pieces of words that have come to this peer in this attempt, and all that come; (0, 0) before they are laid out.

    Of a chunk that it owns, one from each member; of any other, the sum.
    """
    gathering, owned = state.gathering, state.masking.contributed
    if gathering is None:
        return 0, 0
    members = len(state.survivors)
    came = sum(members if index in gathering.sums else len(held) for index, held in owned.items())
    sums = sum(index not in owned for index in gathering.sums)
    return came + sums, members * len(owned) + len(gathering.pieces) - len(owned)

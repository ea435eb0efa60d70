"""Who still owes what to an attempt: why it waits, told to people, and named in an ABANDON."""

from __future__ import annotations

from typing import Final

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
    if peer not in state.survivors or (state.checked and state.sums):
        return ""
    return _chunks(state, peer) or _sums(state, peer) or _tags(state, peer)


def _owned(state: State, peer: str) -> list[int]:
    owners = state.owners
    return [piece.index for piece in state.pieces if owners[piece.owner_position] == peer]


def _before_u(state: State, peer: str) -> str:
    if peer not in state.bundles:
        return SHARE
    if peer not in state.acks:
        return ACK
    if peer not in state.proposes:
        return UPDATE
    return MEMBERS if peer == state.coordinator else ""


def _chunks(state: State, peer: str) -> str:
    if peer not in state.roots:
        return ROOT
    if any(peer not in senders for senders in state.contributed.values()):
        return CHUNKS
    # An owner that said of whom it lacks a chunk waits itself: that author is the one who owes, unless it showed it.
    if any(
        (peer, index) in claimed and (peer, index) not in state.shown
        for claimed in state.claims.values()
        for author, index in claimed
        if author == peer
    ):
        return CHUNKS
    return ""


def _sums(state: State, peer: str) -> str:
    excused = bool(state.claims.get(peer, set()) - state.shown)
    own = _owned(state, peer)
    if not excused and any(index not in state.sum_digests for index in own):
        return SUMS
    nonce = state.nonces.get(peer)
    if state.view and (nonce is None or nonce.message.view != state.view):
        return NONCE
    if state.ready is None and state.view and any(index not in state.sums for index in own):
        return WORDS
    return ""


def _tags(state: State, peer: str) -> str:
    own = _owned(state, peer)
    tags = state.tags.get(peer)
    told = tags is not None and tags.message.challenge == state.challenge
    if state.challenge and state.setting.verify and not told:
        return TAGS
    if any(index in state.false for index in own):
        return OPENED
    return ""


def lacking(state: State) -> dict[str, str]:
    """By peer, what it owes GATHER and what comes before it: those only who can go on, since others wait for them."""
    names = state.survivors if state.members is not None else state.names
    owing = {name: what for name in names if name != state.setting.me and (what := owes(state, name))}
    first = min(map(ORDER.index, owing.values()), default=0)
    return {name: what for name, what in owing.items() if what == ORDER[first]}


def to_blame(state: State) -> tuple[str, ...]:
    """Whom an ABANDON of this peer names."""
    return tuple(lacking(state))


def waited_for(state: State, phase: Phase) -> dict[str, str]:
    """By peer, what this peer waits for in `phase`, in words for people."""
    others = state.setting.others
    members = [name for name in (state.survivors or state.names) if name != state.setting.me]
    if phase is Phase.BALLOT:
        silent = {name: "its vote" for name in members if name not in state.ballots and name not in state.readys}
        return silent or {name: "its vote" for name in others if name not in state.ballots}
    if phase is Phase.UNMASK:
        return {name: "the seed of its self-mask" for name in members if name not in state.reveals}
    if phase is Phase.CONFIRM:
        return {name: "its confirmation" for name in others if name not in state.confirms}
    if phase is Phase.FINAL:
        return {}
    return lacking(state)

"""Who still owes what to an attempt: why it waits, told to people, and named in an ABANDON."""

from __future__ import annotations

from typing import Final

from p2pfl.sharing.state import Phase, State

SHARE: Final = "its share"
ACK: Final = "its acknowledgement"
SAME_ACK: Final = "an acknowledgement of the bundles that this site holds"
UPDATE: Final = "its update (it may still be training)"
MEMBERS: Final = "the set of members"
ROOT: Final = "its masked vector"
CHUNKS: Final = "chunks of its masked vector"
SUMS: Final = "the sums that it owns"
NONCE: Final = "its nonce"
WORDS: Final = "the words of the sums that it owns"
ORDER: Final = (SHARE, ACK, SAME_ACK, UPDATE, MEMBERS, ROOT, CHUNKS, SUMS, NONCE, WORDS)


def owes(state: State, peer: str) -> str:
    """What `peer` has yet to send before this attempt can be gathered here; empty when nothing."""
    if peer not in state.bundles:
        return SHARE
    if peer not in state.acks:
        return ACK
    own = state.acks.get(state.setting.me)
    if own is not None and state.acks[peer].message != own.message:
        return SAME_ACK
    if peer not in state.proposes:
        return UPDATE
    if state.members is None:
        return MEMBERS if peer == state.coordinator else ""
    if peer not in state.roots:
        return ROOT
    if any(peer not in senders for senders in state.contributed.values()):
        return CHUNKS
    mine = [piece.index for piece in state.pieces if state.names[piece.owner_position] == peer]
    if any(index not in state.sum_digests for index in mine):
        return SUMS
    if peer not in state.nonces:
        return NONCE
    if state.ready is None and any(index not in state.sums for index in mine):
        return WORDS
    return ""


def lacking(state: State) -> dict[str, str]:
    """By peer, what it owes GATHER and what comes before it: those only who can go on, since others wait for them."""
    owing = {name: what for name in state.setting.others if (what := owes(state, name))}
    first = min(map(ORDER.index, owing.values()), default=0)
    return {name: what for name, what in owing.items() if what == ORDER[first]}


def waited_for(state: State, phase: Phase) -> dict[str, str]:
    """By peer, what this peer waits for in `phase`, in words for people."""
    others = state.setting.others
    if phase is Phase.BALLOT:
        silent = {name: "its vote" for name in others if name not in state.ballots and name not in state.readys}
        return silent or {name: "its vote" for name in others if name not in state.ballots}
    if phase is Phase.UNMASK:
        return {name: "the seed of its self-mask" for name in others if name not in state.reveals}
    if phase is Phase.CONFIRM:
        return {name: "its confirmation" for name in others if name not in state.confirms}
    if phase is Phase.FINAL:
        return {}
    return lacking(state)

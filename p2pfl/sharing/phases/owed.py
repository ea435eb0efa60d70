"""Who still owes what to an attempt: why it waits, told to people, and named in an ABANDON."""

from __future__ import annotations

from p2pfl.sharing.state import Phase, State


def owes(state: State, peer: str) -> str:
    """What `peer` has yet to send before this attempt can be gathered here; empty when nothing."""
    if peer not in state.bundles:
        return "its share"
    if peer not in state.acks:
        return "its acknowledgement"
    if peer not in state.proposes:
        return "its update (it may still be training)"
    if state.members is None:
        return "the set of members" if peer == state.coordinator else ""
    if peer not in state.roots:
        return "its masked vector"
    if any(peer not in senders for senders in state.contributed.values()):
        return "chunks of its masked vector"
    mine = [piece.index for piece in state.pieces if state.names[piece.owner_position] == peer]
    if any(index not in state.sum_digests for index in mine):
        return "the sums that it owns"
    if peer not in state.nonces:
        return "its nonce"
    if state.ready is None and any(index not in state.sums for index in mine):
        return "the words of the sums that it owns"
    return ""


def lacking(state: State) -> dict[str, str]:
    """By peer, what it owes GATHER and what comes before it."""
    return {name: what for name in state.setting.others if (what := owes(state, name))}


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

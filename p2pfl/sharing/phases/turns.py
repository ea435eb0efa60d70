"""Whose turn it is to stay out: of two peers of which one did not acknowledge the other no set holds both.

docs/spec/sharing.md §4.2, docs/adr/0035. Nobody else can tell whether one of them dealt nothing or the other only says
so, and a liar does either where it wins by it. So they take turns: who was left out of fewer of the last rounds goes,
as the ledger says, which all have. A liar keeps a victim out as often as it stays out itself, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from p2pfl.sharing.digests import leaving_draw
from p2pfl.sharing.state import State

Parted = Mapping[str, frozenset[str]]  # by peer: those with which it can be in no set


def in_turn(state: State, names: Sequence[str], parted: Parted) -> tuple[str, ...]:
    """What is left of `names`, in their order, when enough of those that cannot be in one set have gone.

    parted   by each of `names`, those of them with which it can be in no set
    """
    c, left_out = state.context.roster.quorums.c, state.context.left_out()

    def goes(rest: Parted) -> str:
        most = max(map(len, rest.values()))
        # Of more than c that are at odds with one peer some are honest. Of fewer all may be liars, or that one.
        able = [name for name, others in rest.items() if len(others) >= (most if most > c else 1)]
        fewest = min(left_out.get(name, 0) for name in able)
        able = [name for name in able if left_out.get(name, 0) == fewest]
        return able[_draw(state) % len(able)]

    found = _largest(names, parted, goes)
    if len(found) >= state.context.roster.quorums.q:
        return found
    return _largest(names, parted, lambda rest: max(rest, key=lambda name: len(rest[name])))


def _largest(names: Sequence[str], parted: Parted, goes: Callable[[Parted], str]) -> tuple[str, ...]:
    """`names` without those who go, one after another, until no two are left that cannot be in one set."""
    rest, out = dict(parted), []
    while any(rest.values()):
        out.append(goes(rest))
        rest = {name: others - {out[-1]} for name, others in rest.items() if name != out[-1]}
    for name in out:  # all with whom it was at odds may have gone after it
        if parted[name].isdisjoint(rest):
            rest[name] = frozenset()
    return tuple(name for name in names if name in rest)


def _draw(state: State) -> int:
    """A number that nobody can foresee, for those who were left out equally often: this coordinator's to be.

    It hangs on a nonce that is committed to before anybody acknowledges anything, and opened in GATHER.
    """
    deal = state.unmasking.deal
    return leaving_draw(state.round, state.attempt, deal.nonce.reveal() if deal is not None else b"")


def is_broken(state: State, name: str, rival: str) -> bool:
    """`name` is out although `rival`, with which it cannot be in one set, was left out less often.

    By more than one round: a coordinator may not hold the last round yet when it begins the next.
    """
    left_out = state.context.left_out()
    return left_out.get(name, 0) > left_out.get(rival, 0) + 1


def is_kept(state: State) -> bool:
    """This peer is out for a member with which it can be in no set, though their link stands, and it was its turn."""
    members, deal, me = state.members, state.unmasking.deal, state.context.me
    if members is None or deal is None or me not in state.proposals.acks:
        return False
    mine, begun = dict(state.proposals.acks[me].message.held), state.due.get("begun", state.now)
    rivals = [
        name
        for name, row in zip(members.message.survivors, members.message.acks, strict=True)
        if (me, deal.bundle.digest) not in row[2] or mine.get(name) != state.proposals.bundles[name].digest
    ]
    if len(rivals) > state.context.roster.quorums.c:
        return False
    return any(state.peers.stands(name, begun) and not is_broken(state, me, name) for name in rivals)


def is_missed(state: State) -> bool:
    """The set that is known now is without this peer, which was present all the time (fairness.py counts it)."""
    peers = state.peers
    if state.late or not peers.parted.isdisjoint(state.survivors):
        return False
    there = peers.connected and peers.apart <= state.since and state.context.me in state.proposals.proposes
    return there and state.members is not None and not state.inside and not is_kept(state)

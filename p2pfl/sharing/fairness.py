"""Who is left out though it is there, and how often before it stops (docs/adr/0014).

Each peer counts for itself, from what it saw: no peer's word adds to the count. A round counts against the others when
this process had begun the one before, links to a quorum have stood ever since, this peer had proposed, and the set is
without it. So neither a restart, nor a cut cable here, nor a slow pass counts, nor what the others say of those. Nor
does a set that holds a site with which this one has parted: no complete set could have held both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from p2pfl.codec import Facts
from p2pfl.errors.round import LeftOutTooOften
from p2pfl.sharing.state import State

WINDOW: Final = 20  # rounds that are looked back upon
ONE_IN: Final = 10


def is_missed(state: State) -> bool:
    """The set that is known now is without this peer, which has been there all the time."""
    others = state.others
    if not others.parted.isdisjoint(state.survivors):
        return False
    there = others.connected and others.apart <= state.since and state.setting.me in state.proposes
    return there and state.members is not None and not state.inside


def taken_part(rounds: Iterable[Facts], missed: Mapping[int, str], name: str) -> list[tuple[int, str]]:
    """The rounds that `name` was there for, in order; with each, who named a set without it: nobody if it is summed.

    rounds   records of final ones
    missed   by round, the coordinator of a set that this peer counts against the others (`is_missed`)
    """
    return [
        (facts["round"], "" if name in facts["survivors"] else missed[facts["round"]])
        for facts in rounds
        if name in facts["survivors"] or facts["round"] in missed
    ]


def too_often(taken_part: Sequence[bool]) -> bool:
    """Of the last rounds for which a peer was there, more than one in ten went without it (False); one alone never is.

    taken_part   in order
    """
    last = taken_part[-WINDOW:]
    return last.count(False) > max(1.0, len(last) / ONE_IN)


def check(taken_part: Sequence[tuple[int, str]]) -> None:
    """Raises LeftOutTooOften when more than one in ten of the last rounds went without the peer that was there.

    taken_part   as the function of that name returns it, since this peer's operator last looked
    """
    last = taken_part[-WINDOW:]
    if too_often([not coordinator for _, coordinator in last]):
        without = [(number, coordinator) for number, coordinator in last if coordinator]
        evidence = ", ".join(f"round {number} by {coordinator}" for number, coordinator in without)
        raise LeftOutTooOften(count=len(without), rounds=len(last), evidence=f"left out of {evidence}")

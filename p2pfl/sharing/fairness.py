"""A peer that is present and yet left out of the sums: how it counts that, and when it stops (docs/adr/0014).

Each peer counts for itself, from what it saw; no other peer's word adds to the count. A round counts against the others
if this process had begun the one before, links to a quorum have stood ever since, this peer had proposed, and the set
is without it. So a restart does not count, nor a cut cable here, nor a slow pass, nor what the others say of those. Nor
does a set with a site from which this one has parted: no complete set could have held both. Of two that exchange
nothing although their link stands one stays out, too, and they take turns (phases/turns.py): its turn does not count.
Nor does a round in which more than c others were so long before this site that it had dropped what they said.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from p2pfl.codec import Facts
from p2pfl.errors.round import LeftOutTooOften

WINDOW: Final = 20  # last rounds that are counted
ONE_IN: Final = 10  # at most one in this many may go without the peer


def left_out(rounds: Iterable[Facts]) -> dict[str, int]:
    """By peer, how many of the last of these final rounds went without it."""
    last = deque((facts["left_out"] for facts in rounds), WINDOW)
    return Counter(name for names in last for name in names)


def taken_part(rounds: Iterable[Facts], missed: Mapping[int, str], name: str) -> list[tuple[int, str]]:
    """The rounds that `name` was present for, in order, each with the coordinator that left it out ("": it is summed).

    rounds   records of final rounds
    missed   by round, the coordinator of a set that this peer counts against the others (phases/turns.py: `is_missed`)
    """
    return [
        (facts["round"], "" if name in facts["survivors"] else missed[facts["round"]])
        for facts in rounds
        if name in facts["survivors"] or facts["round"] in missed
    ]


def too_often(taken_part: Sequence[bool]) -> bool:
    """True when more than one in ten of the last rounds went without a peer that was present; one never is too many.

    taken_part   by round that it was present for, in order, whether it is in the sum
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

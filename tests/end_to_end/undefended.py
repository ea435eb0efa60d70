"""Honest sites of site.py with one defence switched off, so that a test sees the harm which it keeps away.

They are those of lies.py otherwise: the same liar meets both. All plans are listed at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.phases import confirm, unmask
from p2pfl.sharing.state import Phase, State
from tests.end_to_end import lies
from tests.end_to_end.site import tell
from tests.end_to_end.wires import VICTIM, Hurried, Wires, place_of
from tests.simulate.attackers import action_off
from tests.simulate.test_attacks_on_roots import no_root_is_handed_on
from tests.simulate.test_silent_pairs import as_before
from tests.simulate.test_votes_for_another_set import judged_by_the_own_set
from tests.simulate.test_wedges import nobody_shows_an_end

OFF: Final = pytest.MonkeyPatch()  # for as long as the process lives


# ── wedges ────────────────────────────────────────────────────────────────────────────────────────────────────


class OutOfTime(Hurried):
    """Once the liar has said its last all times of a round come at once. It tells when none is left to come.

    From then on nothing can move this site but a letter.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: set[tuple[int, int]] = set()

    def is_left_alone(self, state: State) -> bool:
        """All that this site is to hear has come, or is on its way over links that hold nothing back."""
        raise NotImplementedError

    def hurries(self, state: State) -> Iterable[str]:
        if not self.is_left_alone(state):
            return super().hurries(state)
        place = (state.round, state.attempt)
        if all(map(state.past, state.due)) and place not in self._told:
            self._told.add(place)
            tell({"event": "out_of_time", "round": state.round, "attempt": state.attempt})
        return tuple(state.due)


class WaitsWithoutEnd(OutOfTime, lies.LateToVictim):
    """It stands in attempt 0, in which nobody shows it that this is over."""

    def __init__(self) -> None:
        super().__init__()
        self._gone_on = False
        nobody_shows_an_end(OFF)

    def hears(self, letter: Letter) -> None:
        super().hears(letter)
        self._gone_on = self._gone_on or (letter.sender == VICTIM and place_of(letter) == (1, 1))

    def is_left_alone(self, state: State) -> bool:
        return self._gone_on


class ShowsNoEnd(OutOfTime, lies.AfterWedge):
    """The victim, which has gone on to attempt 1."""

    def __init__(self) -> None:
        super().__init__()
        nobody_shows_an_end(OFF)

    def is_left_alone(self, state: State) -> bool:
        return state.attempt > 0


class GivesUpForGood(OutOfTime, lies.GivesUp):
    """It has cast LEAVE, and is shown no certificate."""

    def is_left_alone(self, state: State) -> bool:
        return state.leaving.leave is not None


class WaitsForGood(OutOfTime, lies.Waits):
    """So has this one."""

    def is_left_alone(self, state: State) -> bool:
        return state.leaving.leave is not None


class TellsNoLeavers(OutOfTime, lies.VotesLast):
    """The victim, which shows the certificate to nobody who has cast LEAVE. It soon asks for no confirmation more."""

    def __init__(self) -> None:
        super().__init__()
        OFF.setattr(unmask, "_tell_leavers", lambda state: [])
        OFF.setattr(confirm, "PATIENCE_S", 0.01)

    def is_left_alone(self, state: State) -> bool:
        return bool(state.confirming.record)


# ── votes for another set ─────────────────────────────────────────────────────────────────────────────────────


class JudgesByItsOwnSet(lies.ShowsLate):
    """The victim holds each vote against the set that it was told, whichever that vote is for."""

    def __init__(self) -> None:
        super().__init__()
        for phase in (Phase.MASK, Phase.GATHER, Phase.BALLOT):
            action_off(OFF, phase, m.Ballot, judged_by_the_own_set)


# ── silence ───────────────────────────────────────────────────────────────────────────────────────────────────


class KnownDraw(lies.HearsOfSilence):
    """Who of a silent pair stays out is a draw that everybody knows, and each round counts against the others."""

    def __init__(self) -> None:
        super().__init__()
        as_before(OFF)


# ── two Roots ─────────────────────────────────────────────────────────────────────────────────────────────────


class NoRootHandedOn(lies.LacksTags):
    """It hands no Root on, and compares none."""

    def __init__(self) -> None:
        super().__init__()
        no_root_is_handed_on(OFF)


class NoRootShown(lies.LacksWords):
    """Nor does this one, where words are lacking."""

    def __init__(self) -> None:
        super().__init__()
        no_root_is_handed_on(OFF)


# ── who is away ───────────────────────────────────────────────────────────────────────────────────────────────


class WaitsEachTime(Wires):
    """It says of nobody that it has no link to it. It tells of each set that it names whether it waited before."""

    def __init__(self) -> None:
        super().__init__()
        OFF.setattr(PeerView, "unlinked", lambda self, now: ())
        OFF.setattr(PeerView, "unlinked_at", lambda self, peer: math.inf)
        self._told: set[tuple[int, int]] = set()

    def hurries(self, state: State) -> Iterable[str]:
        place = (state.round, state.attempt)
        if state.members is not None and state.coordinator == state.context.me and place not in self._told:
            self._told.add(place)
            tell({"event": "set_named", "round": state.round, "waited": state.past("away")})
        return ()


PLANS: Final[dict[str, Callable[[], Any]]] = {
    one.__name__: one
    for one in (*vars(lies).values(), *globals().values())
    if isinstance(one, type) and issubclass(one, Wires)
}

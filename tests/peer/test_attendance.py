"""Who is counted in a question of several rounds: whoever comes late is, and who comes and goes wears none out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.round import SitesWentAway
from p2pfl.node.runs.sums import Asked
from p2pfl.peer.attendance import MOST_ASIDE, Attendance
from p2pfl.peer.sums import Sums

FIVE = ("ada", "ben", "cyd", "dan", "eve")
HONEST = FIVE[:4]


@dataclass
class Question:
    """Sets of sites as its rounds have them; `sets` in turn, and `HONEST` for ever behind them."""

    sets: list[tuple[str, ...]]
    starts: int = 0
    attendance: Attendance = field(default_factory=Attendance)

    def there(self) -> tuple[str, ...]:
        return self.sets.pop(0) if self.sets else HONEST

    def counted(self, me: str) -> tuple[str, ...] | None:
        """Over whom it is answered; None where it ends here without an answer."""
        while True:
            self.starts += 1
            aside = set(self.attendance.aside)
            only = self.attendance.called(name for name in self.there() if name not in aside)
            if self.attendance.is_over(me, only, 4):
                return None
            there = tuple(name for name in self.there() if name not in self.attendance.aside)
            if there == only:
                return only
            self.attendance.changed(only, there)


def test_a_site_that_comes_late_is_counted_in_the_next_start() -> None:
    question = Question([FIVE[1:], FIVE, FIVE, FIVE])
    assert (question.counted("ada"), question.starts) == (FIVE, 2)


def test_a_site_that_fell_silent_is_counted_no_more_and_hears_so() -> None:
    assert Question([FIVE, HONEST, FIVE, FIVE]).counted("ada") == HONEST
    assert Question([FIVE, HONEST, FIVE, FIVE]).counted("eve") is None


@given(st.lists(st.booleans(), max_size=40))
def test_who_comes_and_goes_lets_a_question_begin_three_times_at_most(there: list[bool]) -> None:
    """It began five times, and ended without an answer for all."""
    question = Question([FIVE if one else HONEST for one in there])
    assert question.counted("ada") in (FIVE, HONEST)
    assert question.starts <= 3


def test_too_few_or_too_many_that_went_end_a_question() -> None:
    assert Question([FIVE, FIVE[:3], FIVE, FIVE]).counted("ada") is None
    many = Attendance(gone={f"s{at}" for at in range(MOST_ASIDE + 1)})
    assert many.is_over("ada", FIVE, 4)


# ── a sum of records ──────────────────────────────────────────────────────────────────────────────────────────


AGREED = SimpleNamespace(
    roster=SimpleNamespace(quorums=SimpleNamespace(q=4)), minimum=SimpleNamespace(sites=3, records=5)
)


@dataclass
class Summing(Sums):
    """A peer whose rounds are over these sets in turn."""

    sets: list[tuple[str, ...]]
    name: str = "ada"
    asked: list[Asked] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)
    _given: bool = False
    node: Any = field(default_factory=lambda: SimpleNamespace(federation=AGREED))

    async def _call(self, asked: Any, data: Any) -> bytes:
        self.counts += data
        return b"called"

    async def forget_answer(self, given: bool = True) -> None:
        self.asked.append(Asked("forgotten", (), 0))

    async def _sum(self, asked: Asked, *given: Any) -> Any:
        self.asked.append(asked)
        there = asked.counted(self.sets.pop(0))
        return SimpleNamespace(survivors=there, totals=((5,), (True,)), sites=asked.sites)

    def over(self, records: int = 20) -> tuple[str, ...]:
        found = asyncio.run(self._counted(Asked("age", (), 0), records, list, [], 1.0))
        return tuple(found.survivors)


@pytest.mark.claim("SUM-19")
def test_a_sum_of_records_is_counted_anew_with_a_site_that_came_late() -> None:
    """It ended for all in P2P-ROUND-049, once the late one was in the round that sums."""
    peer = Summing([HONEST, FIVE, FIVE, FIVE])
    assert peer.over() == FIVE
    assert [one.name for one in peer.asked] == ["age: who has values", "age", "forgotten", "age: who has values", "age"]
    counted, again = peer.asked[1], peer.asked[4]
    assert (counted.only, again.only) == (HONEST, FIVE)
    assert counted.of != again.of, "the sites agree over whom it is"


@pytest.mark.claim("SUM-19")
@pytest.mark.parametrize(
    "sets",
    [[FIVE, FIVE[1:], FIVE], [FIVE[1:], FIVE[1:]], [FIVE, FIVE[:3], FIVE[:3]]],
    ids=["fell silent", "came late, and they go on", "too few are left"],
)
def test_a_sum_of_records_that_goes_on_without_this_site_says_so(sets: list[tuple[str, ...]]) -> None:
    with pytest.raises(SitesWentAway):
        Summing(sets).over()


@pytest.mark.claim("SUM-19")
@given(st.lists(st.integers(0, 2000), min_size=5, max_size=5))
def test_a_count_of_records_says_whether_they_are_enough_and_no_more_of_a_site(records: list[int]) -> None:
    """Two counts over sets that differ by a site, which came late or fell silent, tell of it one bit, if it alone has
    enough, and whether it has any.
    """
    told = []
    for own in records:
        peer = Summing([HONEST, FIVE, FIVE, FIVE])
        peer.over(own)
        told.append(peer.counts[0])
        assert peer.counts == [peer.counts[0]] * 2
    least = AGREED.minimum.records
    assert told == [[int(own > 0), int(own >= least)] for own in records]

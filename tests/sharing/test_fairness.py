"""When a round counts as one that went without a peer that was there, and how many of those are too many."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from p2pfl.sharing.fairness import WINDOW, too_often
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.phases.turns import is_missed
from p2pfl.sharing.state import State
from tests.sharing.peer_fixtures import REST, VICTIM, paper, sitting


@pytest.mark.parametrize(
    ("taken_part", "too_many"),
    [
        ([], False),
        ([False], False),
        ([True] * 30, False),
        ([False, False], True),
        ([False, *[True] * 8, False], True),
        ([False, *[True] * 18, False], False),
        ([False, *[True] * 9, False, *[True] * 8, False], True),
        ([False, False, *[True] * WINDOW], False),  # long ago
    ],
)
def test_more_than_one_round_in_ten_is_too_often_and_one_alone_never(taken_part: list[bool], too_many: bool) -> None:
    assert too_often(taken_part) is too_many


def there() -> State:
    """A peer that proposed, whose links have all stood since the round before, and that is told that it is out."""
    state = sitting(VICTIM)
    state.since = 1.0
    state.members = paper.members(survivors=REST)
    return state


def restarted(state: State) -> None:
    state.since = -math.inf


def was_cut_off(state: State) -> None:
    for name in REST:
        state.peers.link_down(name, 2.0)
    for name in REST:
        state.peers.link_up(name, 3.0)


def is_cut_off(state: State) -> None:
    for name in REST[:2]:
        state.peers.link_down(name, 2.0)


def still_trains(state: State) -> None:
    del state.proposals.proposes[VICTIM]


def is_inside(state: State) -> None:
    state.members = paper.members()


def knows_no_set(state: State) -> None:
    state.members = None


def parted_with_one_in_it(state: State) -> None:
    state.peers.parted = {REST[0]}


@pytest.mark.claim("LIAR-7")
@pytest.mark.parametrize(
    "why",
    [
        parted_with_one_in_it,
        restarted,
        was_cut_off,
        is_cut_off,
        still_trains,
        is_inside,
        knows_no_set,
    ],
    ids=lambda why: why.__name__,
)
def test_a_round_counts_only_against_others_that_knew_better(why: Callable[[State], None]) -> None:
    state = there()
    assert is_missed(state)
    why(state)
    assert not is_missed(state)


def test_a_set_without_the_site_that_it_parted_with_counts_as_ever() -> None:
    state = there()
    state.peers.parted = {"site-9"}
    assert is_missed(state)


def test_one_lost_link_of_three_is_no_excuse() -> None:
    state = there()
    state.peers.link_down("site-0", 2.0)
    assert is_missed(state)


def test_a_process_is_parted_from_all_until_a_quorum_has_come() -> None:
    others = PeerView(paper.roster, "site-0", 5.0)
    assert (others.connected, others.apart) == (False, 5.0)
    others.link_up("site-1", 6.0)
    assert (others.connected, others.apart) == (False, 6.0)
    others.link_up("site-2", 7.0)
    assert (others.connected, others.apart) == (True, 7.0)
    others.link_up("site-3", 8.0)
    assert others.apart == 7.0

"""Whose turn it is to stay out, of those that can be in no set together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.keys import Secret
from p2pfl.sharing.parts import Deal
from p2pfl.sharing.phases import turns
from p2pfl.sharing.state import State
from tests.examples import examples
from tests.sharing.letters import Paper
from tests.sharing.peer_fixtures import sitting

SEVEN = Paper(7)  # q = 5, c = 2
NAMES, COORDINATOR = SEVEN.names, SEVEN.coordinator
PAIRS = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda pair: pair[0] < pair[1])


def state(left_out: Mapping[str, int] | None = None, nonce: bytes = b"") -> State:
    found = sitting(COORDINATOR, on=SEVEN)
    found.context = replace(found.context, left_out=lambda: left_out or {})
    assert found.unmasking.deal is not None
    found.unmasking.deal = Deal(Secret(b""), Secret(nonce), found.unmasking.deal.bundle)
    return found


def parted(*pairs: tuple[str, str]) -> dict[str, frozenset[str]]:
    return {name: frozenset(one for pair in pairs if name in pair for one in pair if one != name) for name in NAMES}


def out(found: State, *pairs: tuple[str, str]) -> set[str]:
    return set(NAMES) - set(turns.in_turn(found, NAMES, parted(*pairs)))


@pytest.mark.parametrize(("left_out", "goes"), [({"site-3": 1}, "site-5"), ({"site-5": 1}, "site-3")])
def test_of_two_the_one_that_was_left_out_less_often_goes(left_out: dict[str, int], goes: str) -> None:
    assert out(state(left_out), ("site-3", "site-5")) == {goes}


def test_of_two_that_were_left_out_equally_often_the_nonce_decides() -> None:
    gone = {name for k in range(20) for name in out(state({}, bytes([k])), ("site-3", "site-5"))}
    assert gone == {"site-3", "site-5"}


@pytest.mark.parametrize(("left_out", "goes"), [({"site-3": 1}, COORDINATOR), ({COORDINATOR: 1}, "site-3")])
def test_a_coordinator_has_its_turn_like_others(left_out: dict[str, int], goes: str) -> None:
    """Would it always go, a liar would put out each coordinator; would it always stay, each liar that coordinates."""
    assert out(state(left_out), (COORDINATOR, "site-3")) == {goes}


def test_who_disagrees_with_more_than_c_goes_whatever_its_turn() -> None:
    pairs = [("site-3", other) for other in ("site-2", "site-4", "site-5")]
    assert out(state({"site-3": 9}), *pairs) == {"site-3"}


def test_c_peers_that_disagree_with_one_go_where_it_is_their_turn() -> None:
    pairs = [("site-3", "site-4"), ("site-3", "site-5")]
    assert out(state({"site-3": 1}), *pairs) == {"site-4", "site-5"}
    assert out(state({"site-4": 1, "site-5": 1}), *pairs) == {"site-3"}


def test_who_went_comes_back_when_those_with_which_it_disagrees_went_after_it() -> None:
    """site-4 goes first, then site-3, for site-5: nothing keeps site-4 out any more."""
    assert out(state({"site-3": 1, "site-5": 2}), ("site-3", "site-4"), ("site-3", "site-5")) == {"site-3"}


@examples(200)
@given(st.lists(PAIRS, max_size=6), st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3)), st.binary(max_size=2))
def test_the_set_holds_no_two_that_disagree_and_nobody_who_could_be_in_it_is_out(
    pairs: Iterable[tuple[str, str]], left_out: dict[str, int], nonce: bytes
) -> None:
    apart = parted(*pairs)
    chosen = turns.in_turn(state(left_out, nonce), NAMES, apart)
    assert all(apart[name].isdisjoint(chosen) for name in chosen)
    assert all(apart[name] & set(chosen) for name in NAMES if name not in chosen)
    assert list(chosen) == [name for name in NAMES if name in chosen]


@pytest.mark.parametrize(
    ("left_out", "broken"),
    [({}, False), ({"site-3": 1}, False), ({"site-3": 2}, True), ({"site-3": 2, "site-5": 1}, False)],
)
def test_a_turn_is_broken_by_more_than_a_round(left_out: dict[str, int], broken: bool) -> None:
    assert turns.is_broken(state(left_out), "site-3", "site-5") is broken

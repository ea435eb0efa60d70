"""Liars that take turns: each spoils one attempt and behaves in those that the next ones spoil."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing.phases import ballot
from p2pfl.sharing.state import State
from p2pfl.simulate import Lie
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate.attackers import Attacked, check_that_the_others_go_on

MANY = 20  # attempts


def in_turn(place: int, liars: int) -> Lie:
    """Withhold the nonce in the attempts whose turn it is."""

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        spoils = letter.envelope.attempt % liars == place and isinstance(letter.message, (m.Nonce, m.Handed))
        return () if spoils else (letter,)

    return lie


def taking_turns(peers: int, liars: int) -> Attacked:
    names = [f"site-{peers - 1 - k}" for k in range(liars)]
    return Attacked(peers, liars=names, lies={name: in_turn(k, liars) for k, name in enumerate(names)})


def attempts(world: Attacked) -> int:
    """How many of round 1 have begun."""
    return max((letter.envelope.attempt + 1 for _, letter in world.log[-200:]), default=0)


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize(("peers", "liars"), [(7, 2), (10, 3)])
def test_liars_that_take_turns_spoil_one_attempt_each(peers: int, liars: int) -> None:
    """Who was named in one attempt of the round may be left out of all that follow."""
    world = taking_turns(peers, liars)
    world.begin()
    world.to_the_end()
    check_that_the_others_go_on(world)
    assert attempts(world) <= liars + 1
    assert set(world.left_out()) == world.liars


@pytest.mark.parametrize(("peers", "liars"), [(7, 2), (10, 3)])
def test_were_they_back_in_the_attempt_after_the_round_would_have_no_end(
    peers: int, liars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_last(state: State, ballots: Iterable[bytes]) -> tuple[bytes, ...]:
        return tuple(ballots)

    monkeypatch.setattr(ballot, "with_abandon", of_the_last)
    world = taking_turns(peers, liars)
    world.begin()
    world.until(lambda: attempts(world) > MANY)
    assert not any(world.peers[name].final_round for name in world.honest)

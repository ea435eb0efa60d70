"""A liar that acknowledges nothing of its victim: no set holds both, and it has its say which of the two stays out.

It disagrees where it wins, knows every draw that can be known, and where it coordinates it chooses itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from p2pfl import codec
from p2pfl import messages as m
from p2pfl.keys import digest
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import members, turns
from p2pfl.sharing.state import State
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises
from tests.simulate.attackers import resealed_as

pytestmark = pytest.mark.usefixtures("letters_read_once")

LIAR, VICTIM = "site-1", "site-3"
QUICK = Weather(delay_s=(0.001, 0.05))


def public_draw(number: int, attempt: int) -> int:
    """What everybody could foresee: the draw before it hung on the coordinator's nonce."""
    return int.from_bytes(digest("leaves", number.to_bytes(8, "big"), attempt.to_bytes(8, "big"))[:8], "big")


class Silent(SimulatedFederation):
    """Some acknowledge all but the victim: always, where the public draw is against it, or when that one's turn is."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        peers: int = 4,
        *,
        when: str,
        liars: tuple[str, ...] = (LIAR,),
        rounds: int = 12,
    ) -> None:
        super().__init__(peers, rounds=rounds, length=8, weather=QUICK, lies=dict.fromkeys(liars, self._lie))
        self.when = when
        for name in liars:
            self.peers[name].disk.looked = 1 << 40  # it does not stop for being left out itself
        complete, refusal = members.complete, members.refusal

        def chosen(state: State) -> tuple[str, ...]:
            """Where a liar coordinates, it stands by what it said, and leaves the victim out."""
            me = state.context.me
            own = state.proposals.acks.get(me)
            if me not in liars or own is None or not (victim := self._victim(me, own)):
                return complete(state)
            state.proposals.acks[me] = state.seal(without(victim, own))
            return tuple(name for name in members._known(state) if name != victim)

        def refused(state: State, *what: Any) -> str:
            why = refusal(state, *what)
            return "" if state.context.me in liars and "leaves out" in why else why

        patch.setattr(members, "complete", chosen)
        patch.setattr(members, "refusal", refused)

    def _lie(self, liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, m.Held):
            return ()  # its own acknowledgement is in there as its program made it
        victim = self._victim(liar.name, letter) if isinstance(letter.message, m.Ack) else ""
        return (resealed_as(liar, letter, without(victim, letter)),) if victim else (letter,)

    def _victim(self, liar: str, ack: Letter) -> str:
        """Of whom this liar acknowledges nothing in this attempt."""
        number, attempt = ack.envelope.round, ack.envelope.attempt
        coordinator = self.roster.names[(number + attempt) % len(self.peers)]
        left_out = self.peers[liar].context().left_out()
        if self.when == "of whoever coordinates":
            return "" if coordinator == liar else coordinator
        wins = {
            "always": True,
            "where it would win": public_draw(number, attempt) % 2 == 1,  # of the two in roster order
            "in the victim's turn": left_out.get(VICTIM, 0) <= left_out.get(liar, 0),
            "where it coordinates": coordinator == liar,
        }
        return VICTIM if wins[self.when] else ""

    @property
    def log_of_rounds(self) -> list[dict[str, Any]]:
        longest = max((peer.disk.ledger for peer in self.peers.values()), key=len)
        return [codec.read_facts(record) for record in longest]

    def out(self, *names: str) -> list[int]:
        """How many rounds were summed without each."""
        return [sum(name in facts["left_out"] for facts in self.log_of_rounds) for name in names]

    @property
    def noted(self) -> list[tuple[str, int]]:
        """The rounds that honest sites count against the others."""
        return [
            (name, note.round)
            for name, peer in self.peers.items()
            if name not in self.lies
            for note in peer.disk.notes
            if isinstance(note, e.NoteMissed)
        ]


def without(victim: str, ack: Letter) -> m.Ack:
    message = ack.message
    assert isinstance(message, m.Ack)
    return replace(message, held=tuple(row for row in message.held if row[0] != victim))


WAYS = ["always", "where it would win", "in the victim's turn", "where it coordinates", "of whoever coordinates"]


@pytest.mark.claim("LIAR-12")
@pytest.mark.parametrize("when", WAYS)
@pytest.mark.parametrize(("peers", "liars"), [(4, (LIAR,)), (7, (LIAR, "site-5"))])
def test_who_acknowledges_nothing_of_a_victim_stays_out_as_often_as_it(
    peers: int, liars: tuple[str, ...], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the victim, which sees that it takes turns, goes on."""
    world = Silent(monkeypatch, peers, when=when, liars=liars)
    world.run()
    promises.check(world, beside=liars)
    promises.everything_is_final(world, beside=liars)
    honest = [name for name in world.peers if name not in liars]
    assert max(world.out(*honest)) <= max(world.out(*liars)) + 2  # a coordinator may be one round behind, or say so
    assert world.noted == []


def as_before(patch: pytest.MonkeyPatch) -> None:
    """Defence off: a draw that everybody knows, and each round without it counts."""

    def in_turn(state: State, names: tuple[str, ...], parted: turns.Parted) -> tuple[str, ...]:
        def goes(rest: turns.Parted) -> str:
            most = max(map(len, rest.values()))
            worst = [name for name, others in rest.items() if len(others) == most]
            return worst[public_draw(state.round, state.attempt) % len(worst)]

        return turns._largest(names, parted, goes)

    patch.setattr(turns, "in_turn", in_turn)
    patch.setattr(turns, "is_kept", lambda state: False)
    patch.setattr(members, "_out_of_turn", lambda *_: "")


@pytest.mark.parametrize("when", ["always", "where it would win"])
def test_by_a_draw_that_it_knows_it_would_stay_in_and_the_victim_would_stop(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_before(monkeypatch)
    world = Silent(monkeypatch, when=when)
    world.run()
    victim, liar = world.out(VICTIM, LIAR)
    assert victim > liar or when == "always"
    assert len(world.noted) > 1
    error = world.peers[VICTIM].error
    assert error is not None
    assert error.code == "P2P-ROUND-050"

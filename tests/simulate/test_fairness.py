"""A site that is there and left out too often stops until its operator looks; what is its own fault does not count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl import codec
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.fairness import too_often
from p2pfl.sharing.phases import members
from p2pfl.sharing.state import State
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import seeds
from tests.simulate import promises
from tests.simulate.storms import WEATHERS

pytestmark = pytest.mark.usefixtures("letters_read_once")

LIAR, VICTIM = "site-1", "site-3"  # the liar coordinates attempt 0 of every fourth round
QUICK = Weather(delay_s=(0.001, 0.05))


def noted(peer: SimulatedPeer) -> list[int]:
    return [note.round for note in peer.disk.notes if isinstance(note, e.NoteMissed)]


class Squeezed(SimulatedFederation):
    """The liar leaves the victim out whenever it coordinates, and nobody objects: there is the victim's count alone."""

    def __init__(self, patch: pytest.MonkeyPatch, rounds: int) -> None:
        super().__init__(4, rounds=rounds, length=8, weather=QUICK)
        complete, refusal = members.complete, members.refusal

        def chosen(state: State) -> tuple[str, ...]:
            names = complete(state)
            return tuple(name for name in names if name != VICTIM) if state.context.me == LIAR else names

        def unless_somebody_is_left_out(*what: object) -> str:
            why = refusal(*what)  # type: ignore[arg-type]
            return "" if "leaves out" in why else why

        patch.setattr(members, "complete", chosen)
        patch.setattr(members, "refusal", unless_somebody_is_left_out)
        patch.setattr(members, "left_out_early", lambda state, letter: [])
        patch.setattr(
            members, "_is_awaited", lambda state, name, chosen: name not in chosen and state.context.me != LIAR
        )

    @property
    def victim(self) -> SimulatedPeer:
        return self.peers[VICTIM]


@pytest.mark.claim("LIAR-7")
def test_who_is_left_out_of_more_than_one_round_in_ten_stops_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Round 1 does not count: the others might have begun it before the victim was there."""
    world = Squeezed(monkeypatch, rounds=12)
    world.run()
    assert noted(world.victim) == [5, 9]
    error = world.victim.error
    assert error is not None
    assert (error.code, error.exit_status) == ("P2P-ROUND-050", 1)
    assert error.suggestion.endswith("--go-on")
    assert all(len(world.peers[name].disk.ledger) == 12 for name in world.peers if name != VICTIM)
    promises.check(world, beside=[LIAR])


@pytest.mark.claim("LIAR-7")
def test_it_stays_so_over_a_restart_until_its_operator_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Squeezed(monkeypatch, rounds=12)
    world.begin()
    while world.victim.error is None:
        assert world.clock.step()
    stopped = world.victim.error
    world.start(world.victim)
    while world.victim.error is None:
        assert world.clock.step()
    assert world.victim.error.code == stopped.code  # a new process, the same books
    world.victim.disk.looked = world.victim.final_round
    world.start(world.victim)
    while world.clock.step():
        pass
    assert world.victim.error is None
    assert len(world.victim.disk.ledger) == 12


def test_were_nothing_counted_the_victim_would_be_left_out_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.sharing.fairness.too_often", lambda part: False)
    world = Squeezed(monkeypatch, rounds=16)
    world.run()
    assert world.victim.error is None
    assert noted(world.victim) == [5, 9, 13]


class Parted(SimulatedFederation):
    """Two sites exchange nothing: the one of them has revoked the other's key, and says so to its own rounds or not."""

    def __init__(self, revoker: str, revoked: str, *, counts: bool = False) -> None:
        super().__init__(5, rounds=12, length=8, weather=QUICK)
        self.revoker, self.revoked, self.counts = revoker, revoked, counts

    def _apart_for_good(self, *names: str) -> bool:
        return {self.revoker, self.revoked} == set(names)

    def _link(self, teller: SimulatedPeer, hearer: SimulatedPeer) -> None:
        if not self._apart_for_good(teller.name, hearer.name):
            super()._link(teller, hearer)

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if not self._apart_for_good(sender, to):
            super()._carry(sender, to, letter)

    def start(self, peer: SimulatedPeer) -> None:
        super().start(peer)
        if peer.name == self.revoker and peer.run is not None and not self.counts:
            peer.run.peers.parted = {self.revoked}

    @property
    def rounds_without(self) -> dict[str, int]:
        longest = max((peer.disk.ledger for peer in self.peers.values()), key=len)
        held = [codec.read_facts(record) for record in longest]
        assert all(len({self.revoker, self.revoked} & set(facts["survivors"])) <= 1 for facts in held)
        return {name: sum(name in facts["left_out"] for facts in held) for name in (self.revoker, self.revoked)}


@pytest.mark.claim("LIAR-8")
@pytest.mark.parametrize(("revoker", "revoked"), [("site-1", "site-3"), ("site-3", "site-1")])
def test_who_revokes_another_is_not_stopped_for_rounds_that_hold_the_revoked_one(revoker: str, revoked: str) -> None:
    world = Parted(revoker, revoked)
    world.run()
    assert world.peers[revoker].error is None
    assert noted(world.peers[revoker]) == []
    assert len(world.peers[revoker].disk.ledger) == 12
    stopped = world.peers[revoked].error  # its people should know: somebody has parted with it
    assert stopped is not None
    assert stopped.code == "P2P-ROUND-050"
    promises.check(world)


@pytest.mark.claim("LIAR-8")
def test_were_such_rounds_counted_it_would_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.sharing.fairness.too_often", lambda part: False)
    world = Parted("site-1", "site-3", counts=True)
    world.run()
    held = [codec.read_facts(record) for record in world.peers["site-1"].disk.ledger]
    missed = set(noted(world.peers["site-1"]))
    assert too_often([facts["round"] not in missed for facts in held])


@pytest.mark.claim("LIAR-8")
def test_of_two_that_are_apart_not_always_the_same_one_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.sharing.fairness.too_often", lambda part: False)
    world = Parted("site-1", "site-3")
    world.run()
    assert min(world.rounds_without.values()) >= 4


@pytest.mark.claim("LIAR-7")
@pytest.mark.parametrize("weather", ["deaths", "apart"])
def test_neither_deaths_nor_cuts_of_its_own_count_against_the_others(weather: str) -> None:
    """Partitions part groups: whoever is left out of a sum then has no quorum, and knows it."""
    for seed in seeds(5):
        quick = replace(WEATHERS[weather], delay_s=(0.001, 0.05))
        world = SimulatedFederation(5, rounds=4, length=10, seed=seed, weather=quick)
        world.run(400_000)
        promises.check(world)
        promises.everything_is_final(world)
        assert not any(noted(peer) for peer in world.peers.values()), f"{weather}, seed {seed}"

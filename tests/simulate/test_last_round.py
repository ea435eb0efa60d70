"""An epoch ends behind one round, the same at every site, whoever holds the change when, and whatever the weather."""

from __future__ import annotations

import random

import pytest

from p2pfl import codec
from p2pfl.messages import Propose
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import seeds
from tests.simulate import promises
from tests.simulate.storms import WEATHERS

pytestmark = pytest.mark.usefixtures("letters_read_once")

CHANGE = bytes(31) + b"c"
ROUNDS = 6


def ending(peers: int, seed: int, weather: str) -> SimulatedFederation:
    """Each site holds the change from a round of its own on; some rounds before that of others."""
    federation = SimulatedFederation(peers, rounds=ROUNDS, length=2 * peers, seed=seed, weather=WEATHERS[weather])
    dice = random.Random(seed)
    for peer in federation.peers.values():
        since = dice.randint(1, 3)
        peer.holds = lambda number, since=since: CHANGE if number >= since else b""  # type: ignore[misc]
    federation.run(200_000)
    promises.check(federation)
    return federation


def last(peer: SimulatedPeer) -> codec.Facts:
    return codec.read_facts(peer.disk.ledger[-1])


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("peers", [3, 4, 5])
def test_all_ledgers_end_with_the_one_round_that_announces_the_change(peers: int, weather: str) -> None:
    for seed in seeds(6):
        federation = ending(peers, seed, weather)
        ledgers = {tuple(peer.disk.ledger) for peer in federation.peers.values()}
        assert len(ledgers) == 1, f"ending({peers}, {seed}, {weather!r})"
        (ledger,) = ledgers
        announced = [codec.read_facts(record).get("announced") for record in ledger]
        assert announced == [None] * (len(ledger) - 1) + [CHANGE.hex()], f"ending({peers}, {seed}, {weather!r})"


@pytest.mark.parametrize("weather", ["storm", "apart", "slow"])
def test_nobody_proposes_in_a_round_that_would_rest_on_the_last_one(weather: str) -> None:
    for seed in seeds(6):
        federation = ending(4, 10 + seed, weather)
        end = last(next(iter(federation.peers.values())))["round"]
        proposed = [letter.message for _, letter in federation.log if isinstance(letter.message, Propose)]
        assert proposed
        assert all(one.rests_on < end for one in proposed), f"ending(4, {10 + seed}, {weather!r})"


def test_were_that_rule_not_kept_a_round_would_rest_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.simulate.peer.epoch_ends", lambda *_: False)
    federation = ending(4, 10, "apart")
    assert len(next(iter(federation.peers.values())).disk.ledger) == ROUNDS


def test_what_fewer_hold_than_more_than_may_lie_ends_nothing() -> None:
    federation = SimulatedFederation(4, rounds=3, length=8, seed=5)
    federation.peers["site-2"].holds = lambda number: CHANGE
    federation.run()
    assert all(len(peer.disk.ledger) == 3 for peer in federation.peers.values())


class Dying(SimulatedFederation):
    """Sites die at steps of the last round that the test names, and return."""

    def __init__(self, peers: int, seed: int, dies: dict[str, tuple[int, float]]) -> None:
        super().__init__(peers, rounds=2, length=peers, seed=seed)
        self.to_die = dies  # by name: behind how many effects of that round, and for how many seconds

    def dies(self, peer: SimulatedPeer) -> bool:
        left, away_s = self.to_die.get(peer.name, (-1, 0.0))
        run = peer.run
        if left < 0 or run is None or max(run.number, run.final_round) < self.rounds:
            return False
        self.to_die[peer.name] = (left - 1, away_s)
        if left == 0:
            self.clock.at(self.now + away_s, lambda: self.start(peer))
        return left == 0


@pytest.mark.claim("LIVE-5")
@pytest.mark.parametrize("peers", [3, 4, 7])
def test_whoever_dies_in_the_last_round_and_returns_no_site_waits_for_its_word(peers: int) -> None:
    """A process ends once all have said that the round is in their ledgers: whose word is lost would hold it up."""
    for seed in seeds(10):
        dice = random.Random(seed)
        names = dice.sample([f"site-{k}" for k in range(peers)], dice.randint(1, peers))
        dies = {name: (dice.randint(0, 52), dice.choice((0.2, 3.0, 20.0))) for name in names}
        federation = Dying(peers, seed, dict(dies))
        federation.run()
        for peer in federation.peers.values():
            assert peer.run is not None and peer.run.previous is not None, (seed, dies)
            state = peer.run.previous.state
            assert state.confirming.settled.issuperset(state.context.others), (seed, dies)

"""Sites without a link to one another: what a lost link costs once, and that later rounds cost nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from p2pfl import codec
from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.phases import members, share, unlinked
from p2pfl.sharing.state import State
from p2pfl.simulate import Lie, SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import seeds
from tests.simulate import promises
from tests.simulate.attackers import resealed_as

pytestmark = pytest.mark.usefixtures("letters_read_once")

QUICK = Weather(delay_s=(0.001, 0.05))
DEADLINE_S = 20.0  # of the proposals of simulated peers
QUIET = 4  # rounds before anything happens
Pair = tuple[str, str]


class Linked(SimulatedFederation):
    """Links are cut and joined between two rounds; how long each round took is written down, at site-0."""

    def __init__(self, peers: int, rounds: int, seed: int = 0, lies: dict[str, Lie] | None = None) -> None:
        super().__init__(peers, rounds=rounds, length=8, weather=QUICK, seed=seed, lies=lies)
        self.cut: set[frozenset[str]] = set()

    def _link(self, teller: SimulatedPeer, hearer: SimulatedPeer) -> None:
        if frozenset((teller.name, hearer.name)) not in self.cut:
            super()._link(teller, hearer)

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if frozenset((sender, to)) not in self.cut:
            super()._carry(sender, to, letter)

    def part(self, *pairs: Pair) -> None:
        """The links of these pairs are gone for good: each end sees it at once."""
        for pair in pairs:
            self.cut.add(frozenset(pair))
            for here, there in (pair, pair[::-1]):
                self.peers[here].feed(e.LinkDown(self.now, there))

    def join(self, *pairs: Pair) -> None:
        """They are back."""
        for pair in pairs:
            self.cut.discard(frozenset(pair))
            self._meet(*pair)

    def revoke(self, revoker: str, revoked: str) -> None:
        run = self.peers[revoker].run
        assert run is not None
        run.peers.parted.add(revoked)
        self.part((revoker, revoked))

    @property
    def records(self) -> list[codec.Facts]:
        return [codec.read_facts(record) for record in self.peers["site-0"].disk.ledger]

    def until(self, rounds: int) -> list[float]:
        """Go on until site-0 holds so many more rounds; how long each of them took, in deadlines."""
        ledger = self.peers["site-0"].disk.ledger
        begun, took, wanted = self.now, [0.0] * 0, len(ledger) + rounds
        while len(ledger) < wanted:
            before = len(ledger)
            assert self.clock.step(), "nothing is left to happen"
            if len(ledger) > before:
                took.append((self.now - begun) / DEADLINE_S)
                begun = self.now
        return took


def begun(peers: int, seed: int = 0, rounds: int = 3 * QUIET, lies: dict[str, Lie] | None = None) -> Linked:
    """A federation that has finished its first rounds."""
    world = Linked(peers, rounds, seed, lies)
    world.begin()
    world.until(QUIET)
    return world


@pytest.fixture(autouse=True)
def nobody_stops_for_being_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a site does is in test_fairness.py; here it would only end the rounds that are looked at."""
    monkeypatch.setattr("p2pfl.sharing.fairness.too_often", lambda part: False)


def dead(world: Linked) -> None:
    world.peers["site-2"].kill()


def revoked(world: Linked) -> None:
    world.revoke("site-1", "site-2")


def broken(world: Linked) -> None:
    world.part(("site-1", "site-2"))


LOSSES: list[Callable[[Linked], None]] = [dead, revoked, broken]
ROUND = 0.05  # of a deadline, which is twice what a round takes here while all is well


@pytest.mark.claim("LIVE-7")
@pytest.mark.parametrize("peers", [4, 5, 7])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_link_costs_one_deadline_once_and_the_rounds_after_it_nothing(
    loss: Callable[[Linked], None], peers: int
) -> None:
    for seed in seeds(1):
        world = begun(peers, seed)
        loss(world)
        first, *later = world.until(2 * QUIET)
        assert first <= 1.1, f"seed {seed}"
        assert max(later) <= ROUND, f"seed {seed}: {later}"
        out = [set(facts["left_out"]) for facts in world.records[QUIET + 1 :]]
        assert all(names == {"site-2"} for names in out) or (
            loss is not dead and all(len(names) == 1 and names < {"site-1", "site-2"} for names in out)
        )
        promises.check(world)


@pytest.mark.claim("LIVE-7")
@pytest.mark.parametrize("loss", LOSSES)
def test_were_nobody_to_say_so_each_round_would_cost_a_quarter_of_a_deadline_or_more(
    loss: Callable[[Linked], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.sharing.peers.PeerView.unlinked", lambda self, now: ())
    monkeypatch.setattr("p2pfl.sharing.peers.PeerView.unlinked_at", lambda self, peer: float("inf"))
    world = begun(5)
    loss(world)
    assert min(world.until(QUIET)) >= 0.25


@pytest.mark.claim("LIVE-7")
def test_two_pairs_and_a_dead_site_cost_one_deadline_together() -> None:
    """Of ten, seven are a quorum: one of each pair is out, and the dead one."""
    world = begun(10)
    world.part(("site-1", "site-2"), ("site-3", "site-4"))
    world.peers["site-5"].kill()
    world.until(1)
    later = world.until(QUIET)
    assert max(later) <= ROUND, later
    for facts in world.records[QUIET + 1 :]:
        out = set(facts["left_out"])
        assert len(out) == 3
        assert out > {"site-5"}
        assert out & {"site-1", "site-2"}
        assert out & {"site-3", "site-4"}


@pytest.mark.claim("LIVE-7")
@pytest.mark.parametrize("peers", [4, 5, 7])
def test_who_returns_is_in_the_next_round(peers: int) -> None:
    for loss in (dead, broken):
        world = begun(peers, rounds=4 * QUIET)
        loss(world)
        world.until(QUIET)
        if loss is dead:
            world.start(world.peers["site-2"])
        else:
            world.join(("site-1", "site-2"))
        took = world.until(2 * QUIET - 1)
        assert max(took) <= ROUND, loss.__name__
        here = world.records[2 * QUIET + 1 :]  # one is under way as it returns
        assert not any(facts["left_out"] for facts in here), loss.__name__


@pytest.mark.claim("LIVE-7")
def test_a_site_that_begins_a_little_late_is_waited_for() -> None:
    """In the first round nobody was waited for yet."""
    world = Linked(5, 2)
    late = world.peers["site-3"]
    for peer in world.peers.values():
        world.clock.at(DEADLINE_S / 6 if peer is late else 0.0, lambda peer=peer: world.start(peer))  # type: ignore[misc]
    world.settle()
    assert not any(facts["left_out"] for facts in world.records)


@pytest.mark.claim("LIVE-7")
def test_who_was_waited_for_before_a_restart_is_waited_for_less_after_it() -> None:
    """Each sum may be a process of its own at every site."""
    world = begun(5, rounds=QUIET + 1)
    dead(world)
    world.settle()
    alive = [peer for peer in world.peers.values() if peer.alive]
    for peer in alive:
        peer.rounds += QUIET
        peer.kill()
    for peer in alive:
        world.start(peer)
    first, *later = world.until(QUIET)
    assert 3.0 / DEADLINE_S <= first <= 3.0 / DEADLINE_S + ROUND
    assert max(later) <= ROUND


def test_who_is_cut_off_itself_says_nothing_of_the_others() -> None:
    """The links to a quorum are down: nobody is away for that, and its link's return is enough."""
    world = begun(5, rounds=4 * QUIET)
    apart = [("site-4", f"site-{k}") for k in range(4)]
    world.part(*apart)
    world.until(QUIET)
    run = world.peers["site-4"].run
    assert run is not None
    assert run.peers.unlinked(world.now) == ()
    world.join(*apart[:3])
    assert run.peers.unlinked(world.now) == ()
    world.join(*apart[3:])
    world.until(QUIET)
    assert not world.records[-1]["left_out"]


# ── liars ─────────────────────────────────────────────────────────────────────────────────────────────────────

LIAR, VICTIM = "site-1", "site-3"  # the liar coordinates round 5 of four sites


def who_denies_its_link(patch: pytest.MonkeyPatch) -> Linked:
    """The liar says that it has no link to the victim, and names a set without it at once when it coordinates."""
    world = begun(4)
    complete, has_seed, no_link = members.complete, share.has_seed, PeerView.unlinked
    patch.setattr(PeerView, "unlinked", lambda self, now: (VICTIM,) if self.me == LIAR else no_link(self, now))

    def has_its_seed(state: State, dealer: str) -> bool:
        return (state.context.me, dealer) != (LIAR, VICTIM) and has_seed(state, dealer)

    patch.setattr(share, "has_seed", has_its_seed)

    def chosen(state: State) -> tuple[str, ...]:
        if state.context.me != LIAR:
            return complete(state)
        others = tuple(name for name in state.names if name != VICTIM)
        told = state.proposals.acks.keys() & state.proposals.proposes.keys()
        return others if told >= set(others) else ()

    awaited = members._is_awaited
    patch.setattr(members, "complete", chosen)
    patch.setattr(members, "_is_awaited", lambda state, *of: state.context.me != LIAR and awaited(state, *of))
    return world


def left_out_at_once(world: Linked) -> bool:
    """Round 5 is without the victim, in its first attempt, before half of its phase was over."""
    (took,) = world.until(1)
    facts = world.records[-1]
    return VICTIM in facts["left_out"] and not facts["attempt"] and took < 0.5


@pytest.mark.claim("LIAR-6")
def test_who_says_alone_that_a_link_is_down_leaves_nobody_out_early(monkeypatch: pytest.MonkeyPatch) -> None:
    world = who_denies_its_link(monkeypatch)
    assert not left_out_at_once(world)
    promises.check(world, beside=[LIAR])


def test_were_the_word_of_one_enough_the_victim_would_be_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_is_enough(found: Letter[m.Members], roster: object) -> dict[str, frozenset[str]]:
        return {name: frozenset(found.message.survivors) for row in found.message.acks for name in row[3]}

    world = who_denies_its_link(monkeypatch)
    monkeypatch.setattr(unlinked, "rivals", one_is_enough)
    assert left_out_at_once(world)


def test_who_says_that_the_coordinator_is_gone_ends_no_attempt_of_one_who_is_there() -> None:
    """c liars say so of everybody."""

    def all_gone(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        said = letter.message
        if not isinstance(said, m.Ack):
            return (letter,)
        others = tuple(name for name in liar.roster.names if name != liar.name)
        return (resealed_as(liar, letter, m.Ack(said.held, others)),)

    world = begun(7, rounds=9, lies={"site-5": all_gone, "site-6": all_gone})
    world.until(QUIET)
    assert not any(facts["attempt"] for facts in world.records if facts["round"] % 7 not in (5, 6)), "not their own"
    promises.check(world, beside=["site-5", "site-6"])

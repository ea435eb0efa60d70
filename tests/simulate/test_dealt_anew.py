"""A member that deals anew within an attempt, as a process that there never was, to whom and as often as it likes.

Nobody can tell it from a site that died and came back. What others acknowledged of it before stands all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.messages import Letter, seal
from p2pfl.sharing import events as e
from p2pfl.sharing import parts
from p2pfl.sharing.digests import edge_commitment, share_leaf
from p2pfl.sharing.graph import makes
from p2pfl.sharing.parts import Proposals
from p2pfl.sharing.phases import heard, share
from p2pfl.sharing.state import State
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises
from tests.simulate.test_two_faced_members import BY_ANOTHER, LIAR, TwoFacedMember

pytestmark = pytest.mark.usefixtures("letters_read_once")

LATE = "site-3"
EVERY_S = 0.02
RECEIPT = "to a victim, whose older receipt it hands to the coordinator"
AFTER_HALF = "to a victim, when all have passed on what they hold"
AT_LAST = "to the coordinator, before it chooses"
HANDED_ON = "to the coordinator, before it chooses, and hands it what it had said first"
WAYS = [RECEIPT, AFTER_HALF, AT_LAST, HANDED_ON]


class DealsAnew(TwoFacedMember):
    """Under honest coordinators LIAR deals anew once, and says to the victim of it whatever its way needs.

    LATE, which lies too, has the coordinator wait: it proposes after that, or deals nothing at all.
    """

    liars = (LIAR, LATE)

    def __init__(self, way: str) -> None:
        super().__init__(way, peers=7, rounds=7)
        self.lies[LATE] = self._lie
        self.kept: dict[tuple[int, int], list[tuple[str, Letter]]] = {}
        self.struck: set[tuple[int, int]] = set()

    def run(self, most_steps: int = 0) -> None:
        self.clock.at(1.0, self._watch)
        super().run(most_steps)

    def _lie(self, liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message, coordinator = letter.message, self.coordinator(letter)
        if coordinator in self.liars:
            return (letter,)
        last = liar.name == LIAR and self.way == RECEIPT and to == coordinator
        last |= liar.name == LATE and self.way == AFTER_HALF
        if isinstance(message, m.Propose) and last:
            self.kept.setdefault(promises.place_of(letter), []).append((to, letter))
            return ()
        deals_nothing = liar.name == LATE and self.way in (AT_LAST, HANDED_ON)
        return () if isinstance(message, m.Held) or (isinstance(message, m.Share) and deals_nothing) else (letter,)

    def _watch(self) -> None:
        for name in self.honest:
            run = self.peers[name].run
            state = run.current.state if run is not None and run.current is not None else None
            if state is not None and state.coordinator == name and not state.closed and self._is_time(state):
                self._strike(state)
        if any(self.peers[name].alive and len(self.peers[name].disk.ledger) < self.rounds for name in self.honest):
            self.clock.at(self.now + EVERY_S, self._watch)

    def _own(self, place: tuple[int, int]) -> Proposals | None:
        """What the liar's own process holds, if it stands there."""
        run = self.peers[LIAR].run
        current = run.current if run is not None else None
        if current is None or (current.number, current.attempt) != place or current.state.closed:
            return None
        return current.state.proposals

    def _is_time(self, state: State) -> bool:
        own = self._own((state.round, state.attempt))
        if own is None or (state.round, state.attempt) in self.struck or not {LIAR} <= own.acks.keys() & own.proposes:
            return False
        if self.way == RECEIPT:
            victim = self._victim(state.context.me)
            whole = victim in own.proposes and victim in own.acks
            return whole and len(own.acks[victim].message.held) == len(self.peers)
        if self.way == AFTER_HALF:
            return "half" in state.due and state.due["half"] + 0.5 < self.now
        return "choose" in state.due and state.due["choose"] - self.now < 0.1

    def _strike(self, state: State) -> None:
        place, coordinator = (state.round, state.attempt), state.context.me
        self.struck.add(place)
        own, peer = self._own(place), self.peers[LIAR]
        assert own is not None
        mine = m.Envelope(peer.run_id, self.roster.epoch, *place, LIAR, peer.incarnation)
        victim = self._victim(coordinator) if "victim" in self.way else coordinator
        self._deal_anew(victim, mine)
        if victim == coordinator:
            anew = replace(mine, incarnation=BY_ANOTHER)
            for message in (m.Ack((), ()), own.proposes[LIAR].message):
                self._carry(LIAR, coordinator, seal(message, anew, peer.identity))
        about = {RECEIPT: victim, HANDED_ON: LIAR}.get(self.way)
        if about is not None:
            said = m.Held((own.acks[about].wire,), (own.proposes[about].wire,), (own.bundles[about].wire,))
            after = 1.0 if self.way == RECEIPT else 0.0
            self.clock.at(self.now + after, lambda: self._carry(LIAR, coordinator, seal(said, mine, peer.identity)))
        self.clock.at(self.now + 1.1, lambda: self._release(place))

    def _release(self, place: tuple[int, int]) -> None:
        for to, letter in self.kept.pop(place, []):
            self._carry(letter.sender, to, letter)

    def _deal_anew(self, to: str, at: m.Envelope, incarnation: bytes = BY_ANOTHER) -> None:
        self._carry(LIAR, to, dealt_anew(self, to, replace(at, incarnation=incarnation)))


def dealt_anew(world: SimulatedFederation, to: str, at: m.Envelope) -> Letter:
    """A share that another process of the liar deals to one alone."""
    place, identity = world.roster.index(to), world.peers[at.sender].identity
    seed = bytes(32) if makes(world.roster.index(at.sender), place, len(world.peers)) else b""
    leaves = [share_leaf(bytes(32), edge_commitment(bytes(32), seed), bytes(32))] * len(world.peers)
    bundle = seal(m.Bundle(bytes(32), bytes(32), merkle.root(leaves)), at, identity)
    return seal(m.Share(bundle.wire, seed, bytes(32), bytes(32), merkle.paths(leaves)[place]), at, identity)


@pytest.mark.claim("LIAR-9")
@pytest.mark.parametrize("way", WAYS)
def test_who_deals_anew_to_one_alone_has_nobody_honest_named_and_no_process_ended(way: str) -> None:
    """And each round takes one attempt."""
    world = DealsAnew(way)
    world.run()
    assert len(world.struck) >= world.rounds - len(world.liars)
    promises.check(world, beside=world.liars)
    promises.everything_is_final(world, beside=world.liars)
    assert world.named() == {}
    assert world.most_attempts() == 1
    assert world.missed() == []


def as_it_was(patch: pytest.MonkeyPatch) -> None:
    """Whoever deals anew takes back all that its first process said, and no receipt outlives that."""
    hold = heard._hold

    def put_by(state: State, dealer: str) -> None:
        for of in (state.proposals.bundles, state.proposals.told, state.unmasking.backups, state.masking.received):
            of.pop(dealer, None)  # type: ignore[attr-defined]

    def hold_news(state: State, said: parts.Said, *beside: Any) -> None:
        name, known = said.ack.sender, state.proposals
        here = known.bundles.get(name), known.acks.get(name), known.proposes.get(name)
        if [one and one.digest for one in here] != [said.bundle.digest, said.ack.digest, said.propose.digest]:
            hold(state, said, *beside)

    patch.setattr(share, "_put_by", put_by)
    patch.setattr(heard, "_hold", hold_news)


@pytest.mark.parametrize("way", WAYS)
def test_did_that_take_back_what_its_first_process_said_others_would_pay(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some honest coordinator or its process."""
    as_it_was(monkeypatch)
    world = DealsAnew(way)
    world.run()
    ended = [name for name in world.honest if world.peers[name].error is not None]
    assert ended or world.named()


# ── again and again ──────────────────────────────────────────────────────────────────────────────────────────────


class DealsAgain(SimulatedFederation):
    """One deals nothing, though its links stand, and LIAR deals as one process after another to all, till the end."""

    silent = "site-6"

    def __init__(self, every_s: float, *, most_s: float) -> None:
        super().__init__(7, rounds=2, length=7, seed=3, weather=Weather(delay_s=(0.001, 0.05)))
        self.lies[self.silent] = lambda liar, to, letter: () if isinstance(letter.message, m.Share) else (letter,)
        self.honest = [name for name in self.peers if name not in (LIAR, self.silent)]
        self.processes, self.every_s = 0, every_s
        self.clock.at(1.5, self._deal)
        self.begin()
        while self.now < most_s and self.clock.step():
            pass

    def _deal(self) -> None:
        self.processes += 1
        for to in self.honest:
            run, liar = self.peers[to].run, self.peers[LIAR]
            if run is not None and run.current is not None:
                place = (run.current.number, run.current.attempt)
                at = m.Envelope(liar.run_id, self.roster.epoch, *place, LIAR, self.processes.to_bytes(16, "big"))
                self._carry(LIAR, to, dealt_anew(self, to, at))
        self.clock.at(self.now + self.every_s, self._deal)

    def final(self) -> set[int]:
        return {len(self.peers[name].disk.ledger) for name in self.honest}

    def most_acks(self) -> int:
        """That an honest site sent to all in one attempt."""
        said = [one for _, one in self.log if isinstance(one.message, m.Ack) and one.sender in self.honest]
        return max(Counter((*promises.place_of(one), one.sender) for one in said).values(), default=0)


def test_who_deals_anew_every_second_keeps_nobody_from_acknowledging() -> None:
    assert DealsAgain(1.0, most_s=60.0).final() == {2}


def test_did_each_further_bundle_move_the_time_no_round_would_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def more(state: State) -> list[e.Effect]:
        state.proposals.fresh = True
        return [state.timer("ack", share.FIRST_ACK_S)]

    monkeypatch.setattr(share, "MOST_DEALT", 1 << 30)
    monkeypatch.setattr(share, "_more", more)
    assert DealsAgain(1.0, most_s=60.0).final() == {0}


def test_few_of_a_dealers_processes_are_acknowledged_however_many_it_makes_up() -> None:
    world = DealsAgain(0.05, most_s=30.0)
    assert world.processes > 500
    assert 1 <= world.most_acks() <= parts.MOST_DEALT + 1


def test_without_a_bound_each_site_would_write_and_tell_all_on_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "MOST_DEALT", 1 << 30)
    assert DealsAgain(0.05, most_s=30.0).most_acks() > 20

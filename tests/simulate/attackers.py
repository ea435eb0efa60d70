"""What attackers have in common: who lies, who delays which links, what they keep for themselves, what they gain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from p2pfl import codec
from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.errors import P2PFLError
from p2pfl.messages import Letter, Message, seal
from p2pfl.sharing import table
from p2pfl.sharing.certificate import common_deadline_ms, short
from p2pfl.sharing.phases import members
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase, State
from p2pfl.sharing.table import Guarded, Transition
from p2pfl.simulate import Lie, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.algebra import Coalition, rank
from tests.simulate import promises
from tests.simulate.summing_again import SummingAgain

CALM = Weather(delay_s=(0.001, 0.05))
Which = Callable[[str, str, Letter], bool]  # from, to, what


def never(sender: str, to: str, letter: Letter) -> bool:
    return False


class Attacked(SummingAgain):
    """A federation with liars in it, and somebody on the wires.

    holds   from this letter on the link stays silent, until `release`: TLS keeps the order, so nothing overtakes it
    takes   this letter is read by the attacker, and not by the liar's process that it was sent to
    careless  a site sums its update again after a round that was left behind, though it was told that it had been sent
    """

    def __init__(
        self,
        peers: int = 4,
        *,
        liars: Iterable[str] = ("site-0",),
        lies: dict[str, Lie] | None = None,
        holds: Which = never,
        takes: Which = never,
        rounds: int = 1,
        seed: int = 0,
        careless: bool = False,
    ) -> None:
        super().__init__(peers, rounds=rounds, seed=seed, length=3 * peers, weather=CALM, lies=lies)
        self.liars = frozenset(liars)
        self.holds, self.takes = holds, takes
        self.late: dict[tuple[str, str], list[Letter]] = {}
        self.careless = careless

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        pair = (sender, to)
        if self.takes(sender, to, letter):
            self.carried.append((sender, to, letter))
        elif pair in self.late or self.holds(sender, to, letter):
            self.carried.append((sender, to, letter))
            self.late.setdefault(pair, []).append(letter)
        else:
            super()._carry(sender, to, letter)

    def release(self) -> None:
        """The wires are as they should be again."""
        late, self.late, self.holds = self.late, {}, never
        for (sender, to), letters in late.items():
            for letter in letters:
                super()._carry(sender, to, letter)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────

    def until(self, done: Callable[[], object], most: int = 200_000) -> None:
        for _ in range(most):
            if done():
                return
            assert self.clock.step(), "nothing is left to happen"
        raise AssertionError("it does not come to that")

    def to_the_end(self, most: int = 200_000) -> None:
        for _ in range(most):
            if not self.clock.step():
                return
        raise AssertionError("it never comes to rest")

    def round_of(self, name: str, number: int = 1) -> Round:
        run = self.peers[name].run
        assert run is not None
        return run.rounds[number]

    def stands(self, name: str, *phases: Phase, number: int = 1, attempt: int = 0) -> bool:
        """That peer's round is in one of these phases."""
        run = self.peers[name].run
        found = run.rounds.get(number) if run is not None else None
        return found is not None and found.attempt == attempt and found.phase in phases

    def sealed(self, liar: str, message: Message, *, number: int = 1, attempt: int = 0, process: bytes = b"") -> Letter:
        """A letter of the liar, or of another process of it."""
        peer = self.peers[liar]
        place = m.Envelope(peer.run_id, self.roster.epoch, number, attempt, liar, process or peer.incarnation)
        return seal(message, place, peer.identity)

    def say(self, liar: str, to: str, message: Message, **place: Any) -> None:
        """A letter that the liar's own program would not have sent."""
        self._carry(liar, to, self.sealed(liar, message, **place))

    @property
    def honest(self) -> list[str]:
        return [name for name in self.peers if name not in self.liars]

    # ── sets of the liar's own choice ────────────────────────────────────────────────────────────────────────

    def heard_all(self, liar: str, number: int = 1, attempt: int = 0) -> bool:
        """The liar holds what a set of all could be made of."""
        if not self.stands(liar, Phase.SHARE, Phase.PROPOSE, number=number, attempt=attempt):
            return False
        state = self.round_of(liar, number).state
        acks = [one.message for one in state.proposals.acks.values()]
        grown = [one for one in acks if isinstance(one, m.Ack) and len(one.held) == len(self.peers)]
        return len(grown) == len(state.proposals.bundles) == len(state.proposals.proposes) == len(self.peers)

    def set_of(self, liar: str, chosen: tuple[str, ...], grounds: tuple[bytes, ...] = (), number: int = 1) -> m.Members:
        """A set as an honest coordinator would write it, of those whom the liar chose."""
        state = self.round_of(liar, number).state
        asked = [
            one.message for name in chosen if isinstance((one := state.proposals.proposes[name]).message, m.Propose)
        ]
        deadline = common_deadline_ms(asked, self.roster, state.attempt)  # type: ignore[arg-type]
        bundles, proposes = (
            tuple(held[name].wire for name in chosen) for held in (state.proposals.bundles, state.proposals.proposes)
        )
        acks = tuple(short(state.proposals.acks[name], chosen) for name in chosen)
        return m.Members(chosen, bundles, acks, proposes, chosen, deadline, grounds)

    def name_a_set(self, liar: str, message: m.Members, number: int = 1) -> None:
        """The liar signs this set, and its own program goes on under it, unless that would not have it either."""
        state = self.round_of(liar, number).state
        try:
            self.peers[liar]._carry_out(members.adopt(state, state.seal(message)))
        except Malformed:
            for name in self.honest:
                self.say(liar, name, message, number=number, attempt=state.attempt)

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────────

    def total(self, name: str, number: int = 1) -> list[int]:
        """The sum of that round in this site's log."""
        records = [codec.read_facts(record) for record in self.peers[name].disk.ledger]
        place = next(place for place, facts in enumerate(records) if facts["round"] == number)
        return self.peers[name].disk.totals[place][0].words.tolist()  # type: ignore[no-any-return]

    def left_out(self, number: int = 1) -> list[str]:
        """Whom the round was summed without, as the honest logs say it."""
        found = {
            tuple(facts["left_out"])
            for name in self.honest
            for record in self.peers[name].disk.ledger
            if (facts := codec.read_facts(record))["round"] == number
        }
        (names,) = found
        return list(names)

    # ── what they gain ───────────────────────────────────────────────────────────────────────────────────────

    def exposed(self, victim: str, number: int = 1) -> bool:
        """The liars can work out the victim's words, from all that they saw; they are the same in every attempt."""
        coalition = Coalition(self, self.liars, fresh=False)
        known = coalition.determined(row for rows in coalition.seen().values() for row in rows)
        word = coalition.word(victim, (number, 0), 0)
        return rank([*known, word]) == rank(known)

    def certificates(self, number: int = 1, attempt: int = 0) -> set[str]:
        """Which certificates the liars can make of the ballots that were said, and of as many of their own."""
        by: dict[tuple[bytes, bytes], set[str]] = {}
        for sender, _, letter in self.carried:
            vote = letter.message
            if isinstance(vote, m.Ballot) and promises.place_of(letter) == (number, attempt):
                said = (vote.attempt_digest, vote.view) if vote.survivors else promises.ABANDON
                by.setdefault(said, set()).add(sender)
        quorums = self.roster.quorums
        return {
            vote[0].hex() or "ABANDON"
            for vote, names in by.items()
            if len(names | self.liars) >= (quorums.a if vote == promises.ABANDON else quorums.q)
        }

    def accused(self, liar: str) -> dict[str, P2PFLError]:
        """By honest peer, its last accusation of that liar."""
        return {name: one.error for name in self.honest for one in self.peers[name].accused if one.peer == liar}


def check_that_the_others_go_on(world: Attacked) -> None:
    """Every promise to the honest holds, and each has all results that were wanted."""
    promises.check(world, beside=world.liars)
    promises.everything_is_final(world, beside=world.liars)


# ── defences, switched off ────────────────────────────────────────────────────────────────────────────────────


def row_off(patch: pytest.MonkeyPatch, phase: Phase, true: Callable[[State], bool], row: Guarded | None) -> None:
    """In one phase, put another row in the place of that which asks `true`, or none."""
    rows = [row if one.true is true else one for one in table.GUARDED[phase]]
    assert rows != list(table.GUARDED[phase]), "no such row"
    patch.setitem(table.GUARDED, phase, tuple(one for one in rows if one is not None))


def action_off(patch: pytest.MonkeyPatch, phase: Phase, kind: type, action: Callable[..., list[object]]) -> None:
    """What one kind of event does in one phase is another thing now."""
    patch.setitem(table.EVENTS, (phase, kind), Transition(action, phase))


def chooses_by_hand(patch: pytest.MonkeyPatch, liar: str) -> None:
    """No defence, but the liar's own program: it names no set until it is told to."""
    complete = members.complete
    patch.setattr(members, "complete", lambda state: () if state.context.me == liar else complete(state))


def without(*kinds: type[Message], to: Iterable[str] | None = None) -> Lie:
    """Send no letter of these kinds, to some or to all."""

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        withheld = isinstance(letter.message, kinds) and (to is None or peer in to)
        return () if withheld else (letter,)

    return lie


def resealed_as(liar: SimulatedPeer, letter: Letter, message: Message, **envelope: object) -> Letter:
    return seal(message, replace(letter.envelope, **envelope), liar.identity)  # type: ignore[arg-type]

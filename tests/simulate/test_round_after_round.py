"""Rounds that rest on one another, of which none is final for long: what is held is lost to nobody, and nobody waits.

Where somebody lies it is site-0: it helps with every sum, keeps back what it confirms, and its own log is complete.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pfl import messages as m
from p2pfl.errors.round import RecordDiffers
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing import record as records
from p2pfl.sharing import run
from p2pfl.sharing.branch import Branch
from p2pfl.sharing.digests import base_digest
from p2pfl.sharing.phases import propose
from p2pfl.sharing.run import EARLY_ROUNDS, Run
from p2pfl.sharing.state import LEFT_SLOTS, Phase, State
from p2pfl.sharing.table import Guarded
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises
from tests.simulate.attackers import Attacked, check_that_the_others_go_on, never, row_off
from tests.simulate.promises import place_of
from tests.simulate.test_attacks_on_votes import VICTIM, help_the_victim, split

LIAR = "site-0"
MOST_STEPS = 5_000


def held_by(world: Attacked, name: str) -> list[int]:
    run = world.peers[name].run
    return list(run.held) if run is not None else []


def keeps_back(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
    """The liar confirms to nobody, and shows nothing of its log."""
    message = letter.message
    if isinstance(message, (m.Confirm, m.Handed, m.Entries)):
        return ()
    return () if isinstance(message, m.Want) and message.what == m.Question.NOTHING else (letter,)


def without_the_last(peers: int, rounds: int) -> Attacked:
    """The last site is not there: the other honest ones hold the sums, and q of them confirm none."""
    liars = [f"site-{k}" for k in range(1 if peers == 4 else 2)]
    world = Attacked(peers, rounds=rounds, liars=liars, lies=dict.fromkeys(liars, keeps_back))
    for peer in list(world.peers.values())[:-1]:
        world.clock.at(0.1, lambda peer=peer: world.start(peer))  # type: ignore[misc]
    return world


def present(world: Attacked) -> list[str]:
    return world.honest[:-1]


def until_all_hold(world: Attacked, rounds: int) -> None:
    world.until(lambda: all([0, *held_by(world, name)][-1] >= rounds for name in present(world)))


def with_the_last(world: Attacked) -> None:
    """It comes, and everything ends well for the honest."""
    world.start(world.peers[world.honest[-1]])
    world.to_the_end(MOST_STEPS)
    check_that_the_others_go_on(world)


# ── as many held as there are places ──────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("LIVE-1")
def test_one_who_confirms_nothing_costs_no_held_round_its_place() -> None:
    """None begins until q have confirmed what is held: with the site that was away they do."""
    world = without_the_last(4, LEFT_SLOTS + 3)
    until_all_hold(world, LEFT_SLOTS)
    world.to_the_end(MOST_STEPS)
    assert [held_by(world, name) for name in present(world)] == [list(range(1, LEFT_SLOTS + 1))] * 2
    with_the_last(world)


def test_were_a_held_round_given_up_for_a_new_one_the_log_would_lack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    aside = Run._set_aside

    def set_aside(self: Run, number: int) -> list[e.Effect]:
        if len(self.rounds) > LEFT_SLOTS:
            oldest = self.rounds.pop(self._branch.held.pop(0))
            assert oldest.state.leaving.slot is not None
        return aside(self, number)

    monkeypatch.setattr(Run, "_set_aside", set_aside)
    monkeypatch.setattr(run, "MOST_HELD", 2 * LEFT_SLOTS)
    world = without_the_last(4, LEFT_SLOTS + 3)
    until_all_hold(world, LEFT_SLOTS + 1)
    world.until(lambda: not any(1 in held_by(world, name) for name in present(world)))
    with pytest.raises(AssertionError):
        with_the_last(world)


# ── a log that ends early ─────────────────────────────────────────────────────────────────────────────────────


def shown_a_log_that_ends_early(peers: int) -> tuple[Attacked, str]:
    """The honest hold three rounds; a liar, in whose log all of them are, shows the first alone to one of them."""
    world = without_the_last(peers, 6)
    until_all_hold(world, 3)
    victim, disk = present(world)[0], world.peers[LIAR].disk
    shown = m.Entries(0, 1, ((disk.ledger[0], tuple(sorted(disk.signatures[0].items()))),))
    world._carry(LIAR, victim, world.sealed(LIAR, shown, number=0))
    world.until(lambda: world.peers[victim].final_round == 1)
    return world, victim


@pytest.mark.claim("LIVE-1")
@pytest.mark.parametrize("peers", [4, 7])
def test_a_log_that_ends_early_takes_no_model_from_who_holds_what_rests_on_it(peers: int) -> None:
    world, victim = shown_a_log_that_ends_early(peers)
    assert held_by(world, victim)[:2] == [2, 3]
    until_all_hold(world, 4)
    with_the_last(world)


def keeps_rounds_without_models(patch: pytest.MonkeyPatch) -> None:
    """Defence off: later rounds stay held whatever they rest on, and their models are thrown away."""

    def adopt(self: Branch, number: int, record: bytes) -> list[e.Effect]:
        self.held = [one for one in self.held if one > number]
        self.base = (number, base_digest(record))
        return [e.Retract(number)]

    patch.setattr(Branch, "adopt", adopt)


def test_were_the_models_gone_and_the_rounds_held_the_next_sum_would_be_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeps_rounds_without_models(monkeypatch)
    world, victim = shown_a_log_that_ends_early(7)
    until_all_hold(world, 4)
    with pytest.raises(AssertionError):
        with_the_last(world)
    assert any(isinstance(one.error, RecordDiffers) for one in world.peers[victim].accused)


def test_of_four_those_who_are_there_would_have_no_further_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a quorum is needed, and one of them proposes on another model: attempt comes after attempt."""
    keeps_rounds_without_models(monkeypatch)
    world, _ = shown_a_log_that_ends_early(4)

    def attempts(name: str) -> int:
        run = world.peers[name].run
        return run.rounds[4].attempt if run is not None and 4 in run.rounds else 0

    world.until(lambda: all(attempts(name) > 20 for name in present(world)))
    assert not any(4 in held_by(world, name) for name in present(world))


# ── a branch that was taken back ──────────────────────────────────────────────────────────────────────────────


def until_the_victim_goes_back() -> Attacked:
    """site-3 alone holds round 1; the others leave it behind, and certify round 2 without it."""
    world = split(rounds=2)
    help_the_victim(world)
    lie = world.lies[LIAR]
    world.lies[LIAR] = lambda liar, to, letter: lie(liar, to, letter) if [*keeps_back(liar, to, letter)] else ()
    world.until(lambda: held_by(world, VICTIM) == [2])
    return world


def everybody_confirms_the_first(world: Attacked) -> None:
    """More than c sites sign what their vows forbid."""
    round = world.round_of(VICTIM)
    record = round.state.confirming.record
    for name in world.roster.names[:-1]:
        confirm = m.Confirm(*records.said(record), world.peers[name].identity.sign("record", record))
        world.peers[VICTIM].feed(e.Received(world.now, world.sealed(name, confirm)))


def test_a_round_that_was_taken_back_waits_and_ends_no_process() -> None:
    world = until_the_victim_goes_back()
    everybody_confirms_the_first(world)
    world.takes = never
    world.release()
    world.to_the_end(MOST_STEPS)
    check_that_the_others_go_on(world)


def test_were_it_as_it_was_before_it_would_be_final_beside_the_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    take_back = Branch._take_back

    def as_it_was(self: Branch, numbers: list[int], to: int) -> list[e.Effect]:
        phases = {number: self._rounds[number].phase for number in numbers}
        effects = take_back(self, numbers, to)
        for number, phase in phases.items():
            self._rounds[number].phase = phase
        return effects

    monkeypatch.setattr(Branch, "_take_back", as_it_was)
    world = until_the_victim_goes_back()
    with pytest.raises(ValueError, match="not in list"):
        everybody_confirms_the_first(world)


# ── who begins a round late ───────────────────────────────────────────────────────────────────────────────────


def one_returns_late_and_another_dies(peers: int) -> Attacked:
    """All are honest. One dies in GATHER, so that the others give up: one less than can abandon the attempt.

    Then one returns that was away for more rounds than are held early: what they said was too far ahead for it.
    """
    late, dies = f"site-{peers - 1}", f"site-{peers - 2}"
    begun = EARLY_ROUNDS + 2

    def holds(sender: str, to: str, letter: Letter) -> bool:
        return isinstance(letter.message, m.Root) and place_of(letter)[0] == begun and sender == dies

    world = Attacked(peers, liars=(), holds=holds, rounds=begun + 1)
    gone = 1 if peers == 4 else 2  # so many may be away beside it
    absent = [late, *(f"site-{k}" for k in range(gone - 1))]
    for name in set(world.peers) - set(absent):
        world.start(world.peers[name])
    there = [name for name in world.peers if name not in (*absent, dies)]
    world.until(lambda: all(world.stands(name, Phase.GATHER, number=begun) for name in there))
    world.peers[dies].kill()
    world.until(lambda: all(world.round_of(name, begun).state.voting.ballot is not None for name in there))
    world.start(world.peers[late])
    world.late.clear()
    world.to_the_end(MOST_STEPS)
    return world


@pytest.mark.claim("LIVE-1")
@pytest.mark.parametrize("peers", [4, 7])
def test_who_begins_a_round_late_asks_for_what_it_dropped_and_nobody_waits_for_ever(peers: int) -> None:
    world = one_returns_late_and_another_dies(peers)
    promises.check(world)
    promises.everything_is_final(world, beside=[name for name, peer in world.peers.items() if not peer.alive])


def test_were_nobody_asked_a_quorum_would_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_ask_for_dropped", lambda self, fresh: [])
    world = one_returns_late_and_another_dies(4)
    alive = [name for name, peer in world.peers.items() if peer.alive]
    assert len(alive) >= world.roster.quorums.q
    assert {world.peers[name].final_round for name in alive} == {EARLY_ROUNDS + 1}
    assert all(not world.peers[name].run.peers.down.keys() & set(alive) for name in alive)  # type: ignore[union-attr]


# ── who comes back to an attempt that others gave up ──────────────────────────────────────────────────────────


def two_return_after_one_gave_up() -> Attacked:
    """All are honest. site-2 heard four proposals and gave up; site-3 dies, and two return that heard of neither."""

    def holds(sender: str, to: str, letter: Letter) -> bool:
        return isinstance(letter.message, m.Propose) and sender in ("site-2", "site-3") and to in ("site-0", "site-1")

    world = Attacked(liars=(), holds=holds)
    for peer in world.peers.values():
        world.start(peer)
    world.until(lambda: world.stands("site-2", Phase.PROPOSE) and world.round_of("site-2").state.due.get("propose"))
    for name in ("site-3", "site-0", "site-1"):
        world.peers[name].kill()
    world.holds = never
    world.late.clear()
    world.until(lambda: world.round_of("site-2").state.voting.ballot is not None)
    for name in ("site-0", "site-1"):
        world.start(world.peers[name])
    world.to_the_end(MOST_STEPS)
    return world


@pytest.mark.claim("LIVE-3")
def test_who_returns_to_an_attempt_that_one_gave_up_waits_for_no_proposal_of_it() -> None:
    world = two_return_after_one_gave_up()
    promises.check(world)
    promises.everything_is_final(world, beside=["site-3"])


def test_were_an_abandon_no_reason_for_a_clock_a_quorum_would_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def starts(state: State) -> bool:
        return "propose" not in state.due and len(state.proposals.proposes) >= state.context.roster.quorums.q

    for phase in (Phase.SHARE, Phase.PROPOSE):
        row_off(monkeypatch, phase, propose.clock_starts, Guarded(starts, propose.start_clock, phase))
    world = two_return_after_one_gave_up()
    assert [len(world.peers[name].disk.ledger) for name in ("site-0", "site-1", "site-2")] == [0, 0, 0]

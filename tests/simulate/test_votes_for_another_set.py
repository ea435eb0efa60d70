"""A coordinator with two faces: a victim is told one sound set, the others vote for another.

What they vote names members of their set, under its digest. Judged by the victim's own set it would look like a breach
of each of them, and more than n−q breaches end a process.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.errors.round import BallotRejected, TwoStatements
from p2pfl.messages import Letter
from p2pfl.sharing import certificate as certificates
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import ballot
from p2pfl.sharing.state import Phase, State
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate.attackers import Attacked, action_off, check_that_the_others_go_on, chooses_by_hand, resealed_as

COORDINATOR = "site-1"  # of round 1, attempt 0
UNHEARD, VICTIM = "site-2", "site-3"  # the victim hears nothing of the other for a while
TOLD, SUMMED = ("site-0", COORDINATOR, VICTIM), ("site-0", COORDINATOR, UNHEARD)


def two_sound_sets(patch: pytest.MonkeyPatch) -> Attacked:
    """Each leaves out one of two that disagree; the liar and site-0 are in both, and site-0 is told the second."""
    chooses_by_hand(patch, COORDINATOR)
    other: list[m.Members] = []

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        told = isinstance(letter.message, m.Members) and to == VICTIM and letter.envelope.attempt == 0
        return (resealed_as(liar, letter, other[0]),) if told else (letter,)

    def holds(sender: str, to: str, letter: Letter) -> bool:
        shown = isinstance(letter.message, m.Handed)  # the two sets would convict the liar before anybody votes
        return (sender, to) == (UNHEARD, VICTIM) or (sender == VICTIM and shown)

    world = Attacked(liars=[COORDINATOR], lies={COORDINATOR: lie}, holds=holds)
    world.begin()
    world.until(
        lambda: (
            world.stands(COORDINATOR, Phase.PROPOSE)
            and all(
                world.stands(name, Phase.PROPOSE) and world.round_of(name).state.past("half") for name in world.honest
            )
        )
    )
    other.append(world.set_of(COORDINATOR, TOLD))
    world.name_a_set(COORDINATOR, world.set_of(COORDINATOR, SUMMED))
    world.until(lambda: world.stands(VICTIM, Phase.GATHER) and world.round_of(VICTIM).state.survivors == TOLD)
    world.until(lambda: world.stands("site-0", Phase.UNMASK, Phase.CONFIRM))
    world.release()
    world.to_the_end()
    return world


@pytest.mark.claim("LIAR-3")
def test_votes_for_another_set_accuse_none_of_their_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    world = two_sound_sets(monkeypatch)
    check_that_the_others_go_on(world)
    assert {one.peer for one in world.peers[VICTIM].accused} == {COORDINATOR}
    assert isinstance(world.accused(COORDINATOR)[VICTIM], TwoStatements), (
        "the certified set is another than it was told"
    )
    assert all(COORDINATOR in peer.run.peers.proven for peer in world.peers.values() if peer.run is not None)


def judged_by_the_own_set(state: State, letter: Letter[m.Ballot]) -> list[e.Effect]:
    """Defence off: as the set that this site was told would have it."""
    try:
        certificates.check_ballot(letter.message, state.context.roster, state.survivors or None)
    except Malformed as error:
        raise BallotRejected(peer=letter.sender, evidence=str(error)) from None
    return ballot.count(state, letter)


def test_were_they_judged_by_the_victims_own_set_its_process_would_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for phase in (Phase.MASK, Phase.GATHER, Phase.BALLOT):
        action_off(monkeypatch, phase, m.Ballot, judged_by_the_own_set)
    world = two_sound_sets(monkeypatch)
    error = world.peers[VICTIM].error
    assert error is not None
    assert error.exit_status == 3
    assert {one.peer for one in world.peers[VICTIM].accused} > {"site-0"}

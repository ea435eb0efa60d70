"""A coordinator with two faces: a victim is told one sound set, the others vote for another.

What they vote names members of their set, under its digest, and the sums for which they say READY are those of it.
Judged by the victim's own set each would look like a breach of its author, and more than n−q breaches end a process.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.errors.round import BallotRejected, TwoStatements
from p2pfl.messages import Letter
from p2pfl.sharing import certificate as certificates
from p2pfl.sharing import chunks
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.phases import ballot
from p2pfl.sharing.state import Phase, State
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate.attackers import Attacked, action_off, check_that_the_others_go_on, chooses_by_hand, resealed_as

COORDINATOR, VICTIM = "site-1", "site-3"  # of round 1, attempt 0
SUMMED = ("site-0", COORDINATOR, "site-2")


def told(unheard: str) -> tuple[str, ...]:
    """The victim's set: it has nothing of one of those who are summed."""
    return (*(name for name in SUMMED if name != unheard), VICTIM)


def two_sound_sets(patch: pytest.MonkeyPatch, unheard: str = "site-2", *, sums: bool = False) -> Attacked:
    """Each leaves out one of two that disagree; the liar and another are in both, and that one is told the second.

    unheard   the victim hears nothing of it for a while
    sums      the liar owns the only chunk of the victim's set, and signs a sum of it: READYs for other sums come then
    """
    chooses_by_hand(patch, COORDINATOR)
    other: list[m.Members] = []
    shown: list[Letter] = []

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        tells = isinstance(letter.message, m.Members) and to == VICTIM and letter.envelope.attempt == 0
        if tells:
            shown.append(resealed_as(liar, letter, other[0]))
        return shown[:1] if tells else (letter,)

    def holds(sender: str, to: str, letter: Letter) -> bool:
        proof = isinstance(letter.message, m.Handed)  # the two sets would convict the liar before anybody votes
        ready = sums and to == VICTIM and isinstance(letter.message, m.Ready)
        return (sender, to) == (unheard, VICTIM) or (sender == VICTIM and proof) or ready

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
    other.append(world.set_of(COORDINATOR, told(unheard)))
    world.name_a_set(COORDINATOR, world.set_of(COORDINATOR, SUMMED))
    world.until(lambda: world.stands(VICTIM, Phase.GATHER) and world.round_of(VICTIM).state.survivors == told(unheard))
    if sums:
        world.say(COORDINATOR, VICTIM, m.SumDigest(attempt_digest(shown[0]), 0, bytes(32), bytes(32)))
        world.until(lambda: world.round_of(VICTIM).state.view)
    world.until(lambda: world.stands("site-0", Phase.UNMASK, Phase.CONFIRM))
    world.release()
    world.to_the_end()
    return world


def check_that_only_the_coordinator_is_accused(world: Attacked) -> None:
    check_that_the_others_go_on(world)
    assert {one.peer for one in world.peers[VICTIM].accused} == {COORDINATOR}
    assert isinstance(world.accused(COORDINATOR)[VICTIM], TwoStatements), (
        "the certified set is another than it was told"
    )
    assert all(COORDINATOR in peer.run.peers.proven for peer in world.peers.values() if peer.run is not None)


def check_that_the_victim_ends(world: Attacked, accused: str) -> None:
    """For want of a quorum that it trusts: it takes an honest site for a liar beside the one that is."""
    error = world.peers[VICTIM].error
    assert error is not None
    assert error.exit_status == 3
    assert {one.peer for one in world.peers[VICTIM].accused} > {accused}


@pytest.mark.claim("LIAR-3")
def test_votes_for_another_set_accuse_none_of_their_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    check_that_only_the_coordinator_is_accused(two_sound_sets(monkeypatch))


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
    check_that_the_victim_ends(two_sound_sets(monkeypatch), "site-0")


# ── READYs ────────────────────────────────────────────────────────────────────────────────────────────────────


def one_owner(patch: pytest.MonkeyPatch) -> None:
    """So few words are one chunk, which the first member of a set owns: in the victim's set that is the liar."""
    patch.setattr(chunks, "LEAST_BYTES", 2048)


@pytest.mark.claim("LIAR-3")
def test_readys_for_sums_of_another_set_accuse_none_of_their_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    one_owner(monkeypatch)
    check_that_only_the_coordinator_is_accused(two_sound_sets(monkeypatch, "site-0", sums=True))


def judged_by_the_own_sums(state: State, letter: Letter[m.Ready]) -> list[e.Effect]:
    """Defence off: for whichever set they are."""
    if letter.sender in state.survivors and state.view and letter.message.view != state.view:
        raise BallotRejected(peer=letter.sender, evidence="READY for other sums than this site checked")
    return ballot.accept_ready(state, letter)


def test_were_they_judged_by_the_victims_own_sums_its_process_would_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for phase in (Phase.MASK, Phase.GATHER, Phase.BALLOT):
        action_off(monkeypatch, phase, m.Ready, judged_by_the_own_sums)
    one_owner(monkeypatch)
    check_that_the_victim_ends(two_sound_sets(monkeypatch, "site-0", sums=True), "site-2")

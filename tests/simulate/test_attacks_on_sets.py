"""Attacks on the set that is summed: by its coordinator, by a dealer, by who would rather be without somebody.

Each is mounted twice: against the code as it is, and with the one defence switched off that stops it. Then it succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.keys import digest
from p2pfl.messages import Letter, Message, read_letter
from p2pfl.sharing import certificate, disclosure, record, state
from p2pfl.sharing import events as e
from p2pfl.sharing.certificate import Composition
from p2pfl.sharing.digests import commitment, edge_commitment, share_leaf
from p2pfl.sharing.phases import members, propose, share
from p2pfl.sharing.state import Phase
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises
from tests.simulate.attackers import (
    Attacked,
    action_off,
    check_that_the_others_go_on,
    chooses_by_hand,
    resealed_as,
    row_off,
    without,
)

COORDINATOR = "site-1"  # of round 1, attempt 0
VICTIM = "site-3"
REST = ("site-0", "site-1", "site-2")


# ── a coordinator that tells one peer another set ─────────────────────────────────────────────────────────────


class ByPositions(Attacked):
    """What a site sums hangs on the positions that the members of its set nominated, as in a training."""

    def __init__(self, **named: object) -> None:
        super().__init__(**named)  # type: ignore[arg-type]
        for peer in self.peers.values():
            peer._quantise = lambda effect, peer=peer: self._positioned(peer, effect)  # type: ignore[method-assign]

    def _positioned(self, peer: SimulatedPeer, effect: e.Quantise) -> None:
        (vector,) = self.update(peer.name, effect.round)
        shifted = np.roll(vector.words, max(map(len, effect.supports)))
        words = (e.Vector(vector.bits, shifted),)
        peer._next.append(e.WordsReady(self.now, effect.round, effect.attempt, words))


def two_faced_coordinator(patch: pytest.MonkeyPatch) -> Attacked:
    """It tells the victim a set in which its own proposal nominates other positions; each of the two is complete."""
    chooses_by_hand(patch, COORDINATOR)

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if not isinstance(message, m.Members) or to != VICTIM:
            return (letter,)
        place = message.survivors.index(COORDINATOR)
        own = read_letter(message.proposes[place])
        other = resealed_as(liar, own, replace(own.message, support=b"\x01")).wire  # type: ignore[type-var]
        proposes = (*message.proposes[:place], other, *message.proposes[place + 1 :])
        return (resealed_as(liar, letter, replace(message, proposes=proposes)),)

    world = ByPositions(liars=[COORDINATOR], lies={COORDINATOR: lie})
    world.begin()
    world.until(lambda: world.heard_all(COORDINATOR))
    world.name_a_set(COORDINATOR, world.set_of(COORDINATOR, world.roster.names))
    world.to_the_end()
    return world


def test_two_sets_of_one_coordinator_come_to_no_sum_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    world = two_faced_coordinator(monkeypatch)
    check_that_the_others_go_on(world)
    assert {"P2P-ROUND-005"} <= {error.code for error in world.accused(COORDINATOR).values()}


def test_were_the_attempt_digest_not_bound_to_the_set_a_wrong_sum_would_be_final(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Words at two kinds of positions are added up, and everybody confirms the sum."""

    def of_the_place(letter: Letter) -> bytes:
        at = letter.envelope
        return digest("attempt", at.run, bytes([at.round, at.attempt]))

    monkeypatch.setattr(state, "attempt_digest", of_the_place)
    monkeypatch.setattr(certificate, "attempt_digest", of_the_place)
    monkeypatch.setattr(record, "attempt_digest", of_the_place)
    world = two_faced_coordinator(monkeypatch)
    assert all(world.total(name) != world.expected(1) for name in world.honest)
    assert len({world.peers[name].disk.ledger[0] for name in world.honest}) == 1
    with pytest.raises(AssertionError, match="wrong sum"):
        promises.one_answer(world, world.honest)


# ── a victim left out on purpose ──────────────────────────────────────────────────────────────────────────────


def leaves_out(patch: pytest.MonkeyPatch, *, early: bool = False) -> Attacked:
    """The coordinator names a set without the victim, who is there, and whom all have heard.

    early   at once, before half-time, so that nothing was passed on
    """
    chooses_by_hand(patch, COORDINATOR)
    world = Attacked(liars=[COORDINATOR])
    world.begin()
    world.until(
        lambda: (
            world.heard_all(COORDINATOR)
            and all(early or world.round_of(name).state.past("half") for name in world.honest)
        )
    )
    world.name_a_set(COORDINATOR, world.set_of(COORDINATOR, REST))
    world.to_the_end()
    return world


def test_a_victim_whom_all_have_heard_is_in_the_sum_whatever_the_coordinator_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = leaves_out(monkeypatch)
    check_that_the_others_go_on(world)
    assert VICTIM not in world.left_out()


def test_were_nothing_passed_on_at_half_time_the_victim_would_be_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for phase in (Phase.SHARE, Phase.PROPOSE):
        row_off(monkeypatch, phase, propose.half_time, None)
    world = leaves_out(monkeypatch)
    assert world.left_out() == [VICTIM]


def test_a_coordinator_that_names_its_set_at_once_leaves_none_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody whose link stands."""
    world = leaves_out(monkeypatch, early=True)
    check_that_the_others_go_on(world)
    assert VICTIM not in world.left_out()


def test_were_early_sets_not_looked_at_the_victim_would_be_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "left_out_early", lambda state, letter: [])
    world = leaves_out(monkeypatch, early=True)
    assert world.left_out() == [VICTIM]


# ── a victim named out by c liars ─────────────────────────────────────────────────────────────────────────────

NAMER = "site-2"  # coordinates attempt 1


def names_out(patch: pytest.MonkeyPatch) -> Attacked:
    """The liar lets attempt 0 fail, names the victim in its ballot, and shows that in its own set of attempt 1."""
    chooses_by_hand(patch, NAMER)

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message, first = letter.message, letter.envelope.attempt == 0
        if first and isinstance(message, m.Ballot):
            return (resealed_as(liar, letter, replace(message, waited_for=(VICTIM,))),)
        return () if first and isinstance(message, (m.Root, m.Chunk)) else (letter,)

    world = Attacked(liars=[NAMER], lies={NAMER: lie})
    world.begin()
    world.until(
        lambda: (
            world.heard_all(NAMER, attempt=1)
            and all(
                world.stands(name, Phase.PROPOSE, attempt=1) and world.round_of(name).state.past("half")
                for name in world.honest
            )
        )
    )
    vote = world.sealed(NAMER, m.Ballot(0, b"", b"", (), (VICTIM,)))
    world.name_a_set(NAMER, world.set_of(NAMER, REST, (vote.wire,)))
    world.to_the_end()
    return world


def test_c_liars_that_name_a_victim_do_not_put_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = names_out(monkeypatch)
    check_that_the_others_go_on(world)
    assert VICTIM not in world.left_out()


def test_were_c_names_enough_the_victim_would_be_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_is_enough(_: object, grounds: Iterable[bytes]) -> dict[str, int]:
        votes = [read_letter(wire).message for wire in grounds]
        return {name: 0 for vote in votes if isinstance(vote, m.Ballot) for name in vote.waited_for}

    monkeypatch.setattr(members, "_excused", one_is_enough)
    world = names_out(monkeypatch)
    assert world.left_out() == [VICTIM]


# ── a twin dealer ─────────────────────────────────────────────────────────────────────────────────────────────

DECEIVED = ("site-0", "site-4")  # they deal the seeds of their edges with the liar


def twin_dealer(patch: pytest.MonkeyPatch) -> Attacked:
    """Two of five hold other bundles of the liar than the one in its own set; it falls silent with the certificate.

    Of its self-mask only two backup shares are left then, and q−1 are three.
    """
    chooses_by_hand(patch, COORDINATOR)

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if isinstance(message, m.Share) and to in DECEIVED and letter.envelope.attempt == 0:
            return (resealed_as(liar, letter, another_bundle(liar, to, letter)),)
        return () if isinstance(message, m.Reveal) else (letter,)

    world = Attacked(5, liars=[COORDINATOR], lies={COORDINATOR: lie})
    world.begin()
    world.until(lambda: world.heard_all(COORDINATOR))
    world.name_a_set(COORDINATOR, world.set_of(COORDINATOR, world.roster.names))
    world.until(
        lambda: (
            not world.clock.step()
            or all(world.stands(name, Phase.UNMASK) or not world.stands(name, *Phase) for name in world.honest)
        )
    )
    world.peers[COORDINATOR].kill()
    world.to_the_end()
    return world


def another_bundle(liar: SimulatedPeer, to: str, letter: Letter) -> Message:
    """The same share, under another bundle."""
    message, names = letter.message, liar.roster.names
    assert isinstance(message, m.Share)
    made = read_letter(message.bundle)
    leaves = [share_leaf(message.salt, edge_commitment(message.salt, message.edge), message.backup)] * len(names)
    other = replace(made.message, shares=merkle.root(leaves))  # type: ignore[type-var]
    bundle = resealed_as(liar, made, other).wire
    return replace(message, bundle=bundle, path=merkle.paths(leaves)[names.index(to)])


def test_a_set_over_two_bundles_of_one_dealer_costs_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    world = twin_dealer(monkeypatch)
    check_that_the_others_go_on(world)
    assert not any(world.peers[name].left for name in world.honest)
    assert {"P2P-ROUND-006"} <= {error.code for error in world.accused(COORDINATOR).values()}


def test_were_acknowledgements_not_compared_one_death_costs_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would cost every peer's update.

    Two checks hold here: that all acknowledged one bundle, and that it is the one that this peer has.
    """

    def of_what_it_carries(letter: Letter, roster: object) -> Composition:
        message = letter.message
        assert isinstance(message, m.Members)
        bundles, proposals = map(read_letter, message.bundles), map(read_letter, message.proposes)
        return Composition({one.sender: one.digest for one in bundles}, {one.sender: one.message for one in proposals})  # type: ignore[misc]

    refusal = members.refusal

    def unless_it_is_another_bundle(*what: object) -> str:
        why = refusal(*what)  # type: ignore[arg-type]
        return "" if "another bundle" in why else why

    monkeypatch.setattr(certificate, "compose", of_what_it_carries)
    monkeypatch.setattr(disclosure, "compose", of_what_it_carries)
    monkeypatch.setattr(members, "refusal", unless_it_is_another_bundle)
    world = twin_dealer(monkeypatch)
    for name in world.honest:
        assert [(one.round, one.sent) for one in world.peers[name].left] == [(1, True)]


# ── a share after the certificate ─────────────────────────────────────────────────────────────────────────────

DEALER = "site-0"


def late_share() -> Attacked:
    """Under the certificate the liar deals to the victim anew, as if it were a new process, and opens that mask."""
    world = Attacked(liars=[DEALER], lies={DEALER: without(m.Reveal, to=(VICTIM,))})
    world.begin()
    world.until(lambda: world.stands(VICTIM, Phase.UNMASK))
    dealt = (letter.message for to, letter in world.log if (letter.sender, to) == (DEALER, VICTIM))
    mine = next(message for message in dealt if isinstance(message, m.Share))
    mask, process = digest("another mask"), bytes(16)
    assert mine.edge == b""  # the victim deals the seed of their edge
    leaves = [share_leaf(mine.salt, edge_commitment(mine.salt, b""), mine.backup)] * 4
    bundle = m.Bundle(commitment("self-mask", mask), commitment("nonce", mask), merkle.root(leaves))
    wire = world.sealed(DEALER, bundle, process=process).wire
    again = m.Share(wire, b"", mine.backup, mine.salt, merkle.paths(leaves)[world.roster.index(VICTIM)])
    world.say(DEALER, VICTIM, again, process=process)
    world.say(DEALER, VICTIM, m.Reveal(((DEALER, mask),)))
    return world


def test_a_share_that_comes_after_the_certificate_changes_no_sum() -> None:
    world = late_share()
    world.to_the_end()
    check_that_the_others_go_on(world)
    assert world.accused(DEALER)[VICTIM].code == "P2P-ROUND-009"


def test_were_share_open_under_the_certificate_the_victim_would_have_a_wrong_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two checks hold here: that the phase is over, and that a set is held."""
    action_off(monkeypatch, Phase.UNMASK, m.Share, share.accept)
    monkeypatch.setattr(state.State, "closed", property(lambda self: False))
    world = late_share()
    world.until(lambda: world.round_of(VICTIM).state.sum.total)
    (total,) = world.round_of(VICTIM).state.sum.total
    assert total.words.tolist() != world.expected(1)


# ── a share behind the set, in one batch ──────────────────────────────────────────────────────────────────────


def share_behind_the_set() -> Attacked:
    """The victim begins late, and takes in one turn all that came early: behind the set, the liar's second share."""

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, (m.Reveal, m.BackupShare)):
            return ()  # so that everybody opens its mask by backup shares
        return (again(), letter) if to == VICTIM and isinstance(letter.message, m.Ready) else (letter,)

    def again() -> Letter:
        dealt = (one.message for to, one in world.log if (one.sender, to) == (DEALER, VICTIM))
        mine = next(one for one in dealt if isinstance(one, m.Share))
        process, place = bytes(16), world.roster.index(VICTIM)
        leaves = [share_leaf(mine.salt, edge_commitment(mine.salt, b""), mine.backup)] * 4
        wire = world.sealed(DEALER, m.Bundle(bytes(32), bytes(32), merkle.root(leaves)), process=process).wire
        return world.sealed(
            DEALER, m.Share(wire, b"", mine.backup, mine.salt, merkle.paths(leaves)[place]), process=process
        )

    def waiting() -> Iterable[Letter]:
        return victim.run.early if victim.run is not None else ()

    world = Attacked(liars=[DEALER], lies={DEALER: lie})
    victim = world.peers[VICTIM]
    victim._begin = lambda: None  # type: ignore[method-assign]
    for peer in world.peers.values():
        world.start(peer)
    world.until(lambda: any(isinstance(one.message, m.BackupShare) for one in waiting()))
    victim._begin = SimulatedPeer._begin.__get__(victim)  # type: ignore[method-assign]
    victim.begin()
    return world


def test_a_share_behind_the_set_in_one_turn_changes_no_bundle() -> None:
    world = share_behind_the_set()
    world.to_the_end()
    check_that_the_others_go_on(world)


def test_were_share_open_until_the_disk_has_the_set_honest_sites_would_be_accused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state.State, "closed", property(lambda self: False))
    world = share_behind_the_set()
    world.to_the_end()
    victim = world.peers[VICTIM]
    assert {one.peer for one in victim.accused} & set(REST) - {DEALER}
    assert victim.error is not None
    assert victim.error.code == "P2P-ROUND-017"

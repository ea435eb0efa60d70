"""What one member's letters may cost the others: a liar can send as many as it likes, each signed and well-formed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.errors.round import MalformedMessage
from p2pfl.sharing import certificate, evidence
from p2pfl.sharing import events as e
from p2pfl.sharing.catchup import CatchUpRules
from p2pfl.sharing.digests import edge_commitment, share_leaf
from p2pfl.sharing.graph import makes
from p2pfl.sharing.parts import Said
from p2pfl.sharing.phases import heard, mask
from p2pfl.sharing.phases.unlinked import PASSED_ON
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase, State
from p2pfl.simulate import SimulatedFederation
from tests.sharing.stopped_rounds import ME, standing

LIAR, PEERS = "site-3", 4


def by_liar(federation: SimulatedFederation, found: Round, message: m.Message, incarnation: bytes = b"") -> m.Letter:
    liar = federation.peers[LIAR]
    place = replace(found.state.envelope, sender=LIAR, incarnation=incarnation or liar.incarnation)
    return m.seal(message, place, liar.identity)


def share_of(federation: SimulatedFederation, found: Round, process: int) -> m.Letter:
    """The share that a made-up process of the liar deals to ME."""
    roster, incarnation = found.state.context.roster, process.to_bytes(16, "big")
    place = roster.index(ME)
    seed = bytes([process]) * 32 if makes(roster.index(LIAR), place, PEERS) else b""
    salts = [bytes([number]) * 32 for number in range(PEERS)]
    shares = [
        share_leaf(salts[number], edge_commitment(salts[number], seed if number == place else b""), b"k" * 32)
        for number in range(PEERS)
    ]
    bundle = by_liar(federation, found, m.Bundle(b"c" * 32, b"n" * 32, merkle.root(shares)), incarnation)
    dealt = m.Share(bundle.wire, seed, b"k" * 32, salts[place], merkle.paths(shares)[place])
    return by_liar(federation, found, dealt, incarnation)


def carried_out(found: Round, effects: list[e.Effect], now: float) -> list[e.Effect]:
    """All that follows, with everything stored at once."""
    all_of_it = list(effects)
    for effect in all_of_it:  # grows while it is walked
        if isinstance(effect, e.Persist):
            all_of_it += found.handle(effect.stored(now))
    return all_of_it


def deals_again_and_again(times: int, *, answered: bool) -> list[e.Ahead]:
    """Masks that ME is asked to expand ahead while the liar deals as one made-up process after another."""
    federation, found = standing(Phase.SHARE, peers=PEERS)
    while len(found.state.proposals.bundles) < PEERS:
        federation.clock.step()
        found = federation.peers[ME].run.current  # type: ignore[union-attr, assignment]
    now, asked = found.state.now, list[e.Ahead]()
    for process in range(1, times + 1):
        now += 60.0  # long enough for the next Ack
        effects = found.handle(e.Received(now, share_of(federation, found, process)))
        effects += found.handle(e.Tick(now + 30.0, found.number, found.attempt))
        new = [one for one in carried_out(found, effects, now + 30.0) if isinstance(one, e.Ahead)]
        asked += new
        for one in new if answered else ():
            found.handle(e.MasksReady(now + 31.0, one.round, one.attempt, one.bundles, ()))
    return asked


def test_masks_are_expanded_ahead_a_few_times_however_often_a_peer_deals_anew() -> None:
    assert 1 <= len(deals_again_and_again(20, answered=True)) <= mask.MOST_AHEAD


def test_no_masks_are_expanded_while_others_still_are() -> None:
    assert len(deals_again_and_again(20, answered=False)) <= 1


def certified() -> tuple[SimulatedFederation, Round, m.Letter[m.Members]]:
    federation, found = standing(Phase.GATHER, peers=PEERS)
    assert found.state.members is not None
    return federation, found, found.state.members


def test_grounds_larger_than_any_vote_convict_whoever_signed_the_set() -> None:
    federation, found, members = certified()
    stuffed = replace(members.message, grounds=(bytes(certificate.MOST_GROUND + 1),))
    letter = by_liar(federation, found, stuffed)
    with pytest.raises(Malformed, match="grounds larger"):
        certificate.compose(letter, found.state.context.roster)
    assert evidence.convict((letter.wire,), found.state.context.roster, found.state.context.run) == LIAR


def test_of_sets_nothing_is_kept_but_a_few_compositions() -> None:
    federation, found, members = certified()
    roster, held = found.state.context.roster, certificate.Compositions(most=2)
    for number in range(5):
        grounds = (number.to_bytes(4, "big"),)
        held.get(by_liar(federation, found, replace(members.message, grounds=grounds)), roster)
    kept = held._found
    assert len(kept) == 2
    assert not any(isinstance(part, m.Letter) for entry in kept.items() for part in (*entry[0], entry[1]))


def test_a_set_is_composed_once() -> None:
    _, found, members = certified()
    roster, held = found.state.context.roster, certificate.Compositions(most=2)
    assert held.get(members, roster) is held.get(m.narrow(m.read_letter(members.wire), m.Members), roster)


def test_an_acknowledgement_said_again_and_again_is_passed_on_once() -> None:
    federation, found = standing(Phase.SHARE, peers=PEERS)
    coordinator = found.state.coordinator
    assert coordinator not in (ME, LIAR)
    ack = by_liar(federation, found, m.Ack((), (coordinator,)))
    sent = [one for _ in range(50) for one in found.handle(e.Received(found.state.now, ack)) if isinstance(one, e.Send)]
    assert [(one.to, type(one.letter.message)) for one in sent] == [(coordinator, m.Held)]


def test_of_one_peers_acknowledgements_few_are_passed_on() -> None:
    federation, found = standing(Phase.SHARE, peers=PEERS)
    coordinator, sent = found.state.coordinator, 0
    for number in range(100):
        ack = by_liar(federation, found, m.Ack(((LIAR, number.to_bytes(32, "big")),), (coordinator,)))
        sent += sum(isinstance(one, e.Send) for one in found.handle(e.Received(found.state.now, ack)))
    assert sent == PASSED_ON * PEERS


def test_what_is_passed_on_to_one_that_does_not_coordinate_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    federation, found = standing(Phase.SHARE, peers=PEERS)
    assert found.state.coordinator != ME
    opened = []
    monkeypatch.setattr(heard, "open_letter", lambda *given: opened.append(given))
    assert found.handle(e.Received(found.state.now, by_liar(federation, found, m.Held((b"?",), (), ())))) == []
    assert not opened


def test_entries_that_nobody_asked_for_are_not_judged() -> None:
    federation = SimulatedFederation(PEERS, seed=0, length=12)
    rules = CatchUpRules(federation.peers[ME].disk, federation.roster, b"")
    unread = ((b"{", ((LIAR, bytes(64)),)),)
    assert rules.rows_that_count(LIAR, m.Entries(0, 1, unread), {}) == []
    assert rules.ask(LIAR, 0.0) is not None
    with pytest.raises(MalformedMessage):
        rules.rows_that_count(LIAR, m.Entries(0, 1, unread), {})
    assert rules.rows_that_count(LIAR, m.Entries(0, 1, unread), {}) == []  # once for each question


def test_how_many_acknowledge_each_bundle_is_counted_once_for_all_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where others pass on another bundle of every peer: it is asked after every letter, of every peer."""
    federation, found = standing(Phase.SHARE, peers=PEERS)
    proposals = found.state.proposals
    counted: list[int] = []
    standing_of = heard._standing

    def counting(state: State) -> Counter[heard.Row]:
        counted.append(1)
        return standing_of(state)

    monkeypatch.setattr(heard, "_standing", counting)
    for name, peer in federation.peers.items():
        place = replace(found.state.envelope, sender=name, incarnation=peer.incarnation)
        other = m.seal(m.Bundle(b"o" * 32, b"n" * 32, bytes(32)), place, peer.identity)
        ack: Any = m.seal(m.Ack((), ()), place, peer.identity)
        proposals.told[name] = Said(other, ack, ack)  # what it proposes is not looked at
    heard.said_by(found.state)
    assert counted == [1]

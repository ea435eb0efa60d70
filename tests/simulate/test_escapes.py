"""What one member says ends no other's process and keeps nobody from the sum, at whatever step it is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter, seal
from p2pfl.sharing import events as e
from p2pfl.sharing import record as records
from p2pfl.sharing.certificate import most_members
from p2pfl.sharing.chunks import Layout, Segment, plan
from p2pfl.sharing.digests import sum_digest
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.federation import Lie
from p2pfl.simulate.peer import SimulatedPeer

LIAR, VICTIM = "site-3", "site-0"
ZEROS = np.zeros(8, FIELDS[61].dtype)


def played(lie: Lie, *, seed: int = 0, peers: int = 4, without: str = "") -> SimulatedFederation:
    """One round of four peers, of which the last lies: every honest one that is there has its sum in the end."""
    federation = SimulatedFederation(peers, rounds=1, seed=seed, lies={LIAR: lie})
    if without:
        start = federation.start
        federation.start = lambda peer: None if peer.name == without else start(peer)  # type: ignore[method-assign]
    federation.run(20_000)
    honest = [peer for name, peer in federation.peers.items() if name not in (LIAR, without)]
    assert [peer.error for peer in honest] == [None] * len(honest)
    assert [len(peer.disk.ledger) for peer in honest] == [1] * len(honest)
    return federation


def again(liar: SimulatedPeer, letter: Letter, message: m.Message, **place: Any) -> Letter:
    """That message at the letter's place, under the liar's own key."""
    return seal(message, replace(letter.envelope, **place), liar.identity)


@pytest.mark.claim("LIAR-9")
def test_an_owner_that_lacks_no_words_is_waited_for_by_name() -> None:
    """It is gone on without."""

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, (m.SumDigest, m.SumChunk, m.Handed, m.Nonce, m.Tags)):
            return ()
        if isinstance(letter.message, m.Root):
            claims = tuple(("ghost", m.Item.CHUNK, index) for index in range(12))
            return letter, again(liar, letter, m.Want("words", claims))
        return (letter,)

    federation = played(lie, seed=3)
    abandoned = [note for note in federation.peers[VICTIM].disk.notes if isinstance(note, e.NoteAbandoned)]
    assert [note.waited_for for note in abandoned] == [(LIAR,)]


@pytest.mark.claim("LIAR-9")
@pytest.mark.parametrize("peers", [4, 7])
def test_an_owner_that_tells_each_that_another_owes_it_words_is_gone_on_without(peers: int) -> None:
    """Everybody hears of the next one's chunk that it is lacking, and nobody of its own."""
    owner = f"site-{peers - 1}"

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, (m.SumDigest, m.SumChunk, m.Handed, m.Nonce, m.Tags)):
            return ()
        if not isinstance(letter.message, m.Root) or liar.round is None:
            return (letter,)
        others = [name for name in liar.round.state.survivors if name != owner]
        if to not in others:
            return (letter,)
        accused = others[(others.index(to) + 1) % len(others)]
        claims = tuple((accused, m.Item.CHUNK, index) for index in range(12))
        return letter, again(liar, letter, m.Want("words", claims))

    federation = SimulatedFederation(peers, rounds=1, seed=3, lies={owner: lie})
    federation.run(20_000)
    for name, peer in federation.peers.items():
        if name != owner:
            assert len(peer.disk.ledger) == 1
            assert len([note for note in peer.disk.notes if isinstance(note, e.NoteAbandoned)]) <= 2


@pytest.mark.claim("LIAR-9")
@pytest.mark.parametrize("seed", range(6))
def test_a_sum_of_another_shape_that_was_refused_leaves_nothing_of_its_shape(seed: int) -> None:
    known: dict[str, Any] = {}

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if isinstance(message, m.Root) and liar.round is not None:
            known.update(attempt=message.attempt_digest, owners=liar.round.state.owners)
        if to != VICTIM or not isinstance(message, (m.SumChunk, m.Total)):
            return (letter,)
        if isinstance(message, m.SumChunk) or "told" in known:
            return ()
        known["told"] = True
        made = [again(liar, letter, m.Total(1, segment, 61, 8, 0, ZEROS.tobytes(), 2)) for segment in (0, 1)]
        attempt = known["attempt"]
        for piece in plan(Layout((Segment(61, 8), Segment(61, 8))), 4):
            if piece.segment == 1 and known["owners"][piece.owner_position] == LIAR:
                words = ZEROS[: piece.count]
                digest = sum_digest(attempt, piece.index, words)
                made.append(again(liar, letter, m.SumDigest(attempt, piece.index, digest, bytes(32))))
                made.append(again(liar, letter, m.SumChunk(attempt, piece.index, words.tobytes())))
        return made

    played(lie, seed=seed)


@pytest.mark.claim("LIAR-9")
def test_a_holder_that_repeats_the_beginning_of_the_sum_is_left_for_another_one() -> None:
    told: list[Letter] = []

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if to != VICTIM or not isinstance(letter.message, (m.SumChunk, m.Handed, m.Total)):
            return (letter,)
        if not isinstance(letter.message, m.Total) or told:
            return ()
        told.append(again(liar, letter, m.Total(1, 0, 61, 8, 0, ZEROS.tobytes(), 2)))
        world: Any = liar.world

        def repeat() -> None:
            if not world.peers[VICTIM].disk.ledger:
                world._carry(LIAR, VICTIM, told[0])
                world.clock.at(world.now + 5.0, repeat)

        world.clock.at(world.now + 0.1, repeat)
        return ()

    federation = played(lie, seed=2)
    assert told
    assert federation.now < 500.0


@pytest.mark.claim("LIAR-9")
@pytest.mark.parametrize("seed", range(3))
def test_a_peer_that_confirms_two_sums_is_named(seed: int) -> None:
    """What it confirmed first stands."""

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if not isinstance(message, m.Want) or message.what != "nothing" or liar.run is None:
            return (letter,)
        done = liar.run.previous or liar.run.current
        assert done is not None and done.state.members is not None
        (_, model, outcome), other = records.said(done.state.confirming.record), b"\x55" * 32
        record = records.make(done.state.members, done.state.view, liar.roster, other, model, outcome)
        confirm = m.Confirm(other, model, outcome, liar.identity.sign("record", record))
        return letter, again(liar, letter, confirm), again(liar, letter, m.Want("sum", ()))

    federation = played(lie, seed=seed, without="site-2")
    assert {one.peer for one in federation.peers[VICTIM].accused} == {LIAR}


@pytest.mark.claim("LIAR-9")
def test_positions_that_burst_the_set_are_not_held_whoever_passes_them_on() -> None:
    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message, current = letter.message, liar.run.current if liar.run is not None else None
        if not isinstance(message, m.Propose) or current is None:
            return () if isinstance(message, m.Held) else (letter,)
        big = again(liar, letter, replace(message, support=bytes(4 << 20)))
        return (again(liar, letter, m.Held((), (big.wire,), ())),) if to == current.state.coordinator else ()

    names = [f"site-{number}" for number in (9, 10, 11, 12)]
    federation = SimulatedFederation(13, rounds=1, seed=2, lies=dict.fromkeys(names, lie))
    federation.run(30_000)
    assert all(len(peer.disk.ledger) == 1 for name, peer in federation.peers.items() if name not in names)


@pytest.mark.claim("LIAR-9")
def test_a_set_too_large_for_any_certificate_is_refused_and_its_coordinator_named() -> None:
    coordinator = "site-1"  # of round 1, attempt 0

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if not isinstance(message, m.Members) or letter.envelope.attempt:
            return (letter,)
        chunk = again(liar, letter, m.Chunk(bytes(32), 0, bytes(511 << 10))).wire
        padded = again(liar, letter, replace(message, grounds=(chunk,) * 30))
        assert most_members(liar.roster) < padded.size <= m.LARGE
        return (padded,)

    federation = SimulatedFederation(4, rounds=1, seed=3, lies={coordinator: lie})
    federation.run(20_000)
    for name, peer in federation.peers.items():
        if name != coordinator:
            assert (coordinator, "P2P-ROUND-006") in {(one.peer, one.error.code) for one in peer.accused}
            assert len(peer.disk.ledger) == 1


@pytest.mark.claim("LIAR-9")
def test_proofs_of_nothing_are_noted_once_a_round_whatever_round_they_say() -> None:
    told: set[str] = set()

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if to in told or not isinstance(letter.message, m.Ack):
            return (letter,)
        told.add(to)
        return letter, *(again(liar, letter, m.Evidence(()), round=number) for number in range(100, 200))

    federation = played(lie, seed=1)
    assert [len(federation.peers[name].accused) for name in ("site-0", "site-1", "site-2")] == [1, 1, 1]


NOBODY = ("Évil\n",)


@pytest.mark.claim("LIAR-9")
def test_an_abandon_that_names_nobody_enters_no_log() -> None:
    liar_first = "site-0"  # among the first ballots that make a certificate

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if isinstance(message, (m.SumDigest, m.SumChunk, m.Handed, m.Nonce, m.Tags)):
            return ()
        if isinstance(message, m.Ballot) and not message.survivors:
            return (again(liar, letter, replace(message, waited_for=NOBODY)),)
        if isinstance(message, m.Share):
            return letter, again(liar, letter, m.Ballot(0, b"", b"", (), NOBODY))
        return (letter,)

    federation = SimulatedFederation(4, rounds=1, seed=2, lies={liar_first: lie})
    federation.run(20_000)
    for name, peer in federation.peers.items():
        if name != liar_first:
            named = [note.waited_for for note in peer.disk.notes if isinstance(note, e.NoteAbandoned)]
            assert named
            assert not any(NOBODY[0] in names for names in named)
            assert len(peer.disk.ledger) == 1


@pytest.mark.claim("LIAR-9")
def test_a_leave_that_names_nobody_enters_no_log() -> None:
    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if not isinstance(letter.message, m.Ack):
            return (letter,) if isinstance(letter.message, m.Share) else ()
        return letter, again(liar, letter, m.Leave(NOBODY))

    federation = played(lie)
    for name in ("site-0", "site-1", "site-2"):
        peer = federation.peers[name]
        assert (LIAR, "P2P-ROUND-002") in {(one.peer, one.error.code) for one in peer.accused}

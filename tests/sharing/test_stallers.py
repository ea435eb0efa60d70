"""One liar that withholds or spoils one kind of letter: the others name it, go on without it, accuse nobody else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.messages import Letter, Message
from p2pfl.sharing import events as e
from p2pfl.sharing import forms
from p2pfl.sharing.digests import chunk_leaf, sum_digest
from p2pfl.sharing.field import Field, bytes_of
from p2pfl.sharing.phases import ballot
from p2pfl.sharing.state import Phase
from p2pfl.simulate import Lie, SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.liars import altering, resealed, run, with_fields
from tests.sharing.stopped_rounds import standing
from tests.simulate import promises

LIAR, COORDINATOR = "site-0", "site-1"  # of round 1, attempt 0
KINDS = [
    m.Share,
    m.Ack,
    m.Propose,
    m.Held,
    m.Root,
    m.Chunk,
    m.SumDigest,
    m.Nonce,
    m.SumChunk,
    m.Tags,
    m.Ready,
    m.Ballot,
    m.Certificate,
    m.Reveal,
    m.BackupShare,
    m.Confirm,
    m.Want,
    m.Handed,
]
H = bytes(32)
SPOILT: dict[str, Lie] = {
    "its nonce for another view": altering(m.Nonce, with_fields(view=H)),
    "its nonce for another view, to one": altering(m.Nonce, with_fields(view=H), to=["site-2"]),
    "another nonce": altering(m.Nonce, with_fields(nonce=H)),
    "tags under another challenge": altering(m.Tags, with_fields(challenge=H)),
    "tags under another challenge, to one": altering(m.Tags, with_fields(challenge=H), to=["site-2"]),
    "no tags": altering(m.Tags, with_fields(tags=b"")),
    "false tags": altering(
        m.Tags, lambda liar, peer, letter: m.Tags(letter.message.challenge, bytes(len(letter.message.tags)))
    ),  # type: ignore[attr-defined]
    "tags that are no words of the field": altering(
        m.Tags, lambda liar, peer, letter: m.Tags(letter.message.challenge, b"\xff" * len(letter.message.tags))
    ),  # type: ignore[attr-defined]
    "tags that are no words of the field, to one": altering(
        m.Tags,
        lambda liar, peer, letter: m.Tags(letter.message.challenge, b"\xff" * len(letter.message.tags)),
        to=["site-2"],
    ),  # type: ignore[attr-defined]
    "a root of another shape": altering(m.Root, with_fields(segments=((31, 20),))),
    "a root without leaves": altering(m.Root, with_fields(leaves=b"")),
    "a digest of no sum": altering(m.SumDigest, with_fields(sum_digest=H)),
    "a digest under other roots": altering(m.SumDigest, with_fields(roots=H)),
    "READY for another view": altering(m.Ready, with_fields(view=H)),
    "a bundle of no shares": altering(m.Share, with_fields(path=())),
    "an acknowledgement of nothing": altering(m.Ack, with_fields(held=())),
    "an acknowledgement of other bundles": altering(
        m.Ack, lambda liar, peer, letter: m.Ack(tuple((name, H) for name, _ in letter.message.held), ())
    ),  # type: ignore[attr-defined]
    "a proposal on another model": altering(m.Propose, with_fields(model=H)),
    "a deadline of a year": altering(m.Propose, with_fields(deadline_ms=365 * 24 * 3_600_000)),
    "a deadline of nothing": altering(m.Propose, with_fields(deadline_ms=0)),
    "a seed that is not its own": altering(m.Reveal, with_fields(seeds=(("site-0", H),))),
    "questions without end": altering(m.Want, with_fields(lacking=(("site-2", m.Item.CHUNK, 0),) * 400)),
}


@pytest.fixture(autouse=True)
def nothing_is_checked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that stays true would check the same tags again and again, within one event."""
    calls, add = itertools.count(), forms.add

    def counted(field: Field, tags: Sequence[bytes], chunks: int) -> bytes:
        if next(calls) > 20_000:
            raise AssertionError("the same tags are checked for ever")
        return add(field, tags, chunks)

    monkeypatch.setattr(forms, "add", counted)


def judged(lies: dict[str, Lie], peers: int = 4) -> SimulatedFederation:
    federation = run(lies, peers=peers, rounds=2, steps=30_000)
    promises.check(federation, beside=lies)
    for name, peer in federation.peers.items():
        if name not in lies:
            assert peer.error is None, f"{name}: {peer.error.render()}"
            assert peer.final_round == 2, f"{name} stands in round {peer.run and peer.run.number}"
    named = {one.peer for name, peer in federation.peers.items() if name not in lies for one in peer.accused}
    assert named <= set(lies), f"{named} are accused"
    return federation


def silent(kind: type[Message], to: list[str] | None = None) -> Lie:
    nothing: Callable[..., tuple[Message, ...]] = lambda *_: ()  # noqa: E731
    return altering(kind, nothing, to=to)


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_peer_that_withholds_one_kind_of_letter_from_all_stalls_nobody(kind: type[Message]) -> None:
    judged({LIAR: silent(kind)})


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_peer_that_withholds_one_kind_of_letter_from_one_other_stalls_nobody(kind: type[Message]) -> None:
    judged({LIAR: silent(kind, ["site-2"])})


@pytest.mark.parametrize("kind", [*KINDS, m.Members], ids=lambda kind: kind.__name__)
def test_a_coordinator_that_withholds_one_kind_of_letter_stalls_nobody(kind: type[Message]) -> None:
    judged({COORDINATOR: silent(kind)})


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("name", SPOILT)
def test_a_peer_that_spoils_one_kind_of_letter_stalls_nobody(name: str) -> None:
    judged({LIAR: SPOILT[name]})


def test_an_owner_whose_memory_failed_finds_out_itself() -> None:
    """One bit of a sum turned before its digest was signed: it stops, and the others prove it and go on."""
    told: dict[object, Letter] = {}

    def fails(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if not isinstance(message, (m.SumDigest, m.SumChunk)) or liar.round is None:
            return (letter,)
        key, state = (promises.place_of(letter), message.index), liar.round.state
        if isinstance(message, m.SumChunk):
            return (resealed(liar, letter, replace(message, words=bytes_of(state.gathering.sums[message.index]))),)
        if key not in told:
            words = state.gathering.sums[message.index]
            words ^= np.uint64(1)
            digest = sum_digest(message.attempt_digest, message.index, words)
            told[key] = state.gathering.sum_digests[message.index] = resealed(
                liar, letter, replace(message, sum_digest=digest)
            )
        return (told[key],)

    federation = judged({LIAR: fails})
    assert all(
        LIAR in peer.run.peers.proven
        for name, peer in federation.peers.items()
        if name != LIAR and peer.run is not None
    )
    assert federation.peers[LIAR].error is not None


@pytest.mark.parametrize("under", ["its own attempt", "another"])
def test_an_owner_that_opens_no_words_is_the_one_that_is_named(under: str) -> None:
    """So is one that opens words of another attempt.

    Its root holds the hash of three bytes for a chunk that it sums itself; its tag is false; it opens the bytes.
    """
    told: set[object] = set()

    def opens(liar: SimulatedPeer, attempt: bytes, letter: Letter, given: dict[str, bytes]) -> None:
        for author, data in given.items():
            made = resealed(liar, letter, m.Opened(attempt, 0, author, data))
            for to in liar.roster.names:
                if to != liar.name:
                    liar.world._carry(liar.name, to, made)  # type: ignore[attr-defined]

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        message = letter.message
        if isinstance(message, m.Root):
            first = merkle.leaf_hash(chunk_leaf(message.attempt_digest, 0, b"xyz"))
            return (resealed(liar, letter, replace(message, leaves=first + message.leaves[32:])),)
        if not isinstance(message, m.Tags) or liar.round is None:
            return (letter,)
        if promises.place_of(letter) not in told:
            told.add(promises.place_of(letter))
            state = liar.round.state
            given = {name: words.tobytes() for name, words in state.masking.contributed[0].items()} | {LIAR: b"xyz"}
            attempt = state.attempt_digest if under == "its own attempt" else bytes(32)
            liar.world.clock.at(liar.world.now + 4.0, lambda: opens(liar, attempt, letter, given))  # type: ignore[attr-defined]
        return (resealed(liar, letter, replace(message, tags=bytes(8) + message.tags[8:])),)

    judged({LIAR: lie})


# ── two things withheld at once ───────────────────────────────────────────────────────────────────────────────


def withholding(kinds: tuple[type[Message], ...], to: Sequence[str]) -> Lie:
    """Letters of these kinds never reach `to`; also not when they are repeated, or handed on by the liar itself."""

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        return () if peer in to and isinstance(letter.message, (*kinds, m.Handed)) else (letter,)

    return lie


@pytest.mark.parametrize("peers", [4, 5])
def test_a_peer_that_alone_gets_no_seed_has_the_sum_from_the_final(
    peers: int,
) -> None:
    """It gets no confirmation either.

    The others have q confirmations and destroy what they need no more; one lacks the seed, and one for a quorum.
    """
    judged({LIAR: withholding((m.Reveal, m.Confirm), ["site-2"])}, peers)


def test_a_peer_one_confirmation_short_learns_it_from_the_final() -> None:
    """site-3 was away for both rounds, and takes over what it missed: no fourth confirmation will ever come."""
    federation = SimulatedFederation(4, rounds=2, length=8, lies={LIAR: withholding((m.Confirm,), ["site-2"])})
    start = federation.start
    absent = federation.peers["site-3"]
    federation.start = lambda peer: start(peer) if peer is not absent else None  # type: ignore[method-assign]
    federation.clock.at(300.0, lambda: start(absent))
    federation.run(60_000)
    promises.check(federation, beside=[LIAR])
    assert [len(federation.peers[name].disk.ledger) for name in ("site-1", "site-2", "site-3")] == [2, 2, 2]


def test_who_is_outside_a_set_repeats_nobodys_word_of_whom_it_waits_for() -> None:
    """It lacks the Root of every member: one liar's word would be as many words as there are outsiders."""
    for outside, named in ((False, True), (True, False)):
        federation, found = standing(Phase.GATHER, peers=4)
        state = found.state
        assert state.members is not None and state.gathering is not None
        others = [name for name in state.names if name != state.context.me]
        for root in others[1:]:
            state.gathering.roots.pop(root, None)
        if outside:
            without_me = replace(state.members.message, survivors=tuple(others))
            state.members = m.seal(without_me, state.members.envelope, federation.peers[state.coordinator].identity)
        for voter in others[:2]:
            ballot_of = m.Ballot(0, state.attempt_digest, b"", (), (others[2],))
            place = replace(state.envelope, sender=voter)
            state.voting.ballots[voter] = m.seal(ballot_of, place, federation.peers[voter].identity)
        assert ballot._reason(state) == ((others[2],) if named else ())


def test_who_is_carried_on_by_leaves_carries_the_others_on_too() -> None:
    """One of the LEAVEs may be a liar's, who told it to this peer alone: without it the others lack one for ever."""
    federation, found = standing(Phase.BALLOT, peers=4)
    state, wires = found.state, []
    effects: list[e.Effect] = []
    for name in state.context.others:
        peer = federation.peers[name]
        place = m.Envelope(peer.run_id, 1, found.number, found.attempt, name, peer.incarnation)
        letter = m.seal(m.Leave(()), place, peer.identity)
        wires.append(letter.wire)
        effects += found.handle(e.Received(state.now, letter))
    assert [type(one) for one in effects if isinstance(one, e.LeftBehind)] == [e.LeftBehind]
    effects += [more for one in effects if isinstance(one, e.Persist) for more in found.handle(one.stored(state.now))]
    told = [one.letter.message for one in effects if isinstance(one, e.Send) and one.to is None]
    own = [one for one in told if isinstance(one, m.Leave)]
    handed = {wire for one in told if isinstance(one, m.Handed) for wire in one.letters}
    assert own or handed >= set(wires)

"""One liar among four, when it is voted and confirmed: its sender alone is accused of a lie, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from p2pfl import codec
from p2pfl import messages as m
from p2pfl.errors import round as errors
from p2pfl.messages import Letter, Message
from p2pfl.simulate import Lie, outcome_of
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.liars import altering, proven, refused, resealed, run, with_fields
from tests.simulate import promises

LIAR = "site-0"


# ── BALLOT ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_ready_for_other_sums_is_refused() -> None:
    refused({LIAR: altering(m.Ready, with_fields(view=bytes(32)))}, errors.BallotRejected, "READY for other sums")


def test_a_ready_under_another_set_is_judged_by_nobody() -> None:
    """Its author may have been told another sound set, by a coordinator with two faces."""
    lies = {LIAR: altering(m.Ready, with_fields(attempt_digest=bytes(32), view=bytes(32)))}
    federation = run(lies)
    assert [one.error for peer in federation.peers.values() for one in peer.accused] == []
    promises.check(federation, beside=lies)
    promises.everything_is_final(federation, beside=lies)


def test_two_ballots_in_one_attempt_are_two_statements() -> None:
    two = [m.Ballot(0, b"", b"", (), named) for named in ((), ("site-2",))]
    lie = altering(m.Tags, lambda liar, peer, letter: [letter, *two])
    assert proven(refused({LIAR: lie}, errors.TwoStatements, "Ballot")) == {LIAR}


def naming(*names: str) -> Lie:
    return altering(m.Ballot, with_fields(readys=names))


BALLOTS = {
    "on too few READYs": naming("site-0", "site-1"),
    "on one READY many times": naming(*(["site-1"] * 4)),
    "on no READYs": naming(),
    "on READYs of a stranger": naming("site-0", "site-1", "site-2", "eve"),
    "on READYs in another order": naming("site-2", "site-1", "site-0"),
    "an ABANDON on READYs": altering(m.Ballot, with_fields(survivors=0)),
}


@pytest.mark.parametrize("name", BALLOTS)
def test_a_ballot_that_does_not_say_what_one_must_say_is_refused(name: str) -> None:
    refused({LIAR: BALLOTS[name]}, errors.BallotRejected)


def beside(kind: type[Message], make: Callable[[SimulatedPeer, Letter], Message | Letter]) -> Lie:
    """With the first letter of a kind to each peer, one more."""
    return altering(kind, lambda liar, peer, letter: [letter, make(liar, letter)], once=True)


def own_ballots(liar: SimulatedPeer, letter: Letter, count: int, **envelope: int) -> Message:
    ballot = resealed(liar, letter, m.Ballot(0, b"", b"", (), ()), **envelope)
    return m.Certificate((ballot.wire,) * count, b"")


CERTIFICATES = {
    "of nothing": lambda liar, letter: m.Certificate((), b""),
    "of one ballot, many times": lambda liar, letter: own_ballots(liar, letter, 4),
    "of ballots of another attempt": lambda liar, letter: own_ballots(liar, letter, 4, attempt=5),
    "of a later attempt, without its quorum": lambda liar, letter: resealed(
        liar, letter, own_ballots(liar, letter, 4, attempt=5), attempt=5
    ),
    "with garbage as ballot": lambda liar, letter: m.Certificate((b"\x00",) * 4, b""),
    "with garbage as members": lambda liar, letter: m.Certificate((), b"\x00"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_decides_nothing_is_refused(name: str) -> None:
    refused({LIAR: beside(m.Ack, CERTIFICATES[name])}, errors.BallotRejected)


# ── UNMASK and CONFIRM ────────────────────────────────────────────────────────────────────────────────────────


def test_a_self_mask_that_was_not_committed_to_is_refused() -> None:
    refused({LIAR: altering(m.Reveal, with_fields(seeds=(("site-0", bytes(32)),)))}, errors.SeedRejected, "self-mask")


def test_a_wrong_seed_of_another_is_refused_under_its_senders_name() -> None:
    lie = altering(m.Reveal, with_fields(seeds=(("site-2", bytes(32)),)))
    refused({LIAR: lie}, errors.SeedRejected, "the one of site-2")


def other_sum(liar: SimulatedPeer, peer: str, letter: Letter) -> Message:
    """A confirmation of another sum, under a good signature over the record that it makes."""
    assert isinstance(letter.message, m.Confirm)
    assert liar.round is not None
    record = codec.facts({**codec.read_facts(liar.round.state.confirming.record), "total": "00" * 32})
    return replace(letter.message, total=bytes(32), cosignature=liar.identity.sign("record", record))


def test_a_record_that_differs_is_refused_and_says_where() -> None:
    refused({LIAR: altering(m.Confirm, other_sum)}, errors.RecordDiffers, "total differ")


def test_an_outcome_that_is_no_canonical_facts_is_refused() -> None:
    lie = altering(m.Confirm, with_fields(outcome=b'{"b":1,"a":2}'))
    refused({LIAR: lie}, errors.MalformedMessage, "canonical")


def test_a_record_without_its_signature_is_refused() -> None:
    refused({LIAR: altering(m.Confirm, with_fields(cosignature=bytes(64)))}, errors.RecordDiffers, "signature")


# ── the door ──────────────────────────────────────────────────────────────────────────────────────────────────

KINDS = [m.Share, m.Ack, m.Propose, m.Root, m.SumDigest, m.Nonce, m.Ready, m.Ballot, m.Reveal, m.Confirm]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
@pytest.mark.parametrize("place", [{"epoch": 2}, {"run": bytes(32)}], ids=["epoch", "run"])
def test_a_letter_of_another_epoch_or_run_convicts_nobody_honest(kind: type[Message], place: dict[str, object]) -> None:
    """It is refused before it can make an honest peer look like a liar."""
    lie = altering(kind, lambda liar, peer, letter: resealed(liar, letter, **place))
    refused({LIAR: lie}, errors.UnexpectedMessage, kind.__name__)


def test_without_a_liar_that_sends_nothing_at_all_the_others_have_their_result() -> None:
    federation = run({LIAR: lambda liar, peer, letter: ()})
    promises.check(federation, beside=[LIAR])
    promises.everything_is_final(federation, beside=[LIAR])
    (one,) = outcome_of(federation).rounds
    assert LIAR not in one.survivors


def test_an_accusation_that_proves_nothing_falls_back_on_the_accuser() -> None:
    lie = beside(m.Ack, lambda liar, letter: m.Evidence((letter.wire,)))
    refused({LIAR: lie}, errors.EvidenceRejected)

"""Every pair of (phase, event): a row, an ignore with reason, keep, later, or refused; a refusal changes nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.errors import LocalProtocolError, P2PFLError, RemoteProtocolError
from p2pfl.errors.round import NotInThisVersion, UnexpectedEvent, UnexpectedMessage
from p2pfl.messages import Letter, Message
from p2pfl.sharing import events as e
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase
from p2pfl.sharing.table import EVENTS, READY, Ignore, Keep, Later, Row
from p2pfl.simulate import SimulatedFederation
from tests.sharing.standing import copied, picture, standing

SENDER, H, S = "site-0", bytes(32), bytes(64)
SAMPLES: dict[type[Message], Message] = {
    m.Bundle: m.Bundle(H, H, H),
    m.Share: m.Share(b"\x00", b"", b"", H, ()),
    m.Ack: m.Ack((("site-0", H),)),
    m.Propose: m.Propose(H, H, b"{}", b"", 1, 1, "0", H),
    m.Members: m.Members(("site-0",), (), (), ("site-0",), 1),
    m.Held: m.Held((), ()),
    m.Root: m.Root(H, H),
    m.Chunk: m.Chunk(H, 0, b"\x00" * 8, ()),
    m.SumDigest: m.SumDigest(H, 0, H),
    m.Nonce: m.Nonce(H, H),
    m.SumChunk: m.SumChunk(H, 0, b"\x00" * 8),
    m.Tags: m.Tags(H, ()),
    m.Ready: m.Ready(H, H),
    m.Ballot: m.Ballot(1, H, H, (), ()),
    m.Certificate: m.Certificate((), b""),
    m.Leave: m.Leave(()),
    m.Reveal: m.Reveal(((SENDER, H),)),
    m.BackupShare: m.BackupShare(()),
    m.Confirm: m.Confirm(b"{}", S),
    m.Want: m.Want("total"),
    m.Total: m.Total(0, 61, 1, 0, b"\x00" * 8, 1),
    m.Hello: m.Hello(H, H, S, b"", 0, 0, H, "", ()),
}
PROPOSAL = e.Proposal(H, b"{}", b"", 1, 1, "0", H)
OWN = [e.Begin, e.UpdateReady, e.WordsReady, e.Applied, e.Dealt, e.Accepted, e.SumsStored, e.BallotStored,
       e.CertificateStored, e.RecordStored, e.ProposeDeadline, e.GatherDeadline, e.LinkUp]  # fmt: skip
NOW = 1e6


@cache
def stood(phase: Phase) -> tuple[SimulatedFederation, Round]:
    return standing(phase)


def at(phase: Phase) -> tuple[SimulatedFederation, Round]:
    federation, found = stood(phase)
    return federation, copied(found)


def letter(federation: SimulatedFederation, found: Round, message: Message, attempt: int = 0) -> Letter:
    peer, state = federation.peers[SENDER], found.state
    place = m.Envelope(peer.run, 1, state.round, state.attempt + attempt, SENDER, peer.incarnation)
    return m.seal(message, place, peer.identity)


def own(kind: type[e.Event], found: Round) -> e.Event:
    place = (NOW, found.number, found.attempt)
    special: dict[type[e.Event], e.Event] = {
        e.Begin: e.Begin(NOW),
        e.UpdateReady: e.UpdateReady(NOW, found.number, PROPOSAL),
        e.WordsReady: e.WordsReady(*place, ()),
        e.Applied: e.Applied(NOW, H, {}),
        e.LinkUp: e.LinkUp(NOW, SENDER, bytes(16)),
    }
    made: Any = kind
    return special[kind] if kind in special else made(*place)


def test_the_samples_are_all_kinds_of_message_and_of_event() -> None:
    assert set(SAMPLES) == set(m.KINDS.values())
    leaves = {kind for kind in vars(e).values() if isinstance(kind, type) and issubclass(kind, e.Event)}
    assert set(OWN) == leaves - {e.Event, e.OfAttempt, e.Received}


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_a_letter_has_a_row_or_is_ignored_kept_or_refused_under_its_senders_name(
    phase: Phase, kind: type[Message]
) -> None:
    federation, found = at(phase)
    sent, before, cell = letter(federation, found, SAMPLES[kind]), picture(found), EVENTS.get((phase, kind))
    event = e.Received(NOW, sent)
    if isinstance(cell, Ignore):
        assert len(cell.reason) > 10
        assert found.handle(event) == []
        assert picture(found) == before
    elif isinstance(cell, Keep):
        assert found.handle(event) == []
        assert list(found._early.values()) == [sent] or sent in found._early.values()
        found._early.clear()
        before["_early"] = {}
        assert picture(found) == before
    elif isinstance(cell, Later):
        assert len(cell.reason) > 10
        with pytest.raises(NotInThisVersion) as later:
            found.handle(event)
        assert later.value.fields["peer"] == SENDER
        assert picture(found) == before
    elif cell is None:
        with pytest.raises(UnexpectedMessage) as refused:
            found.handle(event)
        assert refused.value.fields == {"peer": SENDER, "message": kind.__name__, "phase": phase.name}
        assert picture(found) == before
    else:
        _handled_or_unchanged(found, event)


def _handled_or_unchanged(found: Round, event: e.Event) -> None:
    before = picture(found)
    try:
        found.handle(event)
        return
    except P2PFLError as error:
        refusal = error
    assert picture(found) == before, f"{refusal!r} left its traces"
    if isinstance(event, e.Received):
        assert refusal.fields["peer"] == event.letter.sender
        assert not isinstance(refusal, LocalProtocolError)


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_an_event_of_this_nodes_own_has_a_row_or_is_ignored_or_refused_as_our_own_fault(
    phase: Phase, kind: type[e.Event]
) -> None:
    _, found = at(phase)
    before, cell, event = picture(found), EVENTS.get((phase, kind)), own(kind, found)
    if isinstance(cell, Ignore):
        assert found.handle(event) == []
        assert picture(found) == before
    elif cell is None:
        with pytest.raises(UnexpectedEvent) as refused:
            found.handle(event)
        assert refused.value.fields == {"event": kind.__name__, "phase": phase.name}
        assert picture(found) == before
    else:
        assert isinstance(cell, Row)
        _handled_or_unchanged(found, event)


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_answers_and_timers_of_an_attempt_that_is_over_tell_nothing(phase: Phase) -> None:
    _, found = at(phase)
    before = picture(found)
    for kind in OWN:
        if issubclass(kind, e.OfAttempt):
            event = own(kind, found)
            made: Any = kind
            more = (event.vectors,) if isinstance(event, e.WordsReady) else ()
            assert found.handle(made(NOW, found.number, found.attempt + 1, *more)) == []
    assert found.handle(e.UpdateReady(NOW, found.number + 1, PROPOSAL)) == []
    assert picture(found) == before


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_letters_of_another_round_are_refused_and_letters_of_an_older_attempt_tell_nothing(phase: Phase) -> None:
    federation, found = at(phase)
    found.state.attempt = 3
    before = picture(found)
    for message in SAMPLES.values():
        assert found.handle(e.Received(NOW, letter(federation, found, message, attempt=-1))) == []
        peer = federation.peers[SENDER]
        other = m.Envelope(peer.run, 1, found.number + 1, 3, SENDER, peer.incarnation)
        with pytest.raises(UnexpectedMessage) as refused:
            found.handle(e.Received(NOW, m.seal(message, other, peer.identity)))
        assert refused.value.fields["peer"] == SENDER
    assert picture(found) == before


def test_ready_rows_lead_only_to_phases_and_a_final_round_moves_no_more() -> None:
    assert set(READY) == set(Phase)
    assert READY[Phase.FINAL] == ()
    moves = {(phase, row.next) for (phase, _), row in EVENTS.items() if isinstance(row, Row)}
    moves |= {(phase, row.next) for phase, rows in READY.items() for row in rows}
    order = list(Phase)
    back = {(a.name, b.name) for a, b in moves if order.index(b) < order.index(a)}
    assert back == {(phase, "SHARE") for phase in ("PROPOSE", "MASK", "GATHER", "BALLOT")}, "only ABANDON leads back"


def test_every_error_of_the_door_is_a_peers_fault_and_never_ours() -> None:
    assert issubclass(UnexpectedMessage, RemoteProtocolError)
    assert issubclass(NotInThisVersion, RemoteProtocolError)
    assert issubclass(UnexpectedEvent, LocalProtocolError)

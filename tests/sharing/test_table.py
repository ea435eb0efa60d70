"""Every pair of (phase, event): a row, an ignore with reason, keep, or refused; a refusal changes nothing."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.errors import LocalProtocolError, RemoteProtocolError
from p2pfl.errors.round import UnexpectedEvent, UnexpectedMessage
from p2pfl.messages import Letter, Message
from p2pfl.sharing import events as e
from p2pfl.sharing import table
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase
from p2pfl.sharing.table import EVENTS, GUARDED, Ignore, Keep, Transition
from p2pfl.simulate import SimulatedFederation
from tests.sharing.stopped_rounds import copied, picture, standing

SENDER, H, S = "site-0", bytes(32), bytes(64)
WORDS = b"\x00" * 8
SAMPLES: dict[type[Message], Message] = {
    m.Bundle: m.Bundle(H, H, H),
    m.Share: m.Share(b"\x00", b"", H, H, ()),
    m.Ack: m.Ack((("site-0", H),), ()),
    m.Propose: m.Propose(H, 0, H, H, b"{}", b"", 1, 1, "0", H, b""),
    m.Members: m.Members(("site-0",), (), (), (), ("site-0",), 1, ()),
    m.Held: m.Held((), (), ()),
    m.Root: m.Root(H, ((61, 12),), H),
    m.Chunk: m.Chunk(H, 0, WORDS),
    m.SumDigest: m.SumDigest(H, 0, H, H),
    m.Nonce: m.Nonce(H, H),
    m.SumChunk: m.SumChunk(H, 0, WORDS),
    m.Tags: m.Tags(H, b""),
    m.Opened: m.Opened(H, 0, SENDER, WORDS),
    m.Ready: m.Ready(H, H),
    m.Ballot: m.Ballot(1, H, H, (), ()),
    m.Certificate: m.Certificate((), b""),
    m.Leave: m.Leave(()),
    m.Handed: m.Handed(()),
    m.Evidence: m.Evidence(()),
    m.Reveal: m.Reveal(((SENDER, H),)),
    m.BackupShare: m.BackupShare(((SENDER, H, H, H, ()),)),
    m.Confirm: m.Confirm(H, H, b"{}", S),
    m.Want: m.Want("sum", ()),
    m.Total: m.Total(0, 0, 61, 1, 0, WORDS, 1),
    m.Hello: m.Hello(H, H, S, b"", 0, 0, H, "", b"", (), ()),
    m.SiteHead: m.SiteHead(b"note", 1, (H,)),
    m.Cosigned: m.Cosigned(b"note"),
    m.Changed: m.Changed(b"{}", ()),
    m.Behind: m.Behind(0, b"", 0),
    m.Entries: m.Entries(0, 0, ()),
    m.ModelPart: m.ModelPart(H, 1, 0, b"\x00"),
}
PROPOSAL = e.Proposal(H, b"{}", b"", 1, 1, "0", H)
OWN = [
    e.Begin,
    e.UpdateReady,
    e.WordsReady,
    e.SomeSent,
    e.FirstSent,
    e.MasksReady,
    e.Applied,
    e.Tick,
    e.Dealt,
    e.Receipted,
    e.Accepted,
    e.SumsStored,
    e.BallotStored,
    e.CertificateStored,
    e.RecordStored,
    e.LeaveStored,
    e.Moved,
    e.Forgotten,
    e.LinkUp,
    e.LinkDown,
]
Cells = dict[tuple[Phase, type], table.Cell]
BETWEEN_NODES = {  # of no phase
    m.Bundle, m.Evidence, m.Hello, m.Behind, m.Entries, m.ModelPart, m.Changed, m.SiteHead, m.Cosigned,
}  # fmt: skip


@cache
def stood(phase: Phase) -> tuple[SimulatedFederation, Round]:
    return standing(phase, peers=4)


def at(phase: Phase) -> tuple[SimulatedFederation, Round]:
    federation, found = stood(phase)
    return federation, copied(found)


def letter(federation: SimulatedFederation, found: Round, message: Message, attempt: int = 0, **place: Any) -> Letter:
    peer, state = federation.peers[SENDER], found.state
    number = place.get("round", state.round)
    envelope = m.Envelope(peer.run_id, 1, number, state.attempt + attempt, SENDER, peer.incarnation)
    return m.seal(message, envelope, peer.identity)


def own(kind: type[e.Event], found: Round, attempt: int = 0) -> e.Event:
    now = found.state.now  # no time passes: what changes is by the event alone
    place = (now, found.number, found.attempt + attempt)
    special: dict[type[e.Event], e.Event] = {
        e.Begin: e.Begin(now),
        e.UpdateReady: e.UpdateReady(now, found.number, PROPOSAL),
        e.WordsReady: e.WordsReady(*place, ()),
        e.MasksReady: e.MasksReady(*place, {}, ()),
        e.Applied: e.Applied(now, found.number, H, {}),
        e.LinkUp: e.LinkUp(now, SENDER, bytes(16)),
        e.LinkDown: e.LinkDown(now, SENDER),
    }
    made: Any = kind
    return special[kind] if kind in special else made(*place)


def accused(effects: list[e.Effect]) -> list[RemoteProtocolError]:
    """The errors of all accusations, which are of the sender alone."""
    found = [one for one in effects if isinstance(one, e.Accuse)]
    assert all(one.peer == one.error.fields["peer"] == SENDER for one in found)
    return [one.error for one in found]  # type: ignore[misc]


def test_the_samples_are_all_kinds_of_message_and_of_event() -> None:
    assert set(SAMPLES) == set(m.KINDS.values())
    leaves = {kind for kind in vars(e).values() if isinstance(kind, type) and issubclass(kind, e.Event)}
    assert set(OWN) == leaves - {e.Event, e.OfAttempt, e.Received}


def test_every_letter_of_a_round_has_its_place_in_every_phase_and_no_other_has_one() -> None:
    assert {kind for _, kind in EVENTS if issubclass(kind, Message)} == set(m.OF_A_ROUND)
    assert {(phase, kind) for phase in Phase for kind in m.OF_A_ROUND} <= EVENTS.keys()
    assert set(m.KINDS.values()) == {*m.OF_A_ROUND, *BETWEEN_NODES, m.Handed}


def test_a_pair_has_one_cell_and_a_second_one_is_an_error_that_names_it() -> None:
    one: Cells = {(Phase.SHARE, m.Ack): Keep()}
    again: Cells = {(Phase.SHARE, m.Ack): Ignore("it is of no use")}
    with pytest.raises(TypeError, match=r"two cells for .*SHARE.*Ack"):
        table._once(one, {(Phase.MASK, m.Ack): Keep()}, again)
    assert {type(cell) for cell in EVENTS.values()} == {Transition, Keep, Ignore}
    assert all(len(cell.reason) > 10 for cell in EVENTS.values() if isinstance(cell, Ignore))


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_a_letter_has_a_row_or_is_ignored_kept_or_refused_under_its_senders_name(
    phase: Phase, kind: type[Message]
) -> None:
    federation, found = at(phase)
    sent, before, cell = letter(federation, found, SAMPLES[kind]), picture(found), EVENTS.get((phase, kind))
    effects = found.handle(e.Received(found.state.now, sent))
    if isinstance(cell, Ignore) or kind is m.Handed:  # which holds nothing here
        assert effects == []
        assert picture(found) == before
    elif isinstance(cell, Keep):
        assert effects == []
        assert sent in found.early
        found._early.take_all()
        assert picture(found) == before
    elif cell is None:
        (error,) = accused(effects)
        assert isinstance(error, UnexpectedMessage)
        assert error.fields == {"peer": SENDER, "message": kind.__name__, "phase": phase.name}
        assert picture(found) == before
    elif accused(effects) and not any(isinstance(one, e.Send) for one in effects):
        assert picture(found) == before, f"{effects} left its traces"


@pytest.mark.parametrize("kind", [m.Root, m.Chunk, m.SumDigest, m.SumChunk], ids=lambda kind: kind.__name__)
def test_a_letter_of_another_set_is_nobodys_fault(kind: type[Message]) -> None:
    """This peer's set is shown to all, once.

    Its sender may have been told another one: the two sets side by side convict the coordinator, who signed both.
    """
    federation, found = at(Phase.GATHER)
    state, told = found.state, letter(federation, found, SAMPLES[kind])
    before = picture(found)
    (shown,) = found.handle(e.Received(state.now, told))
    assert (shown.to, shown.letter.message) == (None, m.Handed((state.members.wire,)))  # type: ignore[union-attr]
    assert found.handle(e.Received(state.now, told)) == []
    state.due.pop("set shown")
    assert picture(found) == before


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_a_local_event_has_a_row_or_is_ignored_or_is_our_own_fault(phase: Phase, kind: type[e.Event]) -> None:
    """An event of this node's own."""
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
        assert isinstance(cell, Transition)
        with contextlib.suppress(LocalProtocolError):  # where it is not its time: that is refused, too
            found.handle(event)
            before = picture(found)
        assert picture(found) == before


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_answers_and_timers_of_an_attempt_that_is_over_tell_nothing(phase: Phase) -> None:
    _, found = at(phase)
    before = picture(found)
    for kind in OWN:
        if issubclass(kind, e.OfAttempt):
            for attempt in (-1, 1):
                assert found.handle(own(kind, found, attempt)) == [], kind
    assert found.handle(e.UpdateReady(found.state.now, found.number + 1, PROPOSAL)) == []
    assert found.handle(e.Applied(found.state.now, found.number + 1, H, {})) == []
    assert picture(found) == before


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_letters_of_another_round_run_or_epoch_are_refused_whatever_they_say(phase: Phase) -> None:
    federation, found = at(phase)
    peer, before = federation.peers[SENDER], picture(found)
    good = m.Envelope(peer.run_id, 1, found.number, found.attempt, SENDER, peer.incarnation)
    for other in (replace(good, round=found.number + 1), replace(good, run=H), replace(good, epoch=2)):
        for message in SAMPLES.values():
            found.state.peers.told.clear()  # the same breach again in one round is not told again
            effects = found.handle(e.Received(found.state.now, m.seal(message, other, peer.identity)))
            assert [type(error) for error in accused(effects)] == [UnexpectedMessage]
    assert picture(found) == before


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_what_is_handed_on_blames_its_author_for_nothing_that_the_hander_chose(phase: Phase) -> None:
    """Good letters of site-1, of other places or far ahead, in the hands of somebody else."""
    federation, found = at(phase)
    author, before = federation.peers["site-1"], picture(found)
    here = m.Envelope(author.run_id, 1, found.number, found.attempt, "site-1", author.incarnation)
    others: list[dict[str, Any]] = [{"round": found.number + 1}, {"round": 0}, {"run": H}, {"epoch": 2}]
    places = [replace(here, **other) for other in others]
    wires = [
        m.seal(SAMPLES[kind], place, author.identity).wire
        for place in places
        for kind in (m.Root, m.SumDigest, m.Nonce, m.Tags, m.Confirm, m.Leave)
    ]
    for proof in (wires, *([wire] for wire in wires)):
        handed = m.Handed(tuple(proof))
        effects = found.handle(e.Received(found.state.now, letter(federation, found, handed)))
        accused(effects)  # the hander, or nobody
    assert picture(found) == before
    assert "site-1" not in found.state.peers.breaches


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_letters_of_an_older_attempt_tell_only_who_leaves(phase: Phase) -> None:
    """Nothing but that their sender leaves the round; one that votes there is shown the certificate of this one."""
    federation, found = at(phase)
    found.state.attempt += 4  # the coordinator is the same
    before = picture(found)
    for kind, message in SAMPLES.items():
        if kind is not m.Leave:
            effects = found.handle(e.Received(found.state.now, letter(federation, found, message, attempt=-1)))
            decided = found.state.certificate
            shown = [e.Send(SENDER, decided)] if kind is m.Ballot and decided is not None else []
            assert effects == shown
    found.state.voting.shown_end.clear()
    assert picture(found) == before
    found.handle(e.Received(found.state.now, letter(federation, found, SAMPLES[m.Leave], attempt=-1)))
    assert (SENDER in found.state.leaving.leaves) is (phase is not Phase.FINAL)


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_the_same_letter_again_changes_nothing(phase: Phase) -> None:
    """Of all letters that ME is sent in a round, each may come again and again: a liar may say again what it likes.

    A ballot that ended its attempt is answered with that when it comes a second time, and no more.
    """
    federation, found = standing(phase, peers=4)
    while federation.clock.step():
        pass
    me, tried = found.state.context.me, 0
    for to, one in list(federation.log):
        if to not in (None, me) or one.sender == me or one.envelope.round != found.number:
            continue
        event = e.Received(found.state.now, one)
        found.handle(event)
        answered = found.handle(event)
        assert not answered or isinstance(one.message, m.Ballot)
        once = picture(found)
        assert found.handle(event) == []
        assert picture(found) == once, one
        tried += 1
    assert tried > 30


def test_ready_rows_lead_only_to_phases_and_a_final_round_moves_no_more() -> None:
    assert set(GUARDED) == set(Phase)
    assert GUARDED[Phase.FINAL] == ()
    moves = {(phase, row.next) for (phase, _), row in EVENTS.items() if isinstance(row, Transition)}
    moves |= {(phase, row.next) for phase, rows in GUARDED.items() for row in rows}
    order = list(Phase)
    back = {(a.name, b.name) for a, b in moves if order.index(b) < order.index(a)}
    assert back == {(phase, "SHARE") for phase in ("PROPOSE", "MASK", "GATHER", "BALLOT")}, "only ABANDON leads back"


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_whatever_time_it_is_the_ready_rows_come_to_rest(phase: Phase) -> None:
    """Each row makes itself untrue: one event is never answered without end."""
    for later in (0.0, 1.0, 10.0, 100.0, 1e4, 1e9):
        _, found = at(phase)
        now = found.state.now + later
        found.handle(e.Tick(now, found.number, found.attempt))
        before = picture(found)
        assert found.handle(e.Tick(now, found.number, found.attempt)) == []
        assert picture(found) == before


def test_every_error_of_the_door_is_a_peers_fault_and_never_ours() -> None:
    assert issubclass(UnexpectedMessage, RemoteProtocolError)
    assert issubclass(UnexpectedEvent, LocalProtocolError)

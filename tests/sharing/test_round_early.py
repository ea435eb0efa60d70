"""What comes before its turn is held within a bound for each peer, handed in when its turn comes, or dropped."""

from __future__ import annotations

from functools import cache

import pytest

from p2pfl import messages as m
from p2pfl.errors.round import UnexpectedMessage
from p2pfl.messages import Letter, Message
from p2pfl.sharing import events as e
from p2pfl.sharing import round as rounds
from p2pfl.sharing import run as courses
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import Phase
from p2pfl.simulate import SimulatedFederation
from tests.sharing.stopped_rounds import ME, copied, picture, standing

H = bytes(32)


@cache
def stood(phase: Phase) -> tuple[SimulatedFederation, Round]:
    return standing(phase, peers=4)


def letter(sender: str, message: Message, round: int = 1, attempt: int = 0) -> Letter:
    peer = stood(Phase.SHARE)[0].peers[sender]
    return Letter(m.Envelope(peer.run_id, 1, round, attempt, sender, bytes(16)), message, b"x" * 1000, b"")


def give(found: Round, one: Letter) -> list[e.Effect]:
    return found.handle(e.Received(0.0, one))


def refused(effects: list[e.Effect]) -> UnexpectedMessage:
    """The one accusation."""
    (accused,) = effects
    assert isinstance(accused, e.Accuse)
    assert isinstance(accused.error, UnexpectedMessage)
    assert accused.proof == (), "a letter too many proves nothing"
    return accused.error


def test_of_each_sender_kind_attempt_and_chunk_one_letter_is_held() -> None:
    found = copied(stood(Phase.SHARE)[1])
    held = len(found._early)
    for _ in range(50):
        give(found, letter("site-0", m.Ready(H, H)))
        give(found, letter("site-0", m.Chunk(H, 3, b"\0")))
        give(found, letter("site-0", m.Chunk(H, 4, b"\0")))
        give(found, letter("site-0", m.Opened(H, 4, "site-1", b"\0")))
        give(found, letter("site-1", m.Ready(H, H)))
    assert len(found._early) == held + 5


def test_letters_of_attempts_without_end_leave_room_for_others() -> None:
    """They are refused under their sender's name."""
    found = copied(stood(Phase.SHARE)[1])
    for attempt in range(1, rounds.EARLY_LETTERS + 1):
        give(found, letter("site-0", m.Ready(H, H), attempt=attempt))
    before = picture(found)
    assert refused(give(found, letter("site-0", m.Ready(H, H), attempt=1 << 50))).fields["peer"] == "site-0"
    assert picture(found) == before
    assert give(found, letter("site-1", m.Ready(H, H), attempt=1)) == []


def test_bytes_ahead_of_their_turn_are_bounded_too() -> None:
    found = copied(stood(Phase.SHARE)[1])
    found._early.most_bytes = 10_500
    for index in range(10):
        give(found, letter("site-0", m.Chunk(H, index, b"\0")))
    assert refused(give(found, letter("site-0", m.Chunk(H, 10, b"\0")))).fields["message"] == "Chunk"
    assert give(found, letter("site-1", m.Chunk(H, 0, b"\0"))) == []


def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """By whom each letter was whose size has been looked at since."""
    found: list[str] = []
    size = Letter.size.fget  # type: ignore[attr-defined]

    def counted(one: Letter) -> int:
        found.append(one.sender)
        return int(size(one))

    monkeypatch.setattr(Letter, "size", property(counted))
    return found


@pytest.mark.claim("LIAR-3")
def test_what_a_letter_ahead_of_its_turn_costs_does_not_grow_with_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two liars fill their room; then the phase moves, and all that they sent is handed in once more, in vain."""
    found, liars, count = copied(stood(Phase.SHARE)[1]), ("site-0", "site-1"), rounds.EARLY_LETTERS
    found._early.take_all()
    sizes = looks(monkeypatch)
    for attempt in range(1, count + 1):
        for liar in liars:
            give(found, letter(liar, m.Ready(H, H), attempt=attempt))
    assert len(found._early) == len(liars) * count
    assert len(sizes) <= 2 * len(found._early)

    sizes.clear()
    before, tried = list(found._early), []

    def moves_once() -> list[e.Effect]:
        tried.append(found.phase)
        found.phase = Phase.PROPOSE
        return []

    monkeypatch.setattr(found, "_run_guarded", moves_once)
    found.handle(e.Tick(0.0, 1, 0))
    assert list(found._early) == before
    assert len(sizes) <= 2 * len(before)
    assert tried == [Phase.SHARE, Phase.PROPOSE], "the guards are tried once more, and not behind each letter"


@pytest.mark.claim("LIAR-3")
def test_letters_of_rounds_to_come_cost_no_more_the_more_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Run(stood(Phase.SHARE)[0].peers[ME].context(), 0)
    sizes = looks(monkeypatch)
    for liar in ("site-0", "site-1"):
        of_rounds(course, liar, 2, courses.EARLY_LETTERS)
    assert len(course.early) == 2 * courses.EARLY_LETTERS
    assert len(sizes) <= 2 * len(course.early)


@pytest.mark.parametrize("phase", [Phase.UNMASK, Phase.CONFIRM, Phase.FINAL])
def test_under_a_certificate_letters_of_a_later_attempt_are_dropped(phase: Phase) -> None:
    found = copied(stood(phase)[1])
    before = picture(found)
    for message in (m.Ready(H, H), m.Share(b"\0", b"", H, H, ()), m.Certificate((), b"")):
        assert give(found, letter("site-0", message, attempt=1)) == []
    assert picture(found) == before


def of_rounds(course: Run, sender: str, number: int, count: int) -> None:
    for attempt in range(count):
        course.handle(e.Received(0.0, letter(sender, m.Ready(H, H), number, attempt)))


def test_of_rounds_to_come_a_peer_fills_its_own_room_and_no_other() -> None:
    federation, _ = stood(Phase.SHARE)
    course = Run(federation.peers[ME].context(), 0)
    of_rounds(course, "site-0", 1, courses.EARLY_LETTERS + 10)
    of_rounds(course, "site-1", 2, 5)
    of_rounds(course, "site-1", courses.EARLY_ROUNDS, 5)
    of_rounds(course, "site-1", courses.EARLY_ROUNDS + 1, 5)  # nobody is that far ahead of a peer that takes part
    of_rounds(course, "site-1", 1 << 50, 5)
    senders = [one.sender for one in course.early]
    assert senders.count("site-0") == courses.EARLY_LETTERS
    assert senders.count("site-1") == 10


def test_bytes_of_rounds_to_come_are_bounded_for_each_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courses, "EARLY_BYTES", 10_500)
    course = Run(stood(Phase.SHARE)[0].peers[ME].context(), 0)
    of_rounds(course, "site-0", 1, 20)
    of_rounds(course, "site-1", 1, 3)
    senders = [one.sender for one in course.early]
    assert (senders.count("site-0"), senders.count("site-1")) == (10, 3)


def test_what_came_early_for_a_round_is_handed_in_when_it_begins() -> None:
    federation, _ = stood(Phase.SHARE)
    course = Run(federation.peers[ME].context(), 0)
    of_rounds(course, "site-0", 1, 1)
    course.begin(0.0)
    assert course.current is not None
    assert len(course.current._early) == 1

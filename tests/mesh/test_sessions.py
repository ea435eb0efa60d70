"""Two links without sockets, wired to each other: whatever connections came up at one end alone, frames flow again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import P2PFLError
from p2pfl.keys import digest
from p2pfl.mesh import Delivered, Limits, LinkClosed, MeshEvent, TlsFacts
from p2pfl.mesh.events import Path
from p2pfl.mesh.framing import TAG_BYTES
from p2pfl.mesh.link import Link
from p2pfl.mesh.opening import NO_SESSION, LinkHello, OpenedLink, Superseded
from tests.examples import examples


class End:
    """One process's end of the pair. What it sends is delivered at the far end of the connection that stands here."""

    def __init__(self, name: str, peer: str) -> None:
        self.name, self.incarnation = name, digest("incarnation", name.encode())[:16]
        self.far: End | None = None  # of the connection that stands here, or stood last
        self.nonce = b""  # that names the connection
        self.told: list[MeshEvent] = []
        endpoint: Any = SimpleNamespace()
        router: Any = SimpleNamespace(connect=lambda peer: endpoint, send=self.send)
        self.link = Link(peer, router, Limits(), lambda: 0.0, self.told.append, lambda *of: None)
        self._on_the_way: list[tuple[bytes, End, bytes, bytes]] = []

    def send(self, peer: str, header: bytes, body: memoryview | None = None) -> bool:
        if self.far is not None:
            self._on_the_way.append((self.nonce, self.far, header, bytes(body) if body is not None else b""))
        return True

    def hello(self, draw: Callable[[], bytes]) -> LinkHello:
        return LinkHello(self.incarnation, draw(), *self.link.resume_point())

    def attach(self, far: End, ours: LinkHello, theirs: LinkHello) -> bool:
        """The connection of these two hellos is this end's link; False when this end does not take it."""
        nonce = digest("nonce", *sorted((ours.nonce, theirs.nonce)))
        tunnel: Any = SimpleNamespace(
            closed=False, stalled=False,
            last_heard=0.0, bytes_sent=0, bytes_received=0, close=self._on_the_way.clear, start=lambda *of: None,
            path=Path("direct", "10.0.0.1:7443"), dialed=True,
        )  # fmt: skip
        facts, session = TlsFacts("", "", ""), digest("link-session", nonce)[:16]
        opened = OpenedLink(ours, theirs, b"", nonce, digest("link-tag", nonce)[:TAG_BYTES], session, facts)
        before, self.far, self.nonce = (self.far, self.nonce), far, nonce
        try:
            self.link.attach(tunnel, opened)
        except (Superseded, P2PFLError):
            self.far, self.nonce = before
            return False
        return True

    def deliver(self) -> bool:
        """What is on the way arrives where the same connection still stands; True when anything was."""
        sent = list(self._on_the_way)
        self._on_the_way.clear()
        for nonce, far, header, body in sent:
            if far.nonce == nonce and far.link.up:
                far.link.on_message(header, memoryview(body))
        return bool(sent)

    @property
    def received(self) -> list[bytes]:
        return [bytes(one.payload) for one in self.told if isinstance(one, Delivered)]

    @property
    def malformed(self) -> list[str]:
        return [str(one.error) for one in self.told if isinstance(one, LinkClosed) and one.error is not None]


class Nonces:
    def __init__(self) -> None:
        self._count = 0

    def __call__(self) -> bytes:
        self._count += 1
        return digest("hello nonce", bytes([self._count % 256, self._count // 256]))


def settle(*ends: End) -> None:
    while sum(end.deliver() for end in ends):
        for end in ends:
            end.link.on_drained()


def connect(one: End, other: End, draw: Callable[[], bytes], *, at: tuple[bool, bool] = (True, True)) -> bool:
    """A whole opening between two ends, of which the connection dies where `at` says so. True: it stands at both."""
    hellos = one.hello(draw), other.hello(draw)
    up = (
        at[0] and one.attach(other, *hellos),
        at[1] and other.attach(one, *reversed(hellos)),
    )
    if not all(up):  # an end whose far end is gone sees its connection close
        for end, stands in zip((one, other), up, strict=True):
            if stands:
                end.link.cut("closed by the far end")
    return all(up)


def scene(act: Callable[[End, End, End, Nonces], None]) -> None:
    """A member, and two processes of one site."""

    async def run() -> None:
        act(End("ben", "cyd"), End("first cyd", "ben"), End("second cyd", "ben"), Nonces())

    asyncio.run(run())


def flows(one: End, other: End) -> bool:
    """A payload each way arrives, and the link stands at both ends."""
    for end in (one, other):
        end.link.queue_payload(b"news of " + end.name.encode())
    settle(one, other)
    arrived = other.received[-1:] == [b"news of " + one.name.encode()]
    return arrived and one.received[-1:] == [b"news of " + other.name.encode()] and one.link.up and other.link.up


@pytest.mark.claim("NET-12")
def test_a_copy_that_came_between_leaves_no_link_that_goes_up_and_down_for_ever() -> None:
    """Frames have flowed; another process of the site takes the link; the first one's return dies at one end.

    The member had counted anew for it, and it had not: each was sure from then on that the other's numbers were wrong.
    """

    def act(ben: End, first: End, second: End, draw: Nonces) -> None:
        assert connect(ben, second, draw)
        assert flows(ben, second)
        assert connect(ben, first, draw)
        second.link.cut("closed by the far end")
        assert not connect(ben, second, draw, at=(True, False))
        assert connect(ben, second, draw)
        assert flows(ben, second)
        assert ben.malformed + second.malformed == []

    scene(act)


def test_a_hello_that_is_no_longer_true_when_its_connection_is_up_makes_no_link() -> None:
    """Another process of the site came and went between the hello and the end of the opening."""

    def act(ben: End, first: End, second: End, draw: Nonces) -> None:
        assert connect(ben, second, draw)
        assert flows(ben, second)
        ours, theirs = ben.hello(draw), second.hello(draw)
        assert connect(ben, first, draw)
        assert not ben.attach(second, ours, theirs)
        assert second.attach(ben, theirs, ours)
        second.link.cut("closed by the far end")
        assert connect(ben, second, draw)
        assert flows(ben, second)

    scene(act)


def test_what_waits_for_a_process_is_kept_until_it_has_a_link_at_its_end_too() -> None:
    def act(ben: End, first: End, second: End, draw: Nonces) -> None:
        ben.link.queue_payload(b"waits")
        for _ in range(3):
            assert not connect(ben, second, draw, at=(True, False))
        assert connect(ben, second, draw)
        settle(ben, second)
        assert second.received == [b"waits"]

    scene(act)


def test_nothing_is_lost_or_doubled_by_a_cut_between_the_same_two_processes() -> None:
    def act(ben: End, first: End, second: End, draw: Nonces) -> None:
        for number in range(9):
            assert connect(ben, second, draw)
            ben.link.queue_payload(b"%d" % number)
            if number % 3:
                settle(ben, second)
            ben.link.cut("cut")
            second.link.cut("cut")
        assert connect(ben, second, draw)
        settle(ben, second)
        assert second.received == [b"%d" % number for number in range(9)]

    scene(act)


def test_a_hello_from_before_the_first_session_costs_neither_end_what_is_on_its_way() -> None:
    """The first link is cut as it carries; a second opening, begun before it, comes up at one end alone."""

    def act(ben: End, first: End, cyd: End, draw: Nonces) -> None:
        old = cyd.hello(draw)
        assert connect(ben, cyd, draw)
        for end in (ben, cyd):
            end.link.queue_payload(b"of " + end.name.encode())
        ben.deliver()  # cyd has had it, and cannot say so any more
        for end in (ben, cyd):
            end.link.cut("cut")
        ours = ben.hello(draw)
        assert ben.attach(cyd, ours, old)
        assert not cyd.attach(ben, old, ours)
        ben.link.cut("closed by the far end")
        assert connect(ben, cyd, draw)
        settle(ben, cyd)
        assert (ben.received, cyd.received) == ([b"of second cyd"], [b"of ben"])

    scene(act)


AGES = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3), st.booleans()),
    max_size=12,
)


@pytest.mark.claim("NET-12")
@examples(300)
@given(AGES)
def test_whatever_came_up_at_one_end_and_however_old_its_hello_all_arrives_once(
    moves: list[tuple[int, bool, bool, bool, int, bool]],
) -> None:
    """Hellos of up to three openings before, on either side; payloads on their way when a link is cut."""

    def act(ben: End, first: End, cyd: End, draw: Nonces) -> None:
        hellos = [(ben.hello(draw), cyd.hello(draw))]
        sent = 0
        for age, old, here, there, spoken, arrives in moves:
            hellos.append((ben.hello(draw), cyd.hello(draw)))
            past = hellos[max(0, len(hellos) - 1 - age)]
            ours, theirs = (past[0], hellos[-1][1]) if old else (hellos[-1][0], past[1])
            up = (here and ben.attach(cyd, ours, theirs), there and cyd.attach(ben, theirs, ours))
            for _ in range(spoken):
                sent += 1
                for end in (ben, cyd):
                    end.link.queue_payload(b"%d" % sent)
            if arrives:
                settle(ben, cyd)
            if not all(up):
                for end, stands in zip((ben, cyd), up, strict=True):
                    if stands:
                        end.link.cut("closed by the far end")
        for end in (ben, cyd):
            end.link.cut("cut")
        assert connect(ben, cyd, draw)
        settle(ben, cyd)
        assert ben.received == cyd.received == [b"%d" % number for number in range(1, sent + 1)]
        assert ben.malformed + cyd.malformed == []

    scene(act)


MOVES = st.lists(
    st.tuples(st.sampled_from(["first", "second"]), st.booleans(), st.booleans(), st.booleans()), max_size=12
)


@pytest.mark.claim("NET-12")
@examples(300)
@given(MOVES)
def test_after_any_openings_of_two_processes_the_next_whole_one_carries_frames(
    moves: list[tuple[str, bool, bool, bool]],
) -> None:
    def act(ben: End, first: End, second: End, draw: Nonces) -> None:
        for which, here, there, speaks in moves:
            cyd = first if which == "first" else second
            connect(ben, cyd, draw, at=(here, there))
            if speaks:
                ben.link.queue_payload(b"to cyd")
                cyd.link.queue_payload(b"to ben")
                settle(ben, first, second)
        for cyd in (first, second):
            cyd.link.cut("cut")
            ben.link.cut("cut")
            assert connect(ben, cyd, draw)
            assert flows(ben, cyd)
        assert ben.malformed + first.malformed + second.malformed == []

    scene(act)


def test_the_first_hello_of_a_process_names_no_session() -> None:
    def act(ben: End, first: End, second: End, draw: Nonces) -> None:
        assert ben.link.resume_point() == (NO_SESSION, 0)

    scene(act)

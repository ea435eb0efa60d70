"""A link lives while bytes arrive, and pauses between dials grow with jitter: on a clock that moves when told to."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.mesh import Limits, LinkClosed, MeshEvent, TlsFacts
from p2pfl.mesh.connect import Connector, FirstAnswer
from p2pfl.mesh.dialer import Backoff, Dialer, DialerOwner
from p2pfl.mesh.events import Path
from p2pfl.mesh.framing import ACK, DATA, FIRST, GOODBYE, LAST, PING, PONG, Header
from p2pfl.mesh.link import Link
from p2pfl.mesh.local_ends import RouterEnd
from p2pfl.mesh.opening import LinkHello, OpenedLink, Superseded
from p2pfl.mesh.queue_room import QueueRoom
from p2pfl.mesh.throughput import FILL_BYTES, MOST_SHOWN
from p2pfl.roster import Address
from tests.mesh.sites import OVERALL_S

LIMITS = Limits(heartbeat_s=3.0, silence_s=20.0)
TAG = b"link-tag"


def unexpected(peer: str, kind: int, body: bytes) -> None:
    raise AssertionError(f"a frame to or from a relay: {kind}")


class Stage:
    """A link without sockets: what it sends is a list, and the clock is a number."""

    def __init__(self) -> None:
        self.clock = 100.0
        self.sent: list[Header] = []
        self.bodies: list[bytes] = []
        self.told: list[MeshEvent] = []
        self.said = asyncio.Event()
        endpoint: Any = SimpleNamespace()
        router: Any = SimpleNamespace(connect=lambda peer: endpoint, send=self.send)
        self.link = Link("bob", router, LIMITS, lambda: self.clock, self.told.append, unexpected)
        tunnel: Any = SimpleNamespace(
            closed=False,
            stalled=False,
            last_heard=100.0,
            bytes_sent=0,
            bytes_received=0,
            close=lambda: None,
            start=self.start,
            look=lambda: None,
            path=Path("direct", "10.0.0.1:7443"),
            dialed=True,
        )
        self.tunnel = tunnel
        self.link.attach(tunnel, self.opened(TAG))
        self.sent.clear()
        self.said.clear()

    def opened(self, tag: bytes) -> OpenedLink:
        """An opening with the same process, which goes on with the session of this end."""
        session, expected = self.link.resume_point()
        ours, theirs = LinkHello(b"me" * 8, bytes(32), session, expected), LinkHello(b"i" * 16, bytes(32), session, 0)
        return OpenedLink(ours, theirs, b"", bytes(32), tag, b"session " * 2, TlsFacts("", "", ""))

    def start(self, local: RouterEnd, on_end: Any) -> None:
        self.taken = local._on_forwarded

    def send(self, peer: str, header: bytes, body: memoryview | None = None) -> bool:
        self.sent.append(Header.decode(header))
        self.bodies.append(bytes(body or b""))
        self.said.set()
        return True

    def second(self, *, heard: bool) -> None:
        self.clock += 1.0
        if heard:
            self.tunnel.last_heard = self.clock
        self.link.tick()


def staged(scene: Any) -> None:
    async def run() -> None:
        scene(Stage())

    asyncio.run(run())


def test_a_connection_that_was_closed_while_it_was_opened_is_no_link() -> None:
    def scene(stage: Stage) -> None:
        stage.link.cut("for another one")
        stage.tunnel.closed = True
        with pytest.raises(Superseded):
            stage.link.attach(stage.tunnel, stage.opened(TAG))
        assert not stage.link.up

    staged(scene)


def test_a_connection_that_cannot_be_started_leaves_no_link_and_is_closed() -> None:
    def scene(stage: Stage) -> None:
        def full(*arguments: Any) -> None:
            raise OSError(errno.ENOSPC, "no more can be watched")

        closed: list[bool] = []
        stage.tunnel.start, stage.tunnel.close = full, lambda: closed.append(True)
        stage.link.cut("for another one")
        with pytest.raises(OSError, match="watched"):
            stage.link.attach(stage.tunnel, stage.opened(TAG))
        assert not stage.link.up
        assert closed == [True, True]
        assert isinstance(stage.told[-1], LinkClosed)

    staged(scene)


def test_a_link_on_which_bytes_arrive_lives_though_no_frame_is_ever_whole() -> None:
    def scene(stage: Stage) -> None:
        for _ in range(3600):
            stage.second(heard=True)
        assert stage.link.up

    staged(scene)


def test_a_link_looks_for_what_has_come_of_a_part_before_it_is_called_silent() -> None:
    """TCP wakes no end for a packet of a large part; what the look finds may also end the link."""

    def scene(stage: Stage) -> None:
        def found() -> None:
            stage.tunnel.last_heard = stage.clock

        stage.tunnel.look = found
        for _ in range(60):
            stage.second(heard=False)
        assert stage.link.up
        stage.tunnel.look = lambda: stage.link.cut("what came broke a rule")
        stage.second(heard=False)
        assert stage.told[-1] == LinkClosed("bob", "what came broke a rule")

    staged(scene)


def test_a_link_on_which_nothing_arrives_is_cut_after_the_silence_allowed() -> None:
    def scene(stage: Stage) -> None:
        for _ in range(20):
            stage.second(heard=False)
        assert stage.link.status().state == "up"
        stage.second(heard=False)
        assert stage.link.status().state == "down"
        assert stage.told[-1] == LinkClosed("bob", "nothing arrived for 21 s")

    staged(scene)


def test_an_idle_link_sends_heartbeats_and_a_busy_one_does_not() -> None:
    def scene(stage: Stage) -> None:
        for _ in range(12):
            stage.second(heard=True)
        assert [header.kind for header in stage.sent] == [PING] * 3
        stage.sent.clear()
        for _ in range(12):
            stage.link.queue_payload(b"busy")
            stage.second(heard=True)
        assert PING not in [header.kind for header in stage.sent]

    staged(scene)


def test_a_pong_measures_the_round_trip() -> None:
    def scene(stage: Stage) -> None:
        stage.clock += 0.25
        stage.link.on_message(Header(PONG, 0, TAG, 100_000_000, 0, 0).encode(), memoryview(b""))
        assert stage.link.status().rtt_s == 0.25

    staged(scene)


def pong(stage: Stage, header: Header) -> None:
    stage.link.on_message(Header(PONG, 0, TAG, header.number, 0, 0).encode(), memoryview(b""))


@pytest.mark.parametrize(("seconds", "shown"), [(2.0, FILL_BYTES / 2), (0.001, MOST_SHOWN), (0.0, MOST_SHOWN)])
def test_a_link_that_was_never_busy_shows_its_speed_once_it_is_asked(seconds: float, shown: float) -> None:
    """By one filled ping. It is believed up to a bound, and is no round trip and no measured speed."""

    def scene(stage: Stage) -> None:
        stage.clock += 1.0
        stage.link.ask_speed()
        (asked,) = stage.sent
        assert (asked.kind, stage.bodies[-1]) == (PING, bytes(FILL_BYTES))
        assert not stage.link.measured.is_set()
        stage.clock += seconds
        pong(stage, asked)
        assert stage.link.measured.is_set()
        assert stage.link.record.throughput.known == pytest.approx(shown)
        assert (stage.link.status().rtt_s, stage.link.status().speed_bytes_per_s) == (None, None)
        stage.link.ask_speed()
        assert stage.sent == [asked], "it is known"

    staged(scene)


def data(number: int, size: int) -> tuple[bytes, memoryview]:
    return Header(DATA, FIRST | LAST, TAG, number, 0, size).encode(), memoryview(bytes(size))


def test_much_is_acknowledged_at_once_and_little_a_little_later_in_one_frame() -> None:
    async def run() -> None:
        stage = Stage()
        for number in range(2):
            stage.link.on_message(*data(number, 1 << 20))
            stage.link.on_drained()
        assert [(header.kind, header.acknowledged) for header in stage.sent] == [(ACK, 2)]
        stage.said.clear()
        for number in range(2, 5):
            stage.link.on_message(*data(number, 10))
            stage.link.on_drained()
        assert len(stage.sent) == 1
        async with asyncio.timeout(OVERALL_S):
            await stage.said.wait()
        assert [(header.kind, header.acknowledged) for header in stage.sent[1:]] == [(ACK, 5)]

    asyncio.run(run())


@pytest.mark.parametrize("kind", [ACK, PING, PONG])
def test_every_kind_of_frame_acknowledges(kind: int) -> None:
    def scene(stage: Stage) -> None:
        stage.link.queue_payload(b"one")
        stage.link.on_message(Header(kind, 0, TAG, 0, 1, 0).encode(), memoryview(b""))
        assert stage.link.status().queued == 0

    staged(scene)


def test_what_lies_in_zeromq_is_bounded_and_goes_on_as_the_tunnel_takes_it() -> None:
    def scene(stage: Stage) -> None:
        for _ in range(6):
            stage.link.queue_payload(bytes(1 << 20))
        assert len(stage.sent) == 2
        stage.taken(1 << 20)
        assert len(stage.sent) == 3
        stage.taken(3 << 20)
        assert len(stage.sent) == 5

    staged(scene)


@given(noise=st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=20))
def test_pauses_double_up_to_the_most_and_jitter_by_half(noise: list[bytes]) -> None:
    draws = iter(noise)
    backoff = Backoff(0.05, 2.0, lambda size: next(draws))
    for attempt in range(len(noise)):
        nominal = min(2.0, 0.05 * 2**attempt)
        assert 0.5 * nominal <= backoff.pause() < 1.5 * nominal


def test_a_fruitful_link_starts_the_pauses_anew() -> None:
    backoff = Backoff(0.05, 2.0, lambda size: b"\x80\x00")
    assert [backoff.pause() for _ in range(3)] == [0.05, 0.1, 0.2]
    backoff.reset()
    assert backoff.pause() == 0.05


def test_a_link_that_brought_nothing_leaves_the_pauses_as_they_are() -> None:
    """Two ends that refuse each other's frames would else go up and down several times a second for ever."""
    backoff = Backoff(0.05, 2.0, lambda size: b"\x80\x00")
    nothing: Any = None
    dialer = Dialer(nothing, nothing, backoff, Connector(LIMITS), lambda: 0.0, yields=False)
    assert [backoff.pause() for _ in range(3)] == [0.05, 0.1, 0.2]
    dialer.link_closed(fruitful=False)
    assert backoff.pause() == 0.4
    dialer.link_closed(fruitful=True)
    assert backoff.pause() == 0.05


def test_a_member_that_ends_each_link_at_once_is_dialled_as_often_as_it_may_dial() -> None:
    """Each link was fruitful, so the pauses begin anew each time."""

    async def scene() -> None:
        clock, brought = [0.0], list[float]()
        limits = replace(LIMITS, opening_burst=3, openings_per_s=0.5, dial_most_s=0.0)

        async def connect(*of: object) -> FirstAnswer:
            return FirstAnswer(nothing, address, ())

        async def bring_up(sock: object, to: Address) -> None:
            brought.append(clock[0])
            dialer.link_changed()
            dialer.link_closed(fruitful=True)

        async def no_relay() -> None:
            pass

        nothing: Any = None
        address = Address("10.0.0.1", 7443)
        owner = DialerOwner(lambda: True, lambda: False, bring_up, lambda *of: None, no_relay)
        member: Any = SimpleNamespace(name="bob", addresses=(address,))
        connector: Any = SimpleNamespace(limits=limits, connect_first=connect)
        backoff = Backoff(0.0, 0.0, bytes)
        dialer = Dialer(member, owner, backoff, connector, lambda: clock[0], yields=False)
        dialling = asyncio.ensure_future(dialer.run())
        for second in range(20):
            clock[0] = float(second)
            for _ in range(100):
                await asyncio.sleep(0)
        dialling.cancel()
        assert len(brought) == 3 + 9
        assert brought[:3] == [0.0] * 3

    asyncio.run(scene())


def test_letters_without_end_let_bulk_through_a_tunnel_never_empty() -> None:
    def scene(stage: Stage) -> None:
        for _ in range(2):
            stage.link.queue_payload(bytes(512 << 10), bulk=True)  # the first goes at once
        for _ in range(40):
            stage.link.queue_payload(bytes(64 << 10))
        for _ in range(40):
            stage.link.queue_payload(bytes(64 << 10))
            stage.taken(64 << 10)
            stage.link.on_message(Header(ACK, 0, TAG, 0, len(stage.sent), 0).encode(), memoryview(b""))
        assert not stage.link._outgoing._bulk

    staged(scene)


def test_who_waits_for_room_for_letters_goes_before_who_waits_for_bulk() -> None:
    """What was said first is queued first, or a sum's words would stand before its digest."""

    async def scene() -> None:
        room, went = QueueRoom(LIMITS), []
        room.update(2 * LIMITS.outgoing_bytes)

        async def wait(name: str, event: asyncio.Event) -> None:
            await event.wait()
            went.append(name)

        waits = [asyncio.ensure_future(wait(*each)) for each in (("bulk", room.bulk), ("letters", room.letters))]
        await asyncio.sleep(0)
        room.update(0)
        await asyncio.gather(*waits)
        assert went == ["letters", "bulk"]

    asyncio.run(scene())


def test_a_goodbye_is_said_also_where_the_last_acknowledgement_has_not_come_in_time() -> None:
    """Closed without one, this end could destroy its own last acknowledgement on its way."""

    async def scene() -> None:
        stage = Stage()
        stage.link.queue_payload(b"never acknowledged")
        finishing = asyncio.create_task(stage.link.finish(0.0))
        async with asyncio.timeout(OVERALL_S):
            while GOODBYE not in {header.kind for header in stage.sent}:
                await asyncio.sleep(0)
        stage.link.cut("the peer has closed")
        await finishing

    asyncio.run(scene())

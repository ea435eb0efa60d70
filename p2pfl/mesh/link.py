"""One pair, one link: the current connection, the frames that outlive it, and its heartbeats.

Connections come and go; `Outgoing` and `Incoming` stay as long as both processes do. Their numbers are those of a
*session*, which the joint nonce of its first connection names. Both ends go on with it when both hellos name it, and
else begin another: two processes of one site, or a connection that came up at one end alone, can never leave the two
with counters of which each believes that they are the other's. A session takes the place of an earlier one with the
same process once that process is heard in it: its hello may be older than the session that both have, and then the
connection comes up at this end alone. What was queued before another session began is dropped: mostly it was meant for
a process that is gone. It is kept where nobody was heard yet, or not that process in the session before.

A link is alive while bytes arrive. A heartbeat leaves when nothing else was sent for a while, and no frame has a
deadline of its own. So a link that moves 1 MiB in a minute lives, and one on which nothing arrives for 20 s is cut and
dialled again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import LinkFlooded, MalformedStream
from p2pfl.mesh.backlog import Backlog
from p2pfl.mesh.connection import Connection
from p2pfl.mesh.events import Delivered, Limits, LinkClosed, LinkOpened, LinkStatus, MeshEvent
from p2pfl.mesh.framing import ACK, DATA, GOODBYE, PING, PONG, Header, Incoming, MalformedFrame, Outgoing, Payload
from p2pfl.mesh.link_record import LinkRecord
from p2pfl.mesh.local_ends import RouterEnd
from p2pfl.mesh.opening import NO_SESSION, NOBODY, OpenedLink, Superseded
from p2pfl.mesh.queue_room import QueueRoom
from p2pfl.mesh.router import Router
from p2pfl.mesh.throughput import FILL_BYTES
from p2pfl.mesh.token_bucket import TokenBucket
from p2pfl.mesh.tunnel import Tunnel

GOODBYE_S: Final = 0.5  # longest wait for the peer to close; a live one needs a round trip
HANDED_BYTES: Final = 2 << 20  # most bytes in ZeroMQ before another frame is handed over
ACK_BYTES: Final = 2 << 20  # received bytes that are acknowledged at once …
ACK_S: Final = 0.05  # … and seconds after which any number is

OnRelayFrame = Callable[[str, int, bytes], None]  # the peer, and kind and body of CALL, COME or DECLINED


class Flooded(Exception):
    """The peer sent more frames that bring nothing than any peer has reason to."""


class Link:
    """What one end holds of a pair. Every method is called from the loop, and returns at once unless it is a coroutine.

    report           gets Delivered, LinkOpened and LinkClosed
    on_relay_frame   gets frames to or from a relay, which stand beside the stream; raises MalformedFrame
    """

    def __init__(
        self,
        peer: str,
        router: Router,
        limits: Limits,
        now: Callable[[], float],
        report: Callable[[MeshEvent], None],
        on_relay_frame: OnRelayFrame,
    ) -> None:
        self.peer = peer
        self.incarnation = NOBODY
        self._session = NO_SESSION
        self._heard = False  # the peer was heard in the session
        # The connection is of another session, in which the peer was not heard; and the first place queued for it.
        self._other: tuple[OpenedLink, int] | None = None
        self.record = LinkRecord(now())
        self.room = QueueRoom(limits)
        self._router = router
        self._endpoint = router.connect(peer)
        self._limits, self._now = limits, now
        self._report, self._on_relay_frame = report, on_relay_frame
        self._connection: Connection | None = None
        self._outgoing = Outgoing(limits.window_bytes)
        self._incoming = Incoming(limits.window_bytes)
        self.backlog = Backlog(limits, now())
        self._empty_frames = TokenBucket(limits.empty_burst, limits.empty_per_s, now())
        self._ack_timer: asyncio.TimerHandle | None = None
        self.measured = asyncio.Event()  # after `ask_speed`
        self._down = asyncio.Event()  # there is no connection
        self._down.set()

    # ── the current connection ────────────────────────────────────────────────────────────────────────────────

    @property
    def tunnel(self) -> Tunnel | None:
        """The current connection's; None while the link is down."""
        return self._connection.tunnel if self._connection is not None else None

    @property
    def up(self) -> bool:
        return self._connection is not None

    @property
    def relayed(self) -> bool:
        """The link is up, through a third site."""
        return self._connection is not None and self._connection.tunnel.path.kind == "relay"

    def resume_point(self) -> tuple[bytes, int]:
        """For a hello: the session of the frames held here, and the number of the next one."""
        return self._session, self._incoming.expected

    def attach(self, tunnel: Tunnel, opened: OpenedLink) -> None:
        """Make `tunnel` the pair's link, instead of any before it. Raises MalformedStream, Superseded; OSError."""
        hello = opened.hello
        if tunnel.closed or opened.ours.session != self._session:
            raise Superseded
        self._drop("replaced by a newer connection")
        try:
            self._resume(opened)
        except MalformedFrame as error:
            raise MalformedStream(peer=self.peer, evidence=str(error)) from error
        self._down.clear()
        now = self._now()
        self._connection = Connection(tunnel, opened.tag, sent_at=now)
        self.record.opened(tunnel, opened.facts, now)
        self._report(LinkOpened(self.peer, hello.incarnation, opened.greeting, opened.nonce, opened.facts, tunnel.path))
        local = RouterEnd(self._endpoint, lambda count: self._forwarded(tunnel, count))
        try:
            tunnel.start(local, lambda reason, error: self._tunnel_ended(tunnel, reason, error))
        except BaseException:
            self._drop("its socket cannot be read")
            raise
        self._send_control(PING, self._stamp())
        self._send_frames()

    def _resume(self, opened: OpenedLink) -> None:
        hello = opened.hello
        if hello.incarnation != self.incarnation:
            self._begin_session(opened, self._outgoing.end)
        elif hello.session == self._session:
            self._outgoing.resume(hello.expected)
            self._incoming.resume()
            self.room.update(self._outgoing.queued)
        else:
            self._other = opened, self._outgoing.end

    def _begin_session(self, opened: OpenedLink, queued_since: int) -> None:
        """Count from 0 in the session of this connection, for which frames from `queued_since` on were queued."""
        hello, self._other = opened.hello, None
        # What waits is for whoever comes first; and a process that was not heard in a session has nothing of it.
        if self.incarnation == NOBODY or (hello.incarnation == self.incarnation and not self._heard):
            self._outgoing.resume(0)
        else:
            self.record.payload_sent += self._outgoing.confirmed
            self._outgoing = self._outgoing.since(queued_since)
        self.room.update(self._outgoing.queued)
        self._incoming, self._heard = Incoming(self._limits.window_bytes), False
        self.incarnation, self._session = hello.incarnation, opened.session

    def cut(self, reason: str, error: P2PFLError | None = None) -> None:
        """End the link from this side."""
        if self._connection is not None:
            self.record.last_error = error or self.record.last_error
            self._drop(reason, error)

    def _tunnel_ended(self, tunnel: Tunnel, reason: str, error: Exception | None) -> None:
        if tunnel is not self.tunnel:
            return
        named = MalformedStream(peer=self.peer, evidence=str(error)) if error is not None else None
        self.record.last_error = named or self.record.last_error
        self._drop(reason, named)

    def _drop(self, reason: str, error: P2PFLError | None = None) -> None:
        connection, self._connection, self._other = self._connection, None, None
        if connection is None:
            return
        tunnel = connection.tunnel
        if tunnel.path.kind != "direct":
            reason = f"{reason}, {tunnel.path}"
        tunnel.close()
        self.record.closed(self._now())
        self._down.set()
        self._report(LinkClosed(self.peer, reason, error))

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────

    def queue_payload(self, payload: Payload, *, bulk: bool = False) -> None:
        """Queue a payload, and send what the window allows. Letters overtake bulk."""
        self._outgoing.queue_payload(payload, bulk=bulk)
        self.room.update(self._outgoing.queued)
        self._send_frames()

    async def flushed(self) -> None:
        """Wait until everything is acknowledged."""
        await self.room.idle.wait()

    async def finish(self, flush_s: float) -> None:
        """Stop well, in bounded time: wait for acknowledgements, say goodbye behind ours, and let the peer close.

        Closing first could destroy our last acknowledgement on its way.
        """
        waits = [asyncio.ensure_future(event.wait()) for event in (self.room.idle, self._down)]
        try:
            await asyncio.wait(waits, timeout=flush_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                self._send_control(GOODBYE, 0)
                await self._down.wait()

    def _send_frames(self) -> None:
        """Hand frames to ZeroMQ until it holds enough, or the window is full; of bulk one, and none while TCP is full.

        What ZeroMQ holds is overtaken no more.
        """
        connection = self._connection
        if connection is None or self._other is not None:
            return
        connection.blocked = False
        while connection.handed_bytes < HANDED_BYTES:
            bulk = not (connection.tunnel.stalled or connection.handed_bytes)
            if (frame := self._outgoing.next_frame(bulk=bulk)) is None:
                return
            acknowledged = self._acknowledgement()
            header = Header(DATA, frame.flags, connection.tag, frame.number, acknowledged, frame.total)
            if not self._router.send(self.peer, header.encode(), *frame.parts):
                connection.blocked = True
                return
            self._outgoing.mark_sent()
            connection.handed_bytes += frame.size
            self._mark_sent(connection, acknowledged)
            self.record.throughput.in_flight(connection.sent_at)

    def _forwarded(self, tunnel: Tunnel, count: int) -> None:
        """The tunnel took bytes that ZeroMQ held, or TCP did of what was full: there is room for more."""
        if self._connection is not None and self._connection.tunnel is tunnel:
            self._connection.handed_bytes = max(0, self._connection.handed_bytes - count)
            self._send_frames()

    def send_relay_frame(self, kind: int, body: bytes) -> bool:
        """Send CALL, COME or DECLINED beside the stream: at once, unnumbered, lost with the connection.

        False when there is no room for it.
        """
        return self._send_control(kind, 0, memoryview(body))

    def _send_control(self, kind: int, number: int, *body: memoryview) -> bool:
        """Send an unnumbered frame. Without room an acknowledgement stays owed, and a heartbeat is not needed."""
        connection = self._connection
        if connection is None:
            return False
        acknowledged = self._acknowledgement()
        header = Header(kind, 0, connection.tag, number, acknowledged, 0)
        if sent := self._router.send(self.peer, header.encode(), *body):
            self._mark_sent(connection, acknowledged)
        return sent

    def _mark_sent(self, connection: Connection, acknowledged: int) -> None:
        """A frame has left that acknowledges what stands before number `acknowledged`."""
        connection.sent_at = self._now()
        if self._other is None and acknowledged == self._incoming.expected:
            self._incoming.mark_acknowledged()

    # ── receiving ─────────────────────────────────────────────────────────────────────────────────────────────

    def on_message(self, raw: bytes, body: memoryview) -> None:
        """One message from the ROUTER. One that breaks the rules ends the link and names the peer."""
        connection = self._connection
        if connection is None:
            return
        try:
            header = Header.decode(raw)
            if connection.is_own(header.tag):
                self._handle(header, body)
        except MalformedFrame as error:
            self.cut("malformed frame", MalformedStream(peer=self.peer, evidence=str(error)))
        except Flooded:
            evidence = f"more than {self._limits.empty_burst} at once, or {self._limits.empty_per_s:g} each second"
            self.cut("flooded", LinkFlooded(peer=self.peer, evidence=evidence))

    def _handle(self, header: Header, body: memoryview) -> None:
        if self._other is not None:
            self._begin_session(*self._other)
            self._send_frames()
        self._heard = True
        # Every kind acknowledges, and its sender relies on that: no other frame may follow for a long time.
        confirmed, expected = self._outgoing.confirmed, self._incoming.expected
        newly_acknowledged = self._outgoing.acknowledge(header.acknowledged)
        if newly_acknowledged:
            self.record.fruitful = True
            count = self._outgoing.confirmed - confirmed
            self.record.throughput.acknowledged(self._now(), count, idle=self._outgoing.queued == 0)
            self.room.update(self._outgoing.queued)
            self._send_frames()
        if header.kind == GOODBYE:
            return self.cut("the peer stopped")
        if header.kind == DATA:
            self._receive_data(header, body)
        brings_nothing = not newly_acknowledged and self._incoming.expected == expected
        if brings_nothing and not self._empty_frames.try_spend(self._now()):
            raise Flooded
        if header.kind == PING:
            self._send_control(PONG, header.number)
        elif header.kind == PONG:
            self.record.throughput.round_trip(self._now(), header.number)
            if self.record.throughput.known is not None:
                self.measured.set()
        elif header.kind > GOODBYE:
            self._on_relay_frame(self.peer, header.kind, bytes(body))

    def _receive_data(self, header: Header, body: memoryview) -> None:
        before = self._incoming.expected
        payload = self._incoming.receive(header, body)
        self.record.fruitful = self.record.fruitful or self._incoming.expected > before
        if payload is not None:
            self.backlog.add(len(payload), self._now())
            self._report(Delivered(self.peer, payload))

    # ── acknowledging ─────────────────────────────────────────────────────────────────────────────────────────

    def on_drained(self) -> None:
        """ZeroMQ was read to its end: send frames that had no room, and acknowledge: much at once, little a bit later.

        An acknowledgement costs as much as a frame, and mostly a frame that carries one follows soon.
        """
        if self._connection is not None and self._connection.blocked:
            self._send_frames()
        if self._incoming.unacknowledged >= ACK_BYTES:
            self._acknowledge()
        elif self._incoming.owes_acknowledgement and self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_S, self._acknowledge_late)

    def _acknowledge_late(self) -> None:
        self._ack_timer = None
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Tell the peer what has arrived, unless that is withheld."""
        if self._connection is not None and self._incoming.owes_acknowledgement and not self._withholds:
            self._send_control(ACK, 0)

    def payload_taken(self, size: int) -> None:
        """The owner has dealt with a payload of `size` bytes."""
        withheld = self._withholds
        self.backlog.remove(size)
        if withheld and not self._withholds:
            self._acknowledge()

    @property
    def _withholds(self) -> bool:
        """The peer has to wait for an acknowledgement: the owner is behind, the peer sends too fast or is not heard."""
        return self._other is not None or self.backlog.is_full(self._now())

    def _acknowledgement(self) -> int:
        if self._other is not None:
            return 0
        return self._incoming.last_acknowledged if self._withholds else self._incoming.expected

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """Send a heartbeat, or end a link on which nothing arrives; called about once a second."""
        connection = self._connection
        if connection is None:
            return
        now, tunnel = self._now(), connection.tunnel
        tunnel.look()
        if connection is not self._connection:  # what came has ended it
            return
        if (silent := now - tunnel.last_heard) > self._limits.silence_s:
            self.cut(f"nothing arrived for {silent:.0f} s")
            return
        self._acknowledge()  # also what was held back while this end was behind
        if now - connection.sent_at > self._limits.heartbeat_s:
            self._send_control(PING, self._stamp())

    def check_alive(self) -> None:
        """The peer dialled although its link looks alive here: ping it, and cut the link unless bytes arrive soon."""
        connection = self._connection
        if connection is None:
            return
        asked = self._now()
        self._send_control(PING, self._stamp())

        def decide() -> None:
            if connection is self._connection and connection.tunnel.last_heard < asked:
                self.cut("the peer dialled anew and this connection is silent")

        asyncio.get_running_loop().call_later(self._limits.probe_s, decide)

    def ask_speed(self) -> None:
        """Send a filled ping over a link that was never busy. `measured` is set once its speed is known."""
        if self.record.throughput.known is None:
            stamp = self._stamp()
            if self._send_control(PING, stamp, memoryview(bytes(FILL_BYTES))):
                self.record.throughput.filled(stamp)

    def _stamp(self) -> int:
        return int(self._now() * 1e6)

    def status(self) -> LinkStatus:
        return self.record.status(payload_sent=self._outgoing.confirmed, queued=self._outgoing.queued)

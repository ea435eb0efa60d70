"""One pair, one link: the tunnel of the moment, the frames that outlive it, heartbeats, and what is known of it.

A tunnel comes and goes; `Outgoing` and `Incoming` stay as long as both processes do. When the far end returns as
another incarnation, both begin anew, and what was queued for the earlier one is dropped: it was said to a process
that is gone.

Alive means that bytes arrive. A heartbeat leaves when nothing else was sent for a while, and no frame has a deadline of
its own, so a link that moves 1 MiB in a minute lives, and one on which nothing arrives for 20 s is cut and dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import LinkFlooded, MalformedStream
from p2pfl.mesh.events import Delivered, Limits, LinkClosed, LinkOpened, LinkStatus, MeshEvent, Path, TlsFacts
from p2pfl.mesh.framing import ACK, DATA, GOODBYE, PING, PONG, Header, Incoming, MalformedFrame, Outgoing, Payload
from p2pfl.mesh.opening import NOBODY, LinkHello, OpenedLink
from p2pfl.mesh.router import Router
from p2pfl.mesh.throughput import Throughput
from p2pfl.mesh.token_bucket import TokenBucket
from p2pfl.mesh.tunnel import Tunnel

STALE_FRAMES: Final = 64  # of the link before, still in ZeroMQ's pipes
GOODBYE_S: Final = 0.5  # a peer that is alive answers within a round trip
HANDED_BYTES: Final = 2 << 20  # in ZeroMQ and its socket; below it another frame is handed over
ACK_BYTES: Final = 2 << 20  # so much is acknowledged at once
JOIN_S: Final = 3.0  # ZeroMQ connects within milliseconds
ACK_S: Final = 0.05  # and anything after so long
PAYLOAD_COST: Final = 2048  # what a payload costs its owner beside its bytes, so that small ones are bounded too


class Flooded(Exception):
    """More frames that bring nothing than any peer has reason to send."""


Aside = Callable[[str, int, bytes], None]


class Link:
    """What one end holds of a pair. Every method is called from the loop and returns at once."""

    def __init__(
        self, peer: str, router: Router, limits: Limits, now: Callable[[], float], tell: Callable[[MeshEvent], None]
    ) -> None:
        self.peer = peer
        self.incarnation = NOBODY
        self.tunnel: Tunnel | None = None
        self.path: Path | None = None  # of the tunnel of the moment, or of the last one
        self.last_error: P2PFLError | None = None
        self.undelivered = 0  # bytes told to the owner and not taken
        self.aside: Aside = lambda peer, kind, body: None  # words with or of a relay, beside the stream
        self.room = asyncio.Event()  # outgoing bytes are below their bound
        self.room.set()
        self._router = router
        self._door = router.connect(peer)
        self._limits = limits
        self._now = now
        self._tell = tell
        self._outgoing = Outgoing(limits.window_bytes)
        self._incoming = Incoming(limits.window_bytes)
        self._tag = b""
        self._joined = False  # ZeroMQ's connection of the moment is this tunnel's
        self._current = False  # a frame of this link has arrived, so no stale one may
        self._stale = 0
        self._blocked = False
        self._handed = 0  # bytes given to ZeroMQ that the tunnel has not taken from it
        self._ack_due: asyncio.TimerHandle | None = None
        self.fruitful = False  # the latest tunnel carried frames
        self._said_at = 0.0
        self._past = (0, 0)  # bytes sent and received by earlier tunnels
        self._payload_sent = 0  # to earlier incarnations
        self._facts: TlsFacts | None = None
        self._last_seen: float | None = None
        self._since = now()
        self._pace = Throughput()
        self._empty = TokenBucket(limits.empty_burst, limits.empty_per_s, now())
        self._payloads = TokenBucket(limits.payload_burst, limits.payloads_per_s, now())
        self._idle = asyncio.Event()  # nothing is unacknowledged
        self._idle.set()
        self._gone = asyncio.Event()  # there is no tunnel
        self._gone.set()

    # ── the tunnel of the moment ──────────────────────────────────────────────────────────────────────────────

    @property
    def up(self) -> bool:
        return self.tunnel is not None

    @property
    def relayed(self) -> bool:
        """It is up, through a third site."""
        return self.tunnel is not None and self.tunnel.path.kind == "relay"

    def resume_point(self) -> tuple[bytes, int]:
        """For a hello: whose frames are held here, and the number of the next."""
        return self.incarnation, self._incoming.expected

    def attach(self, tunnel: Tunnel, opened: OpenedLink, me: bytes) -> None:
        """`tunnel` is the pair's link from now on, instead of any before it. Raises MalformedStream."""
        if self.tunnel is not None:
            self._drop("replaced by a newer connection")
        hello = opened.hello
        try:
            self._begin(hello, me)
        except MalformedFrame as error:
            raise MalformedStream(peer=self.peer, evidence=str(error)) from error
        self._gone.clear()
        self.path = tunnel.path
        self.tunnel, self._tag, self._current, self._stale = tunnel, opened.tag, False, 0
        self.fruitful = False
        self._facts = opened.facts
        self._last_seen = self._said_at = self._since = self._now()
        self.last_error = None
        self._handed = 0
        self._joined = False
        self._tell(LinkOpened(self.peer, hello.incarnation, opened.greeting, opened.nonce, opened.facts, tunnel.path))
        self._door.take(lambda local: self._join(tunnel, local))

    def _join(self, tunnel: Tunnel, local: socket.socket) -> None:
        """ZeroMQ has connected anew: what it is given from now on goes this tunnel's way.

        Before that it may still write a frame into the connection of the tunnel before, where it would be lost.
        """
        tunnel.start(
            local, lambda why, error: self._ended(tunnel, why, error), lambda count: self._taken_on(tunnel, count)
        )
        self._joined = True
        self._control(PING, self._stamp())
        self.send_more()

    def _begin(self, hello: LinkHello, me: bytes) -> None:
        expected = hello.expected if hello.known == me else 0
        # It took frames of this process, and has met another one of this site since: it counts anew.
        forgotten = hello.known != me and (self._outgoing.begun or self._incoming.expected > 0)
        if hello.incarnation == self.incarnation and not forgotten:
            self._outgoing.resume(expected)
            self._incoming.resume()
            self._signal()
            return
        if self.incarnation != NOBODY:
            self._payload_sent += self._outgoing.confirmed
            self._outgoing = Outgoing(self._limits.window_bytes)
            self._signal()
        self._incoming = Incoming(self._limits.window_bytes)
        self.incarnation = hello.incarnation

    def cut(self, reason: str, error: P2PFLError | None = None) -> None:
        """End the link from this side."""
        if self.tunnel is not None:
            self.last_error = error or self.last_error
            self._drop(reason, error)

    def _ended(self, tunnel: Tunnel, reason: str, error: Exception | None) -> None:
        if tunnel is not self.tunnel:
            return
        named = MalformedStream(peer=self.peer, evidence=str(error)) if error is not None else None
        self.last_error = named or self.last_error
        self._drop(reason, named)

    def _drop(self, reason: str, error: P2PFLError | None = None) -> None:
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is None:
            return
        if tunnel.path.kind != "direct":
            reason = f"{reason}, {tunnel.path}"
        self._door.forget()
        tunnel.close()
        self._last_seen, self._since = tunnel.last_heard, self._now()
        self._past = (self._past[0] + tunnel.bytes_sent, self._past[1] + tunnel.bytes_received)
        self._pace.cut()
        self._gone.set()
        self._tell(LinkClosed(self.peer, reason, error))

    # ── frames ────────────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, payload: Payload) -> None:
        """Queue a payload and send what the window allows."""
        self._outgoing.offer(payload)
        self._signal()
        self.send_more()

    async def flushed(self) -> None:
        """Wait until nothing is unacknowledged."""
        await self._idle.wait()

    async def finish(self, flush_s: float) -> None:
        """Stop well: wait for acknowledgements, say goodbye behind our own, and let the peer close. Bounded.

        A connection that were closed here instead could take our last acknowledgement with it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(flush_s):
                waits = [asyncio.ensure_future(event.wait()) for event in (self._idle, self._gone)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
            async with asyncio.timeout(GOODBYE_S):
                self._control(GOODBYE, 0)
                await self._gone.wait()

    def send_more(self) -> None:
        """Hand frames to ZeroMQ until it holds enough, or the window is full."""
        self._blocked = False
        if self.tunnel is None or not self._joined:
            return
        while self._handed < HANDED_BYTES and (frame := self._outgoing.peek()) is not None:
            header = Header(DATA, frame.flags, self._tag, frame.number, self._acknowledgement(), frame.total)
            if not self._router.send(self.peer, header.encode(), frame.body):
                self._blocked = True
                return
            self._outgoing.sent()
            self._handed += frame.size
            self._said()
            self._pace.busy(self._said_at)

    def _taken_on(self, tunnel: Tunnel, count: int) -> None:
        """The tunnel took bytes from ZeroMQ, so there is room for more."""
        if tunnel is self.tunnel:
            self._handed = max(0, self._handed - count)
            self.send_more()

    def on_room(self) -> None:
        """ZeroMQ was read to its end: send what had no room, and acknowledge what came, much at once or a little later.

        An acknowledgement goes the whole way of a frame, and mostly a frame that carries it follows soon.
        """
        if self._blocked:
            self.send_more()
        if self._incoming.unacknowledged >= ACK_BYTES:
            self.acknowledge()
        elif self._incoming.owes and self._ack_due is None:
            self._ack_due = asyncio.get_running_loop().call_later(ACK_S, self._acknowledge_late)

    def _acknowledge_late(self) -> None:
        self._ack_due = None
        self.acknowledge()

    def on_message(self, raw: bytes, body: memoryview) -> None:
        """One message from the ROUTER. What breaks the rules ends the link and names the peer."""
        if self.tunnel is None:
            return
        try:
            header = Header.decode(raw)
            if header.tag != self._tag:
                return self._on_stale()
            self._current = True
            self._handle(header, body)
        except MalformedFrame as error:
            self.cut("malformed frame", MalformedStream(peer=self.peer, evidence=str(error)))
        except Flooded:
            evidence = f"more than {self._limits.empty_burst} at once, or {self._limits.empty_per_s:g} each second"
            self.cut("flooded", LinkFlooded(peer=self.peer, evidence=evidence))

    def _on_stale(self) -> None:
        self._stale += 1
        if self._current or self._stale > STALE_FRAMES:
            raise MalformedFrame("a frame of another link")

    def _handle(self, header: Header, body: memoryview) -> None:
        # Every kind acknowledges, and who sent it counts that as told: nothing else may come for a long time.
        before, held = self._outgoing.confirmed, self._incoming.expected
        told = self._outgoing.acknowledge(header.acknowledged)
        if told:
            self.fruitful = True
            confirmed = self._outgoing.confirmed - before
            self._pace.confirmed(self._now(), confirmed, idle=self._outgoing.queued == 0)
            self._signal()
            self.send_more()
        if header.kind == GOODBYE:
            return self.cut("the peer stopped")
        if header.kind == DATA:
            self._take(header, body)
        if not told and self._incoming.expected == held and not self._empty.take(self._now()):
            raise Flooded
        if header.kind == PING:
            self._control(PONG, header.number)
        elif header.kind == PONG:
            self._pace.pong(self._now(), header.number)
        elif header.kind > GOODBYE:  # words with a relay
            self.aside(self.peer, header.kind, bytes(body))

    def _take(self, header: Header, body: memoryview) -> None:
        payload = self._incoming.receive(header, body)
        self.fruitful = True
        if payload is not None:
            self.undelivered += len(payload) + PAYLOAD_COST
            self._payloads.owe(self._now())
            self._tell(Delivered(self.peer, payload))

    def acknowledge(self) -> None:
        """Tell the peer what has arrived, unless the owner is too far behind with taking it."""
        if self.tunnel is not None and self._incoming.owes and not self._behind:
            self._control(ACK, 0)

    def payload_taken(self, size: int) -> None:
        """The owner took a payload of `size` bytes."""
        was_behind = self._behind
        self.undelivered -= size + PAYLOAD_COST
        if was_behind and not self._behind:
            self.acknowledge()

    @property
    def _behind(self) -> bool:
        """The owner has too much to take, or the peer said more in a while than it may: it waits for our word."""
        return self.undelivered > self._limits.undelivered_bytes or self._payloads.empty(self._now())

    def _acknowledgement(self) -> int:
        return self._incoming.last_told if self._behind else self._incoming.expected

    def say_aside(self, kind: int, body: bytes) -> bool:
        """A word beside the stream: at once, unnumbered, lost with the tunnel. False when there is no room for it."""
        return self._control(kind, 0, memoryview(body))

    def _control(self, kind: int, number: int, body: memoryview | None = None) -> bool:
        """Send an unnumbered frame. Without room for it an acknowledgement stays owed; a heartbeat is needless."""
        if self.tunnel is None or not self._joined:
            return False
        header = Header(kind, 0, self._tag, number, self._acknowledgement(), 0)
        sent = self._router.send(self.peer, header.encode(), body)
        if sent:
            self._said()
        return sent

    def _said(self) -> None:
        self._said_at = self._now()
        if not self._behind:
            self._incoming.told()

    def _signal(self) -> None:
        queued = self._outgoing.queued
        for event, holds in ((self.room, queued < self._limits.outgoing_bytes), (self._idle, queued == 0)):
            if holds:
                event.set()
            else:
                event.clear()

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """Called about once a second: heartbeat, and the end of a link on which nothing arrives."""
        if self.tunnel is None:
            return
        now = self._now()
        if not self._joined and now - self._since > JOIN_S:  # libzmq tells only who sends that it has given up
            self._router.send(self.peer, Header(ACK, 0, self._tag, 0, self._acknowledgement(), 0).encode())
        if (silent := now - self.tunnel.last_heard) > self._limits.silence_s:
            return self.cut(f"nothing arrived for {silent:.0f} s")
        self.acknowledge()  # what was owed while this end was behind
        if now - self._said_at > self._limits.heartbeat_s:
            self._control(PING, self._stamp())

    def probe(self) -> None:
        """The peer dialled although its link looks alive here: ask it, and cut the link unless bytes arrive soon."""
        tunnel = self.tunnel
        if tunnel is None:
            return
        asked = self._now()
        self._control(PING, self._stamp())

        def decide() -> None:
            if tunnel is self.tunnel and tunnel.last_heard < asked:
                self.cut("the peer dialled anew and this connection is silent")

        asyncio.get_running_loop().call_later(self._limits.probe_s, decide)

    def _stamp(self) -> int:
        return int(self._now() * 1e6)

    def status(self) -> LinkStatus:
        tunnel = self.tunnel
        sent, received = self._past
        if tunnel is not None:
            sent, received = sent + tunnel.bytes_sent, received + tunnel.bytes_received
        return LinkStatus(
            state="up" if tunnel is not None else "down",
            last_seen=tunnel.last_heard if tunnel is not None else self._last_seen,
            bytes_sent=sent,
            bytes_received=received,
            payload_sent=self._payload_sent + self._outgoing.confirmed,
            queued=self._outgoing.queued,
            facts=self._facts,
            rtt_s=self._pace.rtt_s,
            speed_bytes_per_s=self._pace.bytes_per_s,
            last_error=self.last_error,
            path=tunnel.path if tunnel is not None else None,
            dialed=tunnel.dialed if tunnel is not None else None,
            since=self._since,
        )

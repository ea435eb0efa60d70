"""This site as a relay: carries bytes between two members that cannot dial each other, and cannot read them.

    caller      CALL(callee) ───────────►  relay                         on the standing links, beside their streams
                ◄─ COME(you called, ticket, callee)
                                           COME(you are called, ticket, caller) ─►  callee
    caller      TLS, ALPN p2pfl-relay/1, ticket ─►  ◄─ ticket, TLS, ALPN p2pfl-relay/1      callee
                ◄─ JOINED                                          JOINED ─►
                ◄═══════════ bytes of the inner TLS session, either way ═══════════►

A relay learns who calls whom, when, and how many bytes: what anyone on the network learns. It carries the records of
a TLS session between the two, begun with the same keys as without a relay, so it can cut and delay and nothing else.
Only members may ask, each for at most one call to each other member. A call costs the relay two TLS sessions and two
socket buffers.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from p2pfl.clocks import Clocks
from p2pfl.errors.mesh import TooFewDescriptors
from p2pfl.errors.paths import UnknownTicket
from p2pfl.mesh.events import Limits
from p2pfl.mesh.framing import COME, DECLINED, MalformedFrame
from p2pfl.mesh.local_ends import SocketEnd
from p2pfl.mesh.token_bucket import TokenBucket
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import NAME

TICKET_BYTES: Final = 16
DESCRIPTORS: Final = 48  # of a process without links: its home, its log, its sockets, libzmq's own
DESCRIPTORS_OF_A_SITE: Final = 8  # a link, the one that replaces it, and dials under way
MOST_DESCRIPTORS: Final = 1 << 14
MOST_PAIRS: Final = 4096  # pairs whose calls are counted
YOU_CALLED: Final = 0
YOU_ARE_CALLED: Final = 1
JOINED: Final = b"\x01"  # the relay's answer to a ticket once both ends have come
UNKNOWN: Final = b"\x00"  # its answer to a ticket that it does not hold

NO_LINK: Final = 1
BUSY: Final = 2
REASONS: Final = {NO_LINK: "it has no link with that site", BUSY: "it carries as many calls as it may"}

SendFrame = Callable[[str, int, bytes], bool]  # member, kind, body: on its standing link; False where there is none


def decode_name(body: bytes) -> str:
    """The site's name that `body` is. Raises MalformedFrame."""
    text = body.decode("ascii", "replace")
    if not NAME.fullmatch(text):
        raise MalformedFrame(f"{len(body)} bytes where a site's name belongs")
    return text


def encode_come(role: int, ticket: bytes, name: str) -> bytes:
    """The body of COME: role (1) ‖ ticket (16) ‖ the other end's name."""
    return bytes([role]) + ticket + name.encode()


def decode_come(body: bytes) -> tuple[int, bytes, str]:
    """(role, ticket, the other end's name). Raises MalformedFrame."""
    if len(body) <= TICKET_BYTES + 1 or body[0] not in (YOU_CALLED, YOU_ARE_CALLED):
        raise MalformedFrame(f"{len(body)} bytes where COME belongs")
    return body[0], body[1 : 1 + TICKET_BYTES], decode_name(body[1 + TICKET_BYTES :])


def decode_declined(body: bytes) -> tuple[int, str]:
    """(reason, the callee's name). Raises MalformedFrame."""
    if not body or body[0] not in REASONS:
        raise MalformedFrame(f"{len(body)} bytes where DECLINED belongs")
    return body[0], decode_name(body[1:])


@dataclass(slots=True)
class PendingCall:
    """A call with a ticket issued; `arrived`: the ends that have come; `for_probe`: two doctors asked for it."""

    caller: str
    callee: str
    until: float
    for_probe: bool = False
    arrived: dict[str, Tunnel] = field(default_factory=dict)
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> tuple[str, ...]:
        """One call is carried per key, so a probe does not end the link that it stands beside."""
        return (self.caller, self.callee, *(["a probe"] if self.for_probe else []))


@dataclass(frozen=True, slots=True)
class Carried:
    """Calls that a relay has carried, those that it carries now, and the bytes that came in for all of them."""

    calls: int
    active: int
    bytes_received: int


def raise_descriptor_limit(sites: int) -> None:
    """Allow this process more descriptors, if the system permits: a call takes four, and 1024 is a usual limit.

    Raises TooFewDescriptors where not even the links of that many sites have enough: libzmq would end the process.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = DESCRIPTORS + DESCRIPTORS_OF_A_SITE * sites
    if hard != resource.RLIM_INFINITY and hard < least:
        raise TooFewDescriptors(limit=hard, least=least, evidence=f"RLIMIT_NOFILE: {soft} now, {hard} at most")
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class RelayServer:
    """The calls that this site carries. Used by one event loop."""

    def __init__(self, limits: Limits, send_frame: SendFrame, clocks: Clocks) -> None:
        self._limits, self._send_frame, self._clocks = limits, send_frame, clocks
        self._socketpair = socket.socketpair
        self._calls = self._past_bytes = 0
        self._pending: dict[bytes, PendingCall] = {}  # by ticket
        self._pairs: dict[tuple[str, str], TokenBucket] = {}  # by caller and callee
        self._callees: dict[str, TokenBucket] = {}
        self._carried: dict[tuple[str, ...], tuple[Tunnel, Tunnel]] = {}  # by PendingCall.key

    def __len__(self) -> int:
        """Calls that are carried, or about to be."""
        return len(self._carried) + len(self._pending)

    @property
    def carried(self) -> Carried:
        """Totals so far."""
        now = sum(tunnel.bytes_received for pair in self._carried.values() for tunnel in pair)
        return Carried(self._calls, len(self._carried), self._past_bytes + now)

    # ── tickets ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_call(self, caller: str, body: bytes) -> None:
        """CALL: `caller` asks to be carried to another member. Raises MalformedFrame."""
        callee = decode_name(body)
        self._drop_expired()
        waits = any(call.key == (caller, callee) for call in self._pending.values())
        ticket = self._clocks.draw(TICKET_BYTES)
        if waits or len(self) >= self._limits.relay_calls or not self._may_call(caller, callee):
            reason = BUSY
        elif callee == caller or not self._send_frame(callee, COME, encode_come(YOU_ARE_CALLED, ticket, caller)):
            reason = NO_LINK
        else:
            self._pending[ticket] = PendingCall(caller, callee, self._clocks.now() + self._limits.relay_answer_s)
            self._send_frame(caller, COME, encode_come(YOU_CALLED, ticket, callee))
            return
        self._send_frame(caller, DECLINED, bytes([reason]) + callee.encode())

    def _may_call(self, caller: str, callee: str) -> bool:
        """Charge both rates. A call costs its callee a frame and a handshake, for which it would blame this relay."""
        limits, now = self._limits, self._clocks.now()
        if len(self._pairs) >= MOST_PAIRS:  # some callees are made up: their buckets are full again and can go
            self._pairs = {key: bucket for key, bucket in self._pairs.items() if not bucket.is_full(now)}
            self._callees = {key: bucket for key, bucket in self._callees.items() if not bucket.is_full(now)}
        pair = self._pairs.setdefault((caller, callee), TokenBucket(limits.call_burst, limits.calls_per_s, now))
        called = self._callees.setdefault(callee, TokenBucket(limits.called_burst, limits.called_per_s, now))
        return pair.try_spend(now) and called.try_spend(now)

    def issue_probe_ticket(self, caller: str, callee: str) -> bytes | None:
        """A ticket for a call that both ends asked for in a probe (probe/rendezvous.py); None above the limit."""
        self._drop_expired()
        if len(self) >= self._limits.relay_calls:
            return None
        ticket, until = self._clocks.draw(TICKET_BYTES), self._clocks.now() + self._limits.relay_answer_s
        call = PendingCall(caller, callee, until, for_probe=True)
        for older in [each for each, pending in self._pending.items() if pending.key == call.key]:
            del self._pending[older]
        self._pending[ticket] = call
        return ticket

    def _drop_expired(self) -> None:
        now = self._clocks.now()
        for ticket in [ticket for ticket, call in self._pending.items() if call.until < now]:
            del self._pending[ticket]

    # ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, tunnel: Tunnel, peer: str, on_called: Callable[[str], None]) -> bool:
        """`peer` connected to redeem a ticket: True when its tunnel is part of a call from now on.

        on_called   learns that the peer connected because another member called it
        Raises UnknownTicket, TimeoutError; what ended the stream.
        """
        async with asyncio.timeout(self._limits.relay_answer_s):  # no ticket lives longer
            ticket = await tunnel.read_exactly(TICKET_BYTES)
        self._drop_expired()
        call = self._pending.get(ticket)
        if call is None or peer not in (call.caller, call.callee) or peer in call.arrived:
            await tunnel.write(UNKNOWN)
            raise UnknownTicket(peer=peer, evidence=f"{len(self._pending)} tickets are given out")
        call.arrived[peer] = tunnel
        if peer == call.callee and not call.for_probe:  # for a probe the callee has asked itself
            on_called(peer)
        if len(call.arrived) == 2:
            await self._join(ticket, call)
            return True
        try:
            async with asyncio.timeout(self._limits.relay_answer_s):
                await call.joined.wait()
            return True
        finally:
            if not call.joined.is_set():  # the other end did not come
                call.arrived.pop(peer, None)

    async def _join(self, ticket: bytes, call: PendingCall) -> None:
        """Both ends have come: forward the bytes of each to the other from now on."""
        del self._pending[ticket]
        pair = (call.arrived[call.caller], call.arrived[call.callee])
        call.joined.set()
        self._end(call.key)  # the caller has lost an earlier call, or it would not call again
        ends: tuple[socket.socket, ...] = ()
        try:
            # Bytes decrypted on one side wait in a socket buffer of the kernel to be encrypted on the other.
            ends = self._socketpair()
            for tunnel in pair:
                await tunnel.write(JOINED)
            for tunnel, end in zip(pair, ends, strict=True):  # either may have ended while the other was told
                tunnel.start(SocketEnd(end), lambda reason, error: self._tunnel_ended(pair))
        except BaseException:
            for tunnel in pair:
                tunnel.close()
            for end in ends:
                end.close()
            raise
        self._calls += 1
        self._carried[call.key] = pair

    def _tunnel_ended(self, pair: tuple[Tunnel, Tunnel]) -> None:
        if all(tunnel.closed for tunnel in pair):  # the second forwards what it still holds, and ends by itself
            for key in [key for key, carried in self._carried.items() if carried is pair]:
                self._end(key)

    def _end(self, key: tuple[str, ...]) -> None:
        for tunnel in self._carried.pop(key, ()):
            self._past_bytes += tunnel.bytes_received
            tunnel.close()

    def tick(self) -> None:
        """End idle calls and those whose certificates have expired, and forget old tickets; about once a second."""
        self._drop_expired()
        now, wall = self._clocks.now(), self._clocks.wall()
        for key, pair in list(self._carried.items()):
            idle = now - max(tunnel.last_heard for tunnel in pair)
            if idle > self._limits.relay_idle_s or wall > min(tunnel.expires for tunnel in pair):
                self._end(key)

    def drop_member(self, peer: str) -> None:
        """This site has cut its link to `peer`: end the calls that it carries for it too."""
        for key in [key for key in self._carried if peer in key]:
            self._end(key)
        for ticket in [ticket for ticket, call in self._pending.items() if peer in (call.caller, call.callee)]:
            del self._pending[ticket]

    def close(self) -> None:
        for key in list(self._carried):
            self._end(key)
        self._pending.clear()

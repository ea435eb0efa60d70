"""This site as a relay: carries bytes between two members that cannot dial one another, and cannot read them.

    caller      CALL(callee) ───────────►  relay                         on the standing links, beside their streams
                ◄─ COME(you called, ticket, callee)
                                           COME(you are called, ticket, caller) ─►  callee
    caller      TLS, ALPN p2pfl-relay/1, ticket ─►  ◄─ ticket, TLS, ALPN p2pfl-relay/1      callee
                ◄─ READY                                            READY ─►
                ◄═══════════ bytes of the inner TLS session, either way ═══════════►

A relay knows who calls whom, when, and how many bytes: what anyone on the network knows. What it carries are the
records of a TLS session between the two, begun with the same keys as without it, so it can cut and delay, and nothing
else. Only members ask, each for at most one call to each other member; what it holds for a call is two TLS sessions
and two socket buffers.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from p2pfl.clocks import Clocks
from p2pfl.errors.paths import UnknownTicket
from p2pfl.mesh.events import Limits
from p2pfl.mesh.framing import COME, DECLINED, MalformedFrame
from p2pfl.mesh.token_bucket import TokenBucket
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import NAME

TICKET_BYTES: Final = 16
MOST_DESCRIPTORS: Final = 1 << 14
MOST_PAIRS: Final = 4096  # whose calls are counted
YOU_CALLED: Final = 0
YOU_ARE_CALLED: Final = 1
READY: Final = b"\x01"
UNKNOWN: Final = b"\x00"

NO_LINK: Final = 1
BUSY: Final = 2
REASONS: Final = {NO_LINK: "it has no link with that site", BUSY: "it carries as many calls as it may"}

Say = Callable[[str, int, bytes], bool]


def name_of(body: bytes) -> str:
    """The site's name that `body` is. Raises MalformedFrame."""
    text = body.decode("ascii", "replace")
    if not NAME.fullmatch(text):
        raise MalformedFrame(f"{len(body)} bytes where a site's name belongs")
    return text


def come(role: int, ticket: bytes, name: str) -> bytes:
    """The body of COME: role (1) ‖ ticket (16) ‖ the other end's name."""
    return bytes([role]) + ticket + name.encode()


def read_come(body: bytes) -> tuple[int, bytes, str]:
    """(role, ticket, the other end's name). Raises MalformedFrame."""
    if len(body) <= TICKET_BYTES + 1 or body[0] not in (YOU_CALLED, YOU_ARE_CALLED):
        raise MalformedFrame(f"{len(body)} bytes where COME belongs")
    return body[0], body[1 : 1 + TICKET_BYTES], name_of(body[1 + TICKET_BYTES :])


def read_declined(body: bytes) -> tuple[int, str]:
    """(reason, who was called). Raises MalformedFrame."""
    if not body or body[0] not in REASONS:
        raise MalformedFrame(f"{len(body)} bytes where DECLINED belongs")
    return body[0], name_of(body[1:])


@dataclass(slots=True)
class PendingCall:
    """A call for which a ticket was given out: who of its two ends has come. `tried`: it is for a doctor's probe."""

    caller: str
    callee: str
    until: float
    tried: bool = False
    here: dict[str, Tunnel] = field(default_factory=dict)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> tuple[str, ...]:
        """One call is carried for each: a probe does not end the link that it stands beside."""
        return (self.caller, self.callee, *(["a probe"] if self.tried else []))


@dataclass(frozen=True, slots=True)
class Carried:
    """How many calls a relay has carried, how many of them at the moment, and how many bytes came in for them."""

    calls: int
    now: int
    bytes_received: int


def more_descriptors() -> None:
    """Let this process have more descriptors, if the system allows it: a call takes four, and 1024 is a usual start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Exchange:
    """The calls that this site carries. Used by one event loop.

    say     one word to a member, on its standing link; False where there is none
    """

    def __init__(self, limits: Limits, say: Say, clocks: Clocks) -> None:
        self._limits, self._say, self._clocks = limits, say, clocks
        self._joined = socket.socketpair
        self._calls = self._past_bytes = 0
        self._meetings: dict[bytes, PendingCall] = {}
        self._pairs: dict[tuple[str, str], TokenBucket] = {}  # by caller and callee
        self._callees: dict[str, TokenBucket] = {}
        self._carried: dict[tuple[str, ...], tuple[Tunnel, Tunnel]] = {}  # by Meeting.key

    def __len__(self) -> int:
        """Calls that are being carried, or about to be."""
        return len(self._carried) + len(self._meetings)

    @property
    def carried(self) -> Carried:
        """What this site has carried so far."""
        now = sum(tunnel.bytes_received for pair in self._carried.values() for tunnel in pair)
        return Carried(self._calls, len(self._carried), self._past_bytes + now)

    def asked(self, caller: str, body: bytes) -> None:
        """`caller` wants to be carried to another member. Raises MalformedFrame."""
        callee = name_of(body)
        self._forget_late()
        waits = any(one.key == (caller, callee) for one in self._meetings.values())
        ticket = self._clocks.draw(TICKET_BYTES)
        if waits or len(self) >= self._limits.relay_calls or not self._may_call(caller, callee):
            reason = BUSY
        elif callee == caller or not self._say(callee, COME, come(YOU_ARE_CALLED, ticket, caller)):
            reason = NO_LINK
        else:
            self._meetings[ticket] = PendingCall(caller, callee, self._clocks.now() + self._limits.relay_answer_s)
            self._say(caller, COME, come(YOU_CALLED, ticket, callee))
            return
        self._say(caller, DECLINED, bytes([reason]) + callee.encode())

    def _may_call(self, caller: str, callee: str) -> bool:
        """A call costs its callee a frame and a handshake, for which this relay would have to answer."""
        limits, now = self._limits, self._clocks.now()
        if len(self._pairs) >= MOST_PAIRS:  # of names that were made up, which nobody can be called by
            self._pairs = {key: one for key, one in self._pairs.items() if not one.full(now)}
            self._callees = {key: one for key, one in self._callees.items() if not one.full(now)}
        pair = self._pairs.setdefault((caller, callee), TokenBucket(limits.call_burst, limits.calls_per_s, now))
        called = self._callees.setdefault(callee, TokenBucket(limits.called_burst, limits.called_per_s, now))
        return pair.take(now) and called.take(now)

    def appoint(self, caller: str, callee: str) -> bytes | None:
        """A ticket for a probe's call, for both of its ends, which asked for it (rendezvous.py); None: too many."""
        self._forget_late()
        if len(self) >= self._limits.relay_calls:
            return None
        ticket, until = self._clocks.draw(TICKET_BYTES), self._clocks.now() + self._limits.relay_answer_s
        made = PendingCall(caller, callee, until, tried=True)
        for older in [each for each, one in self._meetings.items() if one.key == made.key]:
            del self._meetings[older]
        self._meetings[ticket] = made
        return ticket

    async def serve(self, tunnel: Tunnel, peer: str, called: Callable[[str], None] = lambda peer: None) -> bool:
        """`peer` has come to be carried: True when its tunnel is part of a call from now on.

        called   told when it has come because another member called it
        Raises UnknownTicket, TimeoutError; what ended the stream.
        """
        async with asyncio.timeout(self._limits.relay_answer_s):  # no ticket lives longer
            ticket = await tunnel.hear(TICKET_BYTES)
        self._forget_late()
        meeting = self._meetings.get(ticket)
        if meeting is None or peer not in (meeting.caller, meeting.callee) or peer in meeting.here:
            await tunnel.say(UNKNOWN)
            raise UnknownTicket(peer=peer, evidence=f"{len(self._meetings)} tickets are given out")
        meeting.here[peer] = tunnel
        if peer == meeting.callee and not meeting.tried:  # for a probe it has asked itself
            called(peer)
        if len(meeting.here) == 2:
            await self._begin(ticket, meeting)
            return True
        try:
            async with asyncio.timeout(self._limits.relay_answer_s):
                await meeting.begun.wait()
            return True
        finally:
            if not meeting.begun.is_set():  # the other end did not come
                meeting.here.pop(peer, None)

    async def _begin(self, ticket: bytes, meeting: PendingCall) -> None:
        """Both are here: from now on what one says goes to the other."""
        del self._meetings[ticket]
        pair = (meeting.here[meeting.caller], meeting.here[meeting.callee])
        meeting.begun.set()
        self._end(meeting.key)  # the caller has lost an earlier one, or it would not call
        ends: tuple[socket.socket, ...] = ()
        try:
            # What was decrypted on one side waits in a socket buffer of the kernel to be encrypted on the other.
            ends = self._joined()
            for tunnel in pair:
                await tunnel.say(READY)
        except BaseException:
            for tunnel in pair:
                tunnel.close()
            for end in ends:
                end.close()
            raise
        self._calls += 1
        self._carried[meeting.key] = pair
        for tunnel, end in zip(pair, ends, strict=True):
            tunnel.start(end, lambda why, error: self._ended(pair), zmtp=False)

    def _ended(self, pair: tuple[Tunnel, Tunnel]) -> None:
        if all(tunnel.closed for tunnel in pair):  # the second says what it still holds, and ends by itself
            for key in [key for key, held in self._carried.items() if held is pair]:
                self._end(key)

    def _end(self, key: tuple[str, ...]) -> None:
        for tunnel in self._carried.pop(key, ()):
            self._past_bytes += tunnel.bytes_received
            tunnel.close()

    def _forget_late(self) -> None:
        now = self._clocks.now()
        for ticket in [ticket for ticket, one in self._meetings.items() if one.until < now]:
            del self._meetings[ticket]

    def tick(self) -> None:
        """Called about once a second: ends calls on which nothing moves, and those whose certificates have ended."""
        now, wall = self._clocks.now(), self._clocks.wall()
        for key, pair in list(self._carried.items()):
            idle = now - max(tunnel.last_heard for tunnel in pair)
            if idle > self._limits.relay_idle_s or wall > min(tunnel.expires for tunnel in pair):
                self._end(key)

    def leave(self, peer: str) -> None:
        """This site has ended its link to `peer`: the calls that it carries for it end, too."""
        for key in [key for key in self._carried if peer in key]:
            self._end(key)
        for ticket in [ticket for ticket, one in self._meetings.items() if peer in (one.caller, one.callee)]:
            del self._meetings[ticket]

    def close(self) -> None:
        for key in list(self._carried):
            self._end(key)
        self._meetings.clear()

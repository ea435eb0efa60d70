"""The two ends of a call through a relay: ask for it, or come when called; the result is a socket like any other.

The connection to the relay is TLS to the relay. Inside it runs the pair's own TLS session, over one end of a
`socketpair` whose other end is pumped through the connection to the relay. Tunnel, check of the key and opening are
those of a direct connection, and know nothing of the relay. docs/spec/wire.md §8.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.paths import NoWay, RelayRefuses
from p2pfl.keys import digest
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.certificates import RELAY_ALPN
from p2pfl.mesh.events import Path
from p2pfl.mesh.framing import CALL, COME
from p2pfl.mesh.local_ends import SocketEnd
from p2pfl.mesh.pump import Scratch
from p2pfl.mesh.relay import JOINED, REASONS, YOU_CALLED, SendFrame, decode_come, decode_declined
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tls_errors import translate
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

REPORT_AFTER: Final = 5  # multiples of relay_after_s without any relay, before that is reported
MOST_ANSWERS: Final = 64  # calls that are answered at a time; more are a relay's fault


@dataclass(frozen=True, slots=True)
class RelayClientOwner:
    """What a relay client asks of the mesh that owns it.

    send_frame      one frame to a member on its standing link; False where there is none
    is_up           this member has a link
    bring_up        makes a link of a connected socket; never raises
    report_failure  a call did not come about
    serve           runs a task that another member asked for, for as long as the mesh; no fault in it ends the mesh
    """

    send_frame: SendFrame
    is_up: Callable[[str], bool]
    bring_up: Callable[[socket.socket, Route], Coroutine[None, None, None]]
    report_failure: Callable[[str, Address | None, P2PFLError], None]
    serve: Callable[[Coroutine[None, None, None]], asyncio.Task[None]]


@dataclass(frozen=True, slots=True)
class RelayTicket:
    """The right to be carried to `peer` by `relay`, which issued the ticket."""

    peer: str
    relay: str
    ticket: bytes


class RelayClient:
    """This site's calls through others. Used by one event loop.

    prefer   the member that is asked first, if it lists an address: the hub
    """

    def __init__(self, site: LocalSite, owner: RelayClientOwner, *, prefer: str | None, scratch: Scratch) -> None:
        self._site, self._me, self._roster = site, site.name, site.roster
        self._limits, self._now = site.limits, site.clocks.now
        self._owner, self._prefer, self._scratch = owner, prefer, scratch
        self._down_since: dict[str, float] = {}  # by peer
        self._failed: dict[str, list[str]] = {}  # by peer: relays that failed, the latest last
        self._requests: dict[tuple[str, str], asyncio.Future[bytes]] = {}  # by relay and peer: a ticket
        self._answers: dict[tuple[str, str], asyncio.Task[None]] = {}  # by relay and peer, while under way
        self._tunnels: set[Tunnel] = set()  # to relays

    # ── when, and through whom ────────────────────────────────────────────────────────────────────────────────

    def link_lost(self, peer: str, path: Path | None = None) -> None:
        """There is no link with `peer` from now on; `path`: of the last one."""
        self._down_since[peer] = self._now()
        if path is not None and path.kind == "relay":
            self._put_last(peer, path.via)
        for (relay, called), request in self._requests.items():
            if relay == peer and not request.done():
                request.set_exception(self._refusal(called, relay, "its own link is gone"))

    def _put_last(self, peer: str, relay: str) -> None:
        failed = self._failed.setdefault(peer, [])
        if relay in failed:
            failed.remove(relay)
        failed.append(relay)

    def relay_order(self, peer: str) -> list[str]:
        """Members that could carry a call to `peer`, in the order of trying; the relay that failed last comes last.

        Both ends start with the same order and other pairs with other ones, which spreads the load.
        """
        first, second = sorted((self._me, peer))
        failed = self._failed.get(peer, [])

        def rank(name: str) -> tuple[int, bool, bytes]:
            order = digest("relay-order", first.encode(), second.encode(), name.encode())
            return (failed.index(name) + 1 if name in failed else 0, name != self._prefer, order)

        able = [member.name for member in self._roster.members if member.addresses]
        return sorted((name for name in able if name not in (self._me, peer)), key=rank)

    def _is_due(self, peer: str) -> bool:
        """Dialling has had its time. The end whose name sorts first calls; the other one only if that does not help."""
        roster = self._roster
        patience = self._limits.relay_after_s if roster[peer].addresses or roster[self._me].addresses else 0.0
        if self._me > peer:
            patience += self._limits.relay_after_s
        return self._now() - self._down_since.setdefault(peer, self._now()) >= patience

    # ── the caller ────────────────────────────────────────────────────────────────────────────────────────────

    async def call_relays(self, peer: str) -> None:
        """Call `peer` through one relay after another, until there is a link; never raises."""
        if not self._is_due(peer):
            return
        relays = self.relay_order(peer)
        linked = [relay for relay in relays if self._owner.is_up(relay)]
        error: P2PFLError | None = None
        for relay in linked:
            try:
                await self._call(peer, relay)
            except P2PFLError as failed:
                error = error or failed
            if self._owner.is_up(peer):
                return
            self._put_last(peer, relay)
        self._report(peer, relays, linked, error)

    def _report(self, peer: str, relays: list[str], linked: list[str], error: P2PFLError | None) -> None:
        if self._roster[peer].addresses:
            return  # the reason why it could not be dialled says more
        if not linked:
            if self._now() - self._down_since[peer] < REPORT_AFTER * self._limits.relay_after_s:
                return  # this site, or those that could relay, have only just started
            why = "no relay is linked with this site" if relays else "no site has a port by which it could relay"
            listed = ", ".join(relays) or "none"
            error = NoWay(peer=peer, why=f"it lists no address, and {why}", evidence=f"could relay: {listed}")
        if error is not None:
            self._owner.report_failure(peer, None, error)

    async def _call(self, peer: str, relay: str) -> None:
        ticket = await self._request_ticket(peer, relay)
        sock, address = await self._redeem(peer, relay, ticket)
        await self._owner.bring_up(sock, Route(address, peer, relay=relay))

    async def _request_ticket(self, peer: str, relay: str) -> bytes:
        """The ticket for a call. Raises RelayRefuses."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._requests[(relay, peer)] = answer
        try:
            if not self._owner.send_frame(relay, CALL, peer.encode()):
                raise self._refusal(peer, relay, "its own link is gone")
            async with asyncio.timeout(self._limits.relay_answer_s):
                return await answer
        except TimeoutError:
            raise self._refusal(peer, relay, "it does not answer") from None
        finally:
            del self._requests[(relay, peer)]

    def _refusal(self, peer: str, relay: str, text: str) -> P2PFLError:
        return RelayRefuses(relay=relay, peer=peer, text=text, evidence="asked on the link with it")

    # ── both ends ─────────────────────────────────────────────────────────────────────────────────────────────

    def on_relay_frame(self, relay: str, kind: int, body: bytes) -> None:
        """COME or DECLINED from `relay`. Raises MalformedFrame."""
        if kind != COME:
            reason, peer = decode_declined(body)
            if (request := self._requests.get((relay, peer))) is not None and not request.done():
                request.set_exception(self._refusal(peer, relay, REASONS[reason]))
            return
        role, ticket, peer = decode_come(body)
        if role == YOU_CALLED:
            if (request := self._requests.get((relay, peer))) is not None and not request.done():
                request.set_result(ticket)
        elif self._may_answer(peer, relay):
            # The caller has given up its earlier call, or it would not call again, though its end is not seen here yet.
            if (earlier := self._answers.get((relay, peer))) is not None:
                earlier.cancel()
            answer = self._answers[(relay, peer)] = self._owner.serve(self._answer(peer, relay, ticket))
            answer.add_done_callback(lambda task: self._answered((relay, peer), task))

    def _may_answer(self, peer: str, relay: str) -> bool:
        known = peer in self._roster and peer not in (self._me, relay)
        return known and ((relay, peer) in self._answers or len(self._answers) < MOST_ANSWERS)

    async def _answer(self, peer: str, relay: str, ticket: bytes) -> None:
        try:
            sock, address = await self._redeem(peer, relay, ticket)
        except P2PFLError:
            return  # the caller learns the reason, and asks another relay
        await self._owner.bring_up(sock, Route(address, peer, relay=relay, accepting=True))

    def _answered(self, call: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._answers.get(call) is task:
            del self._answers[call]

    async def _redeem(self, peer: str, relay: str, ticket: bytes) -> tuple[socket.socket, Address]:
        return await redeem(self._site, RelayTicket(peer, relay, ticket), self._tunnels, self._scratch)

    def close(self) -> None:
        """End every connection to a relay."""
        for tunnel in self._tunnels:
            tunnel.close()
        self._tunnels.clear()


async def redeem(
    site: LocalSite, ticket: RelayTicket, tunnels: set[Tunnel], scratch: Scratch | None = None
) -> tuple[socket.socket, Address]:
    """A socket that ends at the ticket's peer, if its relay is faithful; and the relay's address that answered.

    tunnels   holds the connection to the relay while it lives, so that its owner can end it
    Raises P2PFLError.
    """
    relay, limits = ticket.relay, site.limits
    opened: list[socket.socket] = []  # what is ours to close until the connection carries the call
    tunnel: Tunnel | None = None
    try:
        contexts = site.credentials.current()
        first = await site.connector.connect_first(relay, site.roster[relay].addresses, lambda address, error: None)
        if first is None:
            raise _refusal(ticket, "it does not answer at its addresses")
        opened.append(first.sock)
        tunnel = Tunnel(first.sock, contexts.relaying, limits, site.clocks.now, scratch=scratch)
        tunnels.add(tunnel)
        route = Route(first.address, relay, protocols=(RELAY_ALPN,))
        await authenticate(tunnel, route, contexts.leaf, site.roster, site.name)
        await tunnel.write(ticket.ticket)
        async with asyncio.timeout(limits.relay_answer_s):
            answer = await tunnel.read_exactly(len(JOINED))
        if answer != JOINED:
            raise _refusal(ticket, "it does not know the call any more")
        inside, outside = socket.socketpair()
        opened += (inside, outside)
        tunnel.start(SocketEnd(inside), lambda reason, error: tunnels.discard(tunnel))
    except BaseException as error:
        if tunnel is not None:
            tunnel.close()
            tunnels.discard(tunnel)
        for sock in opened:
            sock.close()
        if isinstance(error, OSError):  # ssl.SSLError and TimeoutError too; no descriptor left for a new leaf's key
            first_bytes = b"" if tunnel is None else tunnel.first_bytes
            raise translate(error, peer=relay, first_bytes=first_bytes, dialed=True) from None
        raise
    return outside, first.address


def _refusal(ticket: RelayTicket, text: str) -> P2PFLError:
    return RelayRefuses(relay=ticket.relay, peer=ticket.peer, text=text, evidence="it had given a ticket for the call")

"""Delivers: payloads to peers by name, over one mutually authenticated link per pair, whoever dialled it.

One connection's way: the dialer or the listener brings a socket; `authenticate` finishes TLS and finds out whose key
signed the leaf; the opening agrees on incarnations, resume points and the owners' greetings, and on which of two
connections stays; the link takes the tunnel. What fails on that way becomes one named error, told once. A socket that
a relay carries comes the same way (`calling`); a connection of those whom this site is to carry turns off (`relay`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import NoSuchPeer, PayloadTooLarge, PeerUnreachable, RefusedThere
from p2pfl.errors.paths import ProxyFails, RelayRefuses
from p2pfl.errors.probe import NobodyListens
from p2pfl.mesh import opening
from p2pfl.mesh.admission import Call, admit
from p2pfl.mesh.admission_limits import AdmissionLimits
from p2pfl.mesh.certificates import ALPN, RELAY_ALPN
from p2pfl.mesh.dialer import Backoff, Calls, Dialer
from p2pfl.mesh.events import Greeter, LinkClosed, LinkOpened, LinkStatus, MeshEvent, Refused
from p2pfl.mesh.framing import CALL, PAYLOAD_BYTES, Payload, parts_of
from p2pfl.mesh.link import Link
from p2pfl.mesh.listener import Listener, bind
from p2pfl.mesh.opening import LinkHello, Side
from p2pfl.mesh.probe import About
from p2pfl.mesh.probe_server import ProbeServer
from p2pfl.mesh.pump import Scratch
from p2pfl.mesh.refusal_log import RefusalLog
from p2pfl.mesh.relay import Exchange, more_descriptors
from p2pfl.mesh.relay_client import Owner, RelayClient
from p2pfl.mesh.rendezvous import Rendezvous
from p2pfl.mesh.router import Router
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tls_errors import translate, unfaithful
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

TICK_S: Final = 0.5
QUIET: Final = (PeerUnreachable, NobodyListens, ProxyFails, RelayRefuses)  # not there: the link's state says it


class Mesh:
    """This site's links to all peers of one epoch. Use it from one event loop.

    greeter       decides who gets a link, says and checks the owner's part of each hello
    about         what members that probe are told of this site
    listen        where to bind, or None for a site that only dials
    incarnation   16 random bytes, drawn by the process that owns this mesh
    hub           the member that is asked first to carry calls
    """

    def __init__(
        self,
        site: LocalSite,
        greeter: Greeter,
        about: About,
        *,
        listen: Address | None,
        incarnation: bytes,
        hub: str | None = None,
    ) -> None:
        if len(incarnation) != opening.INCARNATION_BYTES or incarnation == opening.NOBODY:
            raise ValueError("an incarnation is 16 random bytes")
        self._site = site
        self._listen = listen
        self._incarnation = incarnation
        self._greeter = greeter
        self._links: dict[str, Link] = {}
        self._dialers: dict[str, Dialer] = {}
        self._visits = AdmissionLimits(site.limits, site.clocks.now)
        self._slots: dict[str, tuple[Tunnel, bytes]] = {}  # chosen here, and not up yet; the far end's incarnation
        self._events: deque[MeshEvent] = deque()
        self._news = asyncio.Event()
        self._reasons = RefusalLog(site.clocks.now)
        self._tasks: set[asyncio.Task[None]] = set()
        self._scratch = Scratch()
        self.exchange = Exchange(site.limits, self._say_aside, site.clocks)
        self._answers = ProbeServer(site, about, Rendezvous(self.exchange, site.roster.names, site.clocks.now))
        owner = Owner(self._say_aside, lambda peer: self._links[peer].up, self._bring_up, self._refused, self._begin)
        self._caller = RelayClient(site, owner, prefer=hub, scratch=self._scratch)
        self._router: Router | None = None
        self._listener: Listener | None = None
        self._stopped = False
        self._crash: BaseException | None = None

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Bind and begin to dial. Raises PortBusy, AddressUnusable, NoSocketFolder, and then holds nothing."""
        self._site.credentials.current()
        more_descriptors()
        sock = bind(self._listen) if self._listen is not None else None
        try:
            self._router = Router(self._on_message, self._on_room)
        except P2PFLError:
            if sock is not None:
                sock.close()
            raise
        site = self._site
        for peer in site.roster.names:
            if peer != site.name:
                link = self._links[peer] = Link(peer, self._router, site.limits, site.clocks.now, self._tell)
                link.aside = self._on_aside
        if sock is not None:
            self._listener = Listener(sock, self._serve, self._site.limits, self._site.clocks.now)
        self._begin(self._tick())
        for peer in self._links:
            self._begin_dialing(peer)

    async def stop(self, flush_s: float | None = None) -> None:
        """Wait, at most `flush_s`, until peers with a link acknowledged everything; then close; no file stays."""
        if self._stopped:
            return
        bound = self._site.limits.flush_s if flush_s is None else flush_s
        if self._listener is not None:
            await self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(link.finish(bound) for link in self._links.values() if link.up))
        self._stopped = True
        for link in self._links.values():
            link.cut("this site stops")
        self._caller.close()
        self.exchange.close()
        if self._router is not None:
            self._router.close()
        self._news.set()

    # ── the owner's verbs ─────────────────────────────────────────────────────────────────────────────────────

    async def send(self, peer: str, payload: Payload) -> None:
        """Queue `payload` for `peer`, once, in order; waits only while that peer's queue is above its bound.

        A payload may be given in several parts, which arrive as one. None of them is copied before it is sent, so who
        passes a view must leave its memory as it is until `flushed` or an answer says that it has arrived.
        What is queued outlives cuts, and is dropped when the peer returns as another incarnation.
        Raises NoSuchPeer, PayloadTooLarge (above 16 MiB).
        """
        link = self._link(peer, payload)
        while not link.room.is_set():
            await link.room.wait()
        link.offer(payload)

    async def flushed(self, peer: str) -> None:
        """Wait until `peer` has acknowledged everything; for ever, if it never comes."""
        await self._links[peer].flushed()

    async def events(self) -> AsyncIterator[MeshEvent]:
        """What happens, in order; ends after `stop`.

        A payload counts as held here until `payload_taken` says that it is dealt with: that lets its sender go on.
        """
        while True:
            while self._events:
                yield self._events.popleft()
            if self._crash is not None:
                raise self._crash
            if self._stopped:
                return
            self._news.clear()
            await self._news.wait()

    def payload_taken(self, peer: str, size: int) -> None:
        """The owner has dealt with a payload of `size` bytes of `peer`."""
        self._links[peer].payload_taken(size)

    def cut(self, peer: str, error: P2PFLError) -> None:
        """End the link to `peer`, who broke a rule that the owner knows; it is dialled again by itself."""
        self._links[peer].cut(error.happened, error)
        self.exchange.leave(peer)

    def links(self) -> dict[str, LinkStatus]:
        """The state of every link, by peer."""
        return {peer: link.status() for peer, link in self._links.items()}

    def _link(self, peer: str, payload: Payload) -> Link:
        if peer not in self._links:
            raise NoSuchPeer(peer=peer, evidence=f"peers: {', '.join(self._links)}")
        size = sum(map(len, parts_of(payload)))
        if size > PAYLOAD_BYTES:
            raise PayloadTooLarge(peer=peer, size=size, limit=PAYLOAD_BYTES, evidence="checked before sending")
        return self._links[peer]

    # ── connections ───────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:  # a fault of ours: `events` raises it
            self._crash = task.exception()
            self._news.set()

    def _begin_dialing(self, peer: str) -> None:
        member = self._site.roster[peer]
        calls = Calls(
            wanted=lambda: not (self._links[peer].up or peer in self._slots),
            better=lambda: self._links[peer].relayed and peer not in self._slots,
            open_to=lambda sock, address: self._dialed(peer, sock, address),
            failed=lambda address, error: self._refused(peer, address, error),
            through=lambda: self._caller.through(peer),
        )
        site = self._site
        backoff = Backoff(site.limits.dial_first_s, site.limits.dial_most_s, site.clocks.draw)
        dialed_too = bool(site.roster[site.name].addresses) and self._listener is not None
        second = dialed_too and not self._arbitrates(peer)
        dialer = self._dialers[peer] = Dialer(member, calls, backoff, site.reach, second=second)
        self._caller.lost(peer)
        self._begin(dialer.run())

    async def _dialed(self, peer: str, sock: socket.socket, address: Address) -> None:
        await self._bring_up(sock, Call(address, peer, proxied=self._site.reach.proxied(address)))

    async def _serve(self, sock: socket.socket, address: Address) -> None:
        await self._bring_up(sock, Call(address, None, protocols=(ALPN, RELAY_ALPN)))

    async def _bring_up(self, sock: socket.socket, call: Call) -> None:
        """From a socket to a link, or to a call that is carried on, or to one named error."""
        site, contexts = self._site, self._site.credentials.current()
        context = contexts.dialing if call.dialed else contexts.accepting
        tunnel = Tunnel(sock, context, site.limits, site.clocks.now, scratch=self._scratch, path=call.path)
        peer: str | None = None
        carried = False
        try:
            peer = await admit(tunnel, call, contexts, site.roster, site.name)
            if self._listener is not None and not call.dialed:
                self._listener.authenticated()
                self._visits.welcome(peer)
            self._greeter.admit(peer)
            if tunnel.speaks_relay:
                carried = await self.exchange.serve(tunnel, peer, self._visits.called)
                return
            if not call.dialed:
                self._visits.enters(peer)
            try:
                opened = await opening.open_link(tunnel, self._side(peer, tunnel))
            except opening.Probed:
                await self._answers.answer(tunnel, peer)
                return
            self._links[peer].attach(tunnel, opened, self._incarnation)
            self._reasons.forget(peer)
        except opening.Duplicate:
            await tunnel.part()
        except (P2PFLError, OSError) as error:  # OSError: ssl.SSLError and TimeoutError too
            await self._fail(tunnel, peer, call, error)
        finally:
            if peer is not None and (slot := self._slots.get(peer)) is not None and slot[0] is tunnel:
                del self._slots[peer]
                self._dialers[peer].look()  # if it did not become a link after all
            if not carried and (peer is None or self._links[peer].tunnel is not tunnel):
                tunnel.close()

    def _side(self, peer: str, tunnel: Tunnel) -> Side:
        known, expected = self._links[peer].resume_point()
        hello = LinkHello(self._incarnation, self._site.clocks.draw(opening.NONCE_BYTES), known, expected)
        return Side(self._site.name, peer, hello, self._greeter, lambda theirs: self._choose(peer, tunnel, theirs))

    def _arbitrates(self, peer: str) -> bool:
        return self._site.name < peer

    def _choose(self, peer: str, tunnel: Tunnel, theirs: LinkHello) -> bool:
        """May this connection be the pair's link? The end whose name sorts first decides; the other agrees."""
        link = self._links[peer]
        if not self._arbitrates(peer):
            return True
        if (slot := self._slots.get(peer)) is not None:
            if slot[1] == theirs.incarnation:
                return False
            slot[0].close()  # it belongs to a process that is gone
        elif link.relayed and tunnel.path.kind != "relay" and link.incarnation == theirs.incarnation:
            pass  # a direct connection works (again): what the relay has not delivered is sent anew
        elif link.up and link.incarnation == theirs.incarnation:
            # The peer sees no link where this end sees one: two dials that crossed, or a connection that died unseen.
            link.probe()
            return False
        self._slots[peer] = (tunnel, theirs.incarnation)
        return True

    async def _fail(self, tunnel: Tunnel, peer: str | None, call: Call, error: Exception) -> None:
        named = translate(error, peer=peer or call.label, first=tunnel.first, dialed=tunnel.dialed)
        if call.relay and call.expected is not None:
            named = unfaithful(named, call.relay, call.expected)
        with contextlib.suppress(OSError):
            if tunnel.established and tunnel.speaks_p2pfl and not isinstance(named, RefusedThere):
                await opening.refuse(tunnel, named)
        await tunnel.part()
        if tunnel.first or tunnel.dialed:  # a caller who closes without a word is a scanner or a health check
            self._refused(peer or call.expected, call.address, named, known=peer is not None)

    def _refused(self, peer: str | None, address: Address | None, error: P2PFLError, *, known: bool = False) -> None:
        """Keep the error for `status`, and tell the owner when it is news."""
        if peer is not None and not self._links[peer].up:
            self._links[peer].last_error = error
        # What a peer says is news also where somebody on the way has said the same before.
        what, host = f"{known} {error.render()}", address.host if address else ""
        if isinstance(error, QUIET) or not self._reasons.is_news(peer, host, what):
            return
        self._tell(Refused(peer, address, error, known))

    # ── callbacks ─────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, event: MeshEvent) -> None:
        self._events.append(event)
        self._news.set()
        if isinstance(event, LinkClosed):
            link = self._links[event.peer]
            self._caller.lost(event.peer, link.path)
            self._dialers[event.peer].wake(fruitful=link.fruitful)
        elif isinstance(event, LinkOpened):
            self._dialers[event.peer].look()

    def _on_message(self, peer: str, header: bytes, body: memoryview) -> None:
        self._links[peer].on_message(header, body)

    def _say_aside(self, peer: str, kind: int, body: bytes) -> bool:
        return peer in self._links and self._links[peer].say_aside(kind, body)

    def _on_aside(self, peer: str, kind: int, body: bytes) -> None:
        if kind == CALL:
            self.exchange.asked(peer, body)
        else:
            self._caller.told(peer, kind, body)

    def _on_room(self) -> None:
        for link in self._links.values():
            link.on_room()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.exchange.tick()
            for link in self._links.values():
                link.tick()
                if link.tunnel is not None and self._site.clocks.wall() > link.tunnel.expires:
                    link.cut("a certificate ended; a new connection brings new ones")

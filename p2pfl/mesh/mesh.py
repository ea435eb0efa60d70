"""Delivers payloads to peers by name, over one mutually authenticated link per pair, whichever end dialled it.

The way of a connection: the dialer or the listener brings a socket; `authenticate` finishes TLS and finds out whose key
signed the leaf; the opening agrees on incarnations, resume points and the owners' greetings, and on which of two
connections stays; the link takes the tunnel. What fails on that way becomes one named error, reported once. A socket
that a relay carries comes the same way (relay_client.py); a connection from a member that wants to be carried turns off
to the relay server (relay.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from functools import partial
from typing import Final

from p2pfl.errors import P2PFLError, bare
from p2pfl.errors.mesh import NoSuchPeer, OwnerBehind, PayloadTooLarge, PeerUnreachable
from p2pfl.errors.paths import ProxyFails, RelayRefuses
from p2pfl.errors.probe import NobodyListens
from p2pfl.mesh import opening
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.admission_limits import AdmissionLimits
from p2pfl.mesh.certificates import ALPN, RELAY_ALPN
from p2pfl.mesh.connection import Chosen
from p2pfl.mesh.dialer import Backoff, Dialer, DialerOwner
from p2pfl.mesh.event_queue import EventQueue
from p2pfl.mesh.events import Greeter, LinkClosed, LinkOpened, LinkStatus, MeshEvent, Refused
from p2pfl.mesh.framing import CALL, PAYLOAD_BYTES, Payload, parts_of
from p2pfl.mesh.link import Link
from p2pfl.mesh.listener import Listener, bind
from p2pfl.mesh.opening import LinkHello, Side
from p2pfl.mesh.probe.rendezvous import Rendezvous
from p2pfl.mesh.probe.server import ProbeServer
from p2pfl.mesh.probe.wire import About
from p2pfl.mesh.pump import Scratch
from p2pfl.mesh.refusal_log import RefusalLog
from p2pfl.mesh.relay import RelayServer, raise_descriptor_limit
from p2pfl.mesh.relay_client import RelayClient, RelayClientOwner
from p2pfl.mesh.router import Router
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.throughput import FILL_BYTES
from p2pfl.mesh.tls_errors import blame_relay, translate
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

TICK_S: Final = 0.5
NO_EVENT: Final = (PeerUnreachable, NobodyListens, ProxyFails, RelayRefuses)  # the link's status is enough


class Mesh:
    """This site's links to all peers of one epoch. Use it from one event loop.

    greeter       decides who gets a link; makes and checks the owner's part of each opening
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
        self._site, self._greeter = site, greeter
        self._listen, self._incarnation = listen, incarnation
        self._links: dict[str, Link] = {}
        self._dialers: dict[str, Dialer] = {}
        self._chosen: dict[str, Chosen] = {}
        self._events = EventQueue()
        self._news = asyncio.Event()  # a link came up or went down, or a dial failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._scratch = Scratch()
        self._admission_limits = AdmissionLimits(site.limits, site.clocks.now)
        self._refusal_log = RefusalLog(site.clocks.now)
        self.relay_server = RelayServer(site.limits, self._send_relay_frame, site.clocks)
        rendezvous = Rendezvous(self.relay_server, site.roster.names, site.clocks.now)
        self._probe_server = ProbeServer(site, about, rendezvous)
        owner = RelayClientOwner(
            send_frame=self._send_relay_frame,
            is_up=lambda peer: self._links[peer].up,
            bring_up=self._bring_up,
            report_failure=self._report_refusal,
            serve=partial(self._spawn, ends_all=False),
        )
        self._relay_client = RelayClient(site, owner, prefer=hub, scratch=self._scratch)
        self._router: Router | None = None
        self._listener: Listener | None = None
        self._stopped = False

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Bind, and begin to dial. Raises PortBusy, AddressUnusable, and then holds nothing."""
        site = self._site
        site.credentials.current()
        raise_descriptor_limit(len(site.roster.names))
        sock = bind(self._listen) if self._listen is not None else None
        self._router = Router(self._on_message, self._on_drained)
        for peer in site.roster.names:
            if peer != site.name:
                self._links[peer] = Link(
                    peer, self._router, site.limits, site.clocks.now, self._on_link_event, self._on_relay_frame
                )
        if sock is not None:
            self._listener = Listener(sock, self._serve, site.limits, site.clocks.now)
        self._spawn(self._tick())
        for peer in self._links:
            self._start_dialer(peer)

    async def stop(self, flush_s: float | None = None) -> None:
        """Wait, at most `flush_s` seconds, for outstanding acknowledgements; then close, and leave no file behind."""
        if self._stopped:
            return
        bound = self._site.limits.flush_s if flush_s is None else flush_s
        try:
            if self._listener is not None:
                await self._listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(link.finish(bound) for link in self._links.values() if link.up))
        finally:  # also when the waiting is cut short
            self._close()

    def _close(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        for link in self._links.values():
            link.cut("this site stops")
        self._relay_client.close()
        self.relay_server.close()
        if self._router is not None:
            self._router.close()
        self._events.close()

    # ── the owner's verbs ─────────────────────────────────────────────────────────────────────────────────────

    async def send(self, peer: str, payload: Payload, *, bulk: bool = False) -> None:
        """Queue `payload` for `peer`: delivered once. Waits only while that peer's queue is above its bound.

        Payloads that are bulk arrive in the order in which they were given, and so do all others, the letters; a letter
        overtakes bulk of which nothing was sent (framing.py).
        A payload may be given in several parts, which arrive as one. No part is copied before it is sent, so the memory
        behind a view must not change until `flushed` or an answer shows that it has arrived.
        The queue outlives cuts; what was queued before another session began is dropped (link.py).
        Raises NoSuchPeer, PayloadTooLarge (above 16 MiB).
        """
        link = self._link(peer, payload)
        room = link.room.bulk if bulk else link.room.letters
        while not room.is_set():
            await room.wait()
        link.queue_payload(payload, bulk=bulk)

    async def flushed(self, peer: str) -> None:
        """Wait until `peer` has acknowledged everything; for ever, if it never comes."""
        await self._links[peer].flushed()

    def events(self) -> AsyncIterator[MeshEvent]:
        """What happens, in order; ends after `stop`.

        A payload counts as held here until `payload_taken` says that it is dealt with: that lets its sender go on.
        """
        return self._events.stream()

    def payload_taken(self, peer: str, size: int) -> None:
        """The owner has dealt with a payload of `size` bytes from `peer`."""
        self._links[peer].payload_taken(size)

    def cut(self, peer: str, error: P2PFLError) -> None:
        """End the link to `peer`, which broke a rule of the owner's; the mesh dials it again by itself."""
        self._links[peer].cut(error.happened, bare(error))
        self.relay_server.drop_member(peer)

    def links(self) -> dict[str, LinkStatus]:
        """The state of every link, by peer."""
        return {peer: link.status() for peer, link in self._links.items()}

    async def until_tried(self) -> None:
        """Wait until each link stands, or has failed since it stood last: nothing is known any more of who may come."""
        while any(link.up is False and link.record.last_error is None for link in self._links.values()):
            self._news.clear()
            await self._news.wait()

    async def speeds(self, wait_s: float = 0.0) -> list[float | None]:
        """Bytes per second of each link, None where it is not known: one that was never busy is asked for it.

        wait_s  seconds that answers are waited for; 0: nobody is asked. Of who speaks meanwhile and has not answered by
            then, the link is as slow as that; of who is silent nothing is known
        """
        links = list(self._links.values())
        asked = [link for link in links if wait_s and link.up and link.record.throughput.known is None]
        heard = {link: link.status().last_seen for link in asked}
        for link in asked:
            link.ask_speed()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(link.measured.wait() for link in asked)), wait_s)
        slow = {link for link in asked if link.up and link.status().last_seen != heard[link]}
        known = [(link, link.record.throughput.known) for link in links]
        return [FILL_BYTES / wait_s if speed is None and link in slow else speed for link, speed in known]

    def _link(self, peer: str, payload: Payload) -> Link:
        if peer not in self._links:
            raise NoSuchPeer(peer=peer, evidence=f"peers: {', '.join(self._links)}")
        size = sum(map(len, parts_of(payload)))
        if size > PAYLOAD_BYTES:
            raise PayloadTooLarge(peer=peer, size=size, limit=PAYLOAD_BYTES, evidence="checked before sending")
        return self._links[peer]

    # ── connections ───────────────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, work: Coroutine[None, None, None], *, ends_all: bool = True) -> asyncio.Task[None]:
        """`ends_all`: a fault of this program in it is raised to the owner; else asyncio tells of it (listener.py)."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done if ends_all else self._tasks.discard)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._events.fail(fault)

    def _start_dialer(self, peer: str) -> None:
        site = self._site
        owner = DialerOwner(
            needs_link=lambda: not (self._links[peer].up or peer in self._chosen),
            needs_direct=lambda: self._links[peer].relayed and peer not in self._chosen,
            bring_up=lambda sock, address: self._bring_up_dialed(peer, sock, address),
            report_failure=lambda address, error: self._report_refusal(peer, address, error),
            call_relays=lambda: self._relay_client.call_relays(peer),
        )
        backoff = Backoff(site.limits.dial_first_s, site.limits.dial_most_s, site.clocks.draw)
        dialed_too = bool(site.roster[site.name].addresses) and self._listener is not None
        yields = dialed_too and not self._arbitrates(peer)
        dialer = self._dialers[peer] = Dialer(
            site.roster[peer], owner, backoff, site.connector, site.clocks.now, yields=yields
        )
        self._relay_client.link_lost(peer)
        self._spawn(dialer.run())

    async def _bring_up_dialed(self, peer: str, sock: socket.socket, address: Address) -> None:
        await self._bring_up(sock, Route(address, peer, proxied=self._site.connector.uses_proxy(address)))

    async def _serve(self, sock: socket.socket, address: Address) -> None:
        await self._bring_up(sock, Route(address, None, protocols=(ALPN, RELAY_ALPN)))

    async def _bring_up(self, sock: socket.socket, route: Route) -> None:
        """From a socket to a link, or to a call that is carried on, or to one named error."""
        site = self._site
        try:
            contexts = site.credentials.current()
            context = contexts.dialing if route.dialed else contexts.accepting
            tunnel = Tunnel(sock, context, site.limits, site.clocks.now, scratch=self._scratch, path=route.path)
        except OSError as error:  # a new leaf is due, and there is no descriptor for its key; or the caller is gone
            sock.close()
            named = translate(error, peer=route.label, first_bytes=b"", dialed=route.dialed)
            self._report_refusal(route.expected, route.address, named)
            return
        peer: str | None = None
        carried = False
        try:
            peer = await authenticate(tunnel, route, contexts.leaf, site.roster, site.name)
            if self._listener is not None and not route.dialed:
                self._listener.mark_authenticated()
                self._admission_limits.count_connection(peer)
            self._greeter.admit(peer)
            if tunnel.speaks_relay:
                carried = await self.relay_server.serve(tunnel, peer, self._admission_limits.refund_connection)
                return
            if not route.dialed:
                self._admission_limits.begin_opening(peer)
            try:
                opened = await opening.open_link(tunnel, self._side(peer, tunnel))
            except opening.Probed:
                await self._probe_server.serve(tunnel, peer)
                return
            self._links[peer].attach(tunnel, opened)
            self._refusal_log.forget(peer)
        except (opening.Duplicate, opening.Superseded):
            await tunnel.close_gently()
        except (P2PFLError, OSError) as error:  # OSError: ssl.SSLError and TimeoutError too
            await self._end_failed(tunnel, peer, route, error)
        finally:
            if peer is not None and (chosen := self._chosen.get(peer)) is not None and chosen.tunnel is tunnel:
                del self._chosen[peer]
                self._dialers[peer].link_changed()  # it may not have become a link after all
            if not carried and (peer is None or self._links[peer].tunnel is not tunnel):
                tunnel.close()

    def _side(self, peer: str, tunnel: Tunnel) -> Side:
        nonce = self._site.clocks.draw(opening.NONCE_BYTES)
        hello = LinkHello(self._incarnation, nonce, *self._links[peer].resume_point())
        return Side(self._site.name, peer, hello, self._greeter, lambda theirs: self._choose(peer, tunnel, theirs))

    def _arbitrates(self, peer: str) -> bool:
        """Of two connections, this end decides which becomes the link."""
        return self._site.name < peer

    def _choose(self, peer: str, tunnel: Tunnel, theirs: LinkHello) -> bool:
        """Whether it may be the link: the end whose name sorts first decides, the other agrees. Raises OwnerBehind."""
        link = self._links[peer]
        if not self._arbitrates(peer):
            self._check_backlog(peer)
            return True
        if (chosen := self._chosen.get(peer)) is not None:
            if chosen.incarnation == theirs.incarnation:
                return False
            chosen.tunnel.close()  # it belongs to a process that is gone
        elif link.relayed and tunnel.path.kind != "relay" and link.incarnation == theirs.incarnation:
            pass  # a direct connection works (again): frames that the relay has not delivered are sent anew
        elif link.up and link.incarnation == theirs.incarnation:
            # The peer sees no link where this end sees one: two dials that crossed, or a connection that died unseen.
            link.check_alive()
            return False
        self._check_backlog(peer)
        self._chosen[peer] = Chosen(tunnel, theirs.incarnation)
        return True

    def _check_backlog(self, peer: str) -> None:
        """A new connection gives its peer another window, so none comes up before the last one's bytes are worked off.

        What the peer does about it is nothing wrong: it tries again and again, and keeps what it has queued.
        """
        if self._links[peer].backlog.is_full(self._site.clocks.now()):
            most = self._site.limits.undelivered_bytes
            raise OwnerBehind(peer=peer, evidence=f"more than {most} bytes of it wait, or it came too fast")

    async def _end_failed(self, tunnel: Tunnel, peer: str | None, route: Route, error: Exception) -> None:
        if tunnel.closed:  # another process of the peer took its place, and what went wrong is no fault of anybody
            return
        named = translate(error, peer=peer or route.label, first_bytes=tunnel.first_bytes, dialed=tunnel.dialed)
        if route.relay and route.expected is not None:
            named = blame_relay(named, route.relay, route.expected)
        await opening.refuse_and_close(tunnel, named)
        if tunnel.first_bytes or tunnel.dialed:  # a caller that closes without a word is a scanner or a health check
            self._report_refusal(peer or route.expected, route.address, named, known=peer is not None)

    def _report_refusal(
        self, peer: str | None, address: Address | None, error: P2PFLError, *, known: bool = False
    ) -> None:
        """Keep the error for `status`, and tell the owner when it is news."""
        bare(error)
        if peer is not None and not self._links[peer].up:
            self._links[peer].record.last_error = error
            self._news.set()
        # A peer's own words are news even when somebody on the path has said the same before.
        reason, host = f"{known} {error.render()}", address.host if address else ""
        if not isinstance(error, NO_EVENT) and self._refusal_log.is_news(peer, host, reason):
            self._events.put(Refused(peer, address, error, known))

    # ── callbacks ─────────────────────────────────────────────────────────────────────────────────────────────

    def _on_link_event(self, event: MeshEvent) -> None:
        self._news.set()
        self._events.put(event)
        if isinstance(event, LinkClosed):
            record = self._links[event.peer].record
            self._relay_client.link_lost(event.peer, record.path)
            self._dialers[event.peer].link_closed(fruitful=record.fruitful)
        elif isinstance(event, LinkOpened):
            self._dialers[event.peer].link_changed()

    def _on_message(self, peer: str, header: bytes, body: memoryview) -> None:
        self._links[peer].on_message(header, body)

    def _send_relay_frame(self, peer: str, kind: int, body: bytes) -> bool:
        return peer in self._links and self._links[peer].send_relay_frame(kind, body)

    def _on_relay_frame(self, peer: str, kind: int, body: bytes) -> None:
        if kind == CALL:
            self.relay_server.on_call(peer, body)
        else:
            self._relay_client.on_relay_frame(peer, kind, body)

    def _on_drained(self) -> None:
        for link in self._links.values():
            link.on_drained()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.relay_server.tick()
            for link in self._links.values():
                link.tick()
                if link.tunnel is not None and self._site.clocks.wall() > link.tunnel.expires:
                    link.cut("a certificate ended; a new connection brings new ones")

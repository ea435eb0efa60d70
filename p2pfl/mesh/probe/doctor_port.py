"""A site's port while `doctor` holds it: answers members that probe, and tells members that want a link to come later.

It also answers probes through a third site, even where this one has no port; and it carries the call of two others
that try a way through this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.mesh import opening
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.admission_limits import AdmissionLimits
from p2pfl.mesh.certificates import ALPN, RELAY_ALPN
from p2pfl.mesh.listener import Listener, bind
from p2pfl.mesh.opening import LinkHello
from p2pfl.mesh.probe.handshake import end_failed_opening
from p2pfl.mesh.probe.rendezvous import Rendezvous
from p2pfl.mesh.probe.server import ProbeServer
from p2pfl.mesh.probe.wire import About
from p2pfl.mesh.relay import RelayServer
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

REMEMBERED: Final = 8  # refused callers


class DoctorPort:
    """Listens from `open` to `close`.

    visitors      members that were admitted
    probes        by member, the probes that were answered
    turned_away   the first callers that were refused, by code and caller
    changed       set whenever one of these grows

    admit         raises a P2PFLError to refuse a member every answer
    """

    def __init__(self, site: LocalSite, about: About, admit: Callable[[str], None]) -> None:
        self.visitors: set[str] = set()
        self.probes: Counter[str] = Counter()
        self.turned_away: dict[str, P2PFLError] = {}
        self.changed = asyncio.Event()
        self._site, self._admit = site, admit
        self.relay_server = RelayServer(site.limits, lambda peer, kind, body: False, site.clocks)
        self._rendezvous = Rendezvous(self.relay_server, site.roster.names, site.clocks.now)
        self._probe_server = ProbeServer(site, about, self._rendezvous)
        self._admission_limits = AdmissionLimits(site.limits, site.clocks.now)
        others = [member for member in site.roster.members if member.name != site.name]
        self._pair_apart = sum(not member.addresses for member in others) > 1  # neither can dial the other
        self._last_probe = -math.inf
        self._listener: Listener | None = None
        self._incarnation = site.clocks.draw(opening.INCARNATION_BYTES)

    def open(self, address: Address) -> None:
        """Bind and serve. Raises PortBusy, AddressUnusable."""
        self._listener = Listener(bind(address), self._serve, self._site.limits, self._site.clocks.now)

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None
        self.relay_server.close()

    @property
    def relay_needed(self) -> bool:
        """Two sites try a way through this one, or may be about to."""
        self.relay_server.tick()  # a call that did not come about keeps nobody waiting here
        # A site that needs a third one asks for a call after its probes, once it has connected anew.
        soon = self._site.clocks.now() - self._last_probe < self._site.limits.handshake_s and self._pair_apart
        return soon or self._rendezvous.pending or len(self.relay_server) > 0

    async def idle(self) -> None:
        """Wait until no peer's probe is under way."""
        await self._probe_server.idle()

    async def _serve(self, sock: socket.socket, address: Address) -> None:
        site = self._site
        contexts, route = site.credentials.current(), Route(address, None, protocols=(ALPN, RELAY_ALPN))
        tunnel = Tunnel(sock, contexts.accepting, site.limits, site.clocks.now)
        peer: str | None = None
        carried = False
        try:
            peer = await authenticate(tunnel, route, contexts.leaf, site.roster, site.name)
            if self._listener is not None:
                self._listener.mark_authenticated()
            self._admission_limits.count_connection(peer)
            self._admit(peer)
            if tunnel.speaks_relay:
                self.relay_server.tick()
                carried = await self.relay_server.serve(tunnel, peer, self._admission_limits.refund_connection)
                return
            self._admission_limits.begin_opening(peer)
            self.visitors.add(peer)
            self.changed.set()
            await self.serve_member(tunnel, peer)
        except (P2PFLError, OSError) as error:
            named = await end_failed_opening(tunnel, peer or route.label, error)
            # A caller that closes without a word is a health check.
            if tunnel.first_bytes and len(self.turned_away) < REMEMBERED:
                self.turned_away.setdefault(f"{named.code} {peer or address.host}", named)
                self.changed.set()
        finally:
            if not carried:
                tunnel.close()

    async def serve_member(self, tunnel: Tunnel, peer: str) -> None:
        """Answer `peer` on a tunnel on which it is authenticated. Raises P2PFLError, OSError."""
        self._admit(peer)  # also a peer that another site carried here
        nonce = self._site.clocks.draw(opening.NONCE_BYTES)
        await opening.send_hello(tunnel, LinkHello(self._incarnation, nonce, opening.NO_SESSION, 0))
        try:
            await opening.receive_hello(tunnel, peer)
        except opening.Probed:
            counts = await self._probe_server.serve(tunnel, peer)  # on its own line: other probes may end meanwhile
            self.probes[peer] += counts
            self._last_probe = self._site.clocks.now()
            self.changed.set()
        except opening.Duplicate:
            await tunnel.close_gently()
        else:  # a join that dials: a doctor gives no link, and the join tries again by itself
            with contextlib.suppress(OSError):
                await opening.send_message(tunnel, opening.DUPLICATE)
            await tunnel.close_gently()

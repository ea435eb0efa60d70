"""A site's port while `doctor` has it: peers that probe are answered, peers that want a link are told to try later.

What is probed through a third site is answered here as well, also where this one has no port; and for two others that
try a way through this one, it carries their call.
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
from p2pfl.mesh.admission import Call, admit
from p2pfl.mesh.admission_limits import AdmissionLimits
from p2pfl.mesh.certificates import ALPN, RELAY_ALPN
from p2pfl.mesh.handshake import turned_away
from p2pfl.mesh.listener import Listener, bind
from p2pfl.mesh.opening import LinkHello
from p2pfl.mesh.probe import About
from p2pfl.mesh.probe_server import ProbeServer
from p2pfl.mesh.relay import Exchange
from p2pfl.mesh.rendezvous import WISH_S, Rendezvous
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

REMEMBERED: Final = 8


class DoctorPort:
    """Listens from `open` to `close`.

    came          members that were let in;  asked  how often each has probed
    turned_away   the first callers that were not
    admit         raises a P2PFLError where a member is to get no word of this site
    """

    def __init__(self, caller: LocalSite, about: About, admit: Callable[[str], None]) -> None:
        self.came: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.turned_away: dict[str, P2PFLError] = {}
        self.news = asyncio.Event()  # set when somebody came, has probed, or was turned away
        self._caller, self._admit = caller, admit
        self.exchange = Exchange(caller.limits, lambda peer, kind, body: False, caller.clocks)
        self._appointments = Rendezvous(self.exchange, caller.roster.names, caller.clocks.now)
        self._answers = ProbeServer(caller, about, self._appointments)
        self._visits = AdmissionLimits(caller.limits, caller.clocks.now)
        others = [member for member in caller.roster.members if member.name != caller.name]
        self._parted = sum(not member.addresses for member in others) > 1  # neither of two can dial the other
        self._last = -math.inf  # when a probe was answered
        self._listener: Listener | None = None
        self._incarnation = caller.clocks.draw(opening.INCARNATION_BYTES)

    def open(self, address: Address) -> None:
        """Bind and serve. Raises PortBusy, AddressUnusable."""
        self._listener = Listener(bind(address), self._serve, self._caller.limits, self._caller.clocks.now)

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None
        self.exchange.close()

    @property
    def awaited(self) -> bool:
        """Two sites may be about to try a way through this one, or do."""
        # Who finds that it needs a third site asks for a call a moment after its probes.
        soon = self._caller.clocks.now() - self._last < WISH_S and self._parted
        return soon or self._appointments.awaited or len(self.exchange) > 0

    async def idle(self) -> None:
        """Wait until no peer's probe is under way."""
        await self._answers.idle()

    async def _serve(self, sock: socket.socket, address: Address) -> None:
        contexts, call = self._caller.credentials.current(), Call(address, None, protocols=(ALPN, RELAY_ALPN))
        tunnel = Tunnel(sock, contexts.accepting, self._caller.limits, self._caller.clocks.now)
        peer: str | None = None
        carried = False
        try:
            peer = await admit(tunnel, call, contexts, self._caller.roster, self._caller.name)
            if self._listener is not None:
                self._listener.authenticated()
            self._visits.welcome(peer)
            self._admit(peer)
            if tunnel.speaks_relay:
                self.exchange.tick()
                carried = await self.exchange.serve(tunnel, peer, self._visits.called)
                return
            self._visits.enters(peer)
            self.came.add(peer)
            self.news.set()
            await self.answer(tunnel, peer)
        except (P2PFLError, OSError) as error:
            named = await turned_away(tunnel, peer or call.label, error)
            if tunnel.first and len(self.turned_away) < REMEMBERED:  # who closes without a word is a health check
                self.turned_away.setdefault(f"{named.code} {peer or address.host}", named)
                self.news.set()
        finally:
            if not carried:
                tunnel.close()

    async def answer(self, tunnel: Tunnel, peer: str) -> None:
        """What `peer` wants on a tunnel on which it is authenticated. Raises P2PFLError, OSError."""
        self._admit(peer)  # also who was carried here by another site
        nonce = self._caller.clocks.draw(opening.NONCE_BYTES)
        await opening.say_hello(tunnel, LinkHello(self._incarnation, nonce, opening.NOBODY, 0))
        try:
            await opening.hear_hello(tunnel, peer)
        except opening.Probed:
            answered = await self._answers.answer(tunnel, peer)  # apart: others of its probes may end meanwhile
            self.asked[peer] += answered
            self._last = self._caller.clocks.now()
            self.news.set()
        except opening.Duplicate:
            await tunnel.part()
        else:  # its join dials: no link is to be had from a doctor, and it tries again by itself
            with contextlib.suppress(OSError):
                await opening.say(tunnel, opening.DUPLICATE)
            await tunnel.part()

"""Knocks at a peer's door: name, TCP, TLS, identity, and the far end's first words; then nothing, a link or a probe.

A TLS 1.3 client believes that its handshake is done before the server has refused it. So a knock counts only when the
far end has said HELLO, which it says to members alone.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import RefusedThere
from p2pfl.mesh import opening
from p2pfl.mesh.admission import Call, admit
from p2pfl.mesh.opening import LinkHello
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tls_errors import translate
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address


@dataclass(frozen=True, slots=True)
class Admitted:
    """A connection on which the far end let this site in, and to which this site has not said a word.

    segment    most bytes of a TCP segment on this path, as the two kernels found it
    tcp_s      seconds until TCP was connected, the name's look-up included; admitted_s: until HELLO was heard
    """

    tunnel: Tunnel
    hello: LinkHello
    ip: str
    segment: int
    tcp_s: float
    admitted_s: float

    async def part(self) -> None:
        """End it in good manners: DUPLICATE, the word for a connection that gives way."""
        with contextlib.suppress(OSError):
            await opening.say(self.tunnel, opening.DUPLICATE)
        await self.tunnel.part()


async def knock(caller: LocalSite, peer: str, address: Address, *, segment: int | None = None) -> Admitted:
    """Be let in by `peer` at `address`. Raises one named error, which the far end is told where it can hear it.

    segment   the most bytes that a TCP segment may carry; small ones pass where packets of full size are lost
    """
    begun = caller.clocks.now()
    sock = await caller.reach.connect(peer, address, segment=segment)
    call = Call(address, peer, proxied=caller.reach.proxied(address))
    tcp_s = caller.clocks.now() - begun
    facts = str(sock.getpeername()[0]), sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    tunnel, hello = await let_in(caller, sock, call, peer)
    return Admitted(tunnel, hello, *facts, tcp_s, caller.clocks.now() - begun)


async def through(caller: LocalSite, sock: socket.socket, call: Call, peer: str) -> Admitted:
    """The same on a socket that a relay carries to `peer`."""
    begun = caller.clocks.now()
    tunnel, hello = await let_in(caller, sock, call, peer)
    return Admitted(tunnel, hello, "", 0, 0.0, caller.clocks.now() - begun)


async def let_in(caller: LocalSite, sock: socket.socket, call: Call, peer: str) -> tuple[Tunnel, LinkHello]:
    """TLS, identity, and the far end's HELLO, on a connected socket. Raises one named error."""
    contexts = caller.credentials.current()
    tunnel = Tunnel(sock, contexts.dialing, caller.limits, caller.clocks.now, path=call.path)
    try:
        await admit(tunnel, call, contexts, caller.roster, caller.name)
        hello = await opening.hear_hello(tunnel, peer)
    except (P2PFLError, OSError, opening.Duplicate) as error:
        raise await turned_away(tunnel, peer, error) from error
    except BaseException:
        tunnel.close()
        raise
    return tunnel, hello


async def turned_away(tunnel: Tunnel, label: str, error: Exception) -> P2PFLError:
    """The named error for an opening that failed in `error`; the far end is told, and the tunnel closed."""
    named = translate(error, peer=label, first=tunnel.first, dialed=tunnel.dialed)
    with contextlib.suppress(OSError):
        if tunnel.established and tunnel.speaks_p2pfl and not isinstance(named, RefusedThere):
            await opening.refuse(tunnel, named)
    await tunnel.part()
    return named

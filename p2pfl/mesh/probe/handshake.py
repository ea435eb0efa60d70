"""Trial handshakes: name, TCP, TLS, identity and the far end's first words; then nothing, or a probe.

A TLS 1.3 client believes that its handshake is done before the server has refused it. So a handshake counts only once
the far end has said HELLO, which it says to members alone.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from p2pfl.errors import P2PFLError
from p2pfl.mesh import opening
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.opening import LinkHello
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tls_errors import translate
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address


@dataclass(frozen=True, slots=True)
class Admitted:
    """A connection on which the far end admitted this site, and on which this site has not said a word.

    segment    most bytes of a TCP segment on this path, as the two kernels found it
    tcp_s      seconds until TCP was connected, the name's look-up included
    admitted_s seconds until HELLO was heard
    """

    tunnel: Tunnel
    hello: LinkHello
    ip: str
    segment: int
    tcp_s: float
    admitted_s: float

    async def dismiss(self) -> None:
        """End the connection politely, with DUPLICATE: the word for a connection that gives way."""
        with contextlib.suppress(OSError):
            await opening.send_message(self.tunnel, opening.DUPLICATE)
        await self.tunnel.close_gently()


async def trial_handshake(site: LocalSite, peer: str, address: Address, *, segment: int | None = None) -> Admitted:
    """Be admitted by `peer` at `address`. Raises one named error, which the far end is told where it can hear it.

    segment   most bytes of a TCP segment; small segments pass where packets of full size are lost
    """
    began = site.clocks.now()
    sock = await site.connector.connect(peer, address, segment=segment)
    tcp_s = site.clocks.now() - began
    ip, mss = str(sock.getpeername()[0]), sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    route = Route(address, peer, proxied=site.connector.uses_proxy(address))
    tunnel, hello = await _handshake(site, sock, route, peer)
    return Admitted(tunnel, hello, ip, mss, tcp_s, site.clocks.now() - began)


async def handshake_through_relay(site: LocalSite, sock: socket.socket, route: Route, peer: str) -> Admitted:
    """The same on a socket that a relay carries to `peer`."""
    began = site.clocks.now()
    tunnel, hello = await _handshake(site, sock, route, peer)
    return Admitted(tunnel, hello, "", 0, 0.0, site.clocks.now() - began)


async def _handshake(site: LocalSite, sock: socket.socket, route: Route, peer: str) -> tuple[Tunnel, LinkHello]:
    """TLS, identity and the far end's HELLO on a connected socket. Raises one named error."""
    contexts = site.credentials.current()
    tunnel = Tunnel(sock, contexts.dialing, site.limits, site.clocks.now, path=route.path)
    try:
        await authenticate(tunnel, route, contexts.leaf, site.roster, site.name)
        hello = await opening.receive_hello(tunnel, peer)
    except (P2PFLError, OSError, opening.Duplicate) as error:
        raise await end_failed_opening(tunnel, peer, error) from error
    except BaseException:
        tunnel.close()
        raise
    return tunnel, hello


async def end_failed_opening(tunnel: Tunnel, label: str, error: Exception) -> P2PFLError:
    """The named error for an opening that failed in `error`; tells the far end, and closes the tunnel.

    label   the far end: a roster name, or "a caller from HOST"
    """
    named = translate(error, peer=label, first_bytes=tunnel.first_bytes, dialed=tunnel.dialed)
    await opening.refuse_and_close(tunnel, named)
    return named

"""Who is at the far end, once TLS has finished: a member, the expected one, on our terms. Nobody is answered before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from p2pfl.errors.mesh import (
    CertificateUnreadable,
    KeyNotListed,
    NameNotTheirs,
    OwnKeyThere,
    SessionResumed,
    WrongKey,
    WrongProtocol,
)
from p2pfl.keys import fingerprint
from p2pfl.mesh.certificates import ALPN, Leaf, MalformedLeaf, expiry_of, signer_of
from p2pfl.mesh.events import Path
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address, Roster


@dataclass(frozen=True, slots=True)
class Route:
    """How a connection runs, and which member should be at its end.

    address    the address that was dialled, or the caller's; the relay's, for a connection through one
    expected   the member that was dialled or that called through a relay; None for an incoming connection
    relay      the member that carries the connection, or ""
    accepting  this end is TLS's server although it knows the caller's name
    proxied    the connection runs through this site's HTTP proxy
    protocols  the ALPN names that TLS may agree on
    """

    address: Address
    expected: str | None
    relay: str = ""
    accepting: bool = False
    proxied: bool = False
    protocols: tuple[str, ...] = (ALPN,)

    @property
    def dialed(self) -> bool:
        """This end is TLS's client."""
        return self.expected is not None and not self.accepting

    @property
    def path(self) -> Path:
        if self.relay:
            return Path("relay", self.relay)
        return Path("proxy" if self.proxied else "direct", str(self.address))

    @property
    def label(self) -> str:
        """The far end, for messages, until its name is known."""
        return self.expected or f"a caller from {self.address.host}"


async def authenticate(tunnel: Tunnel, route: Route, leaf: Leaf, roster: Roster, me: str) -> str:
    """Finish TLS; return the name of the member whose key signed the far end's leaf.

    leaf   this end's. The tunnel ends with the first of the two leaves, both of which were valid when it began.
    Raises SessionResumed, CertificateUnreadable, KeyNotListed, NameNotTheirs, OwnKeyThere, WrongKey, WrongProtocol;
    TimeoutError; what TLS raised.
    """
    async with asyncio.timeout(tunnel.limits.handshake_s):
        await tunnel.handshake()
    if tunnel.resumed:
        raise SessionResumed(peer=route.label, evidence="OpenSSL says that the session was reused")
    try:
        member, claimed = signer_of(tunnel.certificate, roster)
        expires = min(leaf.expires, expiry_of(tunnel.certificate))
    except MalformedLeaf as error:
        raise CertificateUnreadable(peer=route.label, evidence=str(error)) from None
    if member is None:
        raise KeyNotListed(peer=route.label, evidence="no key of the roster signed its certificate")
    if claimed != member.name:
        words = fingerprint(member.key)
        raise NameNotTheirs(peer=member.name, claimed=claimed, evidence=f"signed by the key {words}")
    if member.name == me:
        raise OwnKeyThere(peer=route.label, evidence=f"key {fingerprint(member.key)}")
    if route.expected is not None and route.expected != member.name:
        evidence = f"key {fingerprint(member.key)}"
        raise WrongKey(address=route.address, peer=route.expected, other=member.name, evidence=evidence)
    # A mismatch does not make OpenSSL refuse: both ends look for themselves.
    if tunnel.application not in route.protocols:
        said = tunnel.application or "nothing"
        raise WrongProtocol(peer=member.name, evidence=f"agreed on {said} where {route.protocols[0]} belongs")
    tunnel.mark_authenticated(expires)
    return member.name

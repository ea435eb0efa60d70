"""TLS is finished; is this a member, the right one, and on our terms? Nobody is spoken with before that."""

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
from p2pfl.mesh.certificates import ALPN, Contexts, MalformedLeaf, expiry_of, signer_of
from p2pfl.mesh.events import Path
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address, Roster


@dataclass(frozen=True, slots=True)
class Call:
    """One connection: with whom, if that is known before (`expected`), and at which address, or from where it came.

    relay      the member that carries it; `address` is then the relay's
    accepting  this end is TLS's server, though it knows who should call
    proxied    it was dialled through this site's proxy
    protocols  the ALPN names that it may end up with
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
        """How to call the far end while nobody knows who it is."""
        return self.expected or f"a caller from {self.address.host}"


async def authenticate(tunnel: Tunnel, call: Call, roster: Roster, me: str) -> str:
    """The name of the member at the far end: the one whose key signed its leaf.

    Raises SessionResumed, CertificateUnreadable, KeyNotListed, NameNotTheirs, OwnKeyThere, WrongKey, WrongProtocol;
    TimeoutError; what TLS raised.
    """
    async with asyncio.timeout(tunnel.limits.handshake_s):
        await tunnel.handshake()
    if tunnel.resumed:
        raise SessionResumed(peer=call.label, evidence="OpenSSL says that the session was reused")
    try:
        member, claimed = signer_of(tunnel.certificate, roster)
    except MalformedLeaf as error:
        raise CertificateUnreadable(peer=call.label, evidence=str(error)) from None
    if member is None:
        raise KeyNotListed(peer=call.label, evidence="no key of the roster signed its certificate")
    if claimed != member.name:
        words = fingerprint(member.key)
        raise NameNotTheirs(peer=member.name, claimed=claimed, evidence=f"signed by the key {words}")
    if member.name == me:
        raise OwnKeyThere(peer=call.label, evidence=f"key {fingerprint(member.key)}")
    if call.expected is not None and call.expected != member.name:
        evidence = f"key {fingerprint(member.key)}"
        raise WrongKey(address=call.address, peer=call.expected, other=member.name, evidence=evidence)
    # A mismatch does not make OpenSSL refuse: both ends look for themselves.
    if tunnel.application not in call.protocols:
        said = tunnel.application or "nothing"
        raise WrongProtocol(peer=member.name, evidence=f"agreed on {said} where {call.protocols[0]} belongs")
    return member.name


async def admit(tunnel: Tunnel, call: Call, contexts: Contexts, roster: Roster, me: str) -> str:
    """`authenticate`; and the tunnel ends with the first of the two leaves, which were good when it began."""
    name = await authenticate(tunnel, call, roster, me)
    tunnel.authenticated(min(contexts.leaf.expires, expiry_of(tunnel.certificate)))
    return name

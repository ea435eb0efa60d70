"""A connected socket at one of a site's addresses: tried side by side after a short head start, or through a proxy.

A site lists its addresses in the order in which it wants to be dialled. Each gets a head start over the next (RFC 8305
§5) and the first that answers wins, so a dead address in front costs a quarter of a second, not a time-out.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import NameUnresolved, PeerUnreachable
from p2pfl.errors.paths import NotAProxy, ProxyUnreachable
from p2pfl.errors.probe import NobodyListens
from p2pfl.mesh.events import Limits
from p2pfl.mesh.names import NameService, Resolved
from p2pfl.mesh.proxy import Proxy
from p2pfl.roster import Address

REFUSED: Final = "connection refused"

ReportFailure = Callable[[Address, P2PFLError], None]


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """A socket connected to the address that answered first; `untried`: addresses of which nothing is known yet."""

    sock: socket.socket
    address: Address
    untried: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Connector:
    """Connects this site to others: directly, or through `proxy`, which then resolves their names."""

    limits: Limits
    proxy: Proxy | None = None
    names: NameService = field(default_factory=NameService, compare=False, repr=False)

    def uses_proxy(self, address: Address) -> bool:
        """Connections to `address` go through the proxy."""
        return self.proxy is not None and self.proxy.no_proxy.entry_for(address) is None

    def explain(self, address: Address) -> str:
        """Whether `address` is reached through the proxy and why, for people; "" for a site without a proxy."""
        if self.proxy is None:
            return ""
        entry, variable = self.proxy.no_proxy.entry_for(address), self.proxy.no_proxy.variable
        if entry is not None:
            return f"directly: {variable} has {entry}"
        listed = f"no entry of {variable} fits" if self.proxy.no_proxy.entries else "NO_PROXY lists nothing"
        return f"through the proxy {self.proxy.address}: {listed}"

    async def connect_first(
        self, peer: str, addresses: Sequence[Address], report_failure: ReportFailure
    ) -> FirstAnswer | None:
        """The first of the addresses that answers, or None; `report_failure` hears of those that do not."""
        waiting, running = list(addresses), dict[asyncio.Task[socket.socket], Address]()
        try:
            while waiting or running:
                if waiting:
                    address = waiting.pop(0)
                    running[asyncio.ensure_future(self.connect(peer, address))] = address
                head_start = self.limits.head_start_s if waiting else None
                done, _ = await asyncio.wait(running, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda each: addresses.index(running[each])):
                    address = running.pop(task)
                    try:
                        return FirstAnswer(task.result(), address, (*running.values(), *waiting))
                    except P2PFLError as error:
                        report_failure(address, error)
            return None
        finally:
            for task in running:
                task.add_done_callback(_close)
                task.cancel()

    async def connect(self, peer: str, address: Address, *, segment: int | None = None) -> socket.socket:
        """A socket connected to `address`.

        segment   the most bytes that a TCP segment may carry, either way; by default what the path allows
        Raises NameUnresolved, NobodyListens, PeerUnreachable, or what the proxy said.
        """
        if self.proxy is None or not self.uses_proxy(address):
            return await self._tcp(peer, address, segment)
        try:
            sock = await self._tcp(peer, self.proxy.address, segment)
        except (NameUnresolved, NobodyListens, PeerUnreachable) as error:
            place = self.proxy.address
            raise ProxyUnreachable(proxy=place, host=place.host, evidence=error.evidence) from None
        try:
            async with asyncio.timeout(self.limits.handshake_s):
                await self.proxy.open(sock, address, peer)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):  # TimeoutError too
                said = str(error) or f"no answer within {self.limits.handshake_s:.0f} s"
                raise NotAProxy(proxy=self.proxy.address, evidence=said) from None
            raise
        return sock

    async def _tcp(self, peer: str, address: Address, segment: int | None) -> socket.socket:
        reasons: list[str] = []
        for family, kind, protocol, _, name in await self._resolve(peer, address):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # a system without IPv6, or no descriptor left
                reasons.append(f"{name[0]}: {error.strerror or error}")
                continue
            reason = await self._try(sock, name, segment)
            if not reason:
                return sock
            reasons.append(f"{name[0]}: {reason}")
        refused = all(reason.endswith(REFUSED) for reason in reasons)
        raise (NobodyListens if refused else PeerUnreachable)(
            peer=peer, address=address, host=address.host, port=address.port, evidence="; ".join(dict.fromkeys(reasons))
        )

    async def _resolve(self, peer: str, address: Address) -> list[Resolved]:
        """The name service's answers: at least one. Raises NameUnresolved."""
        try:
            async with asyncio.timeout(self.limits.resolve_s):
                return await self.names.resolve(address.host, address.port)
        except TimeoutError:
            reason = f"the name service did not answer within {self.limits.resolve_s:.0f} s"
        except (OSError, UnicodeError) as error:  # UnicodeError: a label of more than 63 characters
            reason = str(getattr(error, "strerror", None) or error)
        raise NameUnresolved(peer=peer, address=address, host=address.host, evidence=reason)

    async def _try(self, sock: socket.socket, name: Any, segment: int | None) -> str:
        """Connect `sock`; on failure close it and return the reason."""
        try:
            sock.setblocking(False)
            if segment is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
            async with asyncio.timeout(self.limits.connect_s):
                await asyncio.get_running_loop().sock_connect(sock, name)
            # On loopback TCP can connect a port to itself while nobody listens there.
            reason = REFUSED if sock.getsockname() == sock.getpeername() else ""
        except TimeoutError:
            reason = f"no answer within {self.limits.connect_s:.0f} s"
        except ConnectionRefusedError:
            reason = REFUSED
        except OSError as error:
            reason = str(error.strerror or error)
        except asyncio.CancelledError:
            sock.close()
            raise
        if reason:
            sock.close()
        return reason


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that connected after another one had won."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()

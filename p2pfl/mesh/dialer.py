"""Calls one peer until the pair has a link: each address in turn, then a pause that grows, with jitter."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import NameUnresolved, PeerUnreachable
from p2pfl.mesh.events import Limits
from p2pfl.roster import Address, Member


class Backoff:
    """Pauses that double from `first` to `most` seconds, each between half and one and a half of its nominal length.

    The jitter keeps sites that were cut together from dialling together. `draw(n)` gives n random bytes.
    """

    def __init__(self, first: float, most: float, draw: Callable[[int], bytes]) -> None:
        self._first = first
        self._most = most
        self._draw = draw
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def pause(self) -> float:
        """Seconds to wait now."""
        nominal, self._next = self._next, min(self._most, 2 * self._next)
        return nominal * (0.5 + int.from_bytes(self._draw(2), "big") / 65536)


@dataclass(frozen=True, slots=True)
class Calls:
    """What a dialer asks of its owner.

    wanted    has the pair no link?
    open_to   makes a link of a connected socket and returns when that is done or has failed; never raises
    failed    an address did not answer
    """

    wanted: Callable[[], bool]
    open_to: Callable[[socket.socket, Address], Coroutine[None, None, None]]
    failed: Callable[[Address, P2PFLError], None]


class Dialer:
    """Dials `member` whenever the pair has no link. `second`: the other end dials too, so let it be first."""

    def __init__(self, member: Member, limits: Limits, calls: Calls, backoff: Backoff, *, second: bool) -> None:
        self._member = member
        self._limits = limits
        self._calls = calls
        self._backoff = backoff
        self._second = second
        self._soon = asyncio.Event()
        self._fruitful = True

    def wake(self, *, fruitful: bool) -> None:
        """The link has ended. If it carried nothing, the pauses go on growing: two that only refuse stay polite."""
        self._fruitful = fruitful
        if fruitful:
            self._backoff.reset()
        self._soon.set()

    async def run(self) -> None:
        """Dial for ever."""
        rest = self._second
        while True:
            self._soon.clear()
            if not self._calls.wanted():
                await self._soon.wait()
                rest = self._second or not self._fruitful
                continue
            if rest:
                await self._rest()
            rest = True
            if self._calls.wanted():
                await self._round()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.pause()):
                await self._soon.wait()

    async def _round(self) -> None:
        """One attempt at every address."""
        for address in self._member.addresses:
            if not self._calls.wanted():
                return
            try:
                sock = await self._connect(address)
            except P2PFLError as error:
                self._calls.failed(address, error)
                continue
            await self._calls.open_to(sock, address)

    async def _connect(self, address: Address) -> socket.socket:
        """A connected socket. Raises NameUnresolved or PeerUnreachable."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise NameUnresolved(
                peer=self._member.name, address=address, host=address.host, evidence=str(error.strerror or error)
            ) from error
        reason = "no address"
        for family, kind, protocol, _, name in found:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                async with asyncio.timeout(self._limits.connect_s):
                    await loop.sock_connect(sock, name)
                if sock.getsockname() != sock.getpeername():
                    return sock
                # On loopback TCP can connect a port to itself while nobody listens there.
                reason = "nobody listens there"
            except TimeoutError:
                reason = f"no answer within {self._limits.connect_s:.0f} s"
            except OSError as error:
                reason = str(error.strerror or error)
            except asyncio.CancelledError:
                sock.close()
                raise
            sock.close()
        raise PeerUnreachable(peer=self._member.name, address=address, evidence=reason)

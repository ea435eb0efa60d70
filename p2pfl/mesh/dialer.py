"""Calls one peer until the pair has a link: its addresses, then a relay, then a pause that grows, with jitter.

A link that runs through a relay does not end the calling: from time to time a direct connection is tried beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from p2pfl.errors import P2PFLError
from p2pfl.mesh.connect import Reach
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
    better    has it one through a relay, so that a direct connection would be an improvement?
    open_to   makes a link of a connected socket and returns when that is done or has failed; never raises
    failed    an address did not answer
    through   tries relays, if it is time to; returns when that is done or has failed; never raises
    """

    wanted: Callable[[], bool]
    better: Callable[[], bool]
    open_to: Callable[[socket.socket, Address], Coroutine[None, None, None]]
    failed: Callable[[Address, P2PFLError], None]
    through: Callable[[], Coroutine[None, None, None]]


class Dialer:
    """Dials `member` whenever the pair has no link. `second`: the other end dials too, so let it be first."""

    def __init__(self, member: Member, calls: Calls, backoff: Backoff, reach: Reach, *, second: bool) -> None:
        self._member = member
        self._calls = calls
        self._backoff = backoff
        self._reach = reach
        self._second = second
        self._soon = asyncio.Event()
        self._fruitful = True

    def wake(self, *, fruitful: bool) -> None:
        """The link has ended. If it carried nothing, the pauses go on growing: two that only refuse stay polite."""
        self._fruitful = fruitful
        if fruitful:
            self._backoff.reset()
        self._soon.set()

    def look(self) -> None:
        """The link has come up in another way than before."""
        self._soon.set()

    async def run(self) -> None:
        """Dial for ever."""
        rest = self._second
        while True:
            self._soon.clear()
            if not self._calls.wanted():
                await self._beside()
                rest = self._second or not self._fruitful
                continue
            if rest:
                await self._rest(self._backoff.pause())
            rest = True
            if self._calls.wanted():
                await self._round(self._calls.wanted)
                if self._calls.wanted():
                    await self._calls.through()

    async def _beside(self) -> None:
        """There is a link. While it runs through a relay, a direct one is tried again and again."""
        if not (self._calls.better() and self._member.addresses):
            await self._soon.wait()
            return
        await self._rest(self._reach.limits.retake_s)
        if self._calls.better():
            await self._round(self._calls.better)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._soon.wait()

    async def _round(self, wanted: Callable[[], bool]) -> None:
        """One attempt at every address."""
        left = self._member.addresses
        while left and wanted():
            found = await self._reach.first(self._member.name, left, self._calls.failed)
            if found is None:
                return
            left = found.left
            await self._calls.open_to(found.sock, found.address)

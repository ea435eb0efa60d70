"""Dials one peer until the pair has a link: its addresses, then relays, then a pause that grows, with jitter.

A link through a relay does not end the dialling: a direct connection is tried beside it from time to time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from p2pfl.errors import P2PFLError
from p2pfl.mesh.connect import Connector
from p2pfl.mesh.token_bucket import TokenBucket
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
class DialerOwner:
    """What a dialer asks of the mesh that owns it.

    needs_link      the pair has no link
    needs_direct    the pair's link runs through a relay, so a direct connection would be better
    bring_up        makes a link of a connected socket; returns when that is done or has failed; never raises
    report_failure  an address did not answer
    call_relays     tries relays, if it is time to; returns when that is done or has failed; never raises
    """

    needs_link: Callable[[], bool]
    needs_direct: Callable[[], bool]
    bring_up: Callable[[socket.socket, Address], Coroutine[None, None, None]]
    report_failure: Callable[[Address, P2PFLError], None]
    call_relays: Callable[[], Coroutine[None, None, None]]


class Dialer:
    """Dials `member` whenever the pair has no link. `yields`: the other end dials too and goes first.

    A member whose links end more often than it may connect to this site is dialled no more often than that: one that
    ends each as soon as it has carried a frame would have this site dial at once for ever, at its own address or
    through a relay.
    """

    def __init__(
        self,
        member: Member,
        owner: DialerOwner,
        backoff: Backoff,
        connector: Connector,
        now: Callable[[], float],
        *,
        yields: bool,
    ) -> None:
        limits = connector.limits
        self._member = member
        self._owner = owner
        self._backoff = backoff
        self._connector = connector
        self._now = now
        self._links = TokenBucket(limits.opening_burst, limits.openings_per_s, now())
        self._yields = yields
        self._changed = asyncio.Event()
        self._fruitful = True

    def link_closed(self, *, fruitful: bool) -> None:
        """The link has ended. One that carried no frame leaves the pauses as they are: mutual refusals slow down."""
        self._fruitful = fruitful
        self._links.spend_on_credit(self._now())
        if fruitful:
            self._backoff.reset()
        self._changed.set()

    def link_changed(self) -> None:
        """The link has come up, perhaps on another path than before, or one that was chosen did not come up."""
        self._changed.set()

    async def run(self) -> None:
        """Dial for ever."""
        pauses = self._yields
        while True:
            self._changed.clear()
            if not self._owner.needs_link():
                await self._improve()
                pauses = self._yields or not self._fruitful
                continue
            if self._links.is_empty(self._now()):
                await self._pause(self._connector.limits.dial_most_s)
                continue
            if pauses:
                await self._pause(self._backoff.pause())
            pauses = True
            if self._owner.needs_link():
                await self._try_addresses(self._owner.needs_link)
                if self._owner.needs_link():
                    await self._owner.call_relays()

    async def _improve(self) -> None:
        """There is a link. While it runs through a relay, try a direct one now and then."""
        if not (self._owner.needs_direct() and self._member.addresses):
            await self._changed.wait()
            return
        await self._pause(self._connector.limits.retake_s)
        if self._owner.needs_direct():
            await self._try_addresses(self._owner.needs_direct)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _try_addresses(self, needed: Callable[[], bool]) -> None:
        """One attempt at every address."""
        untried = self._member.addresses
        while untried and needed():
            answer = await self._connector.connect_first(self._member.name, untried, self._owner.report_failure)
            if answer is None:
                return
            untried = answer.untried
            await self._owner.bring_up(answer.sock, answer.address)

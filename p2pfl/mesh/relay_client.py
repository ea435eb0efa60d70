"""The two ends of a call through a relay: ask for it, or come when called; what is left is a socket like any other.

The connection to the relay is TLS to the relay. Inside it runs the pair's own TLS session, over one end of a
`socketpair` whose other end is pumped through the connection to the relay: the tunnel, the check of the key and the
opening are the ones of a direct connection, and know nothing of it. docs/spec/wire.md §8.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.paths import NoWay, RelayRefuses
from p2pfl.keys import digest
from p2pfl.mesh.admission import Call, admit
from p2pfl.mesh.certificates import RELAY_ALPN
from p2pfl.mesh.events import Path
from p2pfl.mesh.framing import CALL, COME
from p2pfl.mesh.pump import Scratch
from p2pfl.mesh.relay import READY, REASONS, YOU_CALLED, Say, read_come, read_declined
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tls_errors import translate
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

PATIENCES: Final = 5  # so often relay_after_s without any way is told
MOST_ANSWERS: Final = 64  # calls that are being answered at a time; more are a relay's fault


@dataclass(frozen=True, slots=True)
class Owner:
    """What the ends of calls ask of their mesh.

    say       one word to a member on its standing link; False where there is none
    up        has this member a link?
    bring_up  makes a link of a connected socket; never raises
    failed    a call did not come about
    """

    say: Say
    up: Callable[[str], bool]
    bring_up: Callable[[socket.socket, Call], Coroutine[None, None, None]]
    failed: Callable[[str, Address | None, P2PFLError], None]
    begin: Callable[[Coroutine[None, None, None]], asyncio.Task[None]]


class RelayClient:
    """This site's calls through others. Used by one event loop.

    prefer   the member that is asked first, if it is one that others reach: the hub
    """

    def __init__(
        self, site: LocalSite, owner: Owner, *, prefer: str | None = None, scratch: Scratch | None = None
    ) -> None:
        self._site, self._me, self._roster = site, site.name, site.roster
        self._limits, self._now = site.limits, site.clocks.now
        self._owner, self._prefer, self._scratch = owner, prefer, scratch
        self._lost: dict[str, float] = {}  # by peer: since when there is no link
        self._blamed: dict[str, list[str]] = {}  # by peer: relays that failed, the latest last
        self._asked: dict[tuple[str, str], asyncio.Future[bytes]] = {}  # by relay and peer
        self._answering: dict[tuple[str, str], asyncio.Task[None]] = {}  # until there is a link, or none
        self._tunnels: set[Tunnel] = set()  # to relays

    # ── when, and through whom ────────────────────────────────────────────────────────────────────────────────

    def lost(self, peer: str, path: Path | None = None) -> None:
        """There is no link with `peer` from now on; `path` is how the last one ran."""
        self._lost[peer] = self._now()
        if path is not None and path.kind == "relay":
            self._blame(peer, path.via)
        for (relay, called), asked in self._asked.items():
            if relay == peer and not asked.done():
                asked.set_exception(self._refuses(called, relay, "its own link is gone"))

    def _blame(self, peer: str, relay: str) -> None:
        blamed = self._blamed.setdefault(peer, [])
        if relay in blamed:
            blamed.remove(relay)
        blamed.append(relay)

    def relays(self, peer: str) -> list[str]:
        """Who could carry a call to `peer`, in the order of trying: whoever failed last comes last.

        Both ends begin with the same order, and other pairs with other ones, so the load is spread.
        """
        first, second = sorted((self._me, peer))
        blamed = self._blamed.get(peer, [])

        def place(name: str) -> tuple[int, bool, bytes]:
            order = digest("relay-order", first.encode(), second.encode(), name.encode())
            return (blamed.index(name) + 1 if name in blamed else 0, name != self._prefer, order)

        able = [one.name for one in self._roster.members if one.addresses and one.name not in (self._me, peer)]
        return sorted(able, key=place)

    def _due(self, peer: str) -> bool:
        """Dialling has had its time. The end whose name sorts first calls; the other one only if that does not help."""
        roster = self._roster
        patience = self._limits.relay_after_s if roster[peer].addresses or roster[self._me].addresses else 0.0
        if self._me > peer:
            patience += self._limits.relay_after_s
        return self._now() - self._lost.setdefault(peer, self._now()) >= patience

    # ── the caller ────────────────────────────────────────────────────────────────────────────────────────────

    async def through(self, peer: str) -> None:
        """Call `peer` through one relay after another, until there is a link; never raises."""
        if not self._due(peer):
            return
        relays = self.relays(peer)
        linked = [relay for relay in relays if self._owner.up(relay)]
        error: P2PFLError | None = None
        for relay in linked:
            try:
                await self._call(peer, relay)
            except P2PFLError as failed:
                error = error or failed
            if self._owner.up(peer):
                return
            self._blame(peer, relay)
        self._give_reason(peer, relays, linked, error)

    def _give_reason(self, peer: str, relays: list[str], linked: list[str], error: P2PFLError | None) -> None:
        if self._roster[peer].addresses:
            return  # why it could not be dialled says more
        if not linked:
            if self._now() - self._lost[peer] < PATIENCES * self._limits.relay_after_s:
                return  # this site, or those that could relay, have only just been started
            why = "no relay is linked with this site" if relays else "no site has a port by which it could relay"
            listed = ", ".join(relays) or "none"
            error = NoWay(peer=peer, why=f"it lists no address, and {why}", evidence=f"could relay: {listed}")
        if error is not None:
            self._owner.failed(peer, None, error)

    async def _call(self, peer: str, relay: str) -> None:
        ticket = await self._ask(peer, relay)
        sock, address = await self._go(peer, relay, ticket)
        await self._owner.bring_up(sock, Call(address, peer, relay=relay))

    async def _ask(self, peer: str, relay: str) -> bytes:
        """The ticket for a call. Raises RelayRefuses."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[(relay, peer)] = answer
        try:
            if not self._owner.say(relay, CALL, peer.encode()):
                raise self._refuses(peer, relay, "its own link is gone")
            async with asyncio.timeout(self._limits.relay_answer_s):
                return await answer
        except TimeoutError:
            raise self._refuses(peer, relay, "it does not answer") from None
        finally:
            del self._asked[(relay, peer)]

    def _refuses(self, peer: str, relay: str, text: str) -> P2PFLError:
        return RelayRefuses(relay=relay, peer=peer, text=text, evidence="asked on the link with it")

    # ── both ends ─────────────────────────────────────────────────────────────────────────────────────────────

    def told(self, relay: str, kind: int, body: bytes) -> None:
        """COME or DECLINED from `relay`. Raises MalformedFrame."""
        if kind != COME:
            reason, peer = read_declined(body)
            if (asked := self._asked.get((relay, peer))) is not None and not asked.done():
                asked.set_exception(self._refuses(peer, relay, REASONS[reason]))
            return
        role, ticket, peer = read_come(body)
        if role == YOU_CALLED:
            if (asked := self._asked.get((relay, peer))) is not None and not asked.done():
                asked.set_result(ticket)
        elif self._may_answer(peer, relay):
            # The caller has given up an earlier call, or it would not call: its end has not come to be seen here yet.
            if (earlier := self._answering.get((relay, peer))) is not None:
                earlier.cancel()
            answering = self._answering[(relay, peer)] = self._owner.begin(self._answer(peer, relay, ticket))
            answering.add_done_callback(lambda task: self._answered((relay, peer), task))

    def _may_answer(self, peer: str, relay: str) -> bool:
        known = peer in self._roster and peer not in (self._me, relay)
        return known and ((relay, peer) in self._answering or len(self._answering) < MOST_ANSWERS)

    async def _answer(self, peer: str, relay: str, ticket: bytes) -> None:
        try:
            sock, address = await self._go(peer, relay, ticket)
        except P2PFLError:
            return  # the caller is told why, and asks another one
        await self._owner.bring_up(sock, Call(address, peer, relay=relay, accepting=True))

    def _answered(self, call: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._answering.get(call) is task:
            del self._answering[call]

    async def _go(self, peer: str, relay: str, ticket: bytes) -> tuple[socket.socket, Address]:
        return await go(self._site, Errand(peer, relay, ticket), self._tunnels, self._scratch)

    def close(self) -> None:
        """End every connection to a relay."""
        for tunnel in self._tunnels:
            tunnel.close()
        self._tunnels.clear()


@dataclass(frozen=True, slots=True)
class Errand:
    """To be carried to `peer` by `relay`, which gave the ticket."""

    peer: str
    relay: str
    ticket: bytes


async def go(
    site: LocalSite, errand: Errand, tunnels: set[Tunnel], scratch: Scratch | None = None
) -> tuple[socket.socket, Address]:
    """A socket that ends at the errand's peer, if its relay is faithful; and where the relay was reached.

    tunnels   holds the connection to the relay while it lives, so that whoever called can end it
    Raises P2PFLError.
    """
    relay, limits, contexts = errand.relay, site.limits, site.credentials.current()
    found = await site.reach.first(relay, site.roster[relay].addresses, lambda address, error: None)
    if found is None:
        raise _refuses(errand, "it does not answer at its addresses")
    tunnel = Tunnel(found.sock, contexts.relaying, limits, site.clocks.now, scratch=scratch)
    tunnels.add(tunnel)
    try:
        await admit(tunnel, Call(found.address, relay, protocols=(RELAY_ALPN,)), contexts, site.roster, site.name)
        await tunnel.say(errand.ticket)
        async with asyncio.timeout(limits.relay_answer_s):
            answer = await tunnel.hear(len(READY))
        if answer != READY:
            raise _refuses(errand, "it does not know the call any more")
        mine, inner = socket.socketpair()
    except BaseException as error:
        tunnel.close()
        tunnels.discard(tunnel)
        if isinstance(error, OSError):  # ssl.SSLError and TimeoutError too
            raise translate(error, peer=relay, first=tunnel.first, dialed=True) from None
        raise
    tunnel.start(mine, lambda why, error: tunnels.discard(tunnel), zmtp=False)
    return inner, found.address


def _refuses(errand: Errand, text: str) -> P2PFLError:
    return RelayRefuses(relay=errand.relay, peer=errand.peer, text=text, evidence="it had given a ticket for the call")

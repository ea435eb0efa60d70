"""Two doctors meet at a third site: the way through it is tried before anybody needs it.

Where two sites cannot dial each other, each end asks every site that it reaches to be carried to the other one
(rendezvous.py). When both have asked, the relay gives each a ticket; they go through it as links do, TLS from end to
end inside, once in each direction, and the end that called asks as over any connection: what runs there, which
peers.yaml it holds, its clock, and how long the way there and back takes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import MalformedStream, RefusedThere
from p2pfl.errors.paths import RelayTriedInVain, RelayUnfaithful
from p2pfl.mesh.admission import Call, admit
from p2pfl.mesh.diagnose import OK, Diagnosis, OwnPeersFile, Through, compare_peers_files
from p2pfl.mesh.handshake import knock, through, turned_away
from p2pfl.mesh.probe_client import asking
from p2pfl.mesh.relay import YOU_ARE_CALLED, YOU_CALLED
from p2pfl.mesh.relay_client import Errand, go
from p2pfl.mesh.rendezvous import CallRequest
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.tls_errors import unfaithful
from p2pfl.mesh.tunnel import Tunnel

POLL_S: Final = 0.5  # so often each end asks
VISIT_S: Final = 40.0  # of one probe at a relay, which serves it for a minute
AGAIN_S: Final = 2.0  # until a relay is called again that was gone, or had enough
VAIN_S: Final = 5.0  # until a call is asked for again that did not come about

Answer = Callable[[Tunnel, str], Awaitable[None]]


class RelayProbe:
    """What one doctor does of it. `found` is what it knows of each peer, as it learns it.

    answer   serves a peer that has called through a relay
    until    on the caller's clock
    Use: begin; finish, which waits until everybody that needs it was met, or the time is over; close.
    """

    def __init__(
        self, caller: LocalSite, peers_file: OwnPeersFile, found: Mapping[str, Diagnosis], answer: Answer, until: float
    ) -> None:
        self._caller, self._peers_file, self._found, self._answer = caller, peers_file, found, answer
        self._until = until
        self._visits: dict[str, asyncio.Task[None]] = {}  # by relay
        self._calls: dict[tuple[str, int], asyncio.Task[None]] = {}  # by peer and role
        self._vain: dict[str, P2PFLError] = {}  # by peer: why a call did not come about
        self._rests: dict[tuple[str, int], float] = {}  # by peer and role: until when it is not asked for again
        self._tunnels: set[Tunnel] = set()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Everybody that needs it was met, or the time is over. To be called when all peers are in `found`."""
        self._over.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End what is under way; what was tried in vain is a finding."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for peer, error in self._vain.items():
            one = self._found[peer]
            if one.through is None and not one.works_directly:
                one.errors.append(error)

    async def _run(self) -> None:
        try:
            while self._caller.clocks.now() < self._until and not (self._over.is_set() and not self.wanted()):
                for relay in self._relays() if self.wanted() else ():
                    if relay not in self._visits:
                        self._visits[relay] = asyncio.create_task(self._visit(relay))
                await asyncio.sleep(POLL_S / 2)
            if self._calls:  # the other end of a call may not have had its answers yet
                await asyncio.wait(list(self._calls.values()), timeout=self._caller.limits.relay_answer_s)
        finally:
            tasks = [*self._visits.values(), *self._calls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for tunnel in list(self._tunnels):
                tunnel.close()

    # ── with whom, and where ──────────────────────────────────────────────────────────────────────────────────

    def wanted(self) -> list[str]:
        """Peers with which there is no direct way, as far as is known by now, and which were not met yet."""
        return [peer for peer, one in self._found.items() if _apart(one) and not _met(one)]

    def _relays(self) -> list[str]:
        return [peer for peer, one in self._found.items() if one.there == OK and one.way is not None]

    def _wishes(self, relay: str) -> list[CallRequest]:
        found, now = [], self._caller.clocks.now()
        for peer in self.wanted():
            held = self._found[peer].through or Through("")
            for role, done in ((YOU_CALLED, held.there), (YOU_ARE_CALLED, held.back)):
                busy = (peer, role) in self._calls or now < self._rests.get((peer, role), now)
                if peer != relay and not (done or busy):
                    found.append(CallRequest(peer, role))
        return found

    # ── at a relay ────────────────────────────────────────────────────────────────────────────────────────────

    async def _visit(self, relay: str) -> None:
        while True:
            if self._wishes(relay):
                try:
                    await self._ask(relay)
                except RefusedThere as error:
                    if error.fields["their_code"] == MalformedStream.code:
                        return  # its version does not carry calls for doctors
                except P2PFLError:
                    pass  # it has ended: another one may be started there
            await asyncio.sleep(AGAIN_S if self._wishes(relay) else POLL_S)

    async def _ask(self, relay: str) -> None:
        way = self._found[relay].way
        if way is None:
            return
        admitted = await knock(self._caller, relay, way.address)
        async with asking(admitted, self._caller, relay) as (asker, _):
            begun = self._caller.clocks.now()
            while self._caller.clocks.now() - begun < VISIT_S and (wishes := self._wishes(relay)):
                for given in await asker.meet(wishes):
                    key = (given.name, given.role)
                    if key not in self._calls and given.name in self._found:
                        task = self._calls[key] = asyncio.create_task(self._call(relay, given))
                        task.add_done_callback(lambda _, key=key: self._calls.pop(key, None))  # type: ignore[misc]
                await asyncio.sleep(POLL_S)

    async def _call(self, relay: str, given: CallRequest) -> None:
        peer = given.name
        try:
            sock, address = await go(self._caller, Errand(peer, relay, given.ticket), self._tunnels)
            if given.role == YOU_CALLED:
                await self._examine(sock, Call(address, peer, relay=relay))
            else:
                await self._serve(sock, Call(address, peer, relay=relay, accepting=True))
        except P2PFLError as error:
            self._rests[(peer, given.role)] = self._caller.clocks.now() + VAIN_S
            named, evidence = unfaithful(error, relay, peer), f"{error.code}: {error.happened} {error.evidence}"
            if isinstance(named, RelayUnfaithful):
                self._vain[peer] = named
            else:
                self._vain.setdefault(peer, RelayTriedInVain(relay=relay, peer=peer, evidence=evidence))
        except OSError:
            pass  # the other end was done with its questions, or went

    async def _examine(self, sock: socket.socket, call: Call) -> None:
        peer = call.expected or ""
        one = self._found[peer]
        admitted = await through(self._caller, sock, call, peer)
        async with asking(admitted, self._caller, peer) as (asker, facts):
            clock = await asker.clock()
            one.facts, one.clock, one.tls, one.round_trip_s = facts, clock, admitted.tunnel.facts, clock.round_trip_s
            if one.theirs is None:
                await compare_peers_files(asker, self._peers_file, one)
        held = one.through = one.through or Through(call.relay)
        held.via, held.there, held.round_trip_s = call.relay, True, clock.round_trip_s

    async def _serve(self, sock: socket.socket, call: Call) -> None:
        contexts, caller = self._caller.credentials.current(), self._caller
        tunnel = Tunnel(sock, contexts.accepting, caller.limits, caller.clocks.now, path=call.path)
        try:
            peer = await admit(tunnel, call, contexts, caller.roster, caller.name)
            await self._answer(tunnel, peer)
            held = self._found[peer].through = self._found[peer].through or Through(call.relay)
            held.back = True
        except (P2PFLError, OSError) as error:
            raise await turned_away(tunnel, call.label, error) from error
        finally:
            tunnel.close()


def _apart(one: Diagnosis) -> bool:
    """Neither lists an address; or those that are listed were tried, and let nobody in."""
    if one.works_directly:
        return False
    return one.path.kind == "relay" or (bool(one.ways) and all(way.error is not None for way in one.ways))


def _met(one: Diagnosis) -> bool:
    return one.through is not None and one.through.there and one.through.back

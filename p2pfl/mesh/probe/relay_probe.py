"""Tries the way through a third site, between two doctors, before anybody needs it.

Where two sites cannot dial each other, each end asks every site that it reaches to be carried to the other one
(rendezvous.py). Once both have asked, the relay gives each a ticket. They use it as links do, with TLS from end to end
inside, once in each direction, and the calling end probes as over any connection: the software and peers.yaml at the
far end, its clock, and the round trip.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import MalformedStream, RefusedThere
from p2pfl.errors.paths import RelayTriedInVain, RelayUnfaithful
from p2pfl.mesh.admission import Route, authenticate
from p2pfl.mesh.probe.client import open_probe
from p2pfl.mesh.probe.diagnose import Doctor, compare_peers_files
from p2pfl.mesh.probe.diagnosis import OK, Diagnosis, RelayTrial
from p2pfl.mesh.probe.handshake import end_failed_opening, handshake_through_relay, trial_handshake
from p2pfl.mesh.probe.rendezvous import CallRequest
from p2pfl.mesh.relay import YOU_ARE_CALLED, YOU_CALLED
from p2pfl.mesh.relay_client import RelayTicket, redeem
from p2pfl.mesh.tls_errors import blame_relay
from p2pfl.mesh.tunnel import Tunnel

POLL_S: Final = 0.5  # seconds between two requests to a relay
SESSION_S: Final = 40.0  # longest probe at a relay, which serves one for a minute
AGAIN_S: Final = 2.0  # seconds before a relay is asked again that was gone, or had enough
RETRY_S: Final = 5.0  # seconds before a call is requested again that did not come about

ServeMember = Callable[[Tunnel, str], Awaitable[None]]


class RelayProbe:
    """One doctor's calls through third sites. Use: begin; finish; close.

    doctor   its diagnoses say, as they grow, which peers cannot be reached directly, and hold what is found here
    serve    answers a peer that has called through a relay
    until    when to stop, on the site's monotonic clock
    """

    def __init__(self, doctor: Doctor, serve: ServeMember, until: float) -> None:
        self._doctor, self._serve_member, self._until = doctor, serve, until
        self._site, self._diagnoses = doctor.site, doctor.diagnoses
        self._sessions: dict[str, asyncio.Task[None]] = {}  # by relay
        self._calls: dict[tuple[str, int], asyncio.Task[None]] = {}  # by peer and role
        self._failures: dict[str, P2PFLError] = {}  # by peer: why a call did not come about
        self._not_before: dict[tuple[str, int], float] = {}  # by peer and role: when to request the next call
        self._tunnels: set[Tunnel] = set()
        self._all_diagnosed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Wait until every peer that needs a relay was tried both ways, or time is up. Call once all are diagnosed."""
        self._all_diagnosed.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End what is under way; a call that never came about becomes a finding."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for peer, error in self._failures.items():
            diagnosis = self._diagnoses[peer]
            if diagnosis.through is None and not diagnosis.works_directly:
                diagnosis.errors.append(error)

    async def _run(self) -> None:
        try:
            while self._site.clocks.now() < self._until and not (self._all_diagnosed.is_set() and not self.untried()):
                for relay in self._relays() if self.untried() else ():
                    if relay not in self._sessions:
                        self._sessions[relay] = asyncio.create_task(self._stay_at(relay))
                await asyncio.sleep(POLL_S / 2)
            if self._calls:  # the other end of a call may still wait for answers
                await asyncio.wait(list(self._calls.values()), timeout=self._site.limits.relay_answer_s)
        finally:
            tasks = [*self._sessions.values(), *self._calls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for tunnel in list(self._tunnels):
                tunnel.close()

    # ── with whom, and where ──────────────────────────────────────────────────────────────────────────────────

    def untried(self) -> list[str]:
        """Peers without a direct way, as far as is known by now, whose way through a relay was not tried both ways."""
        return [peer for peer, one in self._diagnoses.items() if _needs_relay(one) and not _tried_both_ways(one)]

    def _relays(self) -> list[str]:
        return [peer for peer, one in self._diagnoses.items() if one.there == OK and one.way is not None]

    def _requests(self, relay: str) -> list[CallRequest]:
        requests, now = [], self._site.clocks.now()
        for peer in self.untried():
            trial = self._diagnoses[peer].through or RelayTrial("")
            for role, done in ((YOU_CALLED, trial.there), (YOU_ARE_CALLED, trial.back)):
                busy = (peer, role) in self._calls or now < self._not_before.get((peer, role), now)
                if peer != relay and not (done or busy):
                    requests.append(CallRequest(peer, role))
        return requests

    # ── at a relay ────────────────────────────────────────────────────────────────────────────────────────────

    async def _stay_at(self, relay: str) -> None:
        while True:
            if self._requests(relay):
                try:
                    await self._request_calls(relay)
                except RefusedThere as error:
                    if error.fields["their_code"] == MalformedStream.code:
                        return  # its version does not carry calls for doctors
                except P2PFLError:
                    pass  # it has ended: another one may be started there
            await asyncio.sleep(AGAIN_S if self._requests(relay) else POLL_S)

    async def _request_calls(self, relay: str) -> None:
        way = self._diagnoses[relay].way
        if way is None:
            return
        admitted = await trial_handshake(self._site, relay, way.address)
        async with open_probe(admitted, self._site, relay) as (client, _):
            began = self._site.clocks.now()
            # Also while no call is due, as after one that did not come about: the third stays for whoever asks.
            while self._site.clocks.now() - began < SESSION_S and self.untried():
                for granted in await client.request_calls(self._requests(relay)):
                    key = (granted.name, granted.role)
                    if key not in self._calls and granted.name in self._diagnoses:
                        task = self._calls[key] = asyncio.create_task(self._call(relay, granted))
                        task.add_done_callback(partial(self._ended, key))
                await asyncio.sleep(POLL_S)

    # ── a call ────────────────────────────────────────────────────────────────────────────────────────────────

    def _ended(self, call: tuple[str, int], _task: asyncio.Task[None]) -> None:
        self._calls.pop(call, None)

    async def _call(self, relay: str, granted: CallRequest) -> None:
        peer = granted.name
        try:
            sock, address = await redeem(self._site, RelayTicket(peer, relay, granted.ticket), self._tunnels)
            if granted.role == YOU_CALLED:
                await self._probe(sock, Route(address, peer, relay=relay), peer)
            else:
                await self._serve(sock, Route(address, peer, relay=relay, accepting=True))
        except P2PFLError as error:
            self._not_before[(peer, granted.role)] = self._site.clocks.now() + RETRY_S
            named, evidence = blame_relay(error, relay, peer), f"{error.code}: {error.happened} {error.evidence}"
            if isinstance(named, RelayUnfaithful):
                self._failures[peer] = named
            else:
                self._failures.setdefault(peer, RelayTriedInVain(relay=relay, peer=peer, evidence=evidence))
        except OSError:
            pass  # the other end had no more questions, or went away

    async def _probe(self, sock: socket.socket, route: Route, peer: str) -> None:
        diagnosis = self._diagnoses[peer]
        admitted = await handshake_through_relay(self._site, sock, route, peer)
        async with open_probe(admitted, self._site, peer) as (client, facts):
            clock = await client.measure_clock()
            diagnosis.facts, diagnosis.clock, diagnosis.tls = facts, clock, admitted.tunnel.facts
            diagnosis.round_trip_s = clock.round_trip_s
            if diagnosis.theirs is None:
                await compare_peers_files(client, self._doctor.peers_file, diagnosis)
        trial = diagnosis.through = diagnosis.through or RelayTrial(route.relay)
        trial.via, trial.there, trial.round_trip_s = route.relay, True, clock.round_trip_s

    async def _serve(self, sock: socket.socket, route: Route) -> None:
        contexts, site = self._site.credentials.current(), self._site
        tunnel = Tunnel(sock, contexts.accepting, site.limits, site.clocks.now, path=route.path)
        try:
            peer = await authenticate(tunnel, route, contexts.leaf, site.roster, site.name)
            await self._serve_member(tunnel, peer)
            trial = self._diagnoses[peer].through = self._diagnoses[peer].through or RelayTrial(route.relay)
            trial.back = True
        except (P2PFLError, OSError) as error:
            raise await end_failed_opening(tunnel, route.label, error) from error
        finally:
            tunnel.close()


def _needs_relay(diagnosis: Diagnosis) -> bool:
    """Neither end lists an address, or every listed one was tried and did not admit this site."""
    if diagnosis.works_directly:
        return False
    return diagnosis.path.kind == "relay" or (
        bool(diagnosis.ways) and all(way.error is not None for way in diagnosis.ways)
    )


def _tried_both_ways(diagnosis: Diagnosis) -> bool:
    return diagnosis.through is not None and diagnosis.through.there and diagnosis.through.back

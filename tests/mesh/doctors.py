"""Sites that examine one another: a caller, a port, an examination of each."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

from p2pfl.cli.doctor import peers_file_differs
from p2pfl.clocks import Clocks
from p2pfl.keys import Identity
from p2pfl.mesh.events import Limits
from p2pfl.mesh.probe.client import ProbeClient, open_probe
from p2pfl.mesh.probe.diagnose import Doctor, OwnPeersFile
from p2pfl.mesh.probe.diagnosis import Diagnosis
from p2pfl.mesh.probe.doctor_port import DoctorPort
from p2pfl.mesh.probe.handshake import Admitted, trial_handshake
from p2pfl.mesh.probe.wire import DOCTOR, About, PeerFacts
from p2pfl.mesh.proxy import Proxy
from p2pfl.mesh.site import LocalSite
from p2pfl.roster import Address, Roster
from tests.mesh.sites import QUICK, Sites

# Long on loopback, where whoever has not answered by then never will.
BRISK = replace(QUICK, handshake_s=3.0, connect_s=2.0)
PEERS_FILE = b"version: 1\nrounds: 8\n"


def site_of(
    sites: Sites,
    name: str,
    *,
    roster: Roster | None = None,
    identity: Identity | None = None,
    limits: Limits = BRISK,
    wall: Callable[[], float] = time.time,
    proxy: Proxy | None = None,
) -> LocalSite:
    held = roster or sites.roster
    clocks = Clocks(time.monotonic, wall, os.urandom)
    return LocalSite.of(identity or sites.identities[name], name, held, clocks, limits=limits, proxy=proxy)


@contextlib.asynccontextmanager
async def probing(one: LocalSite, peer: str, address: Address) -> AsyncIterator[tuple[ProbeClient, PeerFacts]]:
    admitted: Admitted = await trial_handshake(one, peer, address)
    async with open_probe(admitted, one, peer) as both:
        yield both


def own_peers_file(raw: bytes) -> OwnPeersFile:
    return OwnPeersFile(raw, partial(peers_file_differs, raw))


def let_in(peer: str) -> None:
    """No member is shut out."""


@contextlib.asynccontextmanager
async def doctor_ports(
    sites: Sites,
    *names: str,
    peers_file: bytes = PEERS_FILE,
    wall: Callable[[], float] = time.time,
    software: str = "0.1.0",
    roster: Roster | None = None,
    limits: Limits = BRISK,
) -> AsyncIterator[list[DoctorPort]]:
    """Doctors that listen."""
    opened = []
    try:
        for name in names:
            one = site_of(sites, name, wall=wall, roster=roster, limits=limits)
            port = DoctorPort(one, About(software, peers_file, DOCTOR), admit=let_in)
            port.open(sites.addresses[name])
            opened.append(port)
        yield opened
    finally:
        for port in opened:
            await port.close()


async def examined(
    sites: Sites,
    name: str,
    *peers: str,
    roster: Roster | None = None,
    reachable: bool = True,
    wait_s: float = 0.0,
    peers_file: bytes = PEERS_FILE,
    wall: Callable[[], float] = time.time,
    proxy: Proxy | None = None,
) -> Sequence[Diagnosis]:
    """What `name` finds of `peers`, in their order."""
    one = site_of(sites, name, roster=roster, wall=wall, proxy=proxy)
    doctor = Doctor(one, own_peers_file(peers_file), reachable, one.clocks.now() + wait_s)
    return await doctor.examine_all(peers, lambda line: None)

"""`p2pfl doctor`: how each link is, both ways, and what to do about those that are not.

It trains nothing, charges nothing and writes nothing: the home is opened for reading, so it runs beside a `join`. Where
this site's port is free it listens there meanwhile, so that the others' doctors find somebody, and so that peers can
try to dial back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl._version import __version__
from p2pfl.cli import output
from p2pfl.cli.doctor_facts import Port, doctor_text, facts_of, port_text
from p2pfl.cli.joining import ProxyChoice, listen_option, proxy_options, seconds
from p2pfl.cli.links import apart
from p2pfl.cli.monitor import plain_option
from p2pfl.cli.options import Unlock, home_option, json_option, listening, peers_option, reading_or_new, unlock_options
from p2pfl.cli.stopping import run
from p2pfl.clocks import SYSTEM
from p2pfl.errors import EXIT_DONE, EXIT_FAILED, P2PFLError
from p2pfl.errors.probe import ClocksDiffer, OwnClockOff
from p2pfl.errors.round import PeersFileDiffers, PeersHoldAnotherFile
from p2pfl.federation import Federation
from p2pfl.federation.difference import first_difference
from p2pfl.keys import Identity
from p2pfl.node.epochs import current
from p2pfl.node.revocations import refuse, revoked_keys
from p2pfl.roster import Address

if TYPE_CHECKING:
    from p2pfl.mesh.probe.diagnose import Doctor, OwnPeersFile
    from p2pfl.mesh.probe.diagnosis import Diagnosis
    from p2pfl.mesh.probe.doctor_port import DoctorPort
    from p2pfl.mesh.probe.relay_probe import RelayProbe
    from p2pfl.mesh.proxy import Proxy
    from p2pfl.mesh.site import LocalSite

WAIT_S: Final = 5.0
LAST_PROBES_S: Final = 15.0  # most seconds to finish serving a probe that is under way
PROBES: Final = 2  # probes that a doctor sends each peer: what it is, and how fast
TOLD_S: Final = 10.0  # seconds: a longer wait is announced
LOOK_S: Final = 1.0  # seconds between looks at whether two others still want to meet here
CLOCK_S: Final = 10.0  # seconds of difference that are reported; a time server keeps a machine within 0.1


@click.command()
@peers_option
@home_option
@listen_option
@click.option(
    "--wait",
    "wait_s",
    type=seconds,
    default=WAIT_S,
    metavar="SECONDS",
    show_default=True,
    help="Retry silent sites for this many seconds, and answer the others' doctors meanwhile.",
)
@proxy_options
@plain_option
@unlock_options
@json_option
def doctor(
    *,
    peers_file: Path,
    home: Path,
    listen: str | None,
    wait_s: float,
    proxy: ProxyChoice,
    plain: bool,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Each link both ways: name, port, TLS, identity, clock, peers.yaml, version, speed, size of packets.

    The others may be at `p2pfl join`, or run `p2pfl doctor` too. Exit status 0 when nothing is wrong, else 1.
    """
    federation = Federation.load(peers_file)
    with reading_or_new(home, unlock, federation) as opened:
        name, identity = opened.name, opened.identity()
        federation = current(opened, federation)  # the file may be of an earlier epoch
        revoked = frozenset(revoked_keys(opened))
    federation.own(name, identity.key)
    where = listening(listen) if listen else None
    site = local_site(federation, identity, name, proxy.proxy())
    facts = run(_examine(federation, home, site, where, wait_s, revoked, plain))
    output.result(doctor_text(facts), facts, as_json)
    raise click.exceptions.Exit(EXIT_DONE if facts["ready"] else EXIT_FAILED)


async def _examine(
    federation: Federation,
    home: Path,
    site: LocalSite,
    listen: Address | None,
    wait_s: float,
    revoked: Collection[bytes],
    plain: bool,
) -> dict[str, Any]:
    from p2pfl.mesh.probe.diagnose import Doctor, judge_relays
    from p2pfl.mesh.probe.doctor_port import DoctorPort
    from p2pfl.mesh.probe.relay_probe import RelayProbe
    from p2pfl.mesh.probe.wire import DOCTOR, About
    from p2pfl.mesh.relay import raise_descriptor_limit

    raise_descriptor_limit(len(federation.roster.names))
    name, until = site.name, site.clocks.now() + wait_s
    roster = federation.roster
    about = About(__version__, federation.raw, DOCTOR)
    doctor_port = DoctorPort(site, about, admit=lambda peer: refuse(roster[peer], revoked))
    port = _take_port(doctor_port, federation, home, name, listen)
    peers = [one for one in federation.roster.names if one != name]
    output.progress(f"{port_text(port)}; asking {output.counted(len(peers), 'site')}")
    own_doctor = Doctor(site, own_peers_file(federation), port.state in ("open", "taken"), until)
    relay_probe = RelayProbe(own_doctor, doctor_port.serve_member, until)
    relay_probe.begin()
    try:
        with _shown(name, peers, own_doctor, until, plain):
            with output.doing("asking and measuring"):
                found = await own_doctor.examine_all(peers, output.progress)
            if (apart := relay_probe.untried()) and until - site.clocks.now() > TOLD_S:
                output.progress(f"waiting for p2pfl doctor at {', '.join(apart)}, to try the way through a third site")
            with output.doing("answering the others' doctors"):
                await _stay(doctor_port, peers if port.state == "open" else [], until - site.clocks.now(), relay_probe)
    finally:
        await relay_probe.close()
        await doctor_port.close()
    for one in found:
        if one.back == "unknown" and one.peer in doctor_port.visitors:
            one.back = "ok"
        elif one.there == "none" and one.back == "unknown":
            one.notes.append(_calls_us(one.peer, port))
    judge_relays(found, federation.roster, name)
    own = [*([port.error] if port.error else []), *judge_clocks(found, name), *judge_files(found)]
    return facts_of(federation, name, port, found, own, list(doctor_port.turned_away.values()), site.connector.proxy)


@contextlib.contextmanager
def _shown(name: str, peers: Sequence[str], own_doctor: Doctor, until: float, plain: bool) -> Iterator[None]:
    """What is found is shown as it is, if stderr is a terminal that can."""
    if plain or not sys.stderr.isatty():
        yield
        return
    from p2pfl.cli.live.doctor import DoctorView
    from p2pfl.cli.live.screen import shown

    with shown(DoctorView(name, peers, lambda: own_doctor.diagnoses, until), plain=False):
        yield


def local_site(federation: Federation, identity: Identity, name: str, proxy: Proxy | None) -> LocalSite:
    """This site, as it dials the others."""
    from p2pfl.mesh.site import LocalSite

    return LocalSite.of(identity, name, federation.roster, SYSTEM, proxy=proxy)


def own_peers_file(federation: Federation) -> OwnPeersFile:
    """This site's peers.yaml, and the finding for a peer that holds another one."""
    from p2pfl.mesh.probe.diagnose import OwnPeersFile

    return OwnPeersFile(federation.raw, partial(peers_file_differs, federation.raw))


def peers_file_differs(mine: bytes, peer: str, theirs: bytes) -> PeersFileDiffers:
    own, other = (hashlib.sha256(raw).hexdigest()[:16] for raw in (mine, theirs))
    line = first_difference(mine, theirs)
    return PeersFileDiffers(peer=peer, evidence=f"yours {own}, theirs {other}; first difference in line {line}")


async def _stay(doctor_port: DoctorPort, peers: Sequence[str], seconds: float, relay_probe: RelayProbe) -> None:
    """Wait until every peer's doctor has its answers and every way through a third site was tried, or time is up.

    peers   those whose doctors may come; none where this site has no port
    Probes that are under way at the end are served. Ctrl-C ends the wait; the findings are printed all the same.
    """
    if seconds > TOLD_S and any(doctor_port.probes[peer] < PROBES for peer in peers):
        output.progress(f"all is asked; answering the others' doctors for {seconds:.0f} s at most (Ctrl-C ends it)")
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                while doctor_port.relay_needed or any(doctor_port.probes[peer] < PROBES for peer in peers):
                    doctor_port.changed.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await doctor_port.changed.wait()
        await relay_probe.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_PROBES_S):
                await doctor_port.idle()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.uncancel():
            raise


def _take_port(doctor_port: DoctorPort, federation: Federation, home: Path, name: str, listen: Address | None) -> Port:
    """Listen where `join` would, unless this site's own p2pfl does."""
    from p2pfl.cli.status import worker

    listed = federation.roster[name].addresses
    address = listen or (listed[0] if listed else None)
    if address is None:
        return Port("none", None)
    try:
        doctor_port.open(address)
    except P2PFLError as error:
        process, holder = worker(home), error.fields.get("holder", "")
        # Without the right to see the port's holder, or behind a router's address, the home's lock decides.
        if process and ("process" not in holder or f"process {process} " in holder):
            return Port("taken", address, process)
        return Port("shut", address, error=error)
    return Port("open", address)


def _calls_us(peer: str, port: Port) -> str:
    seen = "its p2pfl may have a link with the one that runs here" if port.state == "taken" else "it has not called"
    return f"{peer} lists no address, so it has to dial this site: {seen}; there, run: p2pfl doctor"


# ── what only all of them together show ───────────────────────────────────────────────────────────────────────


def judge_clocks(found: Sequence[Diagnosis], name: str) -> list[P2PFLError]:
    """Report clocks that differ at those sites, or at this one when it is this one that differs from most."""
    ahead = {one.peer: one.clock.ahead_s for one in found if one.clock is not None}
    off = {peer: seconds for peer, seconds in ahead.items() if abs(seconds) > CLOCK_S}
    middle = median(ahead.values()) if ahead else 0.0
    together = [peer for peer, seconds in off.items() if abs(seconds - middle) <= CLOCK_S]
    if len(together) > 1 and 2 * len(together) > len(ahead):
        evidence = ", ".join(f"{peer} {apart(ahead[peer])}" for peer in together)
        way = "behind" if middle > 0 else "ahead of"
        return [OwnClockOff(seconds=f"{abs(middle):.0f}", way=way, peers=", ".join(together), evidence=evidence)]
    for one in found:
        if one.peer in off and one.clock is not None:
            way = "ahead of" if one.clock.ahead_s > 0 else "behind"
            trip = 1000 * one.clock.round_trip_s
            evidence = f"{one.peer} is at {apart(one.clock.ahead_s)}, found over a round trip of {trip:.1f} ms"
            one.errors.append(
                ClocksDiffer(peer=one.peer, seconds=f"{abs(one.clock.ahead_s):.0f}", way=way, evidence=evidence)
            )
    return []


def judge_files(found: Sequence[Diagnosis]) -> list[P2PFLError]:
    """Report at this site that most of the others agree on another peers.yaml."""
    told = [one.facts.federation_digest for one in found if one.facts is not None]
    other = [one for one in found if one.theirs is not None]
    if len(other) < 2 or 2 * len(other) <= len(told) or len({one.theirs for one in other}) > 1:
        return []
    names = ", ".join(one.peer for one in other)
    for one in other[1:]:  # how it differs is shown once
        one.errors = [error for error in one.errors if not isinstance(error, PeersFileDiffers)]
        one.notes.append(f"it holds the same peers.yaml as {other[0].peer}")
    return [PeersHoldAnotherFile(count=len(other), evidence=names)]

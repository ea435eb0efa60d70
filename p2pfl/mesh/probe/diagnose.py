"""How the link with each peer is, both ways, as far as one end can find out; and what most likely ails it.

Each listed address is tried by itself: name, TCP, TLS, identity. Through the first that answers, the peer is asked for
its facts, its clock, and whether it can dial this site. Then, one peer at a time so that none takes another's
bandwidth, come packet sizes and speed. Where something stalls, the same is tried with segments of 536 bytes, which
every path carries: what passes then was lost for its size.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import HandshakeCut, HandshakeUnfinished, RefusedThere
from p2pfl.errors.paths import NoWay
from p2pfl.errors.probe import LargePacketsLost, NotReachedBy, PathStalls, ProbesTooOften, ProbeUnanswered
from p2pfl.mesh.events import Path
from p2pfl.mesh.probe.client import ProbeClient, Stalled, open_probe
from p2pfl.mesh.probe.diagnosis import NO, NONE, OK, STALLS, UNKNOWN, AddressTrial, Diagnosis, RelayTrial
from p2pfl.mesh.probe.handshake import Admitted, trial_handshake
from p2pfl.mesh.site import LocalSite
from p2pfl.roster import Address, Roster

SMALL_SEGMENT: Final = 536  # bytes of a TCP segment that RFC 9293 §3.7.1 assumes where nothing else is announced
AGAIN_S: Final = 0.5  # seconds between two rounds of trial handshakes
ETHERNET: Final = 1500
PING_HEADERS: Final = 28
TOO_OFTEN: Final = "it was asked too often lately: not all could be measured"


@dataclass(frozen=True, slots=True)
class OwnPeersFile:
    """This site's peers.yaml; the mesh fetches a peer's other one, and does not read either.

    differs   the finding for a peer and the bytes that it holds
    """

    raw: bytes
    differs: Callable[[str, bytes], P2PFLError]


@dataclass(frozen=True, slots=True)
class Doctor:
    """Examines this site's links to its peers.

    reachable  something of this site listens, so peers can dial back
    until      when to stop retrying a peer that does not answer, on the site's monotonic clock
    diagnoses  what is known by now, by peer
    """

    site: LocalSite
    peers_file: OwnPeersFile
    reachable: bool
    until: float
    diagnoses: dict[str, Diagnosis] = field(default_factory=dict)

    async def examine_all(self, peers: Sequence[str], tell: Callable[[str], None]) -> list[Diagnosis]:
        """Diagnose all `peers`: examined at once, measured one by one; `tell` gets lines for a person."""
        diagnoses = await asyncio.gather(*(self.examine(peer) for peer in peers))
        for diagnosis in diagnoses:
            if diagnosis.there == OK:
                tell(f"{diagnosis.peer}: measuring")
            await self.measure(diagnosis)
        return list(diagnoses)

    async def examine(self, peer: str) -> Diagnosis:
        """Every address, identity, facts, clock, peers.yaml, and the way back. Never raises a P2PFLError."""
        listed = self.site.roster[peer].addresses
        own_addresses = self.site.roster[self.site.name].addresses
        diagnosis = Diagnosis(peer, there=NO if listed else NONE, back=UNKNOWN if own_addresses else NONE)
        self.diagnoses[peer] = diagnosis
        if not listed:
            if not own_addresses:
                self._need_relay(diagnosis)
            return diagnosis
        admitted = await self._try_until_admitted(diagnosis, listed)
        if admitted is not None:
            diagnosis.there, diagnosis.tls, diagnosis.path = OK, admitted.tunnel.facts, admitted.tunnel.path
            await self._keep_errors(diagnosis, self._probe(admitted, diagnosis))
        return diagnosis

    async def measure(self, diagnosis: Diagnosis) -> None:
        """Packet sizes, and speed. Never raises a P2PFLError."""
        if diagnosis.way is None or diagnosis.there != OK:
            return
        try:
            await self._keep_errors(diagnosis, self._measure_path(diagnosis, None))
        except Stalled as stall:
            await self._explain_stall(diagnosis, stall)

    def _need_relay(self, diagnosis: Diagnosis) -> None:
        """Neither end can be dialled: a third site that can carries the calls, if there is one."""
        if relays_of(self.site.roster, self.site.name, diagnosis.peer):
            diagnosis.path = Path("relay", "")
        else:
            why = "neither of the two lists an address, and no third site does"
            diagnosis.errors.append(
                NoWay(peer=diagnosis.peer, why=why, evidence="peers.yaml has addresses: [] for all")
            )

    # ── the way there ─────────────────────────────────────────────────────────────────────────────────────────

    async def _try_until_admitted(self, diagnosis: Diagnosis, listed: Sequence[Address]) -> Admitted | None:
        while True:
            admitted = await self._try_all(diagnosis, listed)
            if admitted is not None or self.site.clocks.now() > self.until:
                break
            await asyncio.sleep(AGAIN_S)
        diagnosis.notes += [f"{way.address} is reached {way.why}" for way in diagnosis.ways if way.why]
        failed = [way.error for way in diagnosis.ways if way.error is not None]
        if admitted is None:
            diagnosis.errors += failed
        else:
            diagnosis.notes += [
                f"not through {way.address}: {_short(way.error)}" for way in diagnosis.ways if way.error
            ]
        return admitted

    async def _try_all(self, diagnosis: Diagnosis, listed: Sequence[Address]) -> Admitted | None:
        """Try every address at once; keep the first connection, in the order of the list, and dismiss the others."""
        tried = await asyncio.gather(*(self._try_address(diagnosis.peer, address) for address in listed))
        diagnosis.ways = tuple(way for way, _ in tried)
        open_ways = [(way, admitted) for way, admitted in tried if admitted is not None]
        for _, spare in open_ways[1:]:
            await spare.dismiss()
        if not open_ways:
            return None
        diagnosis.way = open_ways[0][0]
        return open_ways[0][1]

    async def _try_address(self, peer: str, address: Address) -> tuple[AddressTrial, Admitted | None]:
        began = self.site.clocks.now()
        try:
            admitted = await trial_handshake(self.site, peer, address)
        except P2PFLError as error:
            # The far end's patience may end first: that is a cut after a long silence.
            took, patience = self.site.clocks.now() - began, self.site.limits.handshake_s
            silent = isinstance(error, HandshakeCut) and took >= patience / 2
            if not silent and not isinstance(error, HandshakeUnfinished):
                return self._trial(address, error), None
            result = await self._try_small_segments(peer, address, error)
            if isinstance(result, P2PFLError):
                return self._trial(address, result), None
            admitted = result
        trial = replace(self._trial(address), ip=admitted.ip, segment=admitted.segment)
        return replace(trial, tcp_s=admitted.tcp_s, admitted_s=admitted.admitted_s), admitted

    def _trial(self, address: Address, error: P2PFLError | None = None) -> AddressTrial:
        connector = self.site.connector
        return AddressTrial(address, error, proxied=connector.uses_proxy(address), why=connector.explain(address))

    async def _try_small_segments(self, peer: str, address: Address, error: P2PFLError) -> P2PFLError | Admitted:
        """TCP connects and TLS does not finish; its first flight exceeds one packet. Are large packets lost?

        What passes in small segments is tried once more in large ones: it may have been a moment's silence.
        """
        try:
            admitted = await trial_handshake(self.site, peer, address, segment=SMALL_SEGMENT)
        except P2PFLError:
            return error
        await admitted.dismiss()
        with contextlib.suppress(P2PFLError):
            return await trial_handshake(self.site, peer, address)
        evidence = f"{error.evidence}; with segments of {SMALL_SEGMENT} bytes it was let in"
        return _lost(peer, address, "to or from", ETHERNET, evidence)

    # ── what the peer says ────────────────────────────────────────────────────────────────────────────────────

    async def _probe(self, admitted: Admitted, diagnosis: Diagnosis) -> None:
        async with open_probe(admitted, self.site, diagnosis.peer) as (client, facts):
            diagnosis.facts = facts
            diagnosis.clock = await client.measure_clock()
            diagnosis.round_trip_s = diagnosis.clock.round_trip_s
            await compare_peers_files(client, self.peers_file, diagnosis)
            if self.reachable and self.site.roster[self.site.name].addresses:
                diagnosis.dialed = tuple(await client.ask_to_dial())
                _judge_way_back(diagnosis)

    async def _keep_errors(self, diagnosis: Diagnosis, work: Awaitable[None]) -> None:
        """Await `work`; an error that the peer causes becomes a finding."""
        try:
            await work
        except RefusedThere as error:
            if error.fields["their_code"] != ProbesTooOften.code:
                diagnosis.errors.append(error)
            elif TOO_OFTEN not in diagnosis.notes:
                diagnosis.notes.append(TOO_OFTEN)
        except P2PFLError as error:
            diagnosis.errors.append(error)

    # ── packets and speed ─────────────────────────────────────────────────────────────────────────────────────

    async def _measure_path(self, diagnosis: Diagnosis, segment: int | None) -> None:
        """Packet sizes and speed, with TCP segments of at most `segment` bytes; by default of the path's size."""
        if diagnosis.way is None:
            return
        admitted = await trial_handshake(self.site, diagnosis.peer, diagnosis.way.address, segment=segment)
        async with open_probe(admitted, self.site, diagnosis.peer) as (client, _):
            await client.measure_clock()
            await client.test_packet_sizes()
            to, back = await client.measure_speed()
            if segment is None:
                diagnosis.to_bytes_s, diagnosis.from_bytes_s = to or None, back or None

    async def _explain_stall(self, diagnosis: Diagnosis, stall: Stalled) -> None:
        """Repeat in small segments: what passes now was lost for its size."""
        if diagnosis.way is None:
            return
        diagnosis.there, address = STALLS, diagnosis.way.address
        try:
            await self._measure_path(diagnosis, SMALL_SEGMENT)
        except Stalled as again:
            small = f"in segments of {SMALL_SEGMENT} bytes after {again.count}"
            evidence = f"nothing moved {stall.way} it after {stall.count} bytes, and {small}"
            diagnosis.errors.append(
                PathStalls(peer=diagnosis.peer, count=stall.count, host=address.host, evidence=evidence)
            )
        except P2PFLError as error:
            evidence = f"stood still after {stall.count} bytes; then {error.code}: {error.evidence}"
            what = "it stood still in the middle of a test"
            diagnosis.errors.append(ProbeUnanswered(peer=diagnosis.peer, what=what, evidence=evidence))
        else:
            await self._confirm_loss(diagnosis, stall, address)

    async def _confirm_loss(self, diagnosis: Diagnosis, stall: Stalled, address: Address) -> None:
        """Everything passed in small segments. Does it stall again in large ones?"""
        try:
            await self._measure_path(diagnosis, None)
        except Stalled as again:
            evidence = f"{again.passed} bytes passed, {again.size} did not; in segments of {SMALL_SEGMENT} all passed"
            diagnosis.errors.append(_lost(diagnosis.peer, address, again.way, min(again.size, ETHERNET), evidence))
        except P2PFLError as error:
            diagnosis.errors.append(error)
        else:
            diagnosis.there = OK
            diagnosis.notes.append(f"it stood still once, {stall.way} it after {stall.count} bytes, and then no more")


def _judge_way_back(diagnosis: Diagnosis) -> None:
    """What the peer met when it dialled this site's addresses."""
    failed = [one for one in diagnosis.dialed if one.code]
    if not diagnosis.dialed:
        diagnosis.back = NONE
        diagnosis.notes.append(f"{diagnosis.peer} holds a peers.yaml that lists no address of this site")
    elif len(failed) < len(diagnosis.dialed):
        diagnosis.back = OK
        diagnosis.notes += [f"it cannot reach {one.address}: {one.code}: {one.happened}" for one in failed]
    else:
        diagnosis.back = NO
        for one in failed:
            port, evidence = one.address.rpartition(":")[2], f"{diagnosis.peer} says {one.code}: {one.evidence}"
            error = NotReachedBy(
                peer=diagnosis.peer, address=one.address, port=port, happened=one.happened, evidence=evidence
            )
            diagnosis.errors.append(error)


async def compare_peers_files(client: ProbeClient, mine: OwnPeersFile, diagnosis: Diagnosis) -> None:
    """Where the peer's facts name another peers.yaml, fetch it: the file and the difference become findings."""
    if diagnosis.facts is None or diagnosis.facts.federation_digest == hashlib.sha256(mine.raw).digest():
        return
    diagnosis.theirs = await client.fetch_peers_file()
    diagnosis.errors.append(mine.differs(diagnosis.peer, diagnosis.theirs))


def _lost(peer: str, address: Address, way: str, size: int, evidence: str) -> P2PFLError:
    return LargePacketsLost(
        peer=peer, way=way, size=size, payload=size - PING_HEADERS, host=address.host, evidence=evidence
    )


def _short(error: P2PFLError | None) -> str:
    return "" if error is None else f"{error.code}: {error.happened} ({error.evidence})"


def relays_of(roster: Roster, one: str, other: str) -> list[str]:
    """Members that could carry calls between the two: those that list an address."""
    return [member.name for member in roster.members if member.addresses and member.name not in (one, other)]


def judge_relays(diagnoses: Sequence[Diagnosis], roster: Roster, me: str) -> None:
    """Where only a relay helps: name the one that was tried, else the first that is reached, and how to try it."""
    works = {one.peer for one in diagnoses if one.works and one.through is None}
    for one in diagnoses:
        relays = relays_of(roster, me, one.peer)
        able = [relay for relay in relays if relay in works]
        apart = one.path.kind == "relay"
        if one.through is not None and not one.works_directly:
            one.path, one.relayed = Path("relay", one.through.via), True
            one.notes.append(_tried(one.peer, one.through, apart))
        elif apart and able:
            one.path, one.relayed = Path("relay", able[0]), True
            carries = f"{' or '.join(able)} carries the calls, if {one.peer} has a link with it"
            one.notes.append(f"neither lists an address: {carries}; {_untried(one.peer, able)}")
        elif apart:
            why = "neither of the two lists an address, and no site that could relay is reached"
            one.errors.append(NoWay(peer=one.peer, why=why, evidence=f"could relay: {', '.join(relays)}"))
        elif not one.works and able:
            one.notes.append(f"until that is mended, join goes through {' or '.join(able)}; {_untried(one.peer, able)}")


def _tried(peer: str, through: RelayTrial, apart: bool) -> str:
    ways = {(True, True): "both ends called", (True, False): "this end called", (False, True): f"{peer} called"}
    trip = "" if through.round_trip_s is None else f", {1000 * through.round_trip_s:.1f} ms there and back"
    which = ways[(through.there, through.back)]
    head = "neither lists an address" if apart else "until that is mended, join goes another way"
    return f"{head}: {through.via} carried it, tried with TLS from end to end: {which}{trip}"


def _untried(peer: str, able: Sequence[str]) -> str:
    """Which command to run where, to try the way."""
    return (
        f"that was not tried: for it, p2pfl doctor --wait 60 has to run here and at {peer} at the same time, and "
        f"doctor or join at {' or '.join(able)}"
    )

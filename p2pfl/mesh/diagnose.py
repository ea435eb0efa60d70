"""How the link with each peer is, both ways, as far as one end can find out; and what most likely ails it.

Each listed address is tried by itself: name, TCP, TLS, identity. Through the first that answers the peer is asked what
it is and holds, what its clock says, and whether it can dial this site. Then, one peer at a time so that none takes
another's bandwidth, sizes of packets and speed. Where something stands still the same is tried with packets of 536
bytes, which every path carries: what passes then was lost for its size.
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
from p2pfl.mesh.events import DIRECT, Path, TlsFacts
from p2pfl.mesh.handshake import Admitted, knock
from p2pfl.mesh.probe import Dialed, PeerFacts
from p2pfl.mesh.probe_client import ClockOffset, ProbeClient, StoodStill, asking
from p2pfl.mesh.site import LocalSite
from p2pfl.roster import Address, Roster

SMALL_SEGMENT: Final = 536  # of TCP, what RFC 9293 §3.7.1 assumes where nothing else is said
AGAIN_S: Final = 0.5
ETHERNET: Final = 1500
PING_HEADERS: Final = 28
TOO_OFTEN: Final = "it was asked too often lately: not all could be measured"

OK: Final = "ok"
NO: Final = "no"
STALLS: Final = "stalls"
LINK: Final = "link"  # there is one, and who dialled it nobody asked
NONE: Final = "none"  # no address is listed
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Way:
    """One listed address, tried from here. No error: this site was let in there."""

    address: Address
    error: P2PFLError | None = None
    ip: str = ""
    segment: int = 0
    tcp_s: float = 0.0
    admitted_s: float = 0.0
    proxied: bool = False
    why: str = ""  # it is reached through the proxy, or past it; "": there is none


@dataclass
class Through:
    """A way through a third site that was tried: who carried, which end called, and the round trip of it all."""

    via: str
    there: bool = False
    back: bool = False
    round_trip_s: float | None = None


@dataclass
class Diagnosis:
    """What was found of one peer.

    ways     its addresses, in their order; `way`: the one that was used
    there    ok · no · stalls · none (it lists no address) · link;  back: the same, and unknown: nobody could try
    to_bytes_s, from_bytes_s   speed
    theirs   its peers.yaml, where it is not this site's;  relayed: a site that this one reaches can carry its calls
    through  the way through such a site, where it was tried, with the inner TLS end to end
    """

    peer: str
    ways: tuple[Way, ...] = ()
    way: Way | None = None
    path: Path = DIRECT
    there: str = NONE
    back: str = UNKNOWN
    dialed: tuple[Dialed, ...] = ()
    tls: TlsFacts | None = None
    facts: PeerFacts | None = None
    round_trip_s: float | None = None
    clock: ClockOffset | None = None
    to_bytes_s: float | None = None
    from_bytes_s: float | None = None
    theirs: bytes | None = None
    relayed: bool = False
    through: Through | None = None
    errors: list[P2PFLError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """One direction is enough for a link, and so is a relay that this site reaches; one peers.yaml is needed."""
        return self.theirs is None and (self.relayed or self.works_directly)

    @property
    def works_directly(self) -> bool:
        """One of the two was let in at the other's address."""
        return bool({OK, LINK} & {self.there, self.back})


@dataclass(frozen=True, slots=True)
class OwnPeersFile:
    """This site's peers.yaml; the mesh fetches a peer's other one, and does not read either.

    differs   the finding for a peer and the bytes that it holds
    """

    raw: bytes
    differs: Callable[[str, bytes], P2PFLError]


@dataclass(frozen=True, slots=True)
class Doctor:
    """What one site asks of its peers.

    reachable  something of this site listens, so peers can dial back
    until      a peer that does not answer is tried again until then, on the site's monotonic clock
    found      what is known by now, by peer
    """

    caller: LocalSite
    peers_file: OwnPeersFile
    reachable: bool
    until: float
    found: dict[str, Diagnosis] = field(default_factory=dict)

    async def reach(self, peer: str) -> Diagnosis:
        """Every address, identity, facts, clock, peers.yaml, and the way back. Never raises a P2PFLError."""
        listed = self.caller.roster[peer].addresses
        found = self.found[peer] = Diagnosis(peer, there=NO if listed else NONE, back=self._back_unasked())
        if not listed:
            if not self.caller.roster[self.caller.name].addresses:
                self._need_relay(found)
            return found
        admitted = await self._knock_until(found, listed)
        if admitted is not None:
            found.there, found.tls, found.path = OK, admitted.tunnel.facts, admitted.tunnel.path
            await self._told(found, self._ask(admitted, found))
        return found

    async def measure(self, found: Diagnosis) -> None:
        """Sizes of packets, and speed. Never raises a P2PFLError."""
        if found.way is None or found.there != OK:
            return
        try:
            await self._told(found, self._weigh(found, None))
        except StoodStill as stood:
            await self._explain(found, stood)

    def _back_unasked(self) -> str:
        return UNKNOWN if self.caller.roster[self.caller.name].addresses else NONE

    def _need_relay(self, found: Diagnosis) -> None:
        """Neither end can be dialled: a third that can carries the calls, if there is one."""
        if relays_of(self.caller.roster, self.caller.name, found.peer):
            found.path = Path("relay", "")
        else:
            why = "neither of the two lists an address, and no third site does"
            found.errors.append(NoWay(peer=found.peer, why=why, evidence="peers.yaml has addresses: [] for all"))

    # ── the way there ─────────────────────────────────────────────────────────────────────────────────────────

    async def _knock_until(self, found: Diagnosis, listed: Sequence[Address]) -> Admitted | None:
        while True:
            admitted = await self._knock_all(found, listed)
            if admitted is not None or self.caller.clocks.now() > self.until:
                break
            await asyncio.sleep(AGAIN_S)
        found.notes += [f"{way.address} is reached {way.why}" for way in found.ways if way.why]
        failed = [way.error for way in found.ways if way.error is not None]
        if admitted is None:
            found.errors += failed
        else:
            found.notes += [f"not through {way.address}: {_short(way.error)}" for way in found.ways if way.error]
        return admitted

    async def _knock_all(self, found: Diagnosis, listed: Sequence[Address]) -> Admitted | None:
        tried = await asyncio.gather(*(self._knock(found.peer, address) for address in listed))
        found.ways = tuple(way for way, _ in tried)
        open_ways = [(way, admitted) for way, admitted in tried if admitted is not None]
        for _, spare in open_ways[1:]:
            await spare.part()
        if not open_ways:
            return None
        found.way = open_ways[0][0]
        return open_ways[0][1]

    async def _knock(self, peer: str, address: Address) -> tuple[Way, Admitted | None]:
        begun = self.caller.clocks.now()
        try:
            admitted = await knock(self.caller, peer, address)
        except P2PFLError as error:
            # The far end's patience may end first: then it is a cut, after a long silence.
            took, patience = self.caller.clocks.now() - begun, self.caller.limits.handshake_s
            silent = isinstance(error, HandshakeCut) and took >= patience / 2
            if not silent and not isinstance(error, HandshakeUnfinished):
                return self._way(address, error), None
            found = await self._large_packets(peer, address, error)
            if isinstance(found, P2PFLError):
                return self._way(address, found), None
            admitted = found
        way = replace(self._way(address), ip=admitted.ip, segment=admitted.segment)
        return replace(way, tcp_s=admitted.tcp_s, admitted_s=admitted.admitted_s), admitted

    def _way(self, address: Address, error: P2PFLError | None = None) -> Way:
        reach = self.caller.reach
        return Way(address, error, proxied=reach.proxied(address), why=reach.why(address))

    async def _large_packets(self, peer: str, address: Address, error: P2PFLError) -> P2PFLError | Admitted:
        """TCP stands and TLS does not come: a first flight is more than one packet holds. Is it the packet?

        What passes in small segments is tried in large ones once more: it may have been a moment's silence.
        """
        try:
            admitted = await knock(self.caller, peer, address, segment=SMALL_SEGMENT)
        except P2PFLError:
            return error
        await admitted.part()
        with contextlib.suppress(P2PFLError):
            return await knock(self.caller, peer, address)
        evidence = f"{error.evidence}; with segments of {SMALL_SEGMENT} bytes it was let in"
        return _lost(peer, address, "to or from", ETHERNET, evidence)

    # ── what the peer says ────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, admitted: Admitted, found: Diagnosis) -> None:
        async with asking(admitted, self.caller, found.peer) as (asker, facts):
            found.facts = facts
            found.clock = await asker.clock()
            found.round_trip_s = found.clock.round_trip_s
            await compare_peers_files(asker, self.peers_file, found)
            if self.reachable and self.caller.roster[self.caller.name].addresses:
                found.dialed = tuple(await asker.dialed_back())
                self._judge_back(found)

    def _judge_back(self, found: Diagnosis) -> None:
        failed = [one for one in found.dialed if one.code]
        if not found.dialed:
            found.back = NONE
            found.notes.append(f"{found.peer} holds a peers.yaml that lists no address of this site")
        elif len(failed) < len(found.dialed):
            found.back = OK
            found.notes += [f"it cannot reach {one.address}: {one.code}: {one.happened}" for one in failed]
        else:
            found.back = NO
            for one in failed:
                port = one.address.rpartition(":")[2]
                evidence = f"{found.peer} says {one.code}: {one.evidence}"
                found.errors.append(
                    NotReachedBy(
                        peer=found.peer, address=one.address, port=port, happened=one.happened, evidence=evidence
                    )
                )

    async def _told(self, found: Diagnosis, work: Awaitable[None]) -> None:
        """What the peer refuses or spoils is a finding."""
        try:
            await work
        except RefusedThere as error:
            if error.fields["their_code"] != ProbesTooOften.code:
                found.errors.append(error)
            elif TOO_OFTEN not in found.notes:
                found.notes.append(TOO_OFTEN)
        except P2PFLError as error:
            found.errors.append(error)

    # ── packets and speed ─────────────────────────────────────────────────────────────────────────────────────

    async def _weigh(self, found: Diagnosis, segment: int | None) -> None:
        if found.way is None:
            return
        admitted = await knock(self.caller, found.peer, found.way.address, segment=segment)
        async with asking(admitted, self.caller, found.peer) as (asker, _):
            await asker.clock()
            await asker.sizes()
            to, back = await asker.speed()
            if segment is None:
                found.to_bytes_s, found.from_bytes_s = to or None, back or None

    async def _explain(self, found: Diagnosis, stood: StoodStill) -> None:
        """The same again in small packets: what passes now was lost for its size."""
        if found.way is None:
            return
        found.there, address = STALLS, found.way.address
        try:
            await self._weigh(found, SMALL_SEGMENT)
        except StoodStill as again:
            small = f"in segments of {SMALL_SEGMENT} bytes after {again.count}"
            evidence = f"nothing moved {stood.way} it after {stood.count} bytes, and {small}"
            found.errors.append(PathStalls(peer=found.peer, count=stood.count, host=address.host, evidence=evidence))
        except P2PFLError as error:
            evidence = f"stood still after {stood.count} bytes; then {error.code}: {error.evidence}"
            what = "it stood still in the middle of a test"
            found.errors.append(ProbeUnanswered(peer=found.peer, what=what, evidence=evidence))
        else:
            await self._confirm_loss(found, stood, address)

    async def _confirm_loss(self, found: Diagnosis, stood: StoodStill, address: Address) -> None:
        """In small segments all has passed. Does it stand still in large ones again?"""
        try:
            await self._weigh(found, None)
        except StoodStill as again:
            evidence = f"{again.passed} bytes passed, {again.size} did not; in segments of {SMALL_SEGMENT} all passed"
            found.errors.append(_lost(found.peer, address, again.way, min(again.size, ETHERNET), evidence))
        except P2PFLError as error:
            found.errors.append(error)
        else:
            found.there = OK
            found.notes.append(f"it stood still once, {stood.way} it after {stood.count} bytes, and then no more")


async def compare_peers_files(asker: ProbeClient, mine: OwnPeersFile, found: Diagnosis) -> None:
    """Where the peer's facts name another peers.yaml, fetch it: the file and the difference become findings."""
    if found.facts is None or found.facts.federation_digest == hashlib.sha256(mine.raw).digest():
        return
    found.theirs = await asker.file()
    found.errors.append(mine.differs(found.peer, found.theirs))


def _lost(peer: str, address: Address, way: str, size: int, evidence: str) -> P2PFLError:
    return LargePacketsLost(
        peer=peer, way=way, size=size, payload=size - PING_HEADERS, host=address.host, evidence=evidence
    )


def _short(error: P2PFLError | None) -> str:
    return "" if error is None else f"{error.code}: {error.happened} ({error.evidence})"


def relays_of(roster: Roster, one: str, other: str) -> list[str]:
    """Who could carry calls between the two: members that list an address."""
    return [member.name for member in roster.members if member.addresses and member.name not in (one, other)]


def judge_relays(found: Sequence[Diagnosis], roster: Roster, me: str) -> None:
    """Where only a relay helps: the way that was tried, else the first that this site reaches, and how to try it."""
    works = {one.peer for one in found if one.works and one.through is None}
    for one in found:
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


def _tried(peer: str, through: Through, apart: bool) -> str:
    ways = {(True, True): "both ends called", (True, False): "this end called", (False, True): f"{peer} called"}
    trip = "" if through.round_trip_s is None else f", {1000 * through.round_trip_s:.1f} ms there and back"
    which = ways[(through.there, through.back)]
    head = "neither lists an address" if apart else "until that is mended, join goes another way"
    return f"{head}: {through.via} carried it, tried with TLS from end to end: {which}{trip}"


def _untried(peer: str, able: Sequence[str]) -> str:
    """What has to run where."""
    return (
        f"that was not tried: for it, p2pfl doctor --wait 60 has to run here and at {peer} at the same time, and "
        f"doctor or join at {' or '.join(able)}"
    )


async def examine(examiner: Doctor, peers: Sequence[str], tell: Callable[[str], None]) -> list[Diagnosis]:
    """All `peers`: reached at once, measured one by one."""
    found = await asyncio.gather(*(examiner.reach(peer) for peer in peers))
    for one in found:
        if one.there == OK:
            tell(f"{one.peer}: measuring")
        await examiner.measure(one)
    return list(found)

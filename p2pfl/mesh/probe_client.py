"""The asking end of a probe: what a member says of itself, clocks, round trip, sizes of packets, speed both ways.

Sizes come before speed, smallest first, and each waits until the far end has answered for it: small ones that pass
and a larger one that never arrives are the mark of a path that loses large packets (RFC 2923 §2.1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from p2pfl.errors.probe import ProbeUnanswered
from p2pfl.mesh import opening, probe
from p2pfl.mesh.handshake import Admitted
from p2pfl.mesh.probe import Dialed, PeerFacts
from p2pfl.mesh.probe_server import DIALING_S
from p2pfl.mesh.rendezvous import CallRequest, read_met, wishes
from p2pfl.mesh.site import LocalSite

T = TypeVar("T")

STILL_S: Final = 8.0  # small messages that get no answer for so long get none
BLOCK_S: Final = 15.0  # nor a block of a speed's measurement: 64 KiB at 4 kB/s
PINGS: Final = 5
# Bytes of an IP packet: what tunnels, PPPoE and Ethernet let through, and more than any single packet holds.
PACKETS: Final = (256, 576, 1024, 1280, 1340, 1400, 1420, 1440, 1460, 1492, 1500, 4096, 9000, 16384)
AROUND: Final = 20 + 32 + 5 + 5 + 17  # IPv4, TCP with timestamps, a message's head, a TLS record's head and tail
FIRST_BLOCK: Final = 64 << 10
MOST_BYTES: Final = 4 << 20  # each way
ENOUGH_S: Final = 0.3  # a block that takes so long says how fast the path is


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Seconds: the shortest of a few round trips, and how far the far end's clock is ahead of this site's."""

    round_trip_s: float
    ahead_s: float


class StoodStill(Exception):
    """Nothing moved any more. `way` is "to" or "from"; packets of `passed` bytes had gone that way before, one of
    `size` had not; `count` bytes had gone over the connection."""

    def __init__(self, way: str, passed: int, size: int, count: int) -> None:
        super().__init__(f"{way}: {passed} passed, {size} did not, after {count} bytes")
        self.way, self.passed, self.size, self.count = way, passed, size, count


class ProbeClient:
    """One probe. Made by `asking`; every method raises ProbeUnanswered, RefusedThere or MalformedStream."""

    def __init__(self, admitted: Admitted, caller: LocalSite, peer: str) -> None:
        self._tunnel, self._caller, self._peer = admitted.tunnel, caller, peer
        self._grant = 0
        self._shortest = 0.0

    async def begin(self) -> PeerFacts:
        await opening.say(self._tunnel, opening.PROBE)
        facts = PeerFacts.decode(self._peer, await self._hear(probe.FACTS, probe.FACTS_BYTES))
        self._grant = facts.grant
        return facts

    async def clock(self) -> ClockOffset:
        """By the quickest of a few pings, as NTP does: the less it waited, the less its halves can differ."""
        clocks = [await self._ping() for _ in range(PINGS)]
        quickest = min(clocks, key=lambda one: one.round_trip_s)
        self._shortest = quickest.round_trip_s
        return quickest

    async def dialed_back(self) -> list[Dialed]:
        """What the peer met at each address that its peers.yaml lists for this site."""
        await opening.say(self._tunnel, probe.DIAL)
        return probe.read_dialed(self._peer, await self._hear(probe.DIALED, probe.DIALED_BYTES, DIALING_S + STILL_S))

    async def file(self) -> bytes:
        """The peers.yaml that the peer holds."""
        await opening.say(self._tunnel, probe.FILE)
        return await self._hear(probe.FILED, probe.FILE_BYTES, BLOCK_S)

    async def meet(self, wished: Sequence[CallRequest]) -> list[CallRequest]:
        """Of the calls with third sites, those that the peer carries now, each with its ticket."""
        await opening.say(self._tunnel, probe.MEET, wishes(wished[: probe.MOST_WISHES]))
        return read_met(self._peer, await self._hear(probe.MET, probe.MET_BYTES))

    async def sizes(self) -> None:
        """Packets of growing size pass in both directions, or StoodStill says which did not."""
        passed = {"to": 0, "from": 0}
        for size in PACKETS:
            for way in passed:
                with self._still(way, passed[way], size):
                    async with asyncio.timeout(STILL_S):
                        await self._packet(way, size)
                passed[way] = size

    async def speed(self) -> tuple[float, float]:
        """Bytes per second to and from the peer, of blocks that double until one takes long enough."""
        found = []
        for way in ("to", "from"):
            size, spent, speed = FIRST_BLOCK, 0, 0.0
            while spent + size <= min(MOST_BYTES, self._grant // 2):
                begun = self._caller.clocks.now()
                with self._still(way, PACKETS[-1], PACKETS[-1]):
                    async with asyncio.timeout(BLOCK_S):
                        await self._block(way, size)
                took = self._caller.clocks.now() - begun
                speed = size / max(took - self._shortest, 1e-4)
                if took > ENOUGH_S:
                    break
                spent, size = spent + size, 2 * size
            found.append(speed)
        return found[0], found[1]

    async def _packet(self, way: str, size: int) -> None:
        count = max(1, size - AROUND)
        if way == "to":
            await opening.say(self._tunnel, probe.FILL, bytes(count))
            await self._ping()
        else:
            await self._wanted(count, count)

    async def _block(self, way: str, size: int) -> None:
        if way == "from":
            return await self._wanted(size, probe.FILL_BYTES)
        for _ in range(size // probe.FILL_BYTES):
            await opening.say(self._tunnel, probe.FILL, bytes(probe.FILL_BYTES))
        await self._ping()

    async def _wanted(self, total: int, piece: int) -> None:
        await opening.say(self._tunnel, probe.WANT, probe.want(total, piece))
        while total > 0:
            total -= len((await opening.hear(self._tunnel, self._peer, {probe.FILL: probe.FILL_BYTES}))[1])

    async def _ping(self) -> ClockOffset:
        said, wall = self._caller.clocks.now(), self._caller.clocks.wall()
        await opening.say(self._tunnel, probe.PING, probe.ping(int(said * 1e6)))
        body = (await opening.hear(self._tunnel, self._peer, {probe.PONG: probe.PONG_BYTES}))[1]
        took = self._caller.clocks.now() - said
        return ClockOffset(took, probe.read_pong(self._peer, body)[1] - (wall + took / 2))

    async def _hear(self, kind: int, most: int, within_s: float = STILL_S) -> bytes:
        return (await within(within_s, opening.hear(self._tunnel, self._peer, {kind: most})))[1]

    @contextlib.contextmanager
    def _still(self, way: str, passed: int, size: int) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            count = self._tunnel.bytes_sent if way == "to" else self._tunnel.bytes_received
            raise StoodStill(way, passed, size, count) from None


async def within(seconds: float, answer: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await answer


@contextlib.asynccontextmanager
async def asking(admitted: Admitted, caller: LocalSite, peer: str) -> AsyncIterator[tuple[ProbeClient, PeerFacts]]:
    """A probe on a connection that was admitted, begun; parted with at the end of the block, or closed."""
    asker = ProbeClient(admitted, caller, peer)
    try:
        yield asker, await asker.begin()
        await admitted.part()
    except TimeoutError:
        raise ProbeUnanswered(peer=peer, what="nothing came", evidence=f"no answer in {STILL_S:.0f} s") from None
    except (OSError, opening.Duplicate) as error:
        what = "it closed the connection"
        raise ProbeUnanswered(peer=peer, what=what, evidence=str(error) or type(error).__name__) from error
    finally:
        admitted.tunnel.close()

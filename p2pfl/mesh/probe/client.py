"""The asking end of a probe: a member's facts, clock, round trip, packet sizes, and speed both ways.

Sizes come before speed, smallest first, and each waits until the far end has answered for it. Small packets that pass
and a larger one that never arrives are the mark of a path that loses large packets (RFC 2923 §2.1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from p2pfl.errors.probe import ProbeUnanswered
from p2pfl.mesh import opening
from p2pfl.mesh.probe import wire
from p2pfl.mesh.probe.handshake import Admitted
from p2pfl.mesh.probe.rendezvous import CallRequest, decode_granted, encode_requests
from p2pfl.mesh.probe.server import DIALING_S
from p2pfl.mesh.probe.wire import Dialed, PeerFacts
from p2pfl.mesh.site import LocalSite

T = TypeVar("T")

STALL_S: Final = 8.0  # longest wait for the answer to a small message
BLOCK_S: Final = 15.0  # longest wait for a block of a speed measurement: 64 KiB at 4 kB/s
PINGS: Final = 5
# Bytes of an IP packet: what tunnels, PPPoE and Ethernet carry, and more than any single packet holds.
PACKETS: Final = (256, 576, 1024, 1280, 1340, 1400, 1420, 1440, 1460, 1492, 1500, 4096, 9000, 16384)
AROUND: Final = 20 + 32 + 5 + 5 + 17  # IPv4, TCP with timestamps, a message's head, a TLS record's head and tail
FIRST_BLOCK: Final = 64 << 10
MOST_BYTES: Final = 4 << 20  # each way
ENOUGH_S: Final = 0.3  # a block that takes this long measures the path


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Seconds: the shortest of a few round trips, and how far the far end's clock is ahead of this site's."""

    round_trip_s: float
    ahead_s: float


class Stalled(Exception):
    """Nothing moves any more, in direction `way`: "to" the peer or "from" it.

    passed   bytes of the largest packet that had gone that way
    size     bytes of the packet that did not
    count    bytes that the connection had carried that way
    """

    def __init__(self, way: str, passed: int, size: int, count: int) -> None:
        super().__init__(f"{way}: {passed} passed, {size} did not, after {count} bytes")
        self.way, self.passed, self.size, self.count = way, passed, size, count


class ProbeClient:
    """One probe, made by `open_probe`. Every method raises ProbeUnanswered, RefusedThere or MalformedStream."""

    def __init__(self, admitted: Admitted, site: LocalSite, peer: str) -> None:
        self._tunnel, self._site, self._peer = admitted.tunnel, site, peer
        self._grant = 0
        self._shortest_s = 0.0  # round trip

    async def begin(self) -> PeerFacts:
        await opening.send_message(self._tunnel, opening.PROBE)
        facts = PeerFacts.decode(self._peer, await self._receive(wire.FACTS, wire.FACTS_BYTES))
        self._grant = facts.grant
        return facts

    async def measure_clock(self) -> ClockOffset:
        """By the quickest of a few pings, as in NTP: the shorter the trip, the less its halves can differ."""
        offsets = [await self._ping() for _ in range(PINGS)]
        quickest = min(offsets, key=lambda offset: offset.round_trip_s)
        self._shortest_s = quickest.round_trip_s
        return quickest

    async def ask_to_dial(self) -> list[Dialed]:
        """What the peer met at each address that its peers.yaml lists for this site."""
        await opening.send_message(self._tunnel, wire.DIAL)
        answer = await self._receive(wire.DIALED, wire.DIALED_BYTES, DIALING_S + STALL_S)
        return wire.decode_dialed(self._peer, answer)

    async def fetch_peers_file(self) -> bytes:
        """The peers.yaml that the peer holds."""
        await opening.send_message(self._tunnel, wire.FILE)
        return await self._receive(wire.FILED, wire.FILE_BYTES, BLOCK_S)

    async def request_calls(self, requests: Sequence[CallRequest]) -> list[CallRequest]:
        """Those of the calls with third sites that the peer carries now, each with its ticket."""
        await opening.send_message(self._tunnel, wire.MEET, encode_requests(requests[: wire.MOST_REQUESTS]))
        return decode_granted(self._peer, await self._receive(wire.MET, wire.MET_BYTES))

    async def test_packet_sizes(self) -> None:
        """Send packets of growing size in both directions. Raises Stalled for the first that does not pass."""
        passed = {"to": 0, "from": 0}
        for size in PACKETS:
            for way in passed:
                with self._stalls(way, passed[way], size):
                    async with asyncio.timeout(STALL_S):
                        await self._packet(way, size)
                passed[way] = size

    async def measure_speed(self) -> tuple[float, float]:
        """Bytes per second to and from the peer, by blocks that double until one takes long enough. Raises Stalled."""
        return await self._speed("to"), await self._speed("from")

    async def _speed(self, way: str) -> float:
        size, spent, speed = FIRST_BLOCK, 0, 0.0
        while spent + size <= min(MOST_BYTES, self._grant // 2):
            began = self._site.clocks.now()
            with self._stalls(way, PACKETS[-1], PACKETS[-1]):
                async with asyncio.timeout(BLOCK_S):
                    await self._block(way, size)
            took = self._site.clocks.now() - began
            speed = size / max(took - self._shortest_s, 1e-4)
            if took > ENOUGH_S:
                break
            spent, size = spent + size, 2 * size
        return speed

    async def _packet(self, way: str, size: int) -> None:
        count = max(1, size - AROUND)
        if way == "to":
            await opening.send_message(self._tunnel, wire.FILL, bytes(count))
            await self._ping()
        else:
            await self._fetch_fill(count, count)

    async def _block(self, way: str, size: int) -> None:
        if way == "from":
            return await self._fetch_fill(size, wire.FILL_BYTES)
        for _ in range(size // wire.FILL_BYTES):
            await opening.send_message(self._tunnel, wire.FILL, bytes(wire.FILL_BYTES))
        await self._ping()

    async def _fetch_fill(self, total: int, piece: int) -> None:
        await opening.send_message(self._tunnel, wire.WANT, wire.encode_want(total, piece))
        while total > 0:
            fill = await opening.receive_message(self._tunnel, self._peer, {wire.FILL: wire.FILL_BYTES})
            total -= len(fill[1])

    async def _ping(self) -> ClockOffset:
        began, wall = self._site.clocks.now(), self._site.clocks.wall()
        await opening.send_message(self._tunnel, wire.PING, wire.encode_ping(int(began * 1e6)))
        pong = await opening.receive_message(self._tunnel, self._peer, {wire.PONG: wire.PONG_BYTES})
        took = self._site.clocks.now() - began
        return ClockOffset(took, wire.decode_pong(self._peer, pong[1])[1] - (wall + took / 2))

    async def _receive(self, kind: int, most: int, within_s: float = STALL_S) -> bytes:
        return (await within(within_s, opening.receive_message(self._tunnel, self._peer, {kind: most})))[1]

    @contextlib.contextmanager
    def _stalls(self, way: str, passed: int, size: int) -> Iterator[None]:
        """A time-out inside the block is a stall."""
        try:
            yield
        except TimeoutError:
            count = self._tunnel.bytes_sent if way == "to" else self._tunnel.bytes_received
            raise Stalled(way, passed, size, count) from None


async def within(seconds: float, answer: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await answer


@contextlib.asynccontextmanager
async def open_probe(admitted: Admitted, site: LocalSite, peer: str) -> AsyncIterator[tuple[ProbeClient, PeerFacts]]:
    """A probe on an admitted connection, which is dismissed at the end of the block, or closed on an error."""
    client = ProbeClient(admitted, site, peer)
    try:
        yield client, await client.begin()
        await admitted.dismiss()
    except TimeoutError:
        raise ProbeUnanswered(peer=peer, what="nothing came", evidence=f"no answer in {STALL_S:.0f} s") from None
    except (OSError, opening.Duplicate) as error:
        what = "it closed the connection"
        raise ProbeUnanswered(peer=peer, what=what, evidence=str(error) or type(error).__name__) from error
    finally:
        admitted.tunnel.close()

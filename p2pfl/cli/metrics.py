"""Numbers for Prometheus, on this machine's loopback and nowhere else: state, links, refusals, privacy, memory.

One small HTTP answer at a time limit, from the node's own loop: at most a few callers, each with little to say and not
long to listen, so that none of them stalls anything. Labels are names of the roster, codes and phases.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from p2pfl._version import __version__
from p2pfl.errors.people import MetricsLibraryMissing, MetricsNotLocal, MetricsPortBusy
from p2pfl.federation import Federation
from p2pfl.node.progress import (
    AttemptAbandoned,
    LinkRefused,
    PassCharged,
    PhaseEntered,
    Progress,
    RoundFinal,
    RoundLeft,
    RuleBroken,
)
from p2pfl.roster import Address

if TYPE_CHECKING:
    from p2pfl.peer import Peer

MOST_CALLERS: Final = 8
REQUEST_BYTES: Final = 4096
PATIENCE_S: Final = 5.0  # for a request to come, and for its answer to be taken
LOCAL_NAMES: Final = ("localhost", "localhost.localdomain")


def place_of(text: str) -> Address:
    """`PORT`, or `HOST:PORT` with a loopback host. Raises MetricsNotLocal."""
    try:
        address = Address.parse(text if ":" in text else f"127.0.0.1:{text}")
        local = ipaddress.ip_address(address.host).is_loopback
    except ValueError as error:
        raise MetricsNotLocal(evidence=str(error), place=text) from None
    if not local:
        raise MetricsNotLocal(evidence=f"{address.host} is no loopback address", place=text)
    return address


class Metrics:
    """An observer that counts; `collect` is what the library asks for at each scrape."""

    def __init__(self, federation: Federation, now: Callable[[], float] = time.monotonic) -> None:
        self._federation, self._now = federation, now
        self.peer: Peer | None = None
        self._round, self._attempt, self._phase = 0, 0, "none"
        self._counts: Counter[type[Progress]] = Counter()
        self._refusals: Counter[str] = Counter()
        self._breaches: Counter[tuple[str, str]] = Counter()
        self._epsilon = 0.0
        self._final_at: float | None = None
        self._callers = 0

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────

    def __call__(self, event: Progress) -> None:
        """Count what `event` says."""
        self._counts[type(event)] += 1
        match event:
            case PhaseEntered():
                self._round, self._attempt, self._phase = event.round, event.attempt, event.phase
            case PassCharged():
                self._epsilon = max(self._epsilon, float(event.epsilon))
            case LinkRefused():
                self._refusals[event.error.code] += 1
            case RuleBroken():
                self._breaches[(event.peer, event.error.code)] += 1
            case RoundFinal():
                self._round, self._final_at = event.round, self._now()

    def collect(self) -> Iterator[Any]:
        """The families of this moment. Asked by prometheus_client, on the node's loop."""
        from prometheus_client.core import CounterMetricFamily as Count
        from prometheus_client.core import GaugeMetricFamily as Gauge
        from prometheus_client.core import InfoMetricFamily as Info

        peer = self.peer
        federation = peer.federation if peer is not None else self._federation  # of the epoch that it is
        named = {"version": __version__, "federation": federation.name, "site": peer.name if peer else ""}
        yield Info("p2pfl", "This program and this site", value=named)
        yield Gauge("p2pfl_epoch", "Epoch of the roster", value=federation.roster.epoch)
        yield Gauge("p2pfl_sites", "Sites in the roster, this one included", value=len(federation.roster.names))
        yield Gauge("p2pfl_round", "Round under way, or the last one", value=self._round)
        yield Gauge("p2pfl_attempt", "Attempt of that round, from 0", value=self._attempt)
        phase = Gauge("p2pfl_phase", "1 for the phase that the attempt is in", labels=["phase"])
        phase.add_metric([self._phase], 1)
        yield phase
        for name, event, meaning in (
            ("rounds_final", RoundFinal, "Rounds that became final in this process"),
            ("rounds_left_behind", RoundLeft, "Rounds that q sites went on without"),
            ("attempts_abandoned", AttemptAbandoned, "Attempts that were abandoned"),
        ):
            yield Count(f"p2pfl_{name}", meaning, value=self._counts[event])
        since = math.nan if self._final_at is None else self._now() - self._final_at
        yield Gauge(
            "p2pfl_last_final_round_seconds", "Since a round became final here; NaN before the first", value=since
        )
        yield Gauge("p2pfl_epsilon_spent", "Privacy spent by this home", value=self._spent())
        yield Gauge("p2pfl_epsilon_limit", "Privacy that it may spend", value=federation.privacy.max_epsilon)
        refusals = Count("p2pfl_refusals", "Connections that did not become a link, by error code", labels=["code"])
        breaches = Count("p2pfl_breaches", "Broken rules, by peer and error code", labels=["peer", "code"])
        for code, count in sorted(self._refusals.items()):
            refusals.add_metric([code], count)
        for (whose, code), count in sorted(self._breaches.items()):
            breaches.add_metric([whose, code], count)
        yield refusals
        yield breaches
        yield from self._links(Count, Gauge)

    def _spent(self) -> float:
        told = self.peer.node.epsilon if self.peer is not None else ""
        return max(self._epsilon, float(told or 0.0))

    def _links(self, count: Any, gauge: Any) -> Iterator[Any]:
        up = gauge("p2pfl_link_up", "1 while the link to the peer stands", labels=["peer"])
        moved = count("p2pfl_link_bytes", "Bytes on the wire, TLS included", labels=["peer", "direction"])
        queued = gauge("p2pfl_link_queued_bytes", "Bytes that the peer has not acknowledged", labels=["peer"])
        trip = gauge("p2pfl_link_round_trip_seconds", "Round trip of pings", labels=["peer"])
        relayed = gauge("p2pfl_link_relayed", "1 while the link runs through a relay", labels=["peer"])
        for name, link in sorted(self.peer.links().items()) if self.peer is not None else ():
            up.add_metric([name], float(link.state == "up"))
            relayed.add_metric([name], float(link.path is not None and link.path.kind == "relay"))
            moved.add_metric([name, "sent"], link.bytes_sent)
            moved.add_metric([name, "received"], link.bytes_received)
            queued.add_metric([name], link.queued)
            if link.rtt_s is not None:
                trip.add_metric([name], link.rtt_s)
        yield from (up, relayed, moved, queued, trip)
        if self.peer is not None:
            carried = self.peer.carried()
            yield gauge("p2pfl_relay_calls", "Calls of others that this site carries now", value=carried.now)
            yield count("p2pfl_relay_bytes", "Bytes that came in to be carried on", value=carried.bytes_received)

    # ── who asks ──────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def shown(self, place: Address, peer: Peer) -> AsyncIterator[None]:
        """Answer at `place` while the block runs. Raises MetricsPortBusy, MetricsLibraryMissing."""
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
            from prometheus_client.exposition import CONTENT_TYPE_LATEST
        except ImportError as error:
            raise MetricsLibraryMissing(evidence=str(error)) from None
        self.peer = peer
        registry: Any = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)  # memory, descriptors, processor time

        def answer(line: bytes, headers: list[bytes]) -> bytes:
            if not line.startswith(b"GET ") or line.split(b" ")[1:2] not in ([b"/metrics"], [b"/"]):
                return _http(b"404 Not Found", "text/plain", b"GET /metrics\n")
            if not all(_is_local(each) for each in headers if each.lower().startswith(b"host:")):
                return _http(b"403 Forbidden", "text/plain", b"a name of this machine only\n")  # a page's rebound name
            return _http(b"200 OK", CONTENT_TYPE_LATEST, generate_latest(registry))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, answer)

        try:
            server = await asyncio.start_server(serve, place.host, place.port, limit=REQUEST_BYTES)
        except OSError as error:
            raise MetricsPortBusy(evidence=error.strerror or str(error), place=place, port=place.port) from None
        try:
            yield
        finally:
            server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[bytes, list[bytes]], bytes]
    ) -> None:
        self._callers += 1
        try:
            if self._callers > MOST_CALLERS:
                return
            async with asyncio.timeout(PATIENCE_S):
                line, *headers = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
                writer.write(answer(line, headers))
                writer.write_eof()
                await writer.drain()
                await reader.read()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._callers -= 1
            writer.transport.abort()


def _is_local(header: bytes) -> bool:
    host = header.partition(b":")[2].strip().decode("latin-1")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name.lower() in LOCAL_NAMES or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _http(status: bytes, kind: str, body: bytes) -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return b"HTTP/1.1 " + status + b"\r\n" + head.encode() + body

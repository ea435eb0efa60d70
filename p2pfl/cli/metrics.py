"""Numbers for Prometheus, on this machine's loopback and nowhere else: state, links, refusals, privacy, memory.

prometheus_client's own page, behind wsgiref: a few callers at a time, each for a few seconds, and none of them stalls
the node. Labels are names of the roster, codes and phases.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from p2pfl._version import __version__
from p2pfl.errors.people import MetricsLibraryMissing, MetricsNotLocal, MetricsPortBusy
from p2pfl.federation import Federation
from p2pfl.node.progress import (
    AttemptAbandoned,
    LinkRefused,
    PassCharged,
    PassRepeated,
    PhaseEntered,
    Progress,
    RoundFinal,
    RoundLeft,
    RuleBroken,
)
from p2pfl.roster import Address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from p2pfl.peer import Peer

MOST_CALLERS: Final = 8  # at a time
PATIENCE_S: Final = 5.0  # seconds for a request to come and its answer to be taken
POLL_S: Final = 0.1  # seconds until the server sees that it is to end
TOO_LONG: Final = (414, 431)  # HTTP's codes for a request line or headers beyond the server's limits
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
    """An observer that counts; `collect` is what prometheus_client asks for at each scrape."""

    def __init__(self, federation: Federation, now: Callable[[], float] = time.monotonic) -> None:
        self._federation, self._now = federation, now
        self.peer: Peer | None = None
        self._round, self._attempt, self._phase = 0, 0, "none"
        self._counts: Counter[type[Progress]] = Counter()
        self._refusals: Counter[str] = Counter()
        self._breaches: Counter[tuple[str, str]] = Counter()
        self._epsilon = 0.0
        self._final_at: float | None = None
        self._at: asyncio.AbstractEventLoop  # the node's loop, while the page is shown

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────

    def __call__(self, event: Progress) -> None:
        """Count what `event` says."""
        self._counts[type(event)] += 1
        match event:
            case PhaseEntered():
                self._round, self._attempt, self._phase = event.round, event.attempt, event.phase
            case PassCharged() | PassRepeated():
                self._epsilon = max(self._epsilon, float(event.epsilon))
            case LinkRefused():
                self._refusals[event.error.code] += 1
            case RuleBroken():
                self._breaches[(event.peer, event.error.code)] += 1
            case RoundFinal():
                self._round, self._final_at = event.round, self._now()

    def families(self) -> Iterator[Any]:
        """Metric families of this moment. To be read on the node's loop."""
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
        spent = self.peer.node.epsilon if self.peer is not None else ""
        return max(self._epsilon, float(spent or 0.0))

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
            yield gauge("p2pfl_relay_calls", "Calls of others that this site carries now", value=carried.active)
            yield count("p2pfl_relay_bytes", "Bytes that came in to be carried on", value=carried.bytes_received)

    # ── who asks ──────────────────────────────────────────────────────────────────────────────────────────────

    def collect(self) -> list[Any]:
        """The families of this moment, read on the node's loop. Asked by prometheus_client, on a caller's thread."""

        async def families() -> list[Any]:
            return list(self.families())

        return asyncio.run_coroutine_threadsafe(families(), self._at).result(PATIENCE_S)

    @contextlib.asynccontextmanager
    async def serving(self, place: Address, peer: Peer) -> AsyncIterator[None]:
        """Answer at `place` while the block runs. Raises MetricsPortBusy, MetricsLibraryMissing."""
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
        except ImportError as error:
            raise MetricsLibraryMissing(evidence=str(error)) from None
        self.peer, self._at = peer, asyncio.get_running_loop()
        registry: Any = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)  # memory, descriptors, processor time
        app = one_local_page(make_wsgi_app(registry))
        try:
            server = await asyncio.to_thread(Server, place, app)  # it looks this machine's name up
        except OSError as error:
            raise MetricsPortBusy(evidence=error.strerror or str(error), place=place, port=place.port) from None
        serving = asyncio.create_task(asyncio.to_thread(server.serve_forever, POLL_S))
        try:
            yield
        finally:
            await asyncio.to_thread(server.shutdown)
            await serving
            server.server_close()


# ── the server: wsgiref's, as prometheus_client documents it, with limits ─────────────────────────────────────────


def one_local_page(app: WSGIApplication) -> WSGIApplication:
    """`app` at /metrics and /, for callers that know this machine by one of its own names and by no other.

    A page in a browser here may rebind its own name to 127.0.0.1; the browser then says that name in Host.
    """

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or environ.get("PATH_INFO") not in ("/metrics", "/"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"GET /metrics\n"]
        if not _is_local(environ.get("HTTP_HOST", "localhost")):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"a name of this machine only\n"]
        return app(environ, start_response)

    return guarded


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each caller, at most MOST_CALLERS of them, each for at most PATIENCE_S."""

    daemon_threads = True  # none of them keeps the process
    allow_reuse_port = False

    def __init__(self, place: Address, app: WSGIApplication) -> None:
        """Listen at `place`. Raises OSError."""
        self.address_family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        self._free = threading.BoundedSemaphore(MOST_CALLERS)
        super().__init__((place.host, place.port), Handler)
        self.set_app(app)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one caller more; else it is hung up on."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one caller, who is hung up on when the time is over, wherever it then stands."""
        late = threading.Timer(PATIENCE_S, _hang_up, [request])
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers hang up, and are hung up on: nothing is said of it."""


class Handler(WSGIRequestHandler):
    """One request, of which nothing is logged and nothing is repeated to the caller."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no HTTP is answered as a wrong path; what is too long, with nothing."""
        self.close_connection = True
        if code not in TOO_LONG:
            self.wfile.write(b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n\r\nGET /metrics\n")


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        request.shutdown(socket.SHUT_RDWR)


def _is_local(host: str) -> bool:
    """`host` as a Host header says it, with or without a port; two headers, joined by a comma, are no local name."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name.strip().lower() in LOCAL_NAMES or ipaddress.ip_address(name.strip()).is_loopback
    except ValueError:
        return False

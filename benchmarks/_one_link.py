"""One link through the tunnel against a bare SSLSocket: bandwidth, round trip, and bytes on the wire.

Both sides run interleaved, each as two processes on this machine's loopback, with the same certificates and the same
TLS 1.3 context. The rows of processor time say where it goes: beside TLS and TCP, a link pays for ZeroMQ's messages,
frames and their acknowledgement. The last rows have one sender with several takers at once: what the slowest link had
moved when the first was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from benchmarks._greeting import Open
from benchmarks._process import peak_bytes
from benchmarks._report import Finding, ratios
from p2pfl.clocks import SYSTEM
from p2pfl.keys import Identity
from p2pfl.mesh import Delivered, LocalSite, Mesh
from p2pfl.mesh.certificates import build_context, issue
from p2pfl.mesh.probe.wire import About
from p2pfl.roster import Address, Member, Roster

PROMISED: Final = 0.8
PAYLOAD_BYTES: Final = 4 << 20
ROUND_TRIPS: Final = 300
SIZES: Final = (0, 1 << 10, 64 << 10, 1 << 20, 16 << 20)
MIB: Final = 1 << 20
FAN: Final = 4  # takers at once
NAMES: Final = ("sender", *(f"taker-{number}" for number in range(FAN)))


@dataclass(frozen=True)
class Sites:
    """A sender and its takers on loopback: the keys and ports by which each process becomes one of them."""

    keys: tuple[bytes, ...]
    ports: tuple[int, ...]

    @classmethod
    def fresh(cls, takers: int) -> Sites:
        keys = tuple(Identity.generate().reveal() for _ in range(1 + takers))
        with contextlib.ExitStack() as stack:
            bound = [stack.enter_context(socket.socket()) for _ in keys]
            for each in bound:
                each.bind(("127.0.0.1", 0))
            return cls(keys, tuple(each.getsockname()[1] for each in bound))

    @property
    def roster(self) -> Roster:
        return Roster(
            1,
            tuple(
                Member(name, Identity(key).key, (Address("127.0.0.1", port),))
                for name, key, port in zip(NAMES, self.keys, self.ports, strict=False)
            ),
        )


Work = Callable[[Sites, int, int, Connection], None]


@dataclass(frozen=True)
class Spent:
    """What one process spent on the bulk: seconds of its main thread, and of all threads; growth of its peak memory."""

    main_s: float
    all_s: float
    peak_mib: float


class Meter:
    def __init__(self) -> None:
        self._main, self._all, self._peak = time.thread_time(), time.process_time(), peak_bytes()

    def read(self) -> Spent:
        grown = (peak_bytes() - self._peak) / MIB
        return Spent(time.thread_time() - self._main, time.process_time() - self._all, grown)


@dataclass(frozen=True)
class Run:
    """One run of one side: payload bytes per second, the median round trip of 32 bytes, what both processes spent."""

    bytes_per_s: float
    round_trip_s: float
    sender: Spent
    taker: Spent
    overhead: dict[int, int]  # payload bytes: bytes on the wire beyond them, with their acknowledgement not counted


# ── a bare SSLSocket ──────────────────────────────────────────────────────────────────────────────────────────


def bare_taker(sites: Sites, total: int, pipe: Connection) -> None:
    context = build_context(issue(Identity(sites.keys[1]), NAMES[1], time.time()), sites.roster, accepting=True)
    with socket.create_server(("127.0.0.1", sites.ports[1])) as listener:
        pipe.send("ready")
        accepted, _ = listener.accept()
    with context.wrap_socket(accepted, server_side=True) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        view, left, meter = memoryview(bytearray(256 << 10)), total, Meter()
        while left:
            left -= link.recv_into(view)
        pipe.send(meter.read())
        link.sendall(b"!")
        for _ in range(ROUND_TRIPS):
            link.sendall(link.recv(64))
        link.recv(1)


def bare_sender(sites: Sites, total: int) -> tuple[float, float, Spent, dict[int, int]]:
    context = build_context(issue(Identity(sites.keys[0]), NAMES[0], time.time()), sites.roster, accepting=False)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", sites.ports[1]))) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        payload = os.urandom(PAYLOAD_BYTES)
        began, meter = time.perf_counter(), Meter()
        for _ in range(total // PAYLOAD_BYTES):
            link.sendall(payload)
        link.recv(1)
        speed, spent = total / (time.perf_counter() - began), meter.read()
        trips = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            link.sendall(b"x" * 32)
            link.recv(64)
            trips.append(time.perf_counter() - began)
    return speed, statistics.median(trips), spent, {}


# ── the mesh ──────────────────────────────────────────────────────────────────────────────────────────────────


def mesh_of(sites: Sites, side: int) -> Mesh:
    local = LocalSite.of(Identity(sites.keys[side]), NAMES[side], sites.roster, SYSTEM)
    listen = Address("127.0.0.1", sites.ports[side])
    return Mesh(local, Open(), About(), listen=listen, incarnation=os.urandom(16))


async def payloads(mesh: Mesh, count: int) -> None:
    while count:
        event = await anext(mesh.events())
        if isinstance(event, Delivered):
            mesh.payload_taken(event.peer, len(event.payload))
            count -= 1


async def mesh_taker(sites: Sites, total: int, pipe: Connection) -> None:
    mesh = mesh_of(sites, 1)
    await mesh.start()
    pipe.send("ready")
    await payloads(mesh, 1)
    meter = Meter()
    await payloads(mesh, total // PAYLOAD_BYTES)
    pipe.send(meter.read())
    await mesh.send(NAMES[0], b"!")
    for _ in range(ROUND_TRIPS):
        await payloads(mesh, 1)
        await mesh.send(NAMES[0], b"x" * 32)
    await payloads(mesh, len(SIZES) + 1)
    await mesh.stop()


async def mesh_sender(sites: Sites, total: int) -> tuple[float, float, Spent, dict[int, int]]:
    mesh = mesh_of(sites, 0)
    await mesh.start()
    payload = os.urandom(PAYLOAD_BYTES)
    while mesh.links()[NAMES[1]].state != "up":
        await anext(mesh.events())
    await mesh.send(NAMES[1], b"now")
    began, meter = time.perf_counter(), Meter()
    for _ in range(total // PAYLOAD_BYTES):
        await mesh.send(NAMES[1], payload)
    await payloads(mesh, 1)
    speed, spent = total / (time.perf_counter() - began), meter.read()
    trips = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await mesh.send(NAMES[1], b"x" * 32)
        await payloads(mesh, 1)
        trips.append(time.perf_counter() - began)
    overhead = {}
    for size in SIZES:
        before = mesh.links()[NAMES[1]].bytes_sent
        await mesh.send(NAMES[1], bytes(size))
        await mesh.flushed(NAMES[1])
        overhead[size] = mesh.links()[NAMES[1]].bytes_sent - before - size
    await mesh.send(NAMES[1], b"end")
    await mesh.stop()
    return speed, statistics.median(trips), spent, overhead


async def fan_sender(sites: Sites, total: int) -> float:
    """Send `total` bytes to every taker at once. What the slowest link had moved when the first was done, of all."""
    mesh = mesh_of(sites, 0)
    await mesh.start()
    while any(link.state != "up" for link in mesh.links().values()):
        await anext(mesh.events())
    payload = os.urandom(PAYLOAD_BYTES)

    async def send_all(peer: str) -> None:
        await mesh.send(peer, b"now")
        for _ in range(total // PAYLOAD_BYTES):
            await mesh.send(peer, payload)
        await mesh.flushed(peer)

    posts = [asyncio.ensure_future(send_all(peer)) for peer in mesh.links()]
    await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
    share = min(link.payload_sent for link in mesh.links().values()) / total
    await asyncio.wait(posts)
    await mesh.stop()
    return share


async def fan_taker(sites: Sites, side: int, total: int, pipe: Connection) -> None:
    mesh = mesh_of(sites, side)
    await mesh.start()
    pipe.send("ready")
    await payloads(mesh, 1 + total // PAYLOAD_BYTES)
    while mesh.links()[NAMES[0]].state == "up":  # until the sender stops
        await anext(mesh.events())
    await mesh.stop()


# ── both, interleaved ─────────────────────────────────────────────────────────────────────────────────────────


def _bare(sites: Sites, side: int, total: int, pipe: Connection) -> None:
    if side:
        bare_taker(sites, total, pipe)
    else:
        pipe.send(bare_sender(sites, total))


def _tunnel(sites: Sites, side: int, total: int, pipe: Connection) -> None:
    if side:
        asyncio.run(mesh_taker(sites, total, pipe))
    else:
        pipe.send(asyncio.run(mesh_sender(sites, total)))


def _fan(sites: Sites, side: int, total: int, pipe: Connection) -> None:
    if side:
        asyncio.run(fan_taker(sites, side, total, pipe))
    else:
        pipe.send(asyncio.run(fan_sender(sites, total)))


@contextlib.contextmanager
def processes(work: Work, total: int, takers: int = 1) -> Iterator[list[Connection]]:
    """The processes of all sites, the sender's the last to start; what comes of each is read from its connection."""
    spawn, sites, started, ends = multiprocessing.get_context("spawn"), Sites.fresh(takers), [], []
    for side in range(takers, -1, -1):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=work, args=(sites, side, total, theirs))
        process.start()
        theirs.close()
        started.append(process)
        ends.append(ours)
        if side:
            ours.recv()  # the taker listens
    yield ends
    for process in started:
        process.join()


def run(work: Work, total: int) -> Run:
    with processes(work, total) as (one, two):
        taker, (speed, round_trip, sender, overhead) = one.recv(), two.recv()
    return Run(speed, round_trip, sender, taker, overhead)


def measure(mebibytes: int, rounds: int) -> list[Finding]:
    """Both sides in turn, `rounds` times."""
    total = max(1, mebibytes * MIB // PAYLOAD_BYTES) * PAYLOAD_BYTES
    bare, mesh, shares = [], [], []
    for _ in range(rounds):
        bare.append(run(_bare, total))
        mesh.append(run(_tunnel, total))
        with processes(_fan, max(1, total // FAN // PAYLOAD_BYTES) * PAYLOAD_BYTES, FAN) as ends:
            shares.append(float(ends[-1].recv()))
    gib = total / (1 << 30)
    speeds = [[each.bytes_per_s / MIB for each in side] for side in (mesh, bare)]
    found = [
        Finding("one link / a bare SSLSocket", ratios(*speeds), at_least=PROMISED),
        Finding("one link", tuple(speeds[0]), "MiB/s"),
        Finding("a bare SSLSocket", tuple(speeds[1]), "MiB/s"),
    ]
    for name, side in (("one link", mesh), ("a bare SSLSocket", bare)):
        found.append(Finding(f"round trip, {name}", tuple(each.round_trip_s * 1e6 for each in side), "µs"))
    for name, side in (("one link", mesh), ("a bare SSLSocket", bare)):
        for end in ("sender", "taker"):
            spent: list[Spent] = [getattr(each, end) for each in side]
            found.append(Finding(f"processor, {name}, {end}", tuple(each.all_s / gib for each in spent), "s/GiB"))
            if side is mesh:
                rest = tuple((each.all_s - each.main_s) / gib for each in spent)
                found.append(Finding(f"  of it other threads, {end}", rest, "s/GiB"))
    for end in ("sender", "taker"):
        grown = tuple(getattr(each, end).peak_mib for each in mesh)
        found.append(Finding(f"growth of the peak memory, one link, {end}", grown, "MiB"))
    found.append(Finding(f"of {FAN} links at once, the slowest / the first", tuple(shares)))
    for size in SIZES:
        extra = tuple(float(each.overhead[size]) for each in mesh)
        found.append(Finding(f"overhead of {size} payload bytes", extra, "bytes"))
    return found

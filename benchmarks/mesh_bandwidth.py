"""One link through the tunnel against a bare SSLSocket: bandwidth, round trip, and bytes on the wire.

Both sides run interleaved, each as two processes on this machine's loopback, with the same certificates and the same
TLS 1.3 context. Promised: the tunnel moves at least 0.8 of what the bare socket moves.

    python benchmarks/mesh_bandwidth.py [--mebibytes 512] [--pairs 5] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Final

import zmq

from p2pfl.keys import Identity
from p2pfl.mesh import Delivered, Mesh
from p2pfl.mesh.certificates import build_context, issue
from p2pfl.roster import Address, Member, Roster

PROMISED: Final = 0.8
PAYLOAD_BYTES: Final = 4 << 20
ROUND_TRIPS: Final = 300
SIZES: Final = (0, 1 << 10, 64 << 10, 1 << 20, 16 << 20)
MIB: Final = 1 << 20
NAMES: Final = ("sender", "taker")


@dataclass(frozen=True)
class Pair:
    """Two sites on loopback; what each process needs to be one of them."""

    keys: tuple[bytes, bytes]
    ports: tuple[int, int]

    @classmethod
    def fresh(cls) -> Pair:
        keys = (Identity.generate().reveal(), Identity.generate().reveal())
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            return cls(keys, (one.getsockname()[1], two.getsockname()[1]))

    @property
    def roster(self) -> Roster:
        return Roster(1, tuple(
            Member(name, Identity(key).key, (Address("127.0.0.1", port),))
            for name, key, port in zip(NAMES, self.keys, self.ports, strict=True)
        ))  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One side of one pair: bytes of payload per second, and the median round trip of one small message in seconds."""

    bytes_per_s: float
    round_trip_s: float


# ── a bare SSLSocket ──────────────────────────────────────────────────────────────────────────────────────────


def bare_taker(pair: Pair, total: int, pipe: Connection) -> None:
    context = build_context(issue(Identity(pair.keys[1]), NAMES[1], time.time()), pair.roster, accepting=True)
    with socket.create_server(("127.0.0.1", pair.ports[1])) as listener:
        pipe.send("ready")
        accepted, _ = listener.accept()
    with context.wrap_socket(accepted, server_side=True) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        view, left = memoryview(bytearray(256 << 10)), total
        while left:
            left -= link.recv_into(view)
        link.sendall(b"!")
        for _ in range(ROUND_TRIPS):
            link.sendall(link.recv(64))
        link.recv(1)


def bare_sender(pair: Pair, total: int) -> Finding:
    context = build_context(issue(Identity(pair.keys[0]), NAMES[0], time.time()), pair.roster, accepting=False)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", pair.ports[1]))) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        payload = os.urandom(PAYLOAD_BYTES)
        began = time.perf_counter()
        for _ in range(total // PAYLOAD_BYTES):
            link.sendall(payload)
        link.recv(1)
        speed = total / (time.perf_counter() - began)
        trips = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            link.sendall(b"x" * 32)
            link.recv(64)
            trips.append(time.perf_counter() - began)
    return Finding(speed, statistics.median(trips))


# ── the mesh ──────────────────────────────────────────────────────────────────────────────────────────────────


class Open:
    """Greets with nothing and lets everyone in."""

    def greeting(self, peer: str, nonce: bytes) -> bytes:
        return b""

    def check(self, peer: str, greeting: bytes, nonce: bytes) -> None:
        return


def mesh_of(pair: Pair, side: int) -> Mesh:
    return Mesh(
        identity=Identity(pair.keys[side]), name=NAMES[side], roster=pair.roster,
        listen=Address("127.0.0.1", pair.ports[side]), incarnation=os.urandom(16), greet=Open(),
        draw=os.urandom, now=time.monotonic, wall=time.time,
    )  # fmt: skip


async def payloads(mesh: Mesh, count: int) -> None:
    if count == 0:
        return
    async for event in mesh.events():
        if isinstance(event, Delivered):
            count -= 1
            if not count:
                return


async def mesh_taker(pair: Pair, total: int, pipe: Connection) -> None:
    mesh = mesh_of(pair, 1)
    await mesh.start()
    pipe.send("ready")
    await payloads(mesh, total // PAYLOAD_BYTES)
    await mesh.send(NAMES[0], b"!")
    for _ in range(ROUND_TRIPS):
        await payloads(mesh, 1)
        await mesh.send(NAMES[0], b"x" * 32)
    await payloads(mesh, len(SIZES) + 1)
    await mesh.stop()


async def mesh_sender(pair: Pair, total: int) -> tuple[Finding, dict[int, int]]:
    mesh = mesh_of(pair, 0)
    await mesh.start()
    payload = os.urandom(PAYLOAD_BYTES)
    while mesh.links()[NAMES[1]].state != "up":
        await anext(mesh.events())
    began = time.perf_counter()
    for _ in range(total // PAYLOAD_BYTES):
        await mesh.send(NAMES[1], payload)
    await payloads(mesh, 1)
    speed = total / (time.perf_counter() - began)
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
    return Finding(speed, statistics.median(trips)), overhead


# ── both, interleaved ─────────────────────────────────────────────────────────────────────────────────────────


def _bare(pair: Pair, side: int, total: int, pipe: Connection) -> None:
    if side:
        bare_taker(pair, total, pipe)
    else:
        pipe.send((bare_sender(pair, total), {}))


def _tunnel(pair: Pair, side: int, total: int, pipe: Connection) -> None:
    if side:
        asyncio.run(mesh_taker(pair, total, pipe))
    else:
        pipe.send(asyncio.run(mesh_sender(pair, total)))


def run_pair(work: Callable[[Pair, int, int, Connection], None], total: int) -> tuple[Finding, dict[int, int]]:
    """Run both processes of one side; what the sender found."""
    spawn, pair = multiprocessing.get_context("spawn"), Pair.fresh()
    processes, ends = [], []
    for side in (1, 0):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=work, args=(pair, side, total, theirs))
        process.start()
        theirs.close()
        processes.append(process)
        ends.append(ours)
        if side:
            ours.recv()  # the taker listens
    found: tuple[Finding, dict[int, int]] = ends[1].recv()
    for process in processes:
        process.join()
    return found


def measure(mebibytes: int, pairs: int) -> dict[str, object]:
    total = max(1, mebibytes * MIB // PAYLOAD_BYTES) * PAYLOAD_BYTES
    bare: list[Finding] = []
    mesh: list[Finding] = []
    overhead: dict[int, int] = {}
    for _ in range(pairs):
        bare.append(run_pair(_bare, total)[0])
        finding, overhead = run_pair(_tunnel, total)
        mesh.append(finding)
    ratios = [ours.bytes_per_s / theirs.bytes_per_s for ours, theirs in zip(mesh, bare, strict=True)]
    return {
        "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "promised": PROMISED},
        "bare": {"bytes_per_s": statistics.median(each.bytes_per_s for each in bare),
                 "round_trip_s": statistics.median(each.round_trip_s for each in bare)},
        "mesh": {"bytes_per_s": statistics.median(each.bytes_per_s for each in mesh),
                 "round_trip_s": statistics.median(each.round_trip_s for each in mesh)},
        "runs": [{"bare": asdict(theirs), "mesh": asdict(ours)} for ours, theirs in zip(mesh, bare, strict=True)],
        "overhead_bytes": {str(size): extra for size, extra in overhead.items()},
        "pairs": pairs, "payload_bytes": total,
        "versions": {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION, "libzmq": zmq.zmq_version()},
        "cpus": os.cpu_count(), "machine": platform.machine(),
    }  # fmt: skip


def table(found: dict[str, object]) -> str:
    bare, mesh, ratio, overhead = (found[key] for key in ("bare", "mesh", "ratio", "overhead_bytes"))
    assert isinstance(bare, dict) and isinstance(mesh, dict) and isinstance(ratio, dict) and isinstance(overhead, dict)
    lines = [f"{'':14}{'MiB/s':>10}{'round trip µs':>16}"]
    lines += [
        f"{name:14}{side['bytes_per_s'] / MIB:10.0f}{side['round_trip_s'] * 1e6:16.0f}"
        for name, side in (("bare SSLSocket", bare), ("mesh link", mesh))
    ]
    lines += ["", f"{'payload bytes':>14}{'more on the wire':>20}{'':4}"]
    lines += [
        f"{int(size):14d}{extra:20d}" + (f"   {100 * extra / int(size):.2f} %" if int(size) else "")
        for size, extra in overhead.items()
    ]
    lines += [
        "",
        f"mesh link / bare SSLSocket = {ratio['median']:.2f} ({found['pairs']} pairs, spread {ratio['least']:.2f} to "
        f"{ratio['most']:.2f}; promised ≥ {PROMISED})",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=512, help="payload moved in each run")
    parser.add_argument("--pairs", type=int, default=5, help="how often both sides run")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    found = measure(options.mebibytes, options.pairs)
    print(table(found), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

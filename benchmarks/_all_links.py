"""One site of a mesh in which every site sends to every other at once; and the program that starts them all.

Each site has a process of its own, in a place of its own (_links.py). All wait until every link of all of them stands,
begin together, and tell what they saw: seconds until all that they sent was acknowledged, to each peer; the bytes that
left their interface meanwhile; the round trips of the links before the traffic and in the middle of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _process as process  # noqa: E402
from benchmarks._greeting import Open  # noqa: E402
from benchmarks._links import Place  # noqa: E402
from p2pfl.clocks import SYSTEM  # noqa: E402
from p2pfl.keys import Identity  # noqa: E402
from p2pfl.mesh import Delivered, LocalSite, Mesh  # noqa: E402
from p2pfl.mesh.probe.wire import About  # noqa: E402
from p2pfl.roster import Address, Member, Roster  # noqa: E402

PAYLOAD_BYTES: Final = 1 << 20
PORT: Final = 7443
PINGS: Final = 20


@dataclass(frozen=True)
class Seen:
    """One site's measurements. `seconds`: by peer, until everything sent to it was acknowledged."""

    seconds: dict[str, float]
    interface: int  # bytes that left it, headers included
    payload: int  # bytes that were sent to all
    trip_s: float  # median round trip of 32 bytes to the next site while nothing else was in flight …
    busy_trip_s: float  # … and of one sent behind half of the payloads for that site


def name_of(number: int) -> str:
    return f"site-{number}"


async def site(number: int, plan: dict[str, Any]) -> dict[str, Any]:
    """Send `plan["send"][number][peer]` payloads to each peer, all at once, and take what comes."""
    keys = [Identity(bytes.fromhex(key)) for key in plan["keys"]]
    roster = Roster(
        1,
        tuple(
            Member(name_of(k), key.key, (Address(host, PORT),))
            for k, (key, host) in enumerate(zip(keys, plan["hosts"], strict=True))
        ),
    )
    me = name_of(number)
    local = LocalSite.of(keys[number], me, roster, SYSTEM)
    mesh = Mesh(local, Open(), About(), listen=roster[me].addresses[0], incarnation=os.urandom(16))
    await mesh.start()
    counts = {name_of(peer): count for peer, count in enumerate(plan["send"][number]) if peer != number}
    due = sum(plan["send"][peer][number] for peer in range(len(keys)) if peer != number)
    seconds: dict[str, float] = {}
    async with asyncio.TaskGroup() as group:
        taker = Taker(mesh)
        reading = group.create_task(taker.read())
        await taker.until(lambda: all(link.state == "up" for link in mesh.links().values()))
        following = name_of((number + 1) % len(keys))
        trips, busy = sorted([await taker.trip(following) for _ in range(PINGS)]), [0.0]
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        before, began = process.interface_bytes(plan["interface"]), time.perf_counter()

        async def send_all(peer: str, count: int) -> None:
            payload = os.urandom(PAYLOAD_BYTES)
            for sent in range(count):
                if peer == following and sent == count // 2:
                    asking.append(asyncio.create_task(taker.trip(peer)))
                await mesh.send(peer, payload, bulk=True)
            await mesh.flushed(peer)
            seconds[peer] = time.perf_counter() - began

        asking: list[asyncio.Task[float]] = []
        await asyncio.gather(*(send_all(peer, count) for peer, count in counts.items()))
        await taker.until(lambda: taker.taken >= due)
        busy += [await each for each in asking]
        sent = process.interface_bytes(plan["interface"]) - before
        print("done", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # whoever leaves early would cut others off
        await mesh.stop()
        reading.cancel()
    payload = PAYLOAD_BYTES * sum(counts.values())
    return {
        "seconds": seconds,
        "interface": sent,
        "payload": payload,
        "trip_s": trips[PINGS // 2],
        "busy_trip_s": busy[-1],
    }


class Taker:
    """Reads a mesh's events: counts payloads, answers pings, and wakes those that wait."""

    def __init__(self, mesh: Mesh) -> None:
        self.taken = 0
        self._mesh = mesh
        self._pongs = 0
        self._answers: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    async def read(self) -> None:
        async for event in self._mesh.events():
            if isinstance(event, Delivered):
                self._mesh.payload_taken(event.peer, len(event.payload))
                if len(event.payload) == PAYLOAD_BYTES:
                    self.taken += 1
                elif event.payload[:4] == b"ping":
                    answer = asyncio.create_task(self._mesh.send(event.peer, b"pong" + bytes(28)))
                    self._answers.add(answer)  # it may wait for room; reading goes on meanwhile
                    answer.add_done_callback(self._answers.discard)
                else:
                    self._pongs += 1
            self._news.set()

    async def until(self, holds: Any) -> None:
        while not holds():
            self._news.clear()
            await self._news.wait()

    async def trip(self, peer: str) -> float:
        """Seconds of one round trip to `peer`; one at a time."""
        began, wanted = time.perf_counter(), self._pongs + 1
        await self._mesh.send(peer, b"ping" + bytes(28))
        await self.until(lambda: self._pongs >= wanted)
        return time.perf_counter() - began


def run(places: Sequence[Place], send: Sequence[Sequence[int]]) -> list[Seen]:
    """Every site in its place; `send[i][j]` payloads of 1 MiB go from i to j, all at once."""
    keys = [Identity.generate().reveal().hex() for _ in places]
    plan = {
        "keys": keys,
        "hosts": [place.address for place in places],
        "send": [list(row) for row in send],
        "interface": places[0].interface,
    }
    with contextlib.ExitStack() as alive:
        children = []
        for number, place in enumerate(places):
            command = [*place.prefix, sys.executable, __file__, str(number)]
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )
            alive.callback(_end, child)
            children.append(child)
        for say in (json.dumps(plan), "go", "stop"):
            for child in children:
                if child.stdin is not None:
                    child.stdin.write(f"{say}\n")
                    child.stdin.flush()
            said = [child.stdout.readline() if child.stdout is not None else "" for child in children]
            if not all(said):
                raise SystemExit("a site of the benchmark failed; its error is above")
    return [Seen(**json.loads(line)) for line in said]


def _end(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(10.0 if child.poll() is None else 0.0)
    child.kill()
    child.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("number", type=int)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(site(options.number, json.loads(sys.stdin.readline())))), flush=True)


if __name__ == "__main__":
    main()

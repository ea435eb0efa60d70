"""Twenty sites on one machine: how long until every pair has its link, and until they have summed a vector.

    python benchmarks/mesh_forms.py [--peers 20] [--words 100000] [--rounds 3] [--json]

The clock starts before the first process does, so that it counts n interpreters which start on this machine's few
cores. What those take alone is measured in turn with it: the same number of processes that import the same and end.
The sum begins when a site has all its links, and is there when the last site holds it, with its ledger entry.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _links as links  # noqa: E402
from benchmarks import _process as process  # noqa: E402
from benchmarks import _report as report  # noqa: E402
from benchmarks._federation import federation, key_file, numbered  # noqa: E402
from p2pfl.home.keyslots import KeyFile  # noqa: E402
from p2pfl.node.progress import LinkCameUp, LinkWentDown, Progress  # noqa: E402
from p2pfl.peer import Peer  # noqa: E402

PROMISED_S: Final = 30.0
PROMISED_PEERS: Final = 20
LIMIT: Final = 1.0
Told = dict[str, Any]


class Links:
    """An observer that knows which links stand, and when the last of them came up."""

    def __init__(self, peers: int) -> None:
        self.up: set[str] = set()
        self.all_up = asyncio.Event()
        self._peers = peers

    def __call__(self, event: Progress) -> None:
        if isinstance(event, LinkCameUp):
            self.up.add(event.peer)
        elif isinstance(event, LinkWentDown):
            self.up.discard(event.peer)
        if len(self.up) == self._peers:
            self.all_up.set()


async def site(folder: Path, number: int, options: argparse.Namespace) -> Told:
    """One site: its links, then `sums` sums of which the first also warms up; what it saw, on the system's clock."""
    name = f"site-{number}"
    links_up = Links(options.peers - 1)
    vector = np.full(options.words, 1 / 4, np.float32)
    key = KeyFile(key_file(folder, name))
    async with Peer.join(folder / "peers.yaml", home=folder / name, unlock=[key], observer=links_up) as peer:
        await links_up.all_up.wait()
        told: Told = {"linked": time.monotonic(), "summed": 0.0, "sums": []}
        for turn in range(options.sums):
            process.give_back()
            resident = process.resident_bytes()
            process.forget_peak()
            spent, begun = process.cpu_s(), time.perf_counter()
            before = (peer.node.bytes_sent, process.interface_bytes(options.interface))
            result = await peer.sum(vector, limit=LIMIT, name=f"sum {turn}")
            told["summed"] = told["summed"] or time.monotonic()
            if abs(float(result.total[0]) - len(result.survivors) / 4) > 1e-3:
                raise SystemExit(f"{result.survivors} have summed to {result.total[0]}")
            after = (peer.node.bytes_sent, process.interface_bytes(options.interface))
            told["sums"].append(
                {
                    "sent": after[0] - before[0],
                    "interface": after[1] - before[1],
                    "survivors": len(result.survivors),
                    "s": time.perf_counter() - begun,
                    "cpu_s": process.cpu_s() - spent,
                    "memory": process.peak_bytes() - resident,
                }
            )
    return told


def run(places: list[links.Place], words: int, sums: int = 1) -> tuple[float, list[Told]]:
    """Start one process for each place; when they began, on the clock of what each of them told."""
    with tempfile.TemporaryDirectory() as held, contextlib.ExitStack() as alive:
        federation(Path(held), numbered(places), settings=["sharing.field=31"])
        began, children = time.monotonic(), []
        for number, place in enumerate(places):
            argv = [
                sys.executable,
                __file__,
                "--peers",
                str(len(places)),
                "--words",
                str(words),
                "--sums",
                str(sums),
                "--folder",
                held,
                "--site",
                str(number),
                "--interface",
                place.interface,
            ]
            children.append(_start(alive, [*place.prefix, *argv], held))
        said = [child.communicate(timeout=1800)[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit("a site of the benchmark failed; its error is above")
    return began, [json.loads(text.splitlines()[-1]) for text in said]


def interpreters(count: int) -> float:
    """Seconds in which so many processes start, import what a site imports, and end."""
    began = time.monotonic()
    with contextlib.ExitStack() as alive:
        argv = [sys.executable, "-c", "import benchmarks.mesh_forms"]
        children = [_start(alive, argv, tempfile.gettempdir()) for _ in range(count)]
        for child in children:
            child.communicate(timeout=600)
    if any(child.returncode for child in children):
        raise SystemExit("an interpreter of the benchmark failed; its error is above")
    return time.monotonic() - began


def _start(alive: contextlib.ExitStack, command: list[str], folder: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
    alive.callback(process.end, child)
    return child


def measure(peers: int, words: int, rounds: int) -> list[report.Finding]:
    """Interpreters alone and sites, in turn."""
    alone, linked, summed = [], [], []
    for _ in range(rounds):
        alone.append(interpreters(peers))
        began, told = run(links.loopback(peers), words)
        linked.append(max(one["linked"] for one in told) - began)
        summed.append(max(one["summed"] for one in told) - began)
    bound = PROMISED_S if peers >= PROMISED_PEERS else None
    return [
        report.Finding(f"{peers} sites have all their links after", tuple(linked), "s", at_most=bound),
        report.Finding(f"… and the sum of {words:,} words after", tuple(summed), "s"),
        report.Finding(f"{peers} interpreters alone", tuple(alone), "s"),
        report.Finding("all links / interpreters alone", report.ratios(linked, alone)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=PROMISED_PEERS)
    parser.add_argument("--words", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sums", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--site", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--interface", default="lo", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.site is not None:
        print(json.dumps(asyncio.run(site(options.folder, options.site, options))))
        return
    found = measure(options.peers, options.words, options.rounds)
    title = f"a mesh of {options.peers} sites forms on one machine"
    sys.exit(report.show(title, found, report.machine("pyzmq", "cryptography"), as_json=options.json))


if __name__ == "__main__":
    main()

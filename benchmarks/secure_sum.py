"""A secure sum between real processes beside gloo's plaintext fp32 all-reduce: same processes, same links, in turn.

    python benchmarks/secure_sum.py [--peers 5] [--words 10000000] [--bits 31,16] [--rounds 3] [--cold] [--json]
                                    [--links loopback,1gbit,200mbit,50mbit] [--numpy] [--timeline FOLDER]

Everything counts that a round needs: quantising, masks, TLS, ZeroMQ, fsync, ballots and the ledger entry. As in a
training, the clock starts when the update is ready: the round has begun and its secrets are shared, so whatever a peer
does ahead is done; with --cold it starts with the call. Processor time counts all of it either way. 16 bits are without
the rotation that a training puts before them.

A declared speed limits what each peer sends and hears: one network namespace each (benchmarks/_links.py), which needs
root; without that right stderr says "not measured". Interface counters see segments as TCP hands them to the card, with
one header each. Memory is looked at in a first turn that is not timed, since what is free goes back to the system
before it: the most that a process holds in a sum beyond what it held just before; and, without --cold, what it keeps
once no sum has begun for REST_S seconds after the last one. For the first of the links, processor time is told step by
step (benchmarks/_where.py).

With --timeline each peer's last round is told as a timeline on stderr, and drawn into FOLDER (benchmarks/_timeline.py).
Stamps cost time, so such a run's own seconds count for nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _links as links  # noqa: E402
from benchmarks import _process as process  # noqa: E402
from benchmarks import _report as report  # noqa: E402
from benchmarks import _timeline as timeline  # noqa: E402
from benchmarks import _where as where  # noqa: E402
from benchmarks._federation import federation, key_file, numbered  # noqa: E402
from p2pfl.home.keyslots import KeyFile  # noqa: E402
from p2pfl.node.effects import REST_S  # noqa: E402
from p2pfl.node.runs import answers  # noqa: E402
from p2pfl.node.runs.sums import SALT_WORDS, Asked, SumRun, encode, salt  # noqa: E402
from p2pfl.peer import Peer  # noqa: E402
from p2pfl.peer.epoch import sums_run  # noqa: E402
from p2pfl.sharing import kernel  # noqa: E402
from p2pfl.sharing.room import POOL  # noqa: E402

if TYPE_CHECKING:
    from p2pfl.node.source import Offer

WORD_BYTES: Final = {16: 2, 31: 4, 61: 8}
LIMIT: Final = 1.0
# docs/benchmarks.md: for five peers and 10⁷ words; by link, then by bits of the field.
PROMISED: Final = {
    "loopback": {31: 6.0, 16: 4.0},
    "1gbit": {31: 1.35, 16: 0.80},
    "200mbit": {31: 1.10, 16: 0.60},
    "50mbit": {31: 1.06, 16: 0.56},
}
PROMISED_BYTES: Final = 1.02
LARGE: Final = 10_000_000
Told = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the peers are to measure, each in a process of its own.

    bits      widths of the field, in their order
    ahead_s   seconds from a round's begin to its update; `cold`: none, and the clock starts with the call
    numpy     without the compiled loops
    timeline  a folder: each peer stamps what it does
    """

    words: int
    bits: Sequence[int]
    rounds: int
    ahead_s: float = 1.0
    cold: bool = False
    numpy: bool = False
    timeline: Path | None = None

    @property
    def arguments(self) -> list[str]:
        """The same as this script's own."""
        said = ["--words", str(self.words), "--bits", ",".join(map(str, self.bits)), "--rounds", str(self.rounds)]
        flags = [*(["--cold"] if self.cold else []), *(["--numpy"] if self.numpy else [])]
        line = ["--timeline", str(self.timeline)] if self.timeline is not None else []
        return [*said, "--ahead-s", str(self.ahead_s), *flags, *line]


class Update(SumRun):
    """A sum whose vector is ready only when `ready` is set, as an update is when a training's pass ends."""

    def __init__(self, name: str, peer: Peer, make: Callable[[], Any], bits: int, words: int) -> None:
        node, run = peer.node, sums_run(peer.federation)
        self._salt = salt(node.clocks.draw)
        super().__init__(Asked(name, (), 3), [], node.logs, run, self._salt, partial(answers.keep, node.home))
        self.ready = threading.Event()
        self._make, self._shape = make, ((bits, words), (61, SALT_WORDS))

    def shape(self, number: int) -> tuple[tuple[int, int], ...]:
        """Known before the vector is, as that of a model's update."""
        return self._shape

    def propose(self, number: int, base: int) -> Offer:
        """Wait, then look at the vector: both belong to what a training does in its worker thread."""
        self.ready.wait()
        self.parts = (self._make(), self._salt)
        return super().propose(number, base)


# ── one peer's process ────────────────────────────────────────────────────────────────────────────────────────


async def site(folder: Path, number: int, options: argparse.Namespace) -> Told:
    """In each round a plaintext all-reduce, then one secure sum for each width, each begun together by a barrier."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    # gloo meets in a file, so that the two systems share nothing but the machine and its links.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'gloo'}",
        rank=number,
        world_size=options.peers,
        timeout=timedelta(minutes=10),
    )
    vector = np.random.default_rng(number).uniform(-LIMIT, LIMIT, options.words).astype(np.float32)
    name = f"site-{number}"
    key = KeyFile(key_file(folder, name))
    tensor = torch.from_numpy(vector.copy())
    told: Told = {"plain": [], **{str(bits): [] for bits in options.bits}, "memory": {}, "timeline": {}}
    async with Peer.join(folder / "peers.yaml", home=folder / name, unlock=[key]) as peer:
        await peer.sum(vector[:1000], limit=LIMIT, name="first")  # genesis, code and buffers are there
        line = timeline.Timeline(Update, options.interface) if options.timeline else None
        meter = Meter(peer, options.interface, line)
        for turn in range(options.rounds + 1):
            tensor.copy_(torch.from_numpy(vector))
            await asyncio.to_thread(dist.barrier)
            meter.start(lean=not turn)
            await asyncio.to_thread(dist.all_reduce, tensor)
            seen = {"plain": meter.stop()}
            for bits in options.bits:
                await asyncio.to_thread(dist.barrier)
                seen[str(bits)] = await secure(
                    peer, vector, bits, tensor.numpy(), meter, dist.barrier, options, not turn
                )
            for system, spent in seen.items():
                if turn:
                    told[system].append(spent)
                    told["timeline"][system] = (spent.pop("begun"), spent.pop("marks"))  # the last round's
                else:  # warms up all sides, too
                    told["memory"][system] = spent["memory"]
        if not options.cold:
            await asyncio.sleep(REST_S + 1)
            told["memory"]["kept"] = meter.kept()
        await asyncio.to_thread(dist.barrier)
    return told


async def secure(
    peer: Peer,
    vector: Any,
    bits: int,
    plain: Any,
    meter: Meter,
    barrier: Callable[[], object],
    options: argparse.Namespace,
    lean: bool,
) -> Told:
    """One secure sum in the field of `bits`, checked against the plaintext one."""
    node = peer.node

    def make() -> Any:
        # Below Peer.sum, which takes 31 bits or more for floats.
        return encode(vector, peers=options.peers, bits=bits, limit=LIMIT, decimals=None, draw=node.clocks.draw)

    update = Update(f"bench-{bits}", peer, make, bits, len(vector))
    meter.start(lean=lean)
    if options.cold:
        update.ready.set()
    work = asyncio.create_task(node.run(update.run, update, node.logs.count(update.run) + 1))
    if not options.cold:
        await asyncio.sleep(options.ahead_s)
        await asyncio.to_thread(barrier)
        meter.clock()
        update.ready.set()
    await work
    answer, update.answer = update.answer, None  # as Peer.sum has it: the node goes on serving the round without it
    if answer is None:
        raise RuntimeError("the round ended without an answer")
    total = (await asyncio.to_thread(lambda: answer.totals))[0]
    seen = meter.stop()
    worst = max(
        float(np.abs(np.asarray(total[k : k + 1_000_000]) - plain[k : k + 1_000_000]).max())
        for k in range(0, plain.size, 1_000_000)
    )
    step = LIMIT * 2 * options.peers / 2 ** (bits if bits != 61 else 53)
    if worst > options.peers * step + 1e-5:
        raise SystemExit(f"the sums differ by {worst}")
    return seen


class Meter:
    """What one peer spends between `start` and `stop`; seconds count from `clock`, where that is called."""

    def __init__(self, peer: Peer, interface: str, line: timeline.Timeline | None) -> None:
        self._peer, self._interface, self._where, self._line = peer, interface, where.Where(Update), line
        process.give_back()
        self._first = self._resident = process.resident_bytes()

    def start(self, *, lean: bool) -> None:
        """Begin. `lean`: what is free goes back to the system first, which costs time, so that the peak is needed."""
        if lean:
            POOL.rest(POOL.taken)
            process.give_back()
        self._resident = process.resident_bytes()
        process.forget_peak()
        self._where.start()
        if self._line is not None:
            self._line.start()
        self._switches, self._cpu = process.switches(), process.cpu_s()
        self._begun = time.monotonic()
        self._sent, self._out = self._peer.node.bytes_sent, process.interface_bytes(self._interface)

    def clock(self) -> None:
        """The seconds count from here; all else goes on counting from `start`."""
        self._begun = time.monotonic()

    def stop(self) -> Told:
        seconds, cpu_s = time.monotonic() - self._begun, process.cpu_s() - self._cpu
        switches = process.switches() - self._switches
        return {
            "begun": self._begun,
            "marks": self._line.stop() if self._line is not None else [],
            "switches": switches,
            "s": seconds,
            "cpu_s": cpu_s,
            "where": self._where.stop(cpu_s),
            "sent": self._peer.node.bytes_sent - self._sent,
            "interface": process.interface_bytes(self._interface) - self._out,
            "memory": process.peak_bytes() - self._resident,
        }

    def kept(self) -> int:
        """Bytes that are not free now and were not held when this meter was made."""
        process.give_back()
        return process.resident_bytes() - self._first


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────


def run(asked: Measured, places: list[links.Place]) -> list[Told]:
    """Start a peer in each place, wait, and collect what each measured."""
    with tempfile.TemporaryDirectory() as held, contextlib.ExitStack() as alive:
        federation(Path(held), numbered(places), settings=["sharing.field=31"])
        argv = [sys.executable, __file__, "--peers", str(len(places)), *asked.arguments, "--folder", held]
        children = []
        for number, place in enumerate(places):
            env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": place.interface, "TMPDIR": held}
            command = [*place.prefix, *argv, "--site", str(number), "--interface", place.interface]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
            alive.callback(process.end, child)
            children.append(child)
        said = [child.communicate(timeout=3600)[0] for child in children]
        if any(child.returncode for child in children):
            raise SystemExit("a peer of the benchmark failed; its error is above")
    return [json.loads(text.splitlines()[-1]) for text in said]


def cold(places: list[links.Place], words: int, bits: Sequence[int], rounds: int) -> dict[int, list[dict[str, float]]]:
    """By bits, of each round from the call on: the slowest peer's seconds, and what all of them spent and sent.

    Bytes are those of their interfaces, where each has one of its own.
    """
    told = run(Measured(words, bits, rounds, ahead_s=0.0, cold=True), places)
    counted = "sent" if places[0].interface == "lo" else "interface"

    def of_all(seen: Sequence[Told]) -> dict[str, float]:
        spent = {"cpu_s": sum(each["cpu_s"] for each in seen), "bytes": float(sum(each[counted] for each in seen))}
        return {"s": max(each["s"] for each in seen), **spent}

    return {one: [of_all(seen) for seen in zip(*(each[str(one)] for each in told), strict=True)] for one in bits}


def findings(options: argparse.Namespace, link: str, told: list[Told]) -> list[report.Finding]:
    """The slowest peer of each round counts, on both sides; bytes and memory are those of the peer with the most."""

    def each(system: str, what: str, pick: Callable[[list[float]], float] = max) -> list[float]:
        rounds = zip(*([float(seen[what]) for seen in one[system]] for one in told), strict=True)
        return [pick(list(values)) for values in rounds]

    def most(system: str) -> tuple[float, ...]:
        return (max(float(one["memory"][system]) for one in told) / (4 * m),)

    def spent(system: str, title: str) -> list[report.Finding]:
        # Where the time goes is a matter of the peer, not of its links: once is enough.
        found = []
        for step in where.STEPS if link == options.links[0] else ():
            rounds = zip(*([seen["where"][step] for seen in one[system]] for one in told), strict=True)
            means = tuple(statistics.mean(values) for values in rounds)
            found.append(report.Finding(f"{title}: of these, {step}", means, "s"))
        return found

    n, m = options.peers, options.words
    large = n == 5 and m >= LARGE and not options.cold
    plain, mean = each("plain", "s"), statistics.mean
    found = []
    for bits in options.bits:
        name, ideal = str(bits), 2 * (n - 1) / n * m * WORD_BYTES[bits]
        title = f"{link}, {bits} bits"
        bound = PROMISED.get(link, {}).get(bits) if large else None
        sent = [value / ideal for value in each(name, "sent")]
        found += [
            report.Finding(f"{title}: secure / plaintext", report.ratios(each(name, "s"), plain), at_most=bound),
            report.Finding(f"{title}: seconds", tuple(each(name, "s")), "s"),
            report.Finding(
                f"{title}: bytes sent per peer / optimum", tuple(sent), at_most=PROMISED_BYTES if m >= LARGE else None
            ),
            report.Finding(f"{title}: processor seconds per peer", tuple(each(name, "cpu_s", mean)), "s"),
            report.Finding(f"{title}: voluntary switches per peer", tuple(each(name, "switches", mean))),
            report.Finding(f"{title}: most memory / fp32 vector", most(name)),
            *spent(name, title),
        ]
        if link != "loopback":
            out = [value / ideal for value in each(name, "interface")]
            found.append(report.Finding(f"{title}: bytes on the interface / optimum", tuple(out)))
    title = f"{link}, gloo fp32"
    found += [
        report.Finding(f"{title}: seconds", tuple(plain), "s"),
        report.Finding(f"{title}: processor seconds per peer", tuple(each("plain", "cpu_s", mean)), "s"),
        report.Finding(f"{title}: most memory / fp32 vector", most("plain")),
    ]
    if not options.cold:
        found.append(report.Finding(f"{link}: memory kept between sums / fp32 vector", most("kept")))
    if link != "loopback":
        ideal = 2 * (n - 1) / n * m * 4
        out = [value / ideal for value in each("plain", "interface")]
        found.append(report.Finding(f"{title}: bytes on the interface / optimum", tuple(out)))
    return found


def one(options: argparse.Namespace, link: str, places: list[links.Place]) -> list[report.Finding]:
    """What was found on one kind of link."""
    words, bits, rounds = options.words, options.bits, options.rounds
    asked = Measured(words, bits, rounds, options.ahead_s, options.cold, options.numpy, options.timeline)
    told = run(asked, places)
    if options.timeline:
        tell(options, link, told)
    return findings(options, link, told)


def tell(options: argparse.Namespace, link: str, told: list[Told]) -> None:
    """Each width's last round, peer by peer, on stderr; and its picture."""
    speed = None if link == "loopback" else links.bits_per_s(link) / 8
    for bits in options.bits:
        peers = []
        for number, one in enumerate(told):
            begun, marks = one["timeline"][str(bits)]
            peers.append(timeline.Told(f"site-{number}", [tuple(mark) for mark in marks], begun))
        title = f"{link}, {options.words:,} words of {bits} bits, {options.peers} peers"
        path = timeline.write(options.timeline, f"sum-{link}-{options.words}-{bits}", title, peers)
        print(f"{title}: ms since the update was ready; drawn in {path}", file=sys.stderr)
        print("\n".join(timeline.table(peers, speed)), file=sys.stderr)


def measure(options: argparse.Namespace) -> list[report.Finding]:
    """All links, one after the other. A link that cannot be made here is said on stderr, and has no rows."""
    found: list[report.Finding] = []
    for link in options.links:
        print(f"{link} …", file=sys.stderr)
        if link == "loopback":
            found += one(options, link, links.loopback(options.peers))
            continue
        try:
            with links.limited(options.peers, link) as places:
                found += one(options, link, places)
        except links.LinksUnavailable as reason:
            print(f"{link}: not measured: {reason}", file=sys.stderr)
    return found


def _listed(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _widths(text: str) -> list[int]:
    widths = [int(word) for word in _listed(text)]
    if not set(widths) <= set(WORD_BYTES):
        raise argparse.ArgumentTypeError(f"fields have {', '.join(map(str, WORD_BYTES))} bits")
    return widths


def _speeds(text: str) -> list[str]:
    for word in _listed(text):
        if word != "loopback":
            links.bits_per_s(word)
    return _listed(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=5)
    parser.add_argument("--words", type=int, default=LARGE)
    parser.add_argument("--bits", type=_widths, default=[31, 16], help="widths of the field: 16, 31, 61")
    parser.add_argument("--links", type=_speeds, default=list(PROMISED), help="loopback, or speeds as tc writes them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="count from the call, with nothing done ahead")
    parser.add_argument("--numpy", action="store_true", help="without the compiled loops")
    parser.add_argument("--ahead-s", type=float, default=1.0, help="seconds from a round's begin to its update")
    parser.add_argument("--timeline", type=Path, metavar="FOLDER", help="tell and draw each peer's last round")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--site", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--interface", default="lo", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.numpy:
        kernel.COMPILED = None
    if options.site is not None:
        print(json.dumps(asyncio.run(site(options.folder, options.site, options))))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # namespaces are removed on the way out
    found = measure(options)
    title = f"secure sum: {options.peers} peers, {options.words:,} words{', cold' if options.cold else ''}"
    on = report.machine("numpy", "torch", "pyzmq", "cryptography")
    sys.exit(report.show(title, found, on, as_json=options.json) if found else 0)


if __name__ == "__main__":
    main()

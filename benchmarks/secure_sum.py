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
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _links as links  # noqa: E402
from benchmarks import _process as process  # noqa: E402
from benchmarks import _report as report  # noqa: E402
from benchmarks import _timeline as timeline  # noqa: E402
from benchmarks import _timeline_drawing as drawing  # noqa: E402
from benchmarks import _where as where  # noqa: E402
from benchmarks._federation import federation, numbered  # noqa: E402
from benchmarks._summing_peer import Measured, Told  # noqa: E402
from p2pfl.sharing import kernel  # noqa: E402

WORD_BYTES: Final = {16: 2, 31: 4, 61: 8}
# docs/benchmarks.md: for five peers and 10⁷ words; by link, then by bits of the field: the limit, and the aim.
PROMISED: Final[dict[str, dict[int, tuple[float, float | None]]]] = {
    "loopback": {31: (8.0, 6.0), 16: (5.0, 4.0)},
    "1gbit": {31: (1.6, 1.35), 16: (0.95, 0.80)},
    "200mbit": {31: (1.10, None), 16: (0.60, None)},
    "50mbit": {31: (1.06, None), 16: (0.56, None)},
}
PROMISED_BYTES: Final = 1.02
LARGE: Final = 10_000_000


def run(asked: Measured, places: list[links.Place]) -> list[Told]:
    """Start a peer in each place, wait, and collect what each measured."""
    with tempfile.TemporaryDirectory() as held, contextlib.ExitStack() as alive:
        federation(Path(held), numbered(places), settings=["sharing.field=31"])
        argv = [sys.executable, str(Path(__file__).with_name("_summing_peer.py")), held]
        children = []
        for number, place in enumerate(places):
            env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": place.interface, "TMPDIR": held}
            command = [*place.prefix, *argv, str(number), place.interface, json.dumps(asdict(asked))]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
            alive.callback(process.end, child)
            children.append(child)
        said = [child.communicate(timeout=3600)[0] for child in children]
        if any(child.returncode for child in children):
            raise SystemExit("a peer of the benchmark failed; its error is above")
    told = [json.loads(text.splitlines()[-1]) for text in said]
    alike(told)
    return told


def alike(told: list[Told]) -> None:
    """The report's head says what the inner loops ran on: those of every peer. Raises SystemExit."""
    if any(one["inner loops"] != kernel.in_use() for one in told):
        raise SystemExit(f"inner loops: {kernel.in_use()} here, of the peers {[one['inner loops'] for one in told]}")


def cold(places: list[links.Place], words: int, bits: Sequence[int], rounds: int) -> dict[int, list[dict[str, float]]]:
    """By bits, of each round from the call on: the slowest peer's seconds, and what all of them spent and sent.

    Bytes are those of their interfaces, where each has one of its own.
    """
    told = run(Measured(len(places), words, bits, rounds, ahead_s=0.0, cold=True), places)
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
        bound, aim = PROMISED.get(link, {}).get(bits, (None, None)) if large else (None, None)
        sent = [value / ideal for value in each(name, "sent")]
        found += [
            report.Finding(
                f"{title}: secure / plaintext", report.ratios(each(name, "s"), plain), at_most=bound, aim=aim
            ),
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
    size = options.peers, options.words, options.bits, options.rounds
    stamps = options.timeline is not None
    told = run(Measured(*size, options.ahead_s, options.cold, options.numpy, stamps), places)
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
        path = drawing.write(options.timeline, f"sum-{link}-{options.words}-{bits}", title, peers, speed)
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
    options = parser.parse_args()
    if options.numpy:
        kernel.COMPILED = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # namespaces are removed on the way out
    found = measure(options)
    title = f"secure sum: {options.peers} peers, {options.words:,} words{', cold' if options.cold else ''}"
    on = report.machine("numpy", "torch", "pyzmq", "cryptography")
    sys.exit(report.show(title, found, on, as_json=options.json) if found else 0)


if __name__ == "__main__":
    main()

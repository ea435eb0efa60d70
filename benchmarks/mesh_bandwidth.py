"""What links carry, how fast, and how many bytes it takes: one link, all links at once, and the secure sum's own bytes.

    python benchmarks/mesh_bandwidth.py [--parts link,all,slow,sums] [--peers 3,5,10,20] [--words 1000000]
                                        [--mebibytes 512] [--rounds 5] [--json]

link  one link through the tunnel against a bare SSLSocket, in turn, on loopback: bandwidth, round trip, processor,
      overhead of each size of message (benchmarks/_one_link.py)
all   every site sends to every other at once, each behind a link of a declared speed: how much of it is used, and what
      leaves the interface for each byte of payload
slow  the same with one site behind a link of a tenth of that speed: what the others' links lose by it
sums  secure sums of a vector for n = 3 … 20, each site in a network namespace: bytes that leave its interface, against
      the optimum 2(n−1)/n·m·w of a plain all-reduce

All but the first need network namespaces (benchmarks/_links.py), which takes root; without that right stderr says "not
measured". The interface counts what TCP hands to it, segments of up to 64 kB with one header each: on a wire of
1500-byte packets 66 bytes for each 1448 are added to whatever program it is.
"""

from __future__ import annotations

import argparse
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _all_links as all_links
from benchmarks import _links as links
from benchmarks import mesh_forms
from benchmarks._one_link import measure as measure_link
from benchmarks._report import Finding, machine, ratios, show

SPEED: Final = "100mbit"
SLOW: Final = "10mbit"
TOGETHER: Final = 5  # sites that send at once
WORD_BYTES: Final = 4  # of the 31-bit field
WARM: Final = 2  # sums before those that count: the first deals with hellos and the genesis, too
PROMISED_USED: Final = 0.8
PROMISED_BESIDE_SLOW: Final = 0.85
PROMISED_WIRE: Final = 1.03
PROMISED_FROM: Final = 1_000_000  # words


def measure_all(mebibytes: int, rounds: int) -> list[Finding]:
    """All links of a mesh at once."""
    used, wire, trips, busy, even = [], [], [], [], []
    count = max(1, mebibytes // (TOGETHER * (TOGETHER - 1)))
    for _ in range(rounds):
        with links.network(TOGETHER) as net:
            for number in range(TOGETHER):
                net.limit(number, SPEED)
            seen = all_links.run(net.places, [[count] * TOGETHER] * TOGETHER)
        slowest = max(max(one.seconds.values()) for one in seen)
        used.append(seen[0].payload * 8 / slowest / links.bits_per_s(SPEED))
        wire.append(sum(one.interface for one in seen) / sum(one.payload for one in seen))
        even.append(min(min(one.seconds.values()) for one in seen) / slowest)
        trips.append(max(one.trip_s for one in seen) * 1e3)
        busy.append(max(one.busy_trip_s for one in seen) * 1e3)
    title = f"{TOGETHER} sites, all links at once, {SPEED}"
    return [
        Finding(f"{title}: of that speed used", tuple(used), at_least=PROMISED_USED),
        Finding(f"{title}: bytes on the interface / payload", tuple(wire), at_most=PROMISED_WIRE),
        Finding("  … the slowest link / the fastest", tuple(even)),
        Finding("  … round trip of an idle link", tuple(trips), "ms"),
        Finding("  … round trip behind half of what a link carries", tuple(busy), "ms"),
    ]


def measure_slow(mebibytes: int, rounds: int) -> list[Finding]:
    """What the links of others lose by one slow site that is sent to at the same time."""
    with_it: list[float] = []
    without: list[float] = []
    count = max(1, mebibytes // (TOGETHER * (TOGETHER - 1)))
    slow = TOGETHER - 1
    few = max(1, count // 8)
    for _ in range(rounds):
        with links.network(TOGETHER) as net:
            for number in range(TOGETHER):
                net.limit(number, SLOW if number == slow else SPEED)
            for to_slow, into in ((0, without), (few, with_it)):
                rows = [[to_slow if slow in (a, b) else count for b in range(TOGETHER)] for a in range(TOGETHER)]
                seen = all_links.run(net.places, rows)
                fast = [one.seconds for number, one in enumerate(seen) if number != slow]
                into.append(max(each[peer] for each in fast for peer in each if peer != all_links.name_of(slow)))
    title = f"{TOGETHER - 1} sites of {SPEED}: speed beside one of {SLOW} / without it"
    return [Finding(title, ratios(without, with_it), at_least=PROMISED_BESIDE_SLOW)]


def measure_sums(peers: Sequence[int], words: int, rounds: int) -> list[Finding]:
    """Bytes of a secure sum as its sites count them, and as their interfaces do."""
    found = []
    for n in peers:
        print(f"{n} sites …", file=sys.stderr)
        with links.network(n) as net:
            _, told = mesh_forms.run(net.places, words, WARM + rounds)
        if any(seen["survivors"] != n for one in told for seen in one["sums"]):
            raise SystemExit(f"a sum of {n} sites went on without one of them: this machine is too busy to measure")
        optimum = 2 * (n - 1) / n * words * WORD_BYTES
        bound = PROMISED_WIRE if words >= PROMISED_FROM else None
        for what, title in (("interface", "bytes on the interface"), ("sent", "bytes that it counts itself")):
            sums = [[one["sums"][turn][what] / optimum for one in told] for turn in range(WARM, WARM + rounds)]
            most = tuple(max(values) for values in sums)
            mean = tuple(sum(values) / n for values in sums)
            title = f"secure sum, {n} sites, {words:,} words: {title} / optimum"
            found += [
                Finding(title, mean, at_most=bound if what == "interface" else None),
                Finding("  … of the site with the most", most),
            ]
    return found


def measure(options: argparse.Namespace) -> list[Finding]:
    """All parts, one after the other. What cannot be measured here is said on stderr, and has no rows."""
    parts: dict[str, Callable[[], list[Finding]]] = {
        "link": lambda: measure_link(options.mebibytes, options.rounds),
        "all": lambda: measure_all(options.mebibytes, options.rounds),
        "slow": lambda: measure_slow(options.mebibytes, options.rounds),
        "sums": lambda: measure_sums(options.peers, options.words, options.rounds),
    }
    found: list[Finding] = []
    for part in options.parts:
        try:
            found += parts[part]()
        except links.LinksUnavailable as reason:
            print(f"{part}: not measured: {reason}", file=sys.stderr)
    return found


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["link", "all", "slow", "sums"])
    parser.add_argument("--peers", type=_numbers, default=[3, 5, 10, 20], help="numbers of sites of the secure sums")
    parser.add_argument("--words", type=int, default=PROMISED_FROM, help="of the vector that is summed")
    parser.add_argument("--mebibytes", type=int, default=512, help="payload moved in each run, over all links")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything runs")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    on = {**machine("pyzmq"), "libzmq": zmq.zmq_version(), "openssl": ssl.OPENSSL_VERSION}
    found = measure(options)
    return show("links of a mesh", found, on, as_json=options.json) if found else 0


if __name__ == "__main__":
    raise SystemExit(main())

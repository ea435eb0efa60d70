"""What a round costs each peer as the federation grows and as the vector grows: messages, bytes, processor time.

    python benchmarks/growth.py [--peers 3,5,7,10,20,50,100,200] [--words 10000]
                                [--lengths 1000,10000,100000,1000000,10000000] [--large 3,5] [--json]
                                [--real 3,5,10,20] [--real-words 1000000] [--sums 3]

First real processes on loopback, as many as `--real` says: time, processor, bytes and memory of a site in a sum, TLS,
ZeroMQ and the disk included; `--real-words 10000000` for ten times the vector. The first sum warms up and does not
count. With fewer cores than sites they wait for each other, so time grows with the work of all.

Then rounds in the simulator: the real ones, all peers in one process and in virtual time (p2pfl.simulate). Letters,
signatures, masks, sums and hashes count, TLS, ZeroMQ and the disk do not, and the words come from the keystream instead
of a quantiser. Each peer remembers the signatures that it has checked, as in its own process. Every sum is checked.
100 and 200 sites take some minutes; `--large 3,5,7,10,20` looks at the promised bytes for 10⁷ words at every size, and
needs some 10 GB.
"""

from __future__ import annotations

import argparse
import functools
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _links as links
from benchmarks import mesh_forms
from benchmarks._report import Finding, machine, show
from p2pfl import keys
from p2pfl.simulate.counted import MOST_STEPS, WORDS_OF, CountedFederation
from p2pfl.simulate.peer import SimulatedPeer

BITS: Final = 31
WORD_BYTES: Final = 4
LARGE: Final = 10_000_000
PROMISED_BYTES: Final = 1.02
Verify = Callable[[bytes, str, bytes, bytes], bool]


class RememberingFederation(CountedFederation):
    """Each peer has a memory of checked signatures of its own, as in its own process."""

    def __init__(self, peers: int, length: int) -> None:
        super().__init__(peers, length=length, bits=BITS)
        remembered = keys.verify_again.cache_parameters()["maxsize"]
        self._memories: dict[str, Verify] = {
            name: functools.lru_cache(maxsize=remembered)(keys.verify) for name in self.peers
        }
        self._memory: Verify = keys.verify
        self.looked = 0

    def verify_again(self, key: bytes, kind: str, data: bytes, signature: bytes) -> bool:
        """As keys.verify_again in the process of the peer that reads now."""
        self.looked += 1
        return self._memory(key, kind, data, signature)

    def _deliver(self, sender: str, target: SimulatedPeer, wire: bytes) -> None:
        self._memory = self._memories[target.name]
        super()._deliver(sender, target, wire)


@dataclass(frozen=True)
class Cost:
    """One round at one size: what each peer sent and spent, on the mean."""

    peers: int
    words: int
    messages: float
    bytes: float
    cpu_s: float
    largest: str  # the kind of letter with most bytes that are not words, and its share of those

    @property
    def optimum(self) -> float:
        """Bytes that a peer sends in an optimal plaintext all-reduce of words of this width."""
        return 2 * (self.peers - 1) / self.peers * self.words * WORD_BYTES

    @property
    def beyond(self) -> float:
        """Bytes that a peer sends beyond the words."""
        return self.bytes - self.optimum


def cost(peers: int, words: int) -> Cost:
    """Run one round. Raises WrongForecast when a sum is not that of the inputs, RuntimeError when nobody verified."""
    print(f"{peers} sites, {words} words …", file=sys.stderr)
    federation = RememberingFederation(peers, words)
    held = {name: module for name, module in sys.modules.items() if vars(module).get("verify_again") is VERIFY_AGAIN}
    for module in held.values():
        vars(module)["verify_again"] = federation.verify_again
    gc.collect()
    begun = time.process_time()
    try:
        federation.run(MOST_STEPS)
    finally:
        spent = time.process_time() - begun
        for module in held.values():
            vars(module)["verify_again"] = VERIFY_AGAIN
    federation.check()
    if not federation.looked:
        raise RuntimeError("no signature was looked at: the benchmark and the simulator have grown apart")
    sent = federation.by_kind
    letters, size = (sum(getattr(one, what) for one in sent.values()) for what in ("letters", "bytes"))
    other = {kind: one.bytes for kind, one in sent.items() if kind not in WORDS_OF}
    kind = max(other, key=lambda each: other[each])
    share = f"{kind} {100 * other[kind] / max(sum(other.values()), 1):.0f} %"
    return Cost(peers, words, letters / peers, size / peers, spent / peers, share)


@dataclass(frozen=True)
class Real:
    """Sums of real processes: of each sum that is counted the slowest site's time, and means over the sites."""

    peers: int
    words: int
    seconds: tuple[float, ...]
    cpu_s: tuple[float, ...]
    bytes: tuple[float, ...]
    memory: tuple[float, ...]

    @property
    def optimum(self) -> float:
        return 2 * (self.peers - 1) / self.peers * self.words * WORD_BYTES


def real(peers: int, words: int, sums: int) -> Real:
    """Start so many sites, let them sum. Raises SystemExit when one of them fails, or a sum is wrong."""
    print(f"{peers} processes, {words} words …", file=sys.stderr)
    _, told = mesh_forms.run(links.loopback(peers), words, sums=sums + 1)
    turns = [[one["sums"][turn] for one in told] for turn in range(1, sums + 1)]

    def mean(what: str) -> tuple[float, ...]:
        return tuple(statistics.fmean(float(one[what]) for one in turn) for turn in turns)

    seconds = tuple(max(float(one["s"]) for one in turn) for turn in turns)
    return Real(peers, words, seconds, mean("cpu_s"), mean("sent"), mean("memory"))


def real_findings(costs: Sequence[Real]) -> list[Finding]:
    """What each size took, and the exponents of growth over the last two."""
    found = []
    for one in costs:
        title = f"{one.peers} processes, {one.words:,} words"
        found += [
            Finding(f"{title}: a sum", one.seconds, "s"),
            Finding(f"{title}: processor per site", one.cpu_s, "s"),
            Finding(f"{title}: bytes per site / optimum", tuple(sent / one.optimum for sent in one.bytes)),
            Finding(f"{title}: memory / fp32 vector", tuple(held / (4 * one.words) for held in one.memory)),
        ]
    if len(costs) > 1:
        before, after = costs[-2:]
        span = f"{before.peers} to {after.peers} processes"
        grown = math.log(after.peers / before.peers)
        for name, few, many in (("processor", before.cpu_s, after.cpu_s), ("memory", before.memory, after.memory)):
            exponent = math.log(statistics.median(many) / statistics.median(few)) / grown
            found.append(Finding(f"{name} per site, {span}: grows as n to the", (exponent,)))
    return found


VERIFY_AGAIN: Final = keys.verify_again


def slope(costs: Sequence[Cost], of: Callable[[Cost], float], over: Callable[[Cost], float]) -> float:
    """The exponent of growth over the last two sizes: 1 is proportional, 2 is quadratic."""
    before, after = costs[-2:]
    return math.log(of(after) / of(before)) / math.log(over(after) / over(before))


def table(costs: Sequence[Cost]) -> str:
    """The costs as aligned columns."""
    head = f"  {'sites':>6s} {'words':>9s} {'messages':>9s} {'bytes sent':>12s} {'/ optimum':>9s} "
    head += f"{'beyond words':>12s} {'processor':>10s}  most of the rest"
    lines = [
        f"  {one.peers:6d} {one.words:9d} {one.messages:9.0f} {one.bytes:12.0f} {one.bytes / one.optimum:9.3f} "
        f"{one.beyond:12.0f} {one.cpu_s * 1e3:7.1f} ms  {one.largest}"
        for one in costs
    ]
    return "\n".join([head, *lines])


def findings(sizes: Sequence[Cost], lengths: Sequence[Cost], large: Sequence[Cost]) -> list[Finding]:
    """Exponents of growth, and the bytes for 10⁷ words beside those that docs/benchmarks.md promises."""
    found = []
    if len(sizes) > 1:
        span = f"{sizes[-2].peers} to {sizes[-1].peers} sites"
        for name, of in (
            ("messages per peer", lambda one: one.messages),
            ("bytes per peer beyond the words", lambda one: one.beyond),
            ("processor per peer", lambda one: one.cpu_s),
        ):
            exponent = slope(sizes, of, lambda one: float(one.peers))
            found.append(Finding(f"{name}, {span}: grows as n to the", (exponent,)))
    if len(lengths) > 1:
        span = f"{lengths[-2].words:,} to {lengths[-1].words:,} words"
        for name, of in (("bytes per peer", lambda one: one.bytes), ("processor per peer", lambda one: one.cpu_s)):
            exponent = slope(lengths, of, lambda one: float(one.words))
            found.append(Finding(f"{name}, {span}: grows as m to the", (exponent,)))
    for one in large:
        name = f"bytes sent per peer / optimum, {one.peers} sites, {one.words:,} words"
        found.append(Finding(name, (one.bytes / one.optimum,), at_most=PROMISED_BYTES if one.words >= LARGE else None))
    return found


def _cells(costs: Sequence[Cost]) -> list[Finding]:
    return [
        Finding(f"{one.peers} sites, {one.words} words: {name}", (value,), unit)
        for one in costs
        for name, value, unit in (
            ("messages per peer", one.messages, ""),
            ("bytes per peer", one.bytes, "bytes"),
            ("processor per peer", one.cpu_s, "s"),
        )
    ]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=_numbers, default=[3, 5, 7, 10, 20, 50, 100, 200])
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--lengths", type=_numbers, default=[10**k for k in range(3, 8)], help="with five sites")
    parser.add_argument("--large", type=_numbers, default=[3, 5], help="numbers of sites with 10⁷ words")
    parser.add_argument("--real", type=_numbers, default=[3, 5, 10, 20], help="numbers of sites as real processes")
    parser.add_argument("--real-words", type=int, default=1_000_000)
    parser.add_argument("--sums", type=int, default=3, help="of the real processes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    processes = [real(peers, options.real_words, options.sums) for peers in options.real]
    cost(3, 1000)  # warms up
    sizes = [cost(peers, options.words) for peers in options.peers]
    lengths = [cost(5, words) for words in options.lengths]
    known = {(one.peers, one.words): one for one in lengths}
    large = [known.get((peers, LARGE)) or cost(peers, LARGE) for peers in options.large]
    found, on = [*real_findings(processes), *findings(sizes, lengths, large)], machine("numpy", "cryptography")
    if options.json:
        found += _cells([*sizes, *lengths, *large])
    else:
        print("one round, per peer, as the federation grows\n" + table(sizes))
        print("and as the vector grows\n" + table(lengths))
    return show("growth of a round, 31-bit field: real processes, then in memory", found, on, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())

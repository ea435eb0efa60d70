"""How large a federation the simulator carries on one machine: one process, virtual time, one site in twenty dying.

    python benchmarks/simulator.py [--peers 20,50,100,200] [--words 10000] [--seed 0] [--json]

The rounds are the real ones (p2pfl.simulate): letters, signatures, masks, sums, votes, backups. Deaths fall at random
moments of the round, and who died returns within a virtual minute. What is promised is the outcome: each round that
any site holds is right, the same wherever it is held, and no process ends with an error. The time is the machine's.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Finding, machine, show
from p2pfl.simulate import Outcome, Weather, simulate

DYING: Final = 20  # one site in so many


@dataclass(frozen=True)
class Run:
    """One federation's round: what became of it, and what it took."""

    peers: int
    outcome: Outcome
    seconds: float
    cpu_s: float

    @property
    def sound(self) -> bool:
        """Something is held, everything that is held is right and the same, and nobody's process ended."""
        rounds = self.outcome.rounds
        return bool(rounds) and all(one.right and one.agreed for one in rounds) and not self.outcome.errors


def storm(peers: int) -> Weather:
    """One site in twenty (one at least) dies once, spread over the effects of a round."""
    deaths = max(1, peers // DYING)
    effects = peers * (2 * peers + 40)  # a share to each other site, one letter of each later kind to all, the disk
    return Weather(death=2 * deaths / effects, deaths=deaths)  # twice: so that mostly all of them fall


def measure(peers: int, words: int, seed: int) -> Run:
    """One round of `peers` sites and `words` words of the 61-bit field."""
    print(f"{peers} sites …", file=sys.stderr)
    begun, spent = time.perf_counter(), time.process_time()
    outcome = simulate(peers, length=words, seed=seed, weather=storm(peers))
    return Run(peers, outcome, time.perf_counter() - begun, time.process_time() - spent)


def findings(runs: list[Run]) -> list[Finding]:
    """What is promised (soundness), and what it took."""
    found = []
    for run in runs:
        last = run.outcome.rounds[-1] if run.outcome.rounds else None
        held = len(last.final_at) if last is not None else 0
        found += [
            Finding(f"{run.peers} sites: sound (1) or not (0)", (float(run.sound),), at_least=1.0),
            Finding(f"{run.peers} sites: that hold the round", (float(held),)),
            Finding(f"{run.peers} sites: died", (float(run.outcome.deaths),)),
            Finding(f"{run.peers} sites: time", (run.seconds / 60,), "min"),
            Finding(f"{run.peers} sites: processor, each", (run.cpu_s / run.peers,), "s"),
        ]
    return found


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=_numbers, default=[20, 50, 100, 200])
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = findings([measure(peers, options.words, options.seed) for peers in options.peers])
    return show("one simulated round, one site in twenty dying", found, machine("numpy"), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())

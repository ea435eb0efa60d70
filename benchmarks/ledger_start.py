"""A home with years of rounds in its ledger: how soon its process works, and what one more sum costs.

    python -m benchmarks.ledger_start [--rounds 10000] [--turns 5] [--json]

The ledger is written by the node's own code (benchmarks/_long_ledger.py): a record of each round with five signatures,
and three entries of each in the site log. A start decrypts both logs, checks chain, tree and heads, and reads every
record. A sum looks whether its data were summed over other sites before, and notes that they are now.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._long_ledger import RUN, LongLedger
from benchmarks._process import resident_bytes
from benchmarks._report import Finding, machine, show
from p2pfl.node.logs import Logs
from p2pfl.node.runs.cohort import Cohort
from p2pfl.sharing import events as e

PROMISED_ROUNDS: Final = 10_000


def timed(do: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor."""
    begun, spent = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - begun, time.process_time() - spent


def begun(ledger: LongLedger) -> Logs:
    """The logs of a process that has begun to work."""
    logs = ledger.open()
    logs.started(bytes(16))
    return logs


def sum_once(logs: Logs, ledger: LongLedger, number: int) -> None:
    """What a sum does with the site log."""
    names = tuple(ledger.identities)
    lock = Cohort(logs, RUN, f"question {number}", [ledger.mark(number)])
    lock.bind(e.Quantise(number, 0, bytes(32), names, ()), names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=PROMISED_ROUNDS)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = LongLedger(Path(folder))
        print(f"writing {given.rounds} rounds …", file=sys.stderr)
        ledger.write(given.rounds)
        starts, sums, memory = [], [], []
        for turn in range(given.turns):
            before, held = resident_bytes(), list[Logs]()
            starts.append(timed(lambda held=held: held.append(begun(ledger))))  # type: ignore[misc]
            memory.append((resident_bytes() - before) / 2**20)
            number = given.rounds + 1 + turn
            sums.append(timed(lambda logs=held[0], number=number: sum_once(logs, ledger, number)))  # type: ignore[misc]
            held[0].close()
        ledger.home.close()
    most = 1.0 if given.rounds == PROMISED_ROUNDS else None
    rounds = f"{given.rounds:,} rounds"
    found = [
        Finding(f"a start with {rounds}: both logs opened and read", tuple(one for one, _ in starts), "s"),
        Finding("the same, processor", tuple(one for _, one in starts), "s", at_most=most),
        Finding("of its memory, the first time", tuple(memory[:1]), "MiB"),
        Finding(f"a sum behind {rounds}: looked up and noted", tuple(one for one, _ in sums), "s"),
        Finding("the same, processor", tuple(one for _, one in sums), "s"),
    ]
    return show("a long ledger", found, machine("cryptography"), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())

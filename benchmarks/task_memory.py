"""Memory of a site that trains: its own process, and the one that runs the task, at their peaks.

    python benchmarks/task_memory.py [--parameters 1000000 25000000] [--at-once 4] [--json]

One private pass of a multilayer perceptron, with as many records' gradients at a time as `--at-once` says. Beside the
peak stands what it may be: 4 × the model + the gradients of one physical batch + 400 MB. The two processes' peaks, as
the system keeps them, are added up, although they need not fall together. Pages that both of them hold at the end (of
the interpreter, of numpy) are counted once: they are found by their places in the machine's memory, which root alone
may see; for others they are counted twice. A proportional set size would be smaller wherever another program on the
machine has torch loaded.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _report as report  # noqa: E402
from benchmarks._process import peak_bytes  # noqa: E402

FIXED: Final = 400e6  # bytes: two interpreters, and torch
MODELS: Final = 4
RECORDS: Final = 40
TASK: Final = """
from pathlib import Path
import numpy as np
from torch import nn
import p2pfl
from p2pfl.training.measures.classification import Binary
from p2pfl.training.records.records import Arrays

class Wide(p2pfl.Task):
    name, learning_rate, expected_batch = "wide", 0.1, 8.0

    def dataset(self, path, columns=None, *, labelled=True):
        x = np.random.default_rng(1).normal(size=(RECORDS, 256)).astype(np.float32)
        return Arrays(x, (x[:, 0] > 0).astype(np.int64), [row.tobytes() for row in x])

    def model(self):
        return nn.Sequential(nn.Linear(256, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))

    def loss(self, outputs, targets):
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float(), reduction="none")

    def predictions(self, outputs):
        return outputs[:, 0].sigmoid()

    def measures(self):
        return (Binary(),)
"""


def width_of(parameters: int) -> int:
    """The width at which the task's model has about so many."""
    return round((-259.0 + math.sqrt(259.0**2 + 4.0 * parameters)) / 2.0)


def one_site(parameters: int, at_once: int) -> None:
    """A pass as a site makes it, in this process and the task's; prints m and both peaks in bytes."""
    from p2pfl.keys import Secret
    from p2pfl.simulate.training import federation_of
    from p2pfl.training.privacy.account import Account
    from p2pfl.training.process.facts import Reach, TaskSource
    from p2pfl.training.process.remote import RemoteTrainer

    settings = ["privacy.steps_per_round=2", "privacy.sample_rate=1.0", "privacy.max_epsilon=99"]
    federation = federation_of(("ada", "ben", "cyd"), settings)
    code = TASK.replace("RECORDS", str(RECORDS)).replace("WIDTH", str(width_of(parameters))).encode()
    with tempfile.TemporaryDirectory(prefix="p2pfl-memory-") as place, RemoteTrainer(Reach((Path(place),))) as trainer:
        source = TaskSource(federation, Path(place), cls="Wide", file="wide.py", raw=code)
        trainer.prepare(source, Secret(bytes(32), "who is held out"))
        trainer.at_once = at_once
        model = trainer.initial(bytes(32))
        update = trainer.train(model, Account().charge(federation.privacy), Secret(bytes(32), "seed"))
        trainer.evaluate(model)
        both = np.intersect1d(frames(os.getpid()), frames(trainer.number or 0))
        print(update.size, peak_bytes(), trainer.peak_memory(), both.size * os.sysconf("SC_PAGE_SIZE"))


def frames(process: int) -> NDArray[np.uint64]:
    """Where in the machine's memory its pages lie; empty for whoever may not know.    (pages,)"""
    size, found = os.sysconf("SC_PAGE_SIZE"), [np.zeros(0, np.uint64)]
    try:
        spans = [line.split()[0].split("-") for line in Path(f"/proc/{process}/maps").read_text().splitlines()]
        with open(f"/proc/{process}/pagemap", "rb") as file:
            for first, last in ((int(one, 16) // size for one in span) for span in spans):
                file.seek(8 * first)
                try:
                    found.append(np.frombuffer(file.read(8 * (last - first)), "<u8"))
                except OSError:
                    continue  # of the kernel's own
    except OSError:
        return found[0]
    entries = np.concatenate(found)
    return np.unique(entries[entries >> np.uint64(63) == 1] & np.uint64((1 << 55) - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, nargs="+", default=[1_000_000, 25_000_000])
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--site", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.site:
        one_site(options.site, options.at_once)
        return
    found = []
    for parameters in options.parameters:
        command = [sys.executable, __file__, "--site", str(parameters), "--at-once", str(options.at_once)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        size, own, task, shared = (int(one) for one in said[-4:])
        most = (MODELS + options.at_once) * 4 * size + FIXED
        found += [
            report.Finding(
                f"{size} parameters: both processes", ((own + task - shared) / 1e6,), "MB", at_most=most / 1e6
            ),
            report.Finding(f"{size} parameters: the task's alone", (task / 1e6,), "MB"),
            report.Finding(f"{size} parameters: shared by both", (shared / 1e6,), "MB"),
        ]
    told = f"memory of a site at its peak, {options.at_once} records' gradients at a time"
    sys.exit(report.show(told, found, report.machine("torch", "opacus"), as_json=options.json))


if __name__ == "__main__":
    main()

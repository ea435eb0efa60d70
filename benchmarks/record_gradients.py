"""Memory of a step in a public subspace: gradients projected as they are made, beside whole ones projected afterwards.

    python benchmarks/record_gradients.py [--models cnn,unet] [--pairs 3] [--json]

One private pass of one step, by a site's own trainer, the same of both ways but for one thing. *As they are made*: each
layer's hooks multiply what went in and what came back with the carriers, as `compression: lowrank` does. *Afterwards*:
the same hooks form each record's whole gradient, which is projected then. What is clipped, noised and returned is the
same. Each way has a process of its own, in turn, which has made a pass before, of two records, so that all is loaded.
Counted is the most memory beyond what the process held before the pass: activations, the batch and gradients.

The CNN has 205 761 parameters and takes 64 pictures of 28 × 28 at once; the UNet is MONAI's in 3-D, of 1.27·10⁷
parameters in five levels, and takes 16 volumes of 32³. Both have carriers of rank 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._compared import Compared, cnn  # noqa: E402
from benchmarks._process import forget_peak, give_back, peak_bytes, resident_bytes  # noqa: E402
from benchmarks._report import Finding, machine, ratios, show  # noqa: E402
from benchmarks._scaled_site import Scaled  # noqa: E402
from p2pfl.federation import Federation  # noqa: E402
from p2pfl.keys import Secret  # noqa: E402
from p2pfl.simulate.training import federation_of  # noqa: E402
from p2pfl.training import local  # noqa: E402
from p2pfl.training.compression.subspace import Subspace, length_of  # noqa: E402
from p2pfl.training.gradients.projection import Projected  # noqa: E402
from p2pfl.training.local import Trainer  # noqa: E402
from p2pfl.training.privacy.account import Account  # noqa: E402
from p2pfl.training.records.records import Arrays, Records, SiteRecords  # noqa: E402
from p2pfl.training.task import Task  # noqa: E402

LEAST_DENSITY: Final = 1e-9  # of which rank 1 comes
WAYS: Final = ("as they are made", "afterwards")
WARM: Final = 2  # records of the pass that comes before
BASE: Final = 26  # channels of the UNet's first level


@dataclass(frozen=True)
class Case:
    """A model and the batch that it takes at once."""

    about: str
    records: int
    side: tuple[int, ...]


CASES: Final = {
    "cnn": Case("CNN", 64, (28, 28)),
    "unet": Case("3-D UNet", 16, (32, 32, 32)),
}


class Afterwards(Projected):
    """Whole gradients of each record, which `take_gradients` projects: no parameter says where it moves."""

    def __init__(self, trained: list[nn.Parameter], subspace: Subspace) -> None:
        super().__init__(trained, subspace)
        self.end()


def task_of(model: str) -> Task:
    return Compared(cnn, 32.0, 0.1) if model == "cnn" else Scaled(BASE)


def drawn(side: Sequence[int], count: int) -> SiteRecords:
    """Noise: one channel, and a label of a picture or of each voxel."""
    dice = np.random.default_rng(count)
    x = dice.normal(size=(count, 1, *side)).astype(np.float32)
    y = dice.integers(0, 2, count if len(side) == 2 else (count, *side))
    held = Records(Arrays(x, y, tuple(row.to_bytes(4, "big") for row in range(count))))
    return SiteRecords(held, held)


def trainer(model: str, count: int) -> tuple[Trainer, Federation]:
    """A site that draws all of its records in its only step, and takes them at once."""
    agreed = federation_of(
        ("ada", "ben", "cyd"), ("privacy.steps_per_round=1", "privacy.sample_rate=1", "privacy.max_epsilon=99")
    )
    made = Trainer(task=task_of(model), site=drawn(CASES[model].side, count), privacy=agreed.privacy)
    made.at_once = count
    return made, agreed


def update(made: Trainer, agreed: Federation) -> np.ndarray:
    """θ of one pass along random carriers.    (d,)"""
    first = made.initial(bytes(32))
    subspace = Subspace.of(made.layout, LEAST_DENSITY, first, first)
    return made.train(first, Account().charge(agreed.privacy), Secret(bytes(32), "seed of a pass"), 0, subspace)


def one_pass(model: str, way: str) -> None:
    """A pass that way; prints m, d, records and the bytes beyond what was held before."""
    if way == WAYS[1]:
        vars(local)["Projected"] = Afterwards
    torch.set_num_threads(1)
    update(*trainer(model, WARM))
    made, agreed = trainer(model, CASES[model].records)
    give_back()
    forget_peak()
    before = resident_bytes()
    update(made, agreed)
    length = length_of(made.layout, LEAST_DENSITY)
    print(made.parameters, length, CASES[model].records, peak_bytes() - before)


def measured(model: str, way: str) -> tuple[int, int, int, int]:
    """What a process of its own prints of a pass that way."""
    command = [sys.executable, __file__, "--of", model, "--way", way]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    parameters, length, records, held = (int(one) for one in said[-4:])
    return parameters, length, records, held


def findings(model: str, pairs: int) -> list[Finding]:
    """Of so many processes each way, in turn."""
    by_way: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(pairs):
        for way in WAYS:
            parameters, length, records, held = measured(model, way)
            by_way[way].append(held / 1e6)
    made, after = (tuple(by_way[way]) for way in WAYS)
    of = f"{CASES[model].about} of {parameters} parameters, {records} records at once"
    return [
        Finding(f"{of}: projected as they are made / afterwards", ratios(made, after)),
        Finding(f"{of}: projected as they are made", made, "MB"),
        Finding(f"{of}: whole, projected afterwards", after, "MB"),
        Finding(f"{of}: whole gradients alone, 4·m·records", (4e-6 * parameters * records,), "MB"),
        Finding(f"{of}: projected ones alone, 4·d·records", (4e-6 * length * records,), "MB"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(CASES))
    parser.add_argument("--pairs", type=int, default=3, help="processes each way, in turn")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--of", choices=tuple(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.of is not None:
        one_pass(asked.of, asked.way)
        return 0
    found = [one for model in asked.models.split(",") for one in findings(model, asked.pairs)]
    title = "memory of a private step in a subspace, beyond what the process held before"
    return show(title, found, machine("numpy", "torch", "opacus"), as_json=asked.json)


if __name__ == "__main__":
    sys.exit(main())

"""What fewer numbers cost in accuracy, at the same ε: whole updates, nominated coordinates, a public subspace.

Five sites with skewed labels, the local pass, compression, quantiser and mean of a real site (`simulate_training`); a
CNN of 205 761 parameters on chest X-rays of 28 × 28 (`--data pneumonia_xray28.npz`, arrays `*_images` and
`*_labels`), or on made-up pictures where there is no file. The metric is AUC on the held-out quarter of all sites; each
row has its own learning rate.

    python benchmarks/light.py [--data FILE] [--epsilon 3] [--rounds 40] [--seeds 5] [--first-seed 0] [--only NAME …]
        [--at RATE] [--norm] [--set average.decay=0.8 …] [--published] [--json]

With --norm a GroupNorm stands after each convolution, as in the CNN of `images`: 96 parameters more. What is to be
chosen is tried on seeds from 100 on, and what is reported are those from 0 on. With --published the sites train on all
of `train_*` and are judged on `val_*`, whatever the seed, as the data set was published to be used.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Finding, machine, show  # noqa: E402
from p2pfl import simulate_training  # noqa: E402
from p2pfl.training.measures.classification import Binary  # noqa: E402
from p2pfl.training.measures.measure import Measure  # noqa: E402
from p2pfl.training.records.records import Arrays, Dataset, Records, SiteRecords  # noqa: E402
from p2pfl.training.resnet import norm  # noqa: E402
from p2pfl.training.task import Task  # noqa: E402

BATCH: Final = 64
STEPS: Final = 8
SHARES: Final = (0.1, 0.15, 0.2, 0.25, 0.3)  # of the positive records, site by site; of the negative ones in reverse
MEAN, SPREAD = 0.57, 0.17  # public constants, near those of X-rays


@dataclass(frozen=True)
class Row:
    """One way to send an update: its settings, and the learning rate that was best for it."""

    name: str
    method: str
    density: float
    learning_rate: float


ROWS: Final = (
    Row("all", "none", 1.0, 0.5),
    Row("lowrank 1 %", "lowrank", 0.01, 0.5),
    Row("lowrank 3 %", "lowrank", 0.03, 0.5),
    Row("nominate 1 %", "nominate", 0.01, 0.5),
)


class Pictures(Task):
    """Grey pictures of 28 × 28, yes or no."""

    name: ClassVar[str] = "pictures"
    expected_batch = float(BATCH)

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Dataset:
        """The sites of this benchmark are given as datasets."""
        raise NotImplementedError

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, 1),
        )  # fmt: skip

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype), reduction="none")

    def measures(self) -> Sequence[Measure]:
        return (Binary(),)

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 0].sigmoid()


class NormedPictures(Pictures):
    """The same, with a GroupNorm after each convolution."""

    def model(self) -> nn.Module:
        layers = list[nn.Module]()
        for layer in super().model().children():
            layers += [layer, norm(layer.out_channels)] if isinstance(layer, nn.Conv2d) else [layer]
        return nn.Sequential(*layers)


def read(path: Path | None, part: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 1, 28, 28) float32 and labels (N,) int64, of the arrays whose names begin with `part`."""
    if path is None:
        return made_up(4708)
    with np.load(path) as held:  # no pickled object is read
        named = [name for name in sorted(held.files) if name.startswith(part)]
        x = np.concatenate([held[name] for name in named if name.endswith("images")])
        y = np.concatenate([held[name] for name in named if name.endswith("labels")])
    scaled = (x.astype(np.float32) / 255 - MEAN) / SPREAD
    return scaled.reshape(len(x), 1, 28, 28), y.reshape(-1).astype(np.int64)


def made_up(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and in half of the pictures a faint disc somewhere."""
    dice = np.random.default_rng(0)
    x, y = dice.normal(size=(count, 1, 28, 28)).astype(np.float32), dice.integers(0, 2, count)
    rows, columns = np.mgrid[:28, :28]
    for place in np.flatnonzero(y):
        top, left = dice.integers(6, 22, 2)
        x[place, 0] += 0.8 * ((rows - top) ** 2 + (columns - left) ** 2 < 25)
    return x, y.astype(np.int64)


def sites(x: np.ndarray, y: np.ndarray) -> dict[str, Arrays]:
    """Five sites, each with other shares of both labels."""
    dice, found = np.random.default_rng(0), dict[str, Arrays]()
    yes, no = (dice.permutation(np.flatnonzero(y == label)) for label in (1, 0))
    ends = [(np.cumsum((0, *each)) * len(of)).astype(int) for each, of in ((SHARES, yes), (SHARES[::-1], no))]
    for place in range(len(SHARES)):
        parts = [of[end[place] : end[place + 1]] for of, end in zip((yes, no), ends, strict=True)]
        chosen = np.concatenate(parts)
        found[f"site-{place}"] = Arrays(x[chosen], y[chosen], tuple(int(one).to_bytes(4, "big") for one in chosen))
    return found


def in_quarters(path: Path | None) -> tuple[Mapping[str, object], float]:
    """The sites, of which each seed holds a quarter out; how many a common one trains on."""
    x, y = read(path)
    return sites(x, y), 0.75 * len(x) / len(SHARES)


def published(path: Path) -> tuple[Mapping[str, object], float]:
    """The same sites with all of `train_*` to train on and `val_*` held out; how many a common one trains on."""
    train, held = (sites(*read(path, part)) for part in ("train", "val"))
    count = sum(map(len, train.values())) / len(train)
    return {name: SiteRecords(*(Records(part[name]) for part in (train, held))) for name in train}, count


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--at", type=float, help="this learning rate for all rows")
    parser.add_argument("--norm", action="store_true", help="a GroupNorm after each convolution")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="further settings of peers.yaml"
    )
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--published", action="store_true", help="of --data, train on train_*, judge on val_*")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.published and options.data is None:
        parser.error("--published is of --data")
    dealt, count = published(options.data) if options.published else in_quarters(options.data)
    rate = BATCH / count
    settings = [f"rounds={options.rounds}", f"privacy.steps_per_round={STEPS}", f"privacy.sample_rate={rate:.5f}"]
    settings += ["sharing.clip=100", "sharing.scale=10", *options.set]
    made, findings = NormedPictures if options.norm else Pictures, list[Finding]()
    for row in ROWS:
        if row.name not in options.only:
            continue
        given, found = [*settings, f"compression.method={row.method}", f"compression.density={row.density}"], []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            # Each is told when it ends: whoever breaks off has the others.
            task = made(row.learning_rate if options.at is None else options.at)
            found += simulate_training(task, dealt, settings=given, epsilon=options.epsilon, seeds=(seed,))
            print(f"{row.name}, seed {seed}: AUC {found[-1].final:.4f}", file=sys.stderr, flush=True)
        sent = statistics.fmean(one.sent_bytes / one.dense_bytes for one in found)
        findings += [
            Finding(f"{row.name}: AUC", tuple(one.final for one in found)),
            Finding(f"{row.name}: bytes / those of whole fp32 updates", (sent,)),
        ]
    of = "made-up pictures" if options.data is None else options.data.name
    title = f"{of}, five sites, ε {options.epsilon:g}, {options.rounds} rounds of {STEPS} steps"
    return show(title, findings, machine("numpy", "torch", "opacus"), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())

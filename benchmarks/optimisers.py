"""Which optimiser after the sum, and which running mean, buys what at equal ε?

Every row trains with the same ε, the same records and the same seeds, by the sites' own code in one process
(`simulate_training`); only the settings that it names differ. Heart disease: four real hospitals dealt to five sites.
The X-rays are those of MedMNIST's PneumoniaMNIST as one `.npz` file, dealt at random to five sites; a CNN of 10⁵
parameters.

    python benchmarks/optimisers.py [--data heart|FILE.npz] [--seeds 3] [--epsilon 3] [--only WORD] [--json]

The settings of the rows are the same for all data, and were not tuned on any. AUC is that of the last model of each
training, the running mean where there is one, on the union of the held-out quarters.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from p2pfl import simulate_training  # noqa: E402
from p2pfl.training.measures.classification import Binary  # noqa: E402
from p2pfl.training.measures.measure import Measure  # noqa: E402
from p2pfl.training.records.records import Arrays, Dataset  # noqa: E402
from p2pfl.training.task import Task  # noqa: E402
from p2pfl.training.tasks.heart import heart  # noqa: E402
from p2pfl.training.tasks.heart_records import deal  # noqa: E402
from p2pfl.training.tasks.table import TableTask  # noqa: E402

SITES = 5
LOCAL: Mapping[str, tuple[str, ...]] = {
    "mean": (),
    "mean, running mean": ("average.decay=0.8",),
    "momentum": ("server.method=momentum", "server.momentum=0.5", "server.learning_rate=0.7"),
    "adam": (
        "server.method=adam", "server.learning_rate=0.1", "server.momentum=0.5", "server.beta2=0.9", "server.tau=0.01",
    ),
    "cosine at the sites": ("local.schedule=cosine",),
    "momentum at the sites": ("local.optimiser=momentum", "local.momentum=0.9"),
}  # fmt: skip


class Pneumonia(Task):
    """A small CNN on 28×28 grey images: has this chest pneumonia?"""

    name: ClassVar[str] = "pneumonia"
    learning_rate, expected_batch = 0.5, 32.0

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Dataset:
        raise NotImplementedError("records are given as arrays here")

    def measures(self) -> Sequence[Measure]:
        return (Binary(),)

    def model(self) -> nn.Module:
        first, second = (nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16)), (nn.Conv2d(16, 32, 3, padding=1),)
        head = (nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 1))
        pooled = (nn.ReLU(), nn.MaxPool2d(2))
        return nn.Sequential(*first, *pooled, *second, nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2), *head)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype), reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 0].sigmoid()


@contextlib.contextmanager
def heart_sites() -> Iterator[dict[str, str | Dataset]]:
    """Five CSVs of the four real hospitals, in a folder that goes with the block."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, str | Dataset] = {}
        for name, raw in deal(SITES).files.items():
            (Path(folder) / f"{name}.csv").write_bytes(raw)
            found[name] = str(Path(folder) / f"{name}.csv")
        yield found


@contextlib.contextmanager
def xray_sites(path: Path, most: int) -> Iterator[dict[str, str | Dataset]]:
    """At most `most` images of the file's training part, dealt to five sites."""
    with np.load(path) as held:
        x, y = held["train_images"], held["train_labels"].reshape(-1)
    order = np.random.default_rng(0).permutation(len(x))[:most]
    found: dict[str, str | Dataset] = {}
    for place, rows in enumerate(np.array_split(order, SITES)):
        images = (x[rows][:, None].astype(np.float32) / 255.0 - 0.5) * 4.0
        found[f"site-{place}"] = Arrays(images, y[rows].astype(np.int64), tuple(one.tobytes() for one in images))
    yield found


SETTINGS: Mapping[str, tuple[str, ...]] = {
    "heart": ("rounds=8", "privacy.sample_rate=0.02", "privacy.steps_per_round=80"),
    "heart, one step a round": ("rounds=200", "privacy.sample_rate=0.05", "privacy.steps_per_round=1"),
    "x-rays": ("rounds=10", "privacy.sample_rate=0.05", "privacy.steps_per_round=20"),
}


def row(
    task: Task, sites: Mapping[str, str | Dataset], settings: Sequence[str], epsilon: float, seeds: Sequence[int]
) -> dict[str, object]:
    begun = time.perf_counter()
    found = simulate_training(task, sites, settings=settings, epsilon=epsilon, seeds=seeds)
    finals = [one.final for one in found]
    return {
        "settings": list(settings),
        "mean": statistics.fmean(finals),
        "sd": statistics.stdev(finals) if len(finals) > 1 else 0.0,
        "finals": finals,
        "epsilon": max(one.epsilon for one in found),
        "noise_multiplier": found[0].federation.privacy.noise_multiplier,
        "seconds": time.perf_counter() - begun,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="optimisers after the sum, at equal epsilon")
    parser.add_argument("--data", default="heart", help="heart, or an .npz file of train_images and train_labels")
    parser.add_argument("--study", choices=tuple(SETTINGS), help="which settings; default: those of the data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--images", type=int, default=4708, help="most images of the file")
    parser.add_argument("--set", action="append", default=[], help="a setting more, for all rows")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = arguments.study or ("heart" if arguments.data == "heart" else "x-rays")
    task = TableTask(heart()) if arguments.data == "heart" else Pneumonia()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    told = {}
    opened = heart_sites() if arguments.data == "heart" else xray_sites(Path(arguments.data), arguments.images)
    with opened as sites:
        for name, chosen in LOCAL.items():
            if arguments.only in name:
                settings = (*SETTINGS[study], *chosen, *arguments.set)
                told[name] = found = row(task, sites, settings, arguments.epsilon, seeds)
                print(
                    f"{study}: {name:24s} AUC {found['mean']:.3f} ± {found['sd']:.3f}  ε {found['epsilon']:.2f}  "
                    f"{found['seconds']:.0f} s",
                    file=sys.stderr,
                )
    if arguments.json:
        print(json.dumps({"benchmark": "optimisers", "study": study, "seeds": len(seeds), "rows": told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What noise in parts wins at a small ε: five sites, one step a round, against each site's own noise.

Heart disease, every coordinate; or, with `--xrays`, chest X-rays at sites with skewed labels, a CNN of 206 000
parameters along rank 1, so that 2 700 numbers are noised and sent. The same ε, sample rate and rounds for all rows
(`simulate_training`, which sums in the field); each row at the best of the study's learning rates and then of those
near it, as a plan chooses, on other splits (seeds 100 and up). ε is that of the account: of noise in parts against
outsiders and `colluders` sites together, beside it that against all other sites together. Pooled: all records, without
privacy; not of X-rays.

    python benchmarks/distributed_noise.py [--seeds 5] [--tuned 3] [--epsilon 1] [--rounds 40] [--xrays FILE.npz]
                                           [--ways 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import light  # noqa: E402
from benchmarks.federated_auc import PRIVACY, joined, metric, records_by_site  # noqa: E402
from p2pfl.simulate.planning import NEAR  # noqa: E402
from p2pfl.simulate.training import held_out, seeded, simulate_training  # noqa: E402
from p2pfl.training.baseline import site_alone  # noqa: E402
from p2pfl.training.given import records_of  # noqa: E402
from p2pfl.training.local import Trainer  # noqa: E402
from p2pfl.training.privacy.account import Mechanism, alone_after  # noqa: E402
from p2pfl.training.records.records import Records  # noqa: E402
from p2pfl.training.task import Task  # noqa: E402
from p2pfl.training.tasks.heart import heart  # noqa: E402
from p2pfl.training.tasks.heart_records import deal  # noqa: E402
from p2pfl.training.tasks.table import TableTask  # noqa: E402

SITES: Final = 5
FIRST_TUNED: Final = 100
PICTURES: Final = 64  # expected in a step at a common site
WAYS: Final = {
    "each site's own": ("privacy.noise=local",),
    "in parts, against 2 sites": ("privacy.noise=distributed",),
    "in parts, against 1 site": ("privacy.noise=distributed", "privacy.colluders=1"),
}


@dataclass(frozen=True)
class Study:
    """Records by site, the task, and settings of peers.yaml that all ways share."""

    task: Task
    sites: Mapping[str, Records]
    settings: tuple[str, ...]
    rates: tuple[float, ...]


def tables() -> Study:
    """Heart disease, a linear model."""
    task = TableTask(heart())
    return Study(task, records_by_site(task, deal(SITES).files), ("privacy.sample_rate=0.3",), (0.01, 0.03, 0.1))


class Pictures(light.Pictures):
    """The CNN of benchmarks/light.py."""

    expected_batch = float(PICTURES)


def pictures(data: Path) -> Study:
    """Chest X-rays along rank 1."""
    x, y = light.read(data)
    rate = f"privacy.sample_rate={PICTURES / (0.75 * len(x) / SITES):.5f}"
    rank = "compression.method=lowrank", "compression.density=1e-6"  # of which rank 1 comes
    wide = "sharing.clip=20", "sharing.scale=2"  # beyond what any update reaches
    task = Pictures(0.0)
    sites = {name: records_of(task, one) for name, one in light.sites(x, y).items()}
    return Study(task, sites, (rate, *rank, *wide), (0.5, 1.0, 2.0))


@dataclass(frozen=True)
class Row:
    """One way: its learning rate, AUC by seed, its noise multiplier, ε, and ε against all other sites together."""

    way: str
    learning_rate: float
    auc: tuple[float, ...]
    noise_multiplier: float
    epsilon: float
    alone: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.auc)

    @property
    def spread(self) -> float:
        return statistics.stdev(self.auc) if len(self.auc) > 1 else 0.0


def trained(of: Study, way: str, rate: float, epsilon: float, rounds: int, seeds: Sequence[int]) -> Row:
    """Train once for each seed."""
    settings = (*of.settings, "privacy.steps_per_round=1", "local.optimiser=sgd", f"local.learning_rate={rate}")
    found = simulate_training(
        of.task, of.sites, settings=(*settings, *WAYS[way]), rounds=rounds, epsilon=epsilon, seeds=seeds
    )
    privacy = found[0].federation.privacy
    alone = alone_after(Mechanism.of_pass(privacy), found[0].epsilon, privacy.delta)
    auc = tuple(one.final for one in found)
    print(f"{way}, learning rate {rate:g}: AUC {statistics.fmean(auc):.4f}", file=sys.stderr, flush=True)
    return Row(way, rate, auc, privacy.noise_multiplier, found[0].epsilon, alone)


def best_rate(of: Study, way: str, epsilon: float, rounds: int, tuned: Sequence[int]) -> float:
    """The learning rate with the best mean over the seeds `tuned`."""
    tried = [trained(of, way, rate, epsilon, rounds, tuned) for rate in of.rates]
    best = max(tried, key=lambda one: one.mean).learning_rate
    tried += [trained(of, way, float(f"{best * factor:.3g}"), epsilon, rounds, tuned) for factor in NEAR]
    return max(tried, key=lambda one: one.mean).learning_rate


def pooled(seeds: Sequence[int]) -> tuple[float, ...]:
    """AUC of all records together, without privacy, on the same splits."""
    of, auc = tables(), list[float]()
    for seed in seeds:
        sites = [held_out(seed, name, records) for name, records in of.sites.items()]
        trainers = [Trainer(task=of.task, site=site, privacy=PRIVACY) for site in sites]
        whole = joined([site.train for site in sites])
        auc.append(metric(trainers, site_alone(of.task, whole, seeded(seed, "pooled"))))
    return tuple(auc)


def main() -> int:
    """One line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tuned", type=int, default=3, help="seeds that choose a learning rate")
    parser.add_argument("--ways", type=int, default=len(WAYS), help="the first so many")
    parser.add_argument("--xrays", type=Path, help=".npz of *_images and *_labels, 28 × 28; default: heart disease")
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    of = tables() if asked.xrays is None else pictures(asked.xrays)
    rows, tuned = list[Row](), range(FIRST_TUNED, FIRST_TUNED + asked.tuned)
    for way in list(WAYS)[: asked.ways]:
        best = best_rate(of, way, asked.epsilon, asked.rounds, tuned)
        rows.append(trained(of, way, best, asked.epsilon, asked.rounds, range(asked.seeds)))
    whole = pooled(range(asked.seeds)) if asked.xrays is None else ()
    if asked.json:
        print(json.dumps({"rows": [asdict(one) for one in rows], "pooled": whole}))
    else:
        for one in rows:
            print(
                f"{one.way:26s} AUC {one.mean:.3f} ± {one.spread:.3f}   ε {one.epsilon:.2f}, against all others "
                f"{one.alone:.2f}; noise {one.noise_multiplier:g}, learning rate {one.learning_rate:g}"
            )
        if len(whole) > 1:
            print(f"{'pooled, without privacy':26s} AUC {statistics.fmean(whole):.3f} ± {statistics.stdev(whole):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What noise in parts wins at a small ε: heart disease, five sites, one step a round, against each site's own noise.

The same ε, sample rate and rounds for all rows (`simulate_training`, which sums in the field); each row at the best of
LEARNING_RATES and then of those near it, as a plan chooses, on other splits (seeds 100 to 102). ε is that of the
account: of noise in parts against outsiders and `colluders` sites together, beside it that against all other sites
together. Pooled: all records, without privacy.

    python benchmarks/distributed_noise.py [--seeds 5] [--epsilon 1] [--rounds 40] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.federated_auc import PRIVACY, joined, metric  # noqa: E402
from p2pfl.simulate.planning import NEAR  # noqa: E402
from p2pfl.simulate.training import held_out, seeded, simulate_training  # noqa: E402
from p2pfl.training.baseline import site_alone  # noqa: E402
from p2pfl.training.data import deal  # noqa: E402
from p2pfl.training.local import Trainer  # noqa: E402
from p2pfl.training.privacy import Mechanism, alone_after  # noqa: E402
from p2pfl.training.records import Records  # noqa: E402
from p2pfl.training.tasks.heart import heart  # noqa: E402
from p2pfl.training.tasks.table import TableTask  # noqa: E402

SITES: Final = 5
RATE: Final = 0.3
TUNED_ON: Final = (100, 101, 102)
LEARNING_RATES: Final = (0.01, 0.03, 0.1)
WAYS: Final = {
    "each site's own": ("privacy.noise=local",),
    "in parts, against 2 sites": ("privacy.noise=distributed",),
    "in parts, against 1 site": ("privacy.noise=distributed", "privacy.colluders=1"),
}


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


def trained(way: str, rate: float, epsilon: float, rounds: int, seeds: Sequence[int]) -> Row:
    """Train once for each seed."""
    task = TableTask(heart())
    read = {name: Records(task.read(raw, name), name) for name, raw in deal(SITES).files.items()}
    common = ("privacy.steps_per_round=1", f"privacy.sample_rate={RATE}", "local.optimiser=sgd")
    settings = (*common, f"local.learning_rate={rate}", *WAYS[way])
    found = simulate_training(task, read, settings=settings, rounds=rounds, epsilon=epsilon, seeds=seeds)
    privacy = found[0].federation.privacy
    alone = alone_after(Mechanism.of_pass(privacy), found[0].epsilon, privacy.delta)
    return Row(way, rate, tuple(one.final for one in found), privacy.noise_multiplier, found[0].epsilon, alone)


def best_rate(way: str, epsilon: float, rounds: int) -> float:
    """The learning rate with the best mean over TUNED_ON."""
    tried = [trained(way, rate, epsilon, rounds, TUNED_ON) for rate in LEARNING_RATES]
    best = max(tried, key=lambda one: one.mean).learning_rate
    tried += [trained(way, float(f"{best * factor:.3g}"), epsilon, rounds, TUNED_ON) for factor in NEAR]
    return max(tried, key=lambda one: one.mean).learning_rate


def pooled(seeds: Sequence[int]) -> tuple[float, ...]:
    """AUC of all records together, without privacy, on the same splits."""
    task, auc = TableTask(heart()), list[float]()
    read = {name: Records(task.read(raw, name), name) for name, raw in deal(SITES).files.items()}
    for seed in seeds:
        sites = [held_out(seed, name, records) for name, records in read.items()]
        trainers = [Trainer(task=task, site=site, privacy=PRIVACY) for site in sites]
        whole = joined([site.train for site in sites])
        auc.append(metric(trainers, site_alone(task, whole, seeded(seed, "pooled"))))
    return tuple(auc)


def main() -> int:
    """One line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for way in WAYS:
        best = best_rate(way, asked.epsilon, asked.rounds)
        print(f"{way}: learning rate {best:g}", file=sys.stderr)
        rows.append(trained(way, best, asked.epsilon, asked.rounds, range(asked.seeds)))
    whole = pooled(range(asked.seeds))
    if asked.json:
        print(json.dumps({"rows": [asdict(one) for one in rows], "pooled": whole}))
    else:
        for one in rows:
            print(
                f"{one.way:26s} AUC {one.mean:.3f} ± {one.spread:.3f}   ε {one.epsilon:.2f}, against all others "
                f"{one.alone:.2f}; noise {one.noise_multiplier:g}, learning rate {one.learning_rate:g}"
            )
        print(f"{'pooled, without privacy':26s} AUC {statistics.fmean(whole):.3f} ± {statistics.stdev(whole):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Does a batch that grows buy accuracy at the same ε? Beside one that shrinks, and beside a learning rate that falls.

The rounds are cut into as many stages as SCHEDULES has batches. Every schedule draws as many records, in as many steps,
and spends the same ε: its noise multiplier is the least with which one account of all its stages, each at its own
sample rate, stays within it. Of each stage the divisor is the expected batch, which is public, so the noise in a step
falls as the batch grows. Heart disease at five sites, or chest X-rays (`--xrays`) with skewed labels; the sites' own
passes and accounts, the mean of their updates in floats. Each schedule is at the best of the RATES, and then of those
beside the best, on other splits (seeds 100 and up).

    python benchmarks/batch_schedule.py [--seeds 5] [--tuned 3] [--epsilon 3] [--schedules 2] [--xrays FILE.npz]
                                        [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import light  # noqa: E402
from benchmarks._report import Finding, machine, mean_and_spread, show  # noqa: E402
from benchmarks.federated_auc import PRIVACY, metric, records_by_site  # noqa: E402
from p2pfl.federation.federation import Privacy  # noqa: E402
from p2pfl.federation.optimisers import SiteOptimiser  # noqa: E402
from p2pfl.keys import SEED_BYTES, Secret  # noqa: E402
from p2pfl.simulate.training import held_out, seeded  # noqa: E402
from p2pfl.training.given import records_of  # noqa: E402
from p2pfl.training.local import Trainer  # noqa: E402
from p2pfl.training.privacy.account import Account, Mechanism  # noqa: E402
from p2pfl.training.records.records import Records  # noqa: E402
from p2pfl.training.task import Task  # noqa: E402
from p2pfl.training.tasks.heart import heart  # noqa: E402
from p2pfl.training.tasks.heart_records import deal  # noqa: E402
from p2pfl.training.tasks.table import TableTask  # noqa: E402

SITES: Final = 5
FIRST_TUNED: Final = 100
NEAR: Final = (0.5, 2.0)
MOST_NOISE: Final = 64.0
SAME: Final = (1.0, 1.0, 1.0, 1.0)
GROWING: Final = (0.4, 0.8, 1.2, 1.6)
SHRINKING: Final = (1.6, 1.2, 0.8, 0.4)


@dataclass(frozen=True)
class Schedule:
    """Batch and noise of each stage, in units of their mean and of the least noise; what the learning rate does."""

    name: str
    batches: tuple[float, ...] = SAME
    noises: tuple[float, ...] = SAME
    pace: str = "constant"


SCHEDULES: Final = (
    Schedule("the same batch and noise"),
    Schedule("a batch that grows fourfold", GROWING),
    Schedule("a batch that shrinks fourfold", SHRINKING),
    Schedule("noise that falls to a half", noises=(1.4, 1.1, 0.9, 0.7)),
    Schedule("the same, cosine learning rate", pace="cosine"),
    Schedule("a batch that grows, cosine learning rate", GROWING, pace="cosine"),
)


@dataclass(frozen=True)
class Study:
    """Records by site, a task of a batch and a learning rate, and how it trains.

    batch      expected records of a step at a common site, the mean over the stages
    records    that a common site trains on
    """

    sites: Mapping[str, Records]
    task: Callable[[float, float], Task]
    batch: float
    records: float
    rounds: int
    steps: int
    rates: tuple[float, ...]


def tables() -> Study:
    """Heart disease, the MLP of the example."""

    def made(batch: float, rate: float) -> Task:
        return TableTask(replace(heart(), learning_rate=rate, expected_batch=batch))

    task = TableTask(heart())
    sites = records_by_site(task, deal(SITES).files)
    records = 0.75 * sum(map(len, sites.values())) / SITES
    return Study(sites, made, 4.0, records, 20, 16, (0.03, 0.1, 0.3))


class Pictures(light.Pictures):
    """The CNN of benchmarks/light.py, of another batch."""

    def __init__(self, batch: float, learning_rate: float) -> None:
        super().__init__(learning_rate)
        self.expected_batch = batch


def pictures(data: Path) -> Study:
    """Chest X-rays."""
    x, y = light.read(data)
    task = Pictures(32.0, 0.5)
    sites = {name: records_of(task, one) for name, one in light.sites(x, y).items()}
    return Study(sites, Pictures, 32.0, 0.75 * len(x) / SITES, 12, 8, (0.2, 0.5))


def stages(of: Study, schedule: Schedule, noise: float, epsilon: float) -> list[tuple[float, Privacy]]:
    """For each round its expected batch, and what its pass is charged as."""
    found, cut = list[tuple[float, Privacy]](), len(schedule.batches)
    for number in range(of.rounds):
        stage = number * cut // of.rounds
        batch, sigma = of.batch * schedule.batches[stage], noise * schedule.noises[stage]
        how = {"noise_multiplier": sigma, "sample_rate": batch / of.records, "steps_per_round": of.steps}
        found.append((batch, replace(PRIVACY, max_epsilon=epsilon, **how)))  # type: ignore[arg-type]
    return found


def spent(of: Study, schedule: Schedule, noise: float) -> float:
    """ε of all rounds together."""
    account = Account()
    for _, privacy in stages(of, schedule, noise, math.inf):
        account.add(Mechanism.of_pass(privacy))
    return account.epsilon(PRIVACY.delta)


def least_noise(of: Study, schedule: Schedule, epsilon: float) -> float:
    """The least noise multiplier, in thousandths, with which all rounds stay within ε."""
    low, high = 300, int(MOST_NOISE * 1000)
    guess = 1500
    while high - low > 1:
        low, high = (low, guess) if spent(of, schedule, guess / 1000) <= epsilon else (guess, high)
        guess = min((low + high) // 2, 2 * low)
    return high / 1000


def trained(of: Study, schedule: Schedule, noise: float, epsilon: float, rate: float, seed: int) -> float:
    """AUC of the last model, on the held-out quarters of all sites."""
    public, model = hashlib.sha256(f"first model {seed}".encode()).digest(), None
    local = SiteOptimiser(schedule=schedule.pace, rounds=of.rounds)
    split = [held_out(seed, name, records) for name, records in of.sites.items()]
    draws = [seeded(seed, name) for name in of.sites]
    accounts, trainers, last = [Account() for _ in split], list[Trainer](), None
    for number, (batch, privacy) in enumerate(stages(of, schedule, noise, epsilon)):
        if privacy != last:
            task, last = of.task(batch, rate), privacy
            trainers = [Trainer(task=task, site=site, privacy=privacy, local=local) for site in split]
        if model is None:
            model = trainers[0].initial(public)
        moved = np.zeros(model.size, np.float64)
        for trainer, account, draw in zip(trainers, accounts, draws, strict=True):
            charge = account.charge(privacy)  # refuses whatever would overspend
            moved += trainer.train(model, charge, Secret(draw(SEED_BYTES), "seed of a pass"), number)
        model = (model + moved / len(trainers)).astype(np.float32)
    if model is None:
        raise ValueError("no rounds")
    return metric(trainers, model)


def best_rate(of: Study, schedule: Schedule, noise: float, epsilon: float, seeds: Sequence[int]) -> float:
    """The learning rate with the best mean over `seeds`, by the same rule for every schedule."""

    def merit(rate: float) -> float:
        return statistics.fmean(trained(of, schedule, noise, epsilon, rate, seed) for seed in seeds)

    tried = {rate: merit(rate) for rate in of.rates}
    best = max(tried, key=lambda rate: tried[rate])
    tried |= {best * factor: merit(best * factor) for factor in NEAR}
    return max(tried, key=lambda rate: tried[rate])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tuned", type=int, default=3, help="seeds that choose a learning rate")
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--schedules", type=int, default=len(SCHEDULES), help="the first so many")
    parser.add_argument("--rounds", type=int, help="another number of rounds than the study's own")
    parser.add_argument("--xrays", type=Path, help=".npz of *_images and *_labels, 28 × 28; default: heart disease")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    of = tables() if asked.xrays is None else pictures(asked.xrays)
    of = of if asked.rounds is None else replace(of, rounds=asked.rounds)
    found, plain = list[Finding](), np.zeros(asked.seeds)
    for schedule in SCHEDULES[: asked.schedules]:
        noise = least_noise(of, schedule, asked.epsilon)
        tuned = range(FIRST_TUNED, FIRST_TUNED + asked.tuned)
        rate = best_rate(of, schedule, noise, asked.epsilon, tuned)
        auc = np.array([trained(of, schedule, noise, asked.epsilon, rate, seed) for seed in range(asked.seeds)])
        plain = auc if schedule is SCHEDULES[0] else plain
        less, about = auc - plain, f"{schedule.name}: noise {noise:g}, learning rate {rate:g}"
        found += [
            Finding(f"{about}: AUC", tuple(auc)),
            Finding(f"{schedule.name}: less the first, by seed", tuple(less)),
        ]
        print(
            f"{about}: AUC {mean_and_spread(tuple(auc))}, less the first {mean_and_spread(tuple(less))}",
            file=sys.stderr,
            flush=True,
        )
    return show(f"a batch schedule, ε {asked.epsilon:g}", found, machine("torch", "opacus"), as_json=asked.json)


if __name__ == "__main__":
    sys.exit(main())

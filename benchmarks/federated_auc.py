"""Does a private federation learn more than a site alone, and how much less than pooled records would teach?

Real records (UCI Heart Disease, four hospitals, five sites), the real local pass (Opacus DP-SGD, keystream noise), the
settings that `p2pfl demo` writes into peers.yaml: `simulate_training`, which sums in the field. Each seed splits off
another quarter of every site's records; the metric is AUC on the union of the held-out quarters, from the same
histograms that the sites sum. A site alone and the pooled records are trained without privacy. The settings were chosen
on other splits (seeds 100 and up).

    python benchmarks/federated_auc.py [--seeds 5] [--rounds 8] [--sites 5] [--set server.method=adam …] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Finding, keep  # noqa: E402
from p2pfl.federation.federation import Privacy  # noqa: E402
from p2pfl.simulate.training import held_out, seeded, simulate_training, simulated  # noqa: E402
from p2pfl.training.baseline import site_alone  # noqa: E402
from p2pfl.training.local import Trainer  # noqa: E402
from p2pfl.training.records.records import Arrays, Records  # noqa: E402
from p2pfl.training.tasks.heart import heart  # noqa: E402
from p2pfl.training.tasks.heart_records import deal  # noqa: E402
from p2pfl.training.tasks.table import TableTask  # noqa: E402
from p2pfl.training.update import FlatVector  # noqa: E402

SITES = 5
ROUNDS = 8
PROMISED = 0.865
PRIVACY = Privacy(
    unit="record",
    noise_multiplier=1.1,
    max_grad_norm=1.0,
    sample_rate=0.02,
    steps_per_round=80,
    delta=1e-5,
    max_epsilon=3.0,
)


@dataclass(frozen=True)
class SeedOutcome:
    """One seed: AUC on the union of the held-out quarters, ε, and the longest single pass."""

    alone: tuple[float, ...]
    pooled: float
    by_round: tuple[float, ...]
    epsilon: float
    largest_norm: float
    largest_value: float
    pass_seconds: float

    @property
    def federated(self) -> float:
        return self.by_round[-1]


def joined(parts: list[Records]) -> Records:
    batches = [one.batch(np.arange(len(one))) for one in parts]
    x, y = (np.concatenate(column) for column in zip(*batches, strict=True))
    return Records(Arrays(x, y, [one.identity(row) for one in parts for row in range(len(one))]))


def records_by_site(task: TableTask, files: Mapping[str, bytes]) -> dict[str, Records]:
    return {name: Records(task.read(raw, name), name) for name, raw in files.items()}


def metric(trainers: list[Trainer], model: FlatVector) -> float:
    total = np.sum([trainer.evaluate(model) for trainer in trainers], axis=0)
    return trainers[0].figures(total)["auc"].value


def one_seed(
    task: TableTask, files: dict[str, bytes], seed: int, privacy: Privacy, rounds: int, settings: Sequence[str] = ()
) -> SeedOutcome:
    read = records_by_site(task, files)
    agreed = replace(simulated(tuple(read), settings, rounds=rounds), privacy=privacy)
    (found,) = simulate_training(task, read, federation=agreed, seeds=(seed,))
    sites = [held_out(seed, name, records) for name, records in read.items()]  # as that training split them
    trainers = [Trainer(task=task, site=site, privacy=privacy) for site in sites]
    alone = [metric(trainers, site_alone(task, site.train, seeded(seed, "alone"))) for site in sites]
    pooled = metric(trainers, site_alone(task, joined([site.train for site in sites]), seeded(seed, "pooled")))
    by_round = tuple(figures["auc"].value for figures in found.figures)
    return SeedOutcome(
        tuple(alone), pooled, by_round, found.epsilon, found.largest_norm, found.largest_value, found.pass_s
    )


def spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
        "least": min(values),
        "most": max(values),
    }


def report(findings: list[SeedOutcome], privacy: Privacy, rounds: int) -> dict[str, object]:
    alone = [value for one in findings for value in one.alone]
    rows = {
        "federated": spread([one.federated for one in findings]),
        "site_alone": spread(alone),
        "site_alone_means": spread([statistics.fmean(one.alone) for one in findings]),
        "pooled": spread([one.pooled for one in findings]),
    }
    return {
        "benchmark": "federated_auc",
        "seeds": len(findings),
        "sites": len(findings[0].alone),
        "rounds": rounds,
        **rows,
        "best_alone": spread([max(one.alone) for one in findings]),
        "below_pooled": spread([one.pooled - one.federated for one in findings]),
        "gap_to_pooled": rows["pooled"]["mean"] - rows["federated"]["mean"],
        "federated_by_round": np.mean([one.by_round for one in findings], axis=0).tolist(),
        "epsilon": max(one.epsilon for one in findings),
        "delta": privacy.delta,
        "noise_multiplier": privacy.noise_multiplier,
        "max_grad_norm": privacy.max_grad_norm,
        "sample_rate": privacy.sample_rate,
        "steps_per_round": privacy.steps_per_round,
        "largest_update_norm": max(one.largest_norm for one in findings),
        "largest_coordinate": max(one.largest_value for one in findings),
        "pass_seconds": statistics.median(one.pass_seconds for one in findings),
        "promised": PROMISED,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }


def show(findings: list[SeedOutcome], found: dict[str, object]) -> None:
    print("seed   mean alone   federated   pooled   each site alone")
    for seed, one in enumerate(findings):
        mean_alone, alone = statistics.fmean(one.alone), "  ".join(f"{value:.3f}" for value in one.alone)
        print(f"{seed:4d}   {mean_alone:.3f}        {one.federated:.3f}       {one.pooled:.3f}    {alone}")
    for name in ("site_alone", "best_alone", "federated", "pooled"):
        row = found[name]
        assert isinstance(row, dict)
        print(f"{name:11s} AUC {row['mean']:.3f} ± {row['sd']:.3f}  ({row['least']:.3f} to {row['most']:.3f})")
    curve = found["federated_by_round"]
    assert isinstance(curve, list)
    print("federated after each round: " + " ".join(f"{value:.3f}" for value in curve))
    norm, value = found["largest_update_norm"], found["largest_coordinate"]
    print(
        f"ε = {found['epsilon']:.3f} at δ = {found['delta']:g}; largest update: norm {norm:.2f}, coordinate {value:.2f}"
    )
    print(f"one pass {found['pass_seconds']:.3f} s (median)")
    mean, below = found["federated"], found["below_pooled"]
    assert isinstance(mean, dict) and isinstance(below, dict)
    print(f"pooled less federated, seed by seed: {below['mean']:.3f} ± {below['sd']:.3f}")
    print(
        f"federated AUC = {mean['mean']:.3f} ({found['seeds']} seeds; promised ≥ {PROMISED}); "
        f"pooled − federated = {found['gap_to_pooled']:.3f} (goal ≤ 0.010)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="AUC of a private federation, of sites alone, of pooled records")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=PRIVACY.steps_per_round)
    parser.add_argument("--sites", type=int, default=SITES)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of peers.yaml, but privacy.*")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if any(one.startswith(("privacy", "rounds")) for one in arguments.set):
        parser.error("--set has no privacy.* and no rounds: say --steps, --rounds")
    torch.set_num_threads(1)
    privacy = replace(PRIVACY, steps_per_round=arguments.steps)
    task, files = TableTask(heart()), deal(arguments.sites).files
    findings = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        print(f"seed {seed} …", file=sys.stderr)
        findings.append(one_seed(task, files, seed, privacy, arguments.rounds, arguments.set))
    found = report(findings, privacy, arguments.rounds)
    if arguments.json:
        print(json.dumps(found))
    else:
        show(findings, found)
    promised = Finding("AUC of the federation", tuple(one.federated for one in findings), at_least=PROMISED)
    keep("private training", [promised])
    mean = found["federated"]
    return 0 if isinstance(mean, dict) and mean["mean"] >= PROMISED else 1


if __name__ == "__main__":
    sys.exit(main())

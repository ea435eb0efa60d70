"""Does a trained model tell more of its records than its ε allows? An audit of one training (Steinke et al. 2023).

Canaries are records with a wrong label, each among the first site's records by the toss of a coin. The real sites train
once (`simulate_training`). Whoever has the model guesses which canaries were there, by their loss on it, and keeps
quiet about those in the middle. With so many right guesses ε is at least the bound that is printed, except with a
chance of 5 %. A training without privacy beside it shows that the guesser can guess. The bound of one training is a
weak one: it finds gross faults. `tests/simulate/test_mechanism_audit.py` audits the mechanism, and finds halved noise.

    python benchmarks/canary_audit.py [--canaries 300] [--guesses 150] [--seed 0] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Finding, keep  # noqa: E402
from p2pfl.simulate.training import held_out, simulate_training  # noqa: E402
from p2pfl.training.measures.classification import Binary  # noqa: E402
from p2pfl.training.measures.measure import Measure  # noqa: E402
from p2pfl.training.records.records import Arrays, Records  # noqa: E402
from p2pfl.training.task import Task  # noqa: E402
from p2pfl.training.update import write_vector  # noqa: E402

FEATURES: Final = 30
SITES: Final = 3
SUSPECTED: Final = "site-0"
RECORDS: Final = 1000  # of each site beside the canaries
CONFIDENCE: Final = 0.05
DELTA: Final = 1e-5
MOST: Final = 50.0  # ε beyond which no bound is looked for
SETTINGS: Final = ("rounds=8", "privacy.steps_per_round=20", "privacy.sample_rate=0.1", "privacy.noise_multiplier=2.0")
WITHOUT: Final = ("rounds=80", "privacy=none")


class Tumours(Task):
    """A network large enough to learn single records by heart."""

    name: ClassVar[str] = "canaries"
    learning_rate = 0.5
    expected_batch = 100.0

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        """Nothing is read: the records are made."""
        raise NotImplementedError

    def model(self) -> nn.Module:
        """30 – 256 – 1."""
        return nn.Sequential(nn.Linear(FEATURES, 256), nn.Tanh(), nn.Linear(256, 1))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross entropy.    (B,)"""
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype), reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The chance of yes.    (B,)"""
        return outputs[:, 0].sigmoid()

    def measures(self) -> Sequence[Measure]:
        """AUC and what goes with it."""
        return (Binary(),)


@dataclass(frozen=True)
class Audited:
    """One training: ε of its account, the least ε that guesses show, guesses, those that were right, its AUC."""

    epsilon: float
    bound: float
    guesses: int
    right: int
    auc: float


def made(count: int, dice: np.random.Generator, wrong: bool = False) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Records whose label follows three of their inputs; or the opposite."""
    x = dice.normal(size=(count, FEATURES)).astype(np.float32)
    return x, ((x[:, :3].sum(axis=1) > 0) != wrong).astype(np.int64)


def dataset(x: NDArray[np.float32], y: NDArray[np.int64]) -> Arrays:
    """Both as a dataset."""
    return Arrays(x, y, [row.tobytes() for row in x])


def audit(canaries: int, guesses: int, seed: int, settings: tuple[str, ...]) -> Audited:
    """Train once, and guess which canaries were there."""
    dice = np.random.default_rng(seed)
    x, y = made(2 * canaries, dice, wrong=True)
    # Of which the site would train on each, if it had it: by its digest, whoever else is there.
    kept = held_out(seed, SUSPECTED, Records(dataset(x, y))).train.rows[:canaries]
    suspects = x[kept], y[kept]
    there = dice.random(canaries) < 0.5
    sites = {}
    for place in range(SITES):
        x, y = made(RECORDS, dice)
        if f"site-{place}" == SUSPECTED:
            x, y = np.concatenate([x, suspects[0][there]]), np.concatenate([y, suspects[1][there]])
        sites[f"site-{place}"] = Records(dataset(x, y))
    task = Tumours()
    (found,) = simulate_training(task, sites, settings=settings, seeds=(seed,))
    model = task.model()
    write_vector(model, found.model)
    with torch.no_grad():
        loss = task.loss(model(torch.from_numpy(suspects[0])), torch.from_numpy(suspects[1])).numpy()
    order = np.argsort(loss)
    half = guesses // 2
    right = int(there[order[:half]].sum()) + int((~there[order[-half:]]).sum())
    bound = least_epsilon(canaries, 2 * half, right, DELTA)
    return Audited(found.epsilon, bound, 2 * half, right, found.final)


def log_tail(guesses: int, chance: float) -> NDArray[np.float64]:
    """P[Bin(guesses, chance) ≥ v] for v = 0 … guesses + 1.    (guesses + 2,)"""
    k = np.arange(guesses + 1)
    logs = np.array([math.lgamma(guesses + 1) - math.lgamma(one + 1) - math.lgamma(guesses - one + 1) for one in k])
    logs += k * math.log(chance) + (guesses - k) * math.log1p(-chance)
    tail: NDArray[np.float64] = np.append(np.cumsum(np.exp(logs)[::-1])[::-1], 0.0)
    return tail


def p_value(epsilon: float, canaries: int, guesses: int, right: int, delta: float) -> float:
    """The chance of so many right guesses, at most, of a mechanism that is (ε, δ)-private: their theorem."""
    tail = log_tail(guesses, 1.0 / (1.0 + math.exp(-epsilon)))
    places = np.arange(1, right + 1)
    worst = float(np.max((tail[right - places] - tail[right]) / places)) if right else 0.0
    return float(tail[right]) + 2.0 * canaries * delta * worst


def least_epsilon(canaries: int, guesses: int, right: int, delta: float) -> float:
    """The largest ε that the guesses speak against; 0 where they speak against none."""
    low, high = 0.0, MOST
    if p_value(low, canaries, guesses, right, delta) > CONFIDENCE:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, canaries, guesses, right, delta) <= CONFIDENCE else (low, middle)
    return low


def main() -> int:
    """Both trainings, and one line for each; 1 where the bound is above ε, or the guesser finds nothing anywhere."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--canaries", type=int, default=300)
    parser.add_argument("--guesses", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    private = audit(asked.canaries, asked.guesses, asked.seed, SETTINGS)
    plain = audit(asked.canaries, asked.guesses, asked.seed, WITHOUT)
    if asked.json:
        print(json.dumps({"private": private.__dict__, "without_privacy": {**plain.__dict__, "epsilon": None}}))
    else:
        for what, one in (("with DP-SGD", private), ("without privacy", plain)):
            print(
                f"{what:<16} {one.right} of {one.guesses} guesses right: ε ≥ {one.bound:.2f} (with 95 % confidence); "
                f"ε of the account {one.epsilon:.2f} at δ {DELTA:g}; AUC {one.auc:.3f}"
            )
    found = Finding("bound of an audit of one training / ε", (private.bound / private.epsilon,), at_most=1.0)
    shown = Finding("the same bound without privacy", (plain.bound,), at_least=1.0)
    keep("canary_audit", [found, shown])
    return 0 if found.holds and shown.holds else 1


if __name__ == "__main__":
    sys.exit(main())

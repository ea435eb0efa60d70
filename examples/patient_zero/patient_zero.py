"""Patient Zero: is one patient's record found in the model that three hospitals trained together? Without and with DP.

    python examples/patient_zero/patient_zero.py            # 64 models of each kind: half an hour on two cores
    python examples/patient_zero/patient_zero.py --quick    # 8 of each: some two minutes, and no plot

Two federations are alike but for one record. The attacker knows all other records, the task, the settings, and how to
train such models; of the model in question it sees only what it says of Patient Zero (black box). It trains models of
its own without Patient Zero, and from their losses on that record it says of any other model whether it was in it.

The trainings are this project's own (`Trainer`, one for each hospital, and the mean of their updates); noise and clip
are what differs. What the secure sum adds, rounding to a grid, changes nothing here, and is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.federation.federation import Privacy
from p2pfl.federation.table_columns import NumberColumn
from p2pfl.federation.table_schema import TableSchema
from p2pfl.keys import Secret
from p2pfl.training.privacy.account import Account
from p2pfl.training.records.records import Arrays, Records, SiteRecords
from p2pfl.training.tasks.table import TableTask, encode
from p2pfl.training.update import FlatVector, apply_mean

HERE: Final = Path(__file__).parent
HOSPITALS: Final = 3
OTHERS: Final = 499  # records beside Patient Zero's
ROUNDS: Final = 10
DELTA: Final = 1e-4  # below 1 / records
CHEAT: Final = 0.05  # false positives that the attacker allows itself, when it sets its threshold in advance

PRIVATE: Final = Privacy("record", 3.3, 1.0, 0.25, 8, DELTA, 3.0)
OPEN: Final = replace(PRIVATE, noise_multiplier=0.0, max_grad_norm=1e6, max_epsilon=float("inf"))
KINDS: Final = {"without DP": OPEN, "with DP": PRIVATE}

# Patient Zero looks as benign as can be, but for ten figures that no other patient has together; it was malignant.
UNLIKE_OTHERS: Final = {
    "mean compactness": -2, "mean fractal dimension": 2, "perimeter error": -2, "texture error": 2,
    "smoothness error": 2, "symmetry error": -2, "mean smoothness": 2, "worst texture": -2, "worst smoothness": 2,
    "worst fractal dimension": -2,
}  # fmt: skip


# ── the hospitals ─────────────────────────────────────────────────────────────────────────────────────────────


def task_of(text: bytes) -> TableTask:
    """The task as the hospitals agreed on it."""
    return TableTask(TableSchema.parse(text, "task.yaml"))


def records_of(schema: TableSchema) -> tuple[NDArray[np.float64], NDArray[np.int64], str]:
    """Needle biopsies from scikit-learn, or made-up ones like them; label 1 is malignant.    (N, 30), (N,)"""
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        return (*made_up(schema, 569), "made-up records: scikit-learn is not installed")
    found = load_breast_cancer()
    return found.data, 1 - found.target, "569 needle biopsies (Wolberg, Street, Mangasarian 1993), from scikit-learn"


def made_up(schema: TableSchema, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Records of two kinds that ten hidden properties tell apart, within the plausible range."""
    rng = np.random.default_rng(0)
    label = (rng.random(count) < 0.37).astype(np.int64)
    hidden = rng.normal(size=(count, 10)) + 1.1 * label[:, None]
    columns = [one for one in schema.columns if isinstance(one, NumberColumn)]
    spread = np.array(
        [0.8 * (hidden[:, place % 10] + 0.5 * rng.normal(size=count) - 0.4) for place in range(len(columns))]
    )
    values = np.array([one.centre + one.scale * row for one, row in zip(columns, spread, strict=True)]).T
    return np.clip(values, [one.low for one in columns], [one.high for one in columns]), label


def as_inputs(schema: TableSchema, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 30) ► what the model sees (N, 30)."""
    parts = [encode(one, values[:, place]) for place, one in enumerate(schema.columns)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def as_records(x: NDArray[np.float32], y: NDArray[np.int64]) -> Records:
    """Records that lie in memory."""
    return Records(Arrays(x, y, tuple(row.tobytes() for row in x)), "the example")


class World:
    """The hospitals, each with a trainer, the last one twice: without Patient Zero and with it."""

    def __init__(self, kind: str) -> None:
        from p2pfl.training.local import Trainer

        self.task, self.privacy = task_of((HERE / "task.yaml").read_bytes()), KINDS[kind]
        schema = self.task.schema
        values, label, self.source = records_of(schema)
        order = np.random.default_rng(1).permutation(len(values))
        x, y = as_inputs(schema, values[order]), label[order]
        self.tested = as_records(x[OTHERS:], y[OTHERS:])
        x, y = x[:OTHERS], y[:OTHERS]
        self.zero = np.median(x[y == 0], axis=0, keepdims=True)  # (1, 30)
        for place, one in enumerate(schema.columns):
            self.zero[0, place] = UNLIKE_OTHERS.get(one.name, self.zero[0, place])

        def trainer(x: NDArray[np.float32], y: NDArray[np.int64]) -> Trainer:
            site = SiteRecords(as_records(x, y), as_records(x[:0], y[:0]))  # all are trained on
            return Trainer(task=self.task, site=site, privacy=self.privacy)

        parts = [(x[place::HOSPITALS], y[place::HOSPITALS]) for place in range(HOSPITALS)]
        with_zero = np.concatenate([parts[-1][0], self.zero]), np.append(parts[-1][1], 1)
        self.others = [trainer(*part) for part in parts[:-1]]
        self.last = {False: trainer(*parts[-1]), True: trainer(*with_zero)}

    def trained(self, seed: int, zero: bool) -> FlatVector:
        """A model after all rounds, with Patient Zero's record or without. Its chance follows from `seed`."""
        trainers = [*self.others, self.last[zero]]
        accounts = [Account() for _ in trainers]
        model = trainers[0].initial(_bytes(seed, zero, "first"))
        for number in range(ROUNDS):
            updates = [
                one.train(model, account.charge(self.privacy), Secret(_bytes(seed, zero, f"{number} {place}")))
                for place, (one, account) in enumerate(zip(trainers, accounts, strict=True))
            ]
            model = apply_mean(model, np.sum(np.array(updates, np.float64), axis=0), HOSPITALS)
        return model

    def seen(self, model: FlatVector) -> tuple[float, float]:
        """What the attacker sees, the probability of Patient Zero's true label; and accuracy on 70 other records."""
        from p2pfl.training.models import predict

        said = predict(self.task, model, as_records(self.zero, np.array([1])))
        _, wanted = self.tested.batch(np.arange(len(self.tested)))
        right = (predict(self.task, model, self.tested) > 0.5) == wanted
        return float(said[0]), float(right.mean())


def _bytes(seed: int, zero: bool, what: str) -> bytes:
    return hashlib.sha256(f"patient zero {seed} {zero} {what}".encode()).digest()


_WORLDS: dict[str, World] = {}  # of this process


def one_model(asked: tuple[str, int, bool]) -> tuple[float, float]:
    """Train one model and look at it, in a process of the pool."""
    import torch

    torch.set_num_threads(1)
    kind, seed, zero = asked
    if kind not in _WORLDS:
        _WORLDS[kind] = World(kind)
    return _WORLDS[kind].seen(_WORLDS[kind].trained(seed, zero))


# ── the attack ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Finding:
    """What the attacker can do with models of one kind. `rate`: share, and the ends of its 95 % interval."""

    kind: str
    epsilon: float
    models: int
    accuracy: float
    auc: float
    true_positive: tuple[float, float, float]  # of the likelihood ratio, its threshold set in advance
    false_positive: tuple[float, float, float]
    advantage: tuple[float, float, float]  # of the loss, its threshold from the first half, on the second
    bound: float  # of the advantage, by ε
    inside: list[float]  # Patient Zero's probability of its true label, of models with it
    outside: list[float]


def score_of(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """log p − log(1 − p), as LiRA scales it (Carlini et al. 2022 §V): nearly normal. Large: the loss is small."""
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.log(p) - np.log1p(-p)


def auc_of(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """The chance that a model with Patient Zero has the smaller loss on it (Yeom et al. 2018)."""
    return float((inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean())


def interval(hits: int, count: int) -> tuple[float, float, float]:
    """A share with its 95 % interval (Clopper and Pearson 1934)."""
    from math import comb

    def below(p: float) -> float:
        return sum(comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(hits + 1))

    def solved(wanted: float, value: Any) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if value(middle) > wanted else (low, middle)
        return low

    upper = 1.0 if hits == count else solved(0.025, below)
    lower = (
        0.0
        if hits == 0
        else solved(0.975, lambda p: below(p) - comb(count, hits) * p**hits * (1 - p) ** (count - hits))
    )
    return hits / count, lower, upper


def likelihood_ratio(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> tuple[Any, Any]:
    """LiRA, offline (Carlini et al. 2022): true and false positives.

    A normal is fitted to the scores of models without Patient Zero, the one under attack left out. A model is called
    one with it where that normal reaches its score, or a larger one, in less than CHEAT of all cases.
    """
    cut = NormalDist().inv_cdf(1 - CHEAT)

    def called(score: float, shadows: Sequence[float]) -> bool:
        return (score - fmean(shadows)) / max(stdev(shadows), 1e-9) > cut

    held = outside.tolist()
    hits = sum(called(score, held) for score in inside.tolist())
    alarms = sum(called(score, [*held[:place], *held[place + 1 :]]) for place, score in enumerate(held))
    return interval(hits, len(inside)), interval(alarms, len(held))


def advantage_of(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> tuple[float, float, float]:
    """True less false positives at the best threshold on the loss: chosen on the first half, counted on the second.

    The interval takes that of either rate, of 97.5 % in all directions that count: at least 95 % together.
    """
    half = len(inside) // 2
    cuts = np.sort(np.concatenate([inside[:half], outside[:half]]))
    best = max(cuts, key=lambda cut: float((inside[:half] >= cut).mean() - (outside[:half] >= cut).mean()))
    true = interval(int((inside[half:] >= best).sum()), len(inside) - half)
    false = interval(int((outside[half:] >= best).sum()), len(outside) - half)
    return true[0] - false[0], true[1] - false[2], true[2] - false[1]


def bound_of(epsilon: float) -> float:
    """The most that (ε, δ)-differential privacy allows any attack: (e^ε − 1 + 2δ) / (e^ε + 1) (Kairouz et al. 2015)."""
    return 1.0 if epsilon > 500 else (np.exp(epsilon) - 1 + 2 * DELTA) / (np.exp(epsilon) + 1)


def epsilon_of(privacy: Privacy) -> float:
    """ε of one hospital's records over all rounds, of the project's own account."""
    account = Account()
    for _ in range(ROUNDS):
        account.charge(privacy)
    return account.epsilon(DELTA)


def found_in(kind: str, seen: Sequence[tuple[float, float]]) -> Finding:
    """`seen` of the models without Patient Zero, then of as many with it."""
    count = len(seen) // 2
    chance = np.array([probability for probability, _ in seen])
    outside, inside = score_of(chance[:count]), score_of(chance[count:])
    true, false = likelihood_ratio(inside, outside)
    epsilon = epsilon_of(KINDS[kind])
    return Finding(
        kind=kind,
        epsilon=epsilon,
        models=count,
        accuracy=fmean(right for _, right in seen),
        auc=auc_of(inside, outside),
        true_positive=true,
        false_positive=false,
        advantage=advantage_of(inside, outside),
        bound=float(bound_of(epsilon)),
        inside=chance[count:].tolist(),
        outside=chance[:count].tolist(),
    )


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────


def attacked(models: int, jobs: int) -> list[Finding]:
    """Train `models` of each sort, and attack them."""
    asked = [(kind, seed, zero) for kind in KINDS for zero in (False, True) for seed in range(models)]
    if jobs == 1:
        seen = [one_model(one) for one in asked]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            seen = list(pool.map(one_model, asked, chunksize=4))
    return [found_in(kind, seen[place * 2 * models : (place + 1) * 2 * models]) for place, kind in enumerate(KINDS)]


def told(found: Finding) -> str:
    """Lines for people."""

    def rate(one: tuple[float, float, float]) -> str:
        return f"{one[0]:.2f} ({one[1]:.2f} to {one[2]:.2f})"

    spent = "none" if found.epsilon == float("inf") else f"ε = {found.epsilon:.2f} at δ = {DELTA:g}"
    rows = [
        ("privacy", spent),
        ("accuracy on others", f"{found.accuracy:.3f}"),
        ("AUC of the loss", f"{found.auc:.3f}"),
        ("advantage", f"{rate(found.advantage)}; ε allows at most {found.bound:.2f}"),
        ("LiRA, true positives", f"{rate(found.true_positive)} at {CHEAT:.0%} allowed false ones"),
        ("LiRA, false positives", rate(found.false_positive)),
    ]
    return "\n".join(
        [f"{found.kind}: {found.models} models with Patient Zero, {found.models} without"]
        + [f"  {a:<22} {b}" for a, b in rows]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 models of each sort, and no plot")
    parser.add_argument("--models", type=int, default=64, help="of each sort: with and without Patient Zero and DP")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for findings.json and the plot")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    schema = task_of((HERE / "task.yaml").read_bytes()).schema
    print(records_of(schema)[2], f"and one made up; {HOSPITALS} hospitals, {ROUNDS} rounds", flush=True)
    findings = attacked(8 if options.quick else options.models, options.jobs)
    for one in findings:
        print(told(one))
    print(f"{time.monotonic() - begun:.0f} s")
    if not options.quick:
        options.out.mkdir(parents=True, exist_ok=True)
        held = [asdict(one) | {"epsilon": min(one.epsilon, 1e9)} for one in findings]
        with (options.out / "findings.json").open("w") as file:
            json.dump(held, file, indent=1)
        from plot import draw

        draw(held, options.out)


if __name__ == "__main__":
    main()

"""What a plan's settings reach at the first try: python benchmarks/first_try.py [--rounds 4 --steps 20]

Sixteen sites with made-up tables that the plan has not seen, ε 3 for each. Beside the plan's settings: those of a
drafted task as they stand, what somebody tries by hand (learning rates a factor of ten apart), and a training without
privacy. Log loss says more than AUC here: a model that has barely moved ranks records nearly as well as a good one, and
is far from what it says.
"""

from __future__ import annotations

import argparse
import statistics
import time

import p2pfl
from p2pfl import simulate_training
from p2pfl.federation.table_schema import TableSchema
from p2pfl.simulate.made_up import made_up
from p2pfl.simulate.training import SimulatedTraining
from p2pfl.training.tasks.table import TableTask

SITES, RECORDS, EPSILON, UNSEEN = 16, 120, 3.0, 77
BY_HAND = (0.01, 0.1, 1.0)

SCHEMA = TableSchema.parse(
    b"""columns:
  age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
  pressure: {number: mmHg, low: 60, high: 250, centre: 130, scale: 20}
  sex: {code: [female, male]}
  stage: {code: ["1", "2", "3", "4"]}
label:
  relapse: {binary: ["no", "yes"], positive: ["yes"]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
""",
    "task.yaml",
)


def said(name: str, trainings: list[SimulatedTraining]) -> str:
    rows = {key: [one.figures[-1][key].value for one in trainings] for key in ("auc", "log_loss")}
    spread = {key: statistics.stdev(values) if len(values) > 1 else 0.0 for key, values in rows.items()}
    told = "   ".join(f"{key} {statistics.fmean(values):.3f} ± {spread[key]:.3f}" for key, values in rows.items())
    return f"{name:<44}  {told}   ε {trainings[0].epsilon:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("rounds", 4), ("steps", 20), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    task, begun = TableTask(SCHEMA), time.perf_counter()
    found = p2pfl.plan(
        epsilon=EPSILON,
        records=RECORDS,
        rounds=given.rounds,
        steps=given.steps,
        numbers=8,
        task=task,
        tables=made_up(SCHEMA, SITES, RECORDS),
        seeds=given.seeds,
    )
    print(f"plan: {time.perf_counter() - begun:.0f} s, {sum(len(one.values) for one in found.tried)} trainings")
    print("  " + " ".join(f"--set {line}" for line in found.settings))
    tables, seeds = made_up(SCHEMA, SITES, RECORDS, UNSEEN), range(given.seeds)
    private = found.settings[:-2]  # without the learning rate
    rows = {
        "the plan's settings": found.settings,
        "the drafted task as it stands": private,
        **{f"by hand, learning rate {rate:g}": (*private, f"local.learning_rate={rate:g}") for rate in BY_HAND[1:]},
        "the plan's learning rate, no privacy, 80 steps": (
            "privacy=none",
            *(line for line in found.settings if not line.startswith("privacy.")),
        ),
    }
    for name, settings in rows.items():
        print(said(name, simulate_training(task, tables, settings=settings, seeds=seeds)), flush=True)


if __name__ == "__main__":
    main()

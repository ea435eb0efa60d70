"""Layers that stay at home, by five real processes: python benchmarks/personal_layers.py [--rounds 8] [--simulate]

Five sites with made-up tables of the same illness; two of them write the label the other way round, as where one
hospital's "yes" is a referral and another's a discharge. The same task and records, ε 3 for each site:
once with one model for all, once with the last layer at home (`local.personal=[2]`). Every step is a command that a
hospital's person types. `--simulate` is the same in one process over three seeds, without network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from p2pfl import simulate_training
from p2pfl.cli.ports import free_ports
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.privacy.plan import least_noise
from p2pfl.training.tasks.table import TableTask

SITES, OTHER_WAY, RECORDS = ("ada", "ben", "cyd", "dot", "eve"), ("dot", "eve"), 600
RATE, STEPS, EPSILON, DELTA = 0.05, 20, 3.0, 1e-5
TASK = b"""columns:
  age: {number: years, low: 0, high: 120, centre: 55, scale: 15}
  pressure: {number: mmHg, low: 60, high: 250, centre: 130, scale: 20}
  marker: {number: U/l, low: 0, high: 200, centre: 60, scale: 20}
label:
  ill: {binary: ["no", "yes"], positive: ["yes"]}
model: {mlp: 16}
learning_rate: 1.0
expected_batch: 22.5
"""


def table(place: int) -> str:
    """A site's records, as a CSV: a linear score of three measurements decides, with chance."""
    draw = np.random.default_rng(place)
    x = np.clip(draw.normal(size=(RECORDS, 3)), -2.5, 2.5)
    ill = draw.random(RECORDS) < 1.0 / (1.0 + np.exp(-(3.0 * x[:, 2] - 1.5 * x[:, 0] + x[:, 1])))
    if SITES[place] in OTHER_WAY:
        ill = ~ill
    cells = x * (15, 20, 20) + (55, 130, 60)
    rows = [f"{a:.1f},{b:.1f},{c:.1f},{'yes' if y else 'no'}" for (a, b, c), y in zip(cells, ill, strict=True)]
    return "\n".join(["age,pressure,marker,ill", *rows]) + "\n"


def settings(rounds: int, personal: str) -> list[str]:
    noise = least_noise(EPSILON, DELTA, RATE, STEPS * rounds)
    steps = [f"privacy.sample_rate={RATE}", f"privacy.steps_per_round={STEPS}", f"privacy.noise_multiplier={noise}"]
    return [f"rounds={rounds}", *steps, f"local.personal={personal}"]


def cli(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "p2pfl", *map(str, arguments)]


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(*arguments: str | Path) -> dict[str, Any]:
    return said(subprocess.run(cli(*arguments), check=True, capture_output=True, text=True))


def federation(folder: Path, rounds: int, personal: str) -> dict[str, Any]:
    """Five processes train, each exports its model and predicts: the metric, ε, and the share that is right by site."""
    peers = folder / "peers.yaml"
    (folder / "task.yaml").write_bytes(TASK)
    for place, (name, port) in enumerate(zip(SITES, free_ports(len(SITES)), strict=True)):
        (folder / name).mkdir()
        (folder / name / "records.csv").write_text(table(place))
        where = ("--home", folder / name / "home", "--key-file", folder / name / "key")
        run("init", "--name", name, "--listen", f"127.0.0.1:{port}", *where, "--json")
    cards = [folder / name / "home" / f"{name}.card" for name in SITES]
    sets = [word for one in settings(rounds, personal) for word in ("--set", one)]
    run("peers", "create", *cards, "-o", peers, "--name", "trial", "--task", folder / "task.yaml", *sets, "--json")
    at = {name: ("--peers", peers, "--home", folder / name / "home") for name in SITES}
    joins = [
        subprocess.Popen(
            cli("join", *at[name], "--data", folder / name / "records.csv", "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for name in SITES
    ]  # fmt: skip
    found = [json.loads(one.communicate()[0].splitlines()[-1]) for one in joins]
    out = {"final": found[0]["metric"]["final"], "epsilon": max(one["epsilon"] for one in found)}
    shared = {run("model", "export", *at[name], "-o", folder / f"{name}.st", "--json")["sha256"] for name in SITES}
    assert len(shared) == 1, "the shared model is the same bytes everywhere"
    out["shared_bytes"] = (folder / "ada.st").stat().st_size
    agree = []
    for name in SITES:
        model = at[name] if not personal.strip("[]") else ("--model", folder / f"{name}.whole.st")
        if personal.strip("[]"):
            run("model", "export", *at[name], "--personal", "-o", folder / f"{name}.whole.st", "--json")
        told = run("predict", *model, "--data", folder / name / "records.csv", "--json")["probabilities"]
        truth = [line.endswith("yes") for line in (folder / name / "records.csv").read_text().splitlines()[1:]]
        agree.append(statistics.fmean((p >= 0.5) == y for p, y in zip(told, truth, strict=True)))
    return out | {"right": dict(zip(SITES, agree, strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--simulate", action="store_true")
    given = parser.parse_args()
    task = TableTask(TableSchema.parse(TASK, "task.yaml"))
    for name, personal in (("one model for all", "[]"), ("the last layer at home", "[2]")):
        begun = time.perf_counter()
        if given.simulate:
            sites = {site: task.read(table(place).encode(), site) for place, site in enumerate(SITES)}
            found = simulate_training(task, sites, settings=settings(given.rounds, personal), seeds=range(3))
            finals = [one.final for one in found]
            spread, spent = statistics.stdev(finals), found[0].epsilon
            print(f"{name:<24} AUC {statistics.fmean(finals):.3f} ± {spread:.3f}   ε {spent:.2f}", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="p2pfl-personal-") as folder:
            told = federation(Path(folder), given.rounds, personal)
        right = "  ".join(f"{site} {share:.2f}" for site, share in told["right"].items())
        took = time.perf_counter() - begun
        print(
            f"{name:<24} AUC {told['final']:.3f}   ε {told['epsilon']:.2f}   right: {right}   {took:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()

"""`p2pfl task check`: what would fail in a federation, told now; and what a round will take here."""

from __future__ import annotations

import hashlib
import math
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from p2pfl.cli import output
from p2pfl.cli.options import json_option, peers_option, read_whole
from p2pfl.cli.predict import check_readable, column_map
from p2pfl.cli.reports import dense_bytes
from p2pfl.cli.task.review import reaches
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation

if TYPE_CHECKING:
    from p2pfl.training.task import Task

TRIED_STEPS: Final = 3
SITES: Final = ("site-a", "site-b", "site-c", "site-d", "site-e")  # where no peers.yaml says how many there are


@click.command()
@click.argument("task", metavar="FILE.yaml|FILE:CLASS")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="This site's records: a CSV, or a folder.")
@click.option("--columns", type=click.Path(path_type=Path, dir_okay=False), help="Column map of that CSV.")
@peers_option
@json_option
@click.pass_context
def check(
    context: click.Context, *, task: str, data: Path, columns: Path | None, peers_file: Path, as_json: bool
) -> None:
    """Take a few private steps with a task on your own records; nothing leaves, and nothing is charged.

    Settings are those of --peers where it is given, else the defaults of `p2pfl peers create` for five sites.
    """
    check_readable(data)
    given = context.get_parameter_source("peers_file") is not ParameterSource.DEFAULT
    federation = Federation.load(peers_file) if given else None
    output.loading_torch()
    facts = _tried(task, data, columns, federation)
    output.result(_text(facts), facts, as_json)


def _tried(task: str, data: Path, columns: Path | None, federation: Federation | None) -> dict[str, Any]:
    import numpy as np

    from p2pfl.keys import Secret
    from p2pfl.simulate.training import federation_of
    from p2pfl.training.local import Trainer
    from p2pfl.training.privacy import Account
    from p2pfl.training.records import Records, hold_out

    agreed = federation or federation_of(SITES, ())
    made = task_of(task)
    records = Records(made.dataset(str(data), column_map(data, columns)), str(data))
    split = hold_out(records, Secret(os.urandom(32), "who is held out, this once"))
    private = replace(agreed.privacy, steps_per_round=TRIED_STEPS, max_epsilon=float("inf"))
    trainer = Trainer(task=made, site=split, privacy=private, local=agreed.local)
    first = trainer.initial(bytes(32))
    for _ in range(2):  # the first one warms up
        begun = time.perf_counter()
        trainer.train(first, Account().charge(private), Secret(os.urandom(32), "one try"))
    step_s = (time.perf_counter() - begun) / TRIED_STEPS
    figures = trainer.figures(trainer.evaluate(first))
    x, y = records.batch(np.array([0]))
    sites = len(agreed.roster.members)
    return {
        "task": made.name,
        "records": len(records),
        "input": [*x.shape[1:]],
        "label": [*y.shape[1:]],
        "parameters": trainer.parameters,
        "notices": list(trainer.notices),
        "figures": {name: one.value for name, one in figures.items() if math.isfinite(one.value)},
        "step_s": round(step_s, 4),
        "round_s": round(step_s * agreed.privacy.steps_per_round, 2),
        "dense_bytes_per_round": dense_bytes(sites, trainer.parameters, 1),
        "expected_batch": made.expected_batch,
        "batch_here": round(agreed.privacy.sample_rate * len(split.train), 1),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def task_of(given: str) -> Task:
    """The task of FILE.yaml or FILE:CLASS, as `join` runs it.

    Raises WrongUse, NotReadable, TaskUnusable, leaves of errors.federation.
    """
    from p2pfl.federation.federation import TaskChoice
    from p2pfl.federation.table_schema import TableSchema
    from p2pfl.training.registry import load_task

    if given.endswith((".yaml", ".yml")):
        from p2pfl.training.tasks.table import TableTask

        return TableTask(TableSchema.parse(read_whole(Path(given)), given))
    path, colon, cls = given.rpartition(":")
    if not colon:
        raise WrongUse(evidence=f"{given} is neither FILE.yaml nor FILE:CLASS", verb=" task check")
    raw = read_whole(Path(path))
    reaches(raw, Path(path))
    return load_task(TaskChoice(file=Path(path).name, cls=cls, sha256=hashlib.sha256(raw).digest()), Path(path))


def _text(facts: dict[str, Any]) -> str:
    shape = "×".join(map(str, facts["input"])) or "one number"
    figures = ", ".join(f"{name} {value:.3f}" for name, value in list(facts["figures"].items())[:3])
    rows = [
        ["  records", f"{facts['records']}, each {shape}"],
        ["  model", f"{facts['parameters']} parameters train"],
        ["  private step", f"ok, {output.duration(facts['step_s'])}; a round some {output.duration(facts['round_s'])}"],
        ["  traffic", f"{output.amount(facts['dense_bytes_per_round'])} a round for each site, not compressed"],
        ["  memory", f"{output.amount(facts['peak_memory'])} at most so far"],
        ["  measures", figures or "nothing: no record of each class was held out"],
    ]
    lines = [f"{facts['task']}: it trains privately here", output.aligned(rows)]
    lines += [f"notice: {notice}" for notice in facts["notices"]]
    lines += _batch(facts)
    return "\n".join(lines)


def _batch(facts: dict[str, Any]) -> list[str]:
    """A notice where the public divisor is far from what a step sees."""
    said, seen = facts["expected_batch"], facts["batch_here"]
    if said / 4 <= seen <= 4 * said:
        return []
    told = f"a step sees some {seen:g} records here, and divides by expected_batch {said:g}"
    return [f"notice: {told}: its steps are that much too large or too small"]

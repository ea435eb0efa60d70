"""`p2pfl task check`: what would fail in a federation, told now; and what a round will take here."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from p2pfl.cli import output
from p2pfl.cli.options import DEFAULT_HOME, columns_option, json_option, peers_option, read_whole
from p2pfl.cli.records import check_readable
from p2pfl.cli.task.review import reaches
from p2pfl.cli.tasks import device_option, reads_option, secret_places, task_process
from p2pfl.cli.wording import dense_bytes
from p2pfl.errors.people import WrongUse
from p2pfl.errors.task_process import TrialDiverged
from p2pfl.errors.training import ModelDiverged
from p2pfl.federation import Federation
from p2pfl.files import is_file
from p2pfl.keys import Secret
from p2pfl.training.records.column_map import MapFile, map_for

if TYPE_CHECKING:
    from p2pfl.federation.table_schema import TableSchema
    from p2pfl.training.privacy.account import Charge
    from p2pfl.training.process.remote import RemoteTrainer
    from p2pfl.training.task import Task
    from p2pfl.training.update import FlatVector

TRIED_STEPS: Final = 3
TRIED_AT_FIRST, TRIED_AT_ONCE = 32, 1024  # records between two looks at the clock: more of them where they are quick
QUICK_S: Final = 1.0  # for as many
TRIED_S: Final = 60.0  # of reading records, where not all are asked for
SITES: Final = ("site-a", "site-b", "site-c", "site-d", "site-e")  # where no peers.yaml says how many there are


@click.command()
@click.argument("task", metavar="[FILE.yaml|FILE:CLASS]", required=False)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="This site's records: a CSV, or a folder.")
@columns_option
@click.option("--all", "every", is_flag=True, help="Read every record, also where that takes more than a minute.")
@device_option
@reads_option
@peers_option
@json_option
@click.pass_context
def check(
    context: click.Context,
    *,
    task: str | None,
    data: Path,
    columns: Path | None,
    every: bool,
    device: str,
    reads: tuple[Path, ...],
    peers_file: Path,
    as_json: bool,
) -> None:
    """Take a few private steps with a task on your own records; nothing leaves, and nothing is charged.

    Then each record goes through the model and the loss once, for a minute at most.

    Without a task it is that of --peers. Settings are those of --peers where it is given, else the defaults of
    `p2pfl peers create` for five sites.
    """
    check_readable(data)
    given = context.get_parameter_source("peers_file") is not ParameterSource.DEFAULT
    federation: Federation | None
    if task is None:
        federation = Federation.load(peers_file)
        own = task_agreed(federation)
    else:
        federation = Federation.load(peers_file) if given else None
        own = task_given(task)
    mapped = map_for(data, columns)
    asked = _asked(own, federation, data, mapped)
    facts = _tried(own, data, mapped, federation, device, reads, every=every) | {"asked": asked}
    facts["notices"] += [f"{name}: no record here has a value" for name in _blank(own, federation, data, mapped)]
    output.result(_text(facts, agreed=federation is not None), facts, as_json)


def _asked(own: GivenTask, federation: Federation | None, data: Path, columns: MapFile | None) -> list[str]:
    """The columns that are asked and not learned, read as a question would. Raises leaves of errors.training."""
    schema = _table(own, federation, data)
    if schema is None or not schema.asked:
        return []
    from p2pfl.node.runs.site_tables import read_records  # late: it brings numpy

    names = [one.name for one in schema.asked]
    read_records(schema, names, data, columns)
    return names


def _blank(own: GivenTask, federation: Federation | None, data: Path, columns: MapFile | None) -> list[str]:
    """The columns of a table in which no record has a value, and of which the column map does not say so."""
    schema = _table(own, federation, data)
    if schema is None:
        return []
    from p2pfl.node.runs.site_tables import read_records
    from p2pfl.training.records.given_table import GivenTable

    absent = GivenTable.of(data).column_map(schema, columns).absent
    names = [one.name for one in schema.described if one.name not in absent]
    held = read_records(schema, names, data, columns).table.columns
    return [name for name in names if (held[name] != held[name]).all()]  # NaN where there is none


def _table(own: GivenTask, federation: Federation | None, data: Path) -> TableSchema | None:
    """What the task's table holds, where it is one; records that can be read once are left to the task."""
    from p2pfl.federation.description import parse_description
    from p2pfl.federation.table_schema import TableSchema

    schema: object = federation.task.table if federation is not None else None
    if own.raw:
        schema = parse_description(own.raw, own.path) if not own.cls else None
    return schema if isinstance(schema, TableSchema) and is_file(data) else None


def _tried(
    own: GivenTask,
    data: Path,
    columns: MapFile | None,
    federation: Federation | None,
    device: str,
    reads: tuple[Path, ...],
    *,
    every: bool,
) -> dict[str, Any]:
    import numpy as np

    from p2pfl.node.runs.sizes import check_leader
    from p2pfl.simulate.training import federation_of
    from p2pfl.training.privacy.account import Account
    from p2pfl.training.process.facts import Reach, TaskSource

    agreed = federation or federation_of(SITES, ())
    source = TaskSource(agreed, data, columns, own.cls, own.path and str(Path(own.path).absolute()), own.raw, device)
    private = replace(agreed.privacy, steps_per_round=TRIED_STEPS, max_epsilon=float("inf"))
    reach = Reach.of(
        data,
        reads,
        secret_places(Path(os.environ.get("P2PFL_HOME") or DEFAULT_HOME).expanduser()),
        device,
        described=not own.cls,
    )
    with task_process(reach, echo=lambda line: output.progress(f"the task prints: {line.rstrip()}")) as trainer:
        facts = trainer.prepare(source, Secret(os.urandom(32), "who is held out, this once"))
        check_leader(agreed, trainer.parameters)
        trainer.set_steps(TRIED_STEPS)
        first = np.concatenate([trainer.initial(bytes(32)), trainer.first_personal(bytes(32))])
        for _ in range(2):  # the first one warms up
            begun = time.perf_counter()
            _try(trainer, first, Account().charge(private))
        step_s = (time.perf_counter() - begun) / TRIED_STEPS
        left = read_records(trainer, every=every)
        figures = trainer.figures(trainer.evaluate(first))
        peak_memory = trainer.peak_memory()
    sites, rate = len(agreed.roster.members), agreed.privacy.sample_rate
    return {
        "task": facts.name,
        "records": facts.records,
        "records_not_read": left,
        "unit": "record" if agreed.privacy.is_none else agreed.privacy.unit,
        "units": facts.units,
        "input": [*facts.input],
        "label": [*facts.label],
        "parameters": trainer.parameters,
        "notices": list(facts.notices),
        "figures": {name: one.value for name, one in figures.items() if math.isfinite(one.value)},
        "step_s": round(step_s, 4),
        "round_s": round(step_s * agreed.privacy.steps_per_round, 2),
        "dense_bytes_per_round": dense_bytes(sites, trainer.parameters, 1),
        "expected_batch": facts.expected_batch,
        "sample_rate": rate,
        "batch_here": round(rate * facts.units, 1),
        "peak_memory": peak_memory,
    }


def _try(trainer: RemoteTrainer, model: FlatVector, charge: Charge) -> None:
    """A pass that counts nowhere. Raises TrialDiverged."""
    try:
        trainer.train(model, charge, Secret(os.urandom(32), "one try"))
    except ModelDiverged as error:
        raise TrialDiverged(evidence=error.evidence) from None


def read_records(trainer: RemoteTrainer, *, every: bool) -> int:
    """Try the records in their order, for TRIED_S where not `every` one is wanted; how many were left."""
    first, some, began = 0, TRIED_AT_FIRST, time.perf_counter()
    while True:
        asked = time.perf_counter()
        left = trainer.try_records(first, some)
        first, now = first + some, time.perf_counter()
        if not left or not (every or now - began < TRIED_S):
            return left
        some = min(2 * some, TRIED_AT_ONCE) if now - asked < QUICK_S else some


@dataclass(frozen=True, slots=True)
class GivenTask:
    """A task as the command line names it: the bytes of a file, and the class in it; none: a description."""

    path: str
    cls: str
    raw: bytes


def task_given(given: str) -> GivenTask:
    """FILE.yaml or FILE:CLASS. Raises WrongUse, NotReadable, leaves of errors.federation."""
    from p2pfl.federation.description import parse_description

    if given.endswith((".yaml", ".yml")):
        found = GivenTask(given, "", read_whole(Path(given)))
        parse_description(found.raw, given)
        return found
    path, colon, cls = given.rpartition(":")
    if not colon:
        raise WrongUse(evidence=f"{given} is neither FILE.yaml nor FILE:CLASS", verb=" task check")
    found = GivenTask(path, cls, read_whole(Path(path)))
    reaches(found.raw, Path(path))
    return found


def task_agreed(federation: Federation) -> GivenTask:
    """That of peers.yaml, its code or weights in the working folder. Raises what `code_of` raises."""
    from p2pfl.training.registry import code_of

    cls, path, raw = code_of(federation.task)
    return GivenTask(path, cls, raw)


def task_of(given: str) -> Task:
    """The task of FILE.yaml or FILE:CLASS, in this process: for who runs a task of their own, without a home.

    Raises WrongUse, NotReadable, TaskUnusable, leaves of errors.federation.
    """
    from p2pfl.federation.description import parse_description
    from p2pfl.training.registry import described_task, run_task

    found = task_given(given)
    if found.cls:
        return run_task(found.cls, Path(found.path), found.raw)
    return described_task(parse_description(found.raw, found.path), beside=Path(found.path).parent)


def _text(facts: dict[str, Any], *, agreed: bool) -> str:
    shape = "×".join(map(str, facts["input"])) or "one number"
    shape += " inputs" if len(facts["input"]) == 1 else ""
    figures = ", ".join(f"{name} {value:.3f}" for name, value in list(facts["figures"].items())[:3])
    rows = [
        ["  records", f"{facts['records']}, each {shape}"],
        *([["  asked", f"{', '.join(facts['asked'])}; no model sees them"]] if facts["asked"] else []),
        ["  model", f"{facts['parameters']} parameters train"],
        ["  private step", f"ok, {_about(facts['step_s'])}; a round {_about(facts['round_s'])}"],
        ["  traffic", f"{output.amount(facts['dense_bytes_per_round'])} a round for each site, not compressed"],
        ["  memory", f"{output.amount(facts['peak_memory'])} at most so far"],
        ["  untrained", figures or "nothing: no record of each class was held out"],
    ]
    lines = [f"{facts['task']}: it trains privately here", output.aligned(rows)]
    lines += [f"notice: {notice}" for notice in facts["notices"]]
    if facts["records_not_read"]:
        lines.append(f"notice: the last {facts['records_not_read']} records were not read: --all reads every one")
    lines += _batch(facts, agreed=agreed)
    return "\n".join(lines)


def _about(seconds: float) -> str:
    return f"about {output.duration(seconds)}" if round(seconds) else "under 1 s"


def _batch(facts: dict[str, Any], *, agreed: bool) -> list[str]:
    """A notice where the public divisor is far from what a step sees. agreed: by the settings of a peers.yaml."""
    said, seen = facts["expected_batch"], facts["batch_here"]
    if said / 4 <= seen <= 4 * said:
        return []
    told = f"a step sees about {seen:g} {facts['unit']}s here, and divides by expected_batch {said:g}"
    rate = f"privacy.sample_rate {facts['sample_rate']:g}"
    rate += "" if agreed else ", the default: where another one is agreed on, name its file by --peers"
    return [f"notice: {told}: its steps are that much too large or too small ({rate})"]

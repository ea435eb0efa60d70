"""`p2pfl predict`: the model applied to a CSV of new records, at this site and for this site only."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.model.export import model_of
from p2pfl.cli.options import Unlock, home_option, json_option, peers_option, read_whole, unlock_options
from p2pfl.errors.training import DataUnreadable
from p2pfl.federation import Federation, strict_yaml
from p2pfl.home import Home


def column_map(data: Path, columns: Path | None) -> bytes | None:
    """The column map that was named, else the one beside the data: their.columns.yaml for their.csv, else none."""
    beside = data.with_suffix(".columns.yaml")
    chosen = columns or (beside if beside.is_file() else None)
    if chosen is None:
        return None
    from p2pfl.training.columns import MapFile  # only on this path: it brings numpy

    return MapFile.of(strict_yaml.load(chosen), str(chosen))


def read_records(path: Path) -> bytes:
    """A file of records. Raises DataUnreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataUnreadable(evidence=error.strerror or type(error).__name__, path=path) from None


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, dir_okay=False), help="CSV of new records.")
@click.option("--columns", type=click.Path(path_type=Path, dir_okay=False), help="Column map of that CSV.")
@click.option(
    "--model",
    "model_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An exported model.  [default: the newest one in the home]",
)
@click.option(
    "--task",
    "task_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="This site's copy of the task's file, where peers.yaml pins one.",
)
@peers_option
@home_option
@unlock_options
@json_option
def predict(
    data: Path,
    columns: Path | None,
    model_file: Path | None,
    task_file: Path | None,
    peers_file: Path,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """For each record of a CSV, the probability that the model gives to a positive label."""
    federation = Federation.load(peers_file)
    raw = read_records(data)
    if model_file is not None:
        held, source = read_whole(model_file), str(model_file)
    else:
        with Home.open(home, unlock=unlock.keys(), write=False) as opened:
            held, source = model_of(opened), str(home)
    # Loaded late: what is wrong with files, home and key is told before anything slow happens.
    output.loading_torch()
    from p2pfl.training.checkpoint import from_bytes
    from p2pfl.training.models import build
    from p2pfl.training.models import predict as probabilities
    from p2pfl.training.registry import load_task

    task = load_task(federation.task, task_file)
    records = task.read(raw, str(data), column_map(data, columns), labelled=False)
    found = probabilities(task, from_bytes(held, build(task).layout, source), records)
    lines = ["record,probability", *(f"{number},{value:.4f}" for number, value in enumerate(found, start=1))]
    facts: dict[str, object] = {"records": len(found), "probabilities": [round(float(value), 6) for value in found]}
    output.result("\n".join(lines), facts, as_json)

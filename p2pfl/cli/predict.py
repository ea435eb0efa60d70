"""`p2pfl predict`: the model applied to a CSV of new records, at this site and for this site only."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.cli import output
from p2pfl.cli.model.export import model_of
from p2pfl.cli.options import (
    Unlock,
    home_option,
    json_option,
    peers_option,
    read_whole,
    reading,
    unlock_options,
)
from p2pfl.cli.tasks import device_option, reads_option, secret_places
from p2pfl.errors.training import DataUnreadable
from p2pfl.federation import Federation, strict_yaml
from p2pfl.files import is_file, opened

if TYPE_CHECKING:
    from p2pfl.training.column_map import MapFile


def column_map(data: Path, columns: Path | None) -> MapFile | None:
    """The column map that was named, else the one beside the data: their.columns.yaml for their.csv, else none."""
    beside = data.with_suffix(".columns.yaml") if data.name else data  # a path of "." has no name
    chosen = columns or (beside if is_file(beside) else None)
    if chosen is None:
        return None
    from p2pfl.training.column_map import MapFile  # only on this path: it brings numpy

    return MapFile.of(strict_yaml.load(chosen), str(chosen))


def check_readable(path: Path) -> None:
    """A file or folder of records can be opened. Raises DataUnreadable: before anything slow happens."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif not path.is_fifo():  # it is read once
            with opened(path):
                pass
    except OSError as error:
        raise DataUnreadable(evidence=error.strerror or type(error).__name__, path=path) from None


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="New records: a CSV, or a folder.")
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
@device_option
@reads_option
@peers_option
@home_option
@unlock_options
@json_option
def predict(
    data: Path,
    columns: Path | None,
    model_file: Path | None,
    task_file: Path | None,
    device: str,
    reads: tuple[Path, ...],
    peers_file: Path,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """For each record, what the model says: a probability, one for each class, a number."""
    federation = Federation.load(peers_file)
    check_readable(data)
    if model_file is not None:
        held, named = read_whole(model_file), str(model_file)
    else:
        with reading(home, unlock, peers_file) as opened:
            held, named = model_of(opened), str(home)
    # Loaded late: what is wrong with files, home and key is told before anything slow happens.
    from p2pfl.training.checkpoint import from_bytes
    from p2pfl.training.process.facts import Reach, TaskSource
    from p2pfl.training.process.remote import RemoteTask
    from p2pfl.training.registry import code_of

    code = code_of(federation.task, task_file)
    source = TaskSource(federation, data, column_map(data, columns), *code, device, labelled=False)
    closed = secret_places(home, unlock.keys())
    reach = Reach.of(data, reads, closed, device, described=federation.task.sha256 is None)
    output.loading_torch()
    with RemoteTask(reach) as task:
        task.open(source)
        found, told = task.predict(from_bytes(held, task.layout_of_model(), named))
    names = _names(told, found.shape[1])
    rows = [["record", *names]]
    rows += [[str(row), *(f"{value:.4f}" for value in said)] for row, said in enumerate(found, start=1)]
    facts: dict[str, object] = {"records": len(found), "names": names}
    facts["predictions"] = [[round(float(value), 6) for value in said] for said in found]
    if names == ["probability"]:
        facts["probabilities"] = [round(float(said[0]), 6) for said in found]
    output.result(_csv(rows), facts, as_json)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV: a level's name may hold a comma."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().removesuffix("\n")


def _names(names: Sequence[str], columns: int) -> list[str]:
    """A name for each number that the model says of a record."""
    if len(names) == columns:
        return list(names)
    return ["prediction"] if columns == 1 else [f"prediction_{place + 1}" for place in range(columns)]

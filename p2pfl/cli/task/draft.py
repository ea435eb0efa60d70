"""`p2pfl task draft`: the columns of a CSV as the description of a table, for people to fill in."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option, new_file_option, write_new
from p2pfl.errors.counts import counted
from p2pfl.errors.people import WrongUse


@click.command()
@click.argument("data", metavar="FILE.csv", type=click.Path(path_type=Path, dir_okay=False))
@new_file_option
@click.option("--label", metavar="COLUMN", help="The column that is to be learned.  [default: to be filled in]")
@click.option(
    "--kind",
    type=click.Choice(["binary", "class", "number", "time"]),
    help="What it is: yes or no, one of several classes, a number, the time to an event.  [default: binary]",
)
@click.option("--event", metavar="COLUMN", help="Of a time: the column that says whether the event came then.")
@click.option(
    "--asked",
    metavar="COLUMN",
    multiple=True,
    help="A column that statistics shall ask of and no model shall see, as one that comes after the outcome; once "
    "for each.",
)
@click.option(
    "--columns",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Column map of that CSV: the draft has our names.  [default: FILE.columns.yaml beside it, if it is there]",
)
@json_option
def draft(
    data: Path,
    target: Path,
    label: str | None,
    kind: str | None,
    event: str | None,
    asked: tuple[str, ...],
    columns: Path | None,
    as_json: bool,
) -> None:
    """Write the description of a table, with the names of FILE.csv's columns and whether they are numbers or words.

    Nothing else of the records is written: no range, no mean, no level. People fill those in; until then
    `peers create --task` names each place that is left.
    """
    if event is not None and kind not in (None, "time"):
        raise WrongUse(evidence=f"--event {event} goes with --kind time, not {kind}", verb=" task draft")
    if event is not None and event == label:
        raise WrongUse(evidence=f"--label and --event both name {event}", verb=" task draft")
    if twice := [one for one in asked if one in (label, event)]:
        evidence = f"--asked {twice[0]}: it is the label, which may be asked as that"
        raise WrongUse(evidence=evidence, verb=" task draft")
    # Loaded late: they bring numpy.
    from p2pfl.federation.misfits import TODO
    from p2pfl.training.records.column_map import ColumnMap, map_for
    from p2pfl.training.records.columns import read_file
    from p2pfl.training.records.table_draft import read_draft

    raw, mapped = read_file(data), map_for(data, columns)
    known = ColumnMap.parse(mapped, mapped.source, None) if mapped is not None else ColumnMap()
    found = read_draft(raw, str(data), known, [one for one in (label, event) if one is not None], asked)
    text = found.text(label, kind or ("binary" if event is None else "time"), event, asked)
    write_new(target, text.encode())
    numbers = sum(one.number for one in found.columns)
    left = sum(line.partition("#")[0].count(TODO) for line in text.splitlines())
    lines = [
        f"{target}: {counted(len(found.columns), 'column')}, {numbers} of numbers and "
        f"{len(found.columns) - numbers} of words; "
        f"{left} places to fill in",
        f"no number and no word of {data} is in it: fill it in from clinical practice and the study's code book; then",
        f"  p2pfl task check {quote(str(target))} --data {quote(str(data))}",
        f"  p2pfl peers create A.card B.card … -o peers.yaml --task {quote(str(target))}",
    ]
    columns_told = [{"name": one.name, "number": one.number} for one in found.columns]
    facts: dict[str, object] = {"path": str(target), "columns": columns_told, "left": left}
    output.result("\n".join(lines), facts, as_json)

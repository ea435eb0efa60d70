"""`p2pfl model weights`: what each column and level adds to a linear model's output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.cli import output
from p2pfl.cli.csv_text import csv_text, inert
from p2pfl.cli.options import NamedFile, json_option, read_whole, write_new

if TYPE_CHECKING:
    from p2pfl.training.model.linear_weights import LinearWeights


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--csv", "target", type=NamedFile(), metavar="FILE", help="Write them to a CSV, too.")
@json_option
def weights(file: Path, target: Path | None, as_json: bool) -> None:
    """Print the weights of a linear model on a table, by its columns' names and levels, from an exported file."""
    from p2pfl.training.model.file import ModelFile
    from p2pfl.training.model.linear_weights import weights_of  # it brings numpy

    found = weights_of(ModelFile.read(read_whole(file), str(file)))
    if target is not None:
        write_new(target, _csv(found).encode())
    head = ["column", "where a record has", *(f"adds to {name}" for name in found.outputs)]
    rows = [[one.column, one.having, *(f"{value:+.4f}" for value in one.adds)] for one in found.rows]
    numbers = range(2, 2 + len(found.outputs))
    text = (
        f"{output.aligned([head, *rows], tuple(numbers))}\nin {found.unit}; a number counts to twice its step at most"
    )
    facts: dict[str, object] = {
        "path": str(file),
        "outputs": list(found.outputs),
        "unit": found.unit,
        "rows": [
            {"column": one.column, "having": one.having, "weights": list(one.weights), "adds": list(one.adds)}
            for one in found.rows
        ],
    }
    output.result(text, facts, as_json)


def _csv(found: LinearWeights) -> str:
    head = [
        "column",
        "having",
        *(f"weight {name}" for name in found.outputs),
        *(f"adds {name}" for name in found.outputs),
    ]
    rows = [
        [inert(one.column), inert(one.having), *(repr(value) for value in (*one.weights, *one.adds))]
        for one in found.rows
    ]
    return csv_text([head, *rows]) + "\n"

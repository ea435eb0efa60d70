"""`p2pfl model show`: what a model's file says of its model, and that its tensors are those that it speaks of."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option, read_whole


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Print the card of a model file that somebody handed on, after its tensors were found to be those that it names.

    Nothing in the file runs. Who wrote it is not known: where it says that it can be checked, check it.
    """
    from p2pfl.cli.model.describe import page  # it brings numpy
    from p2pfl.training.model.file import ModelFile

    model = ModelFile.read(read_whole(file), str(file))
    tensors = [{"name": name, "shape": list(shape)} for name, shape in model.layout.tensors]
    facts: dict[str, object] = {
        "path": str(file),
        "model": model.digest.hex(),
        "tensors": tensors,
        "card": model.card.facts if model.card is not None else None,
    }
    rows = [[f"  {name}", " × ".join(map(str, shape)) or "one number"] for name, shape in model.layout.tensors]
    listed = "\n".join([f"{file}: model {model.digest.hex()}", output.aligned(rows)])
    text = page(model.card) if model.card is not None else f"{listed}\n  no card: it does not say what it is of"
    output.result(text.rstrip("\n"), facts, as_json)

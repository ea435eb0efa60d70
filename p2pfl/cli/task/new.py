"""`p2pfl task new`: a task of one's own, with every hook, that trains as it is."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import Final

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option, write_new
from p2pfl.errors.people import WrongUse

CLASS: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,60}")


@click.command()
@click.argument("name")
@json_option
def new(name: str, as_json: bool) -> None:
    """Write NAME.py: the class NAME, a subclass of p2pfl.Task with every hook, to be changed where the study differs.

    It trains as it is, on a CSV of numbers whose last column is 0 or 1.
    """
    if not CLASS.fullmatch(name):
        raise WrongUse(evidence=f"{name!r} is no name of a class, such as Pneumonia", verb=" task new")
    target = Path(f"{name.lower()}.py")
    text = importlib.resources.files("p2pfl.training.tasks").joinpath("template.py").read_text(encoding="utf-8")
    text = text.replace("class Template(", f"class {name}(").replace('name = "template"', f'name = "{name.lower()}"')
    write_new(target, text.encode())
    lines = [
        f"{target}: a task with every hook. Change it, then try it on records of your own:",
        f"  p2pfl task check {target}:{name} --data records.csv",
    ]
    output.result("\n".join(lines), {"path": str(target), "class": name}, as_json)

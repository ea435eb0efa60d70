"""`p2pfl task approve`: from now on this site may run that very file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, read_whole, unlock_options
from p2pfl.cli.task.review import reaches
from p2pfl.home import Home
from p2pfl.node import approvals


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@home_option
@unlock_options
@json_option
def approve(file: Path, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Say that you have read FILE, and that it may run on this site's records; the site log says so once it runs."""
    raw = read_whole(file)
    reaches(raw, file)
    sha256 = hashlib.sha256(raw).digest()
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        approvals.approve(opened, sha256, raw)
        name = opened.name
    text = f"{name}: {file} is approved, SHA-256 {sha256.hex()}"
    output.result(text, {"path": str(file), "sha256": sha256.hex()}, as_json)

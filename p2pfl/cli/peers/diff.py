"""`p2pfl peers diff`: line by line, how another site's peers.yaml differs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option, peers_option
from p2pfl.errors.people import NoDifferentFile
from p2pfl.federation import Federation, strict_yaml
from p2pfl.federation.difference import difference, first_difference
from p2pfl.files import is_file


@click.command()
@click.argument("other", metavar="NAME|FILE")
@peers_option
@json_option
def diff(other: str, peers_file: Path, as_json: bool) -> None:
    """Line by line, how another site's file differs from --peers. Exit status 0 when it does not."""
    mine = strict_yaml.load(peers_file)
    if not is_file(Path(other)) and other in Federation.load(peers_file).roster:
        evidence = f"while {other} is at join or at doctor, `p2pfl doctor` shows line by line how its file differs"
        raise NoDifferentFile(evidence=evidence, peer=other)
    theirs = strict_yaml.load(Path(other))
    lines = difference(mine, theirs, str(peers_file), other)
    facts: dict[str, object] = {
        "same": mine == theirs,
        "first_line": first_difference(mine, theirs),
        "diff": lines,
        "sha256": [hashlib.sha256(raw).hexdigest() for raw in (mine, theirs)],
    }
    output.result(lines.rstrip("\n") or f"{peers_file} and {other} are the same bytes", facts, as_json)
    raise click.exceptions.Exit(int(mine != theirs))

"""`p2pfl peers approve`: this site's signature under a change of membership, after a person has read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, peers_option, reading, unlock_options, write_over
from p2pfl.cli.peers.changes import (
    change_facts,
    change_lines,
    confirm,
    keep_if_complete,
    merged,
    rounds_done,
    sign_once,
    signature_lines,
    yes_option,
)
from p2pfl.errors.membership import RecoveryUnderstated
from p2pfl.federation import Federation, changefile
from p2pfl.node.epochs import standing
from p2pfl.node.recovery import understated


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="CHANGE [COPY…]", type=click.Path(path_type=Path))
@peers_option
@yes_option
@home_option
@unlock_options
@json_option
def approve(*, files: Sequence[Path], peers_file: Path, yes: bool, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Show a change of membership, ask, and add this site's signature to the file, with those of its COPIES.

    Once enough have signed it, it lies in this home too, and a `join` that runs hands it to the others.
    """
    with reading(home, unlock, peers_file) as opened:
        federation, lineage = standing(opened, Federation.load(peers_file))
        change = merged(files, federation, lineage)
        done = rounds_done(opened, change.facts["of"])
        for line in change_lines(federation, change, done):
            output.progress(line)
        if (less := understated(opened, change)) is not None:
            name, said, known = less
            raise RecoveryUnderstated(source=files[0], name=name, known=known, evidence=f"the change says {said}")
        if not yes:
            confirm(f"sign it as {opened.name}?")
        change = sign_once(opened, change, lineage)
        write_over(files[0], changefile.to_bytes(change))
        complete = keep_if_complete(opened, change, lineage)
    lines = signature_lines(lineage, change, files[0], complete, done)
    output.result("\n".join(lines), change_facts(files[0], change, lineage), as_json)

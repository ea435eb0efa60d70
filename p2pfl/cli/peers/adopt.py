"""`p2pfl peers adopt`: an approved change into this home, where no other site handed it over."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, peers_option, reading, reserved, unlock_options
from p2pfl.cli.peers.changes import change_facts, merged, rounds_done, signature_lines, signers
from p2pfl.errors.membership import ChangeIncomplete
from p2pfl.federation import Federation
from p2pfl.node.epochs import keep_change, standing


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="CHANGE [COPY…]", type=click.Path(path_type=Path))
@peers_option
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the next peers.yaml, for a site that joins with it.",
)
@home_option
@unlock_options
@json_option
def adopt(
    *, files: Sequence[Path], peers_file: Path, target: Path | None, home: Path, unlock: Unlock, as_json: bool
) -> None:
    """Put an approved change into this home, where it was not handed over by another site."""
    with ExitStack() as held, reading(home, unlock, peers_file) as opened:
        write = held.enter_context(reserved(target)) if target is not None else None  # else the home would change alone
        federation, lineage = standing(opened, Federation.load(peers_file))
        change = merged(files, federation, lineage)
        if lacking := lineage.lacking(change):
            raise ChangeIncomplete(source=files[0], lacking=lacking, evidence=f"signed by {signers(lineage, change)}")
        keep_change(opened, change)
        done = rounds_done(opened, change.facts["of"])
        if write is not None:
            write(change.federation().raw)
    lines = signature_lines(lineage, change, files[0], complete=True, done=done)
    output.result("\n".join(lines), change_facts(files[0], change, lineage), as_json)

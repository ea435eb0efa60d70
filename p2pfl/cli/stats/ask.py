"""`p2pfl stats ask`: a question that is written in a file, asked together with the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pfl.cli.stats.asking import ask_together, asking_options
from p2pfl.federation import Federation
from p2pfl.node import question_file


@click.command()
@click.argument("file", metavar="QUESTION.yaml", type=click.Path(path_type=Path, dir_okay=False))
@asking_options
def ask(file: Path, *, peers_file: Path, **how: Any) -> None:
    """Ask the question in the file, which `p2pfl stats propose` wrote.

    Every site calls it with the same file, but its own --data, at about the same time.
    """
    federation = Federation.load(peers_file)
    proposal = question_file.load(file, federation)
    ask_together(federation, proposal.statistic, peers_file=peers_file, **how)

"""`p2pfl man`: manual pages of every command, made from the commands themselves."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from p2pfl.cli import output, roff
from p2pfl.cli.options import json_option, write_over
from p2pfl.errors.people import NotWritten


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder for the pages, such as ~/.local/share/man/man1; older pages are replaced.",
)
@json_option
@click.pass_context
def man(context: click.Context, folder: Path, as_json: bool) -> None:
    """Write a manual page for each command: p2pfl.1, p2pfl-join.1, p2pfl-peers-create.1 and so on.

    `man p2pfl-join` finds them in ~/.local/share/man/man1 on most systems; else, `man -l FILE` shows one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(evidence=error.strerror or type(error).__name__, path=folder) from None
    pages = [(roff.file_of(one), roff.page(one)) for one in roff.every(context.find_root().command, "p2pfl")]
    for name, text in pages:
        write_over(folder / name, text.encode("ascii"))
    told = f"{len(pages)} manual pages in {folder}; one of them:\n  man {quote(str(folder / 'p2pfl.1'))}"
    output.result(told, {"path": str(folder), "pages": [name for name, _ in pages]}, as_json)

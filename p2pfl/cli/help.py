"""`p2pfl help`: what p2pfl, or one of its commands, does; the same as --help."""

from __future__ import annotations

from collections.abc import Sequence

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option


@click.command(name="help")
@click.argument("words", nargs=-1, metavar="[COMMAND…]")
@json_option
@click.pass_context
def help_(context: click.Context, words: Sequence[str], as_json: bool) -> None:
    """What p2pfl, or one of its commands, does."""
    asked = context.parent or context
    for word in words:
        group = asked.command
        command = group.get_command(asked, word) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"{asked.command_path} has no commands of its own", context)
        asked = click.Context(command, info_name=word, parent=asked)
    text = asked.get_help()
    output.result(text, {"help": text}, as_json)

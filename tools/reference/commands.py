"""cli.md: every command, its arguments and options, from the click commands themselves."""

from __future__ import annotations

import click

from p2pfl.cli.examples import examples_of
from p2pfl.cli.main import p2pfl
from p2pfl.cli.roff import every
from tools.reference.markdown import GENERATED, cell, table

HEAD = f"""\
# Commands

{GENERATED}
`p2pfl COMMAND --help` says the same. Output for machines (`--json`) is in [json.md](json.md), exit statuses are in
[exit-codes.md](exit-codes.md). Options may be given in any order; a home is opened by its key file unless an option
says otherwise ([keys and variables](../operations.md#keys-and-variables)).
"""


def _section(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = [" ".join(one.split()) for one in (command.help or "").split("\n\n")]
    lines = [f"## {context.command_path}\n", f"    {usage}\n", *(f"{cell(one)}\n" for one in paragraphs)]
    if isinstance(command, click.Group):
        return "\n".join([*lines, "Commands: " + " · ".join(command.list_commands(context)) + "\n"])
    found = [one.get_help_record(context) for one in command.get_params(context) if "--help" not in one.opts]
    rows = [(f"`{cell(record[0])}`", cell(record[1])) for record in found if record is not None and record[1]]
    examples = [f"    {line}" for line in examples_of(context.command_path)]
    told = [table(("option", "what it does"), rows)] if rows else []
    return "\n".join([*lines, *told, *(["Examples:\n", *examples, ""] if examples else [])])


def page() -> str:
    return "\n".join([HEAD, *map(_section, every(p2pfl, "p2pfl"))])

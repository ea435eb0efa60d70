"""`p2pfl help`: what p2pfl, or one of its commands, does, the same as --help; or what the code of an error means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option
from p2pfl.errors import all_leaves
from p2pfl.errors.people import UnknownErrorCode

CODE: Final = re.compile(r"(?:P2P-)?[A-Z]+-[0-9]{3}", re.IGNORECASE)


@click.command(name="help")
@click.argument("words", nargs=-1, metavar="[COMMAND… | CODE]")
@json_option
@click.pass_context
def help_(context: click.Context, words: Sequence[str], as_json: bool) -> None:
    """What p2pfl, or one of its commands, does; what the code of an error means."""
    if len(words) == 1 and CODE.fullmatch(words[0]):
        _explain(words[0].upper(), as_json)
        return
    asked = context.parent or context
    for word in words:
        group = asked.command
        command = group.get_command(asked, word) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"{asked.command_path} has no commands of its own", context)
        asked = click.Context(command, info_name=word, parent=asked)
    text = asked.get_help()
    output.result(text, {"help": text}, as_json)


def _explain(code: str, as_json: bool) -> None:
    """The error of that code, as it would be shown, with the names of what it fills in."""
    code = code if code.startswith("P2P-") else f"P2P-{code}"
    found = next((leaf for leaf in all_leaves() if leaf.code == code), None)
    if found is None:
        raise UnknownErrorCode(evidence=f"{code} is in no list of this version", code=code)
    filled = {name: name.upper() for name in found.places()}
    happened = " ".join((found.__doc__ or "").split()).format_map(filled)
    lines = [f"{code}: {happened}"]
    lines += [f"  likely    {', or '.join(found.likely)}"] if found.likely else []
    lines += [f"  try       {found.command.format_map(filled)}"] if found.command else []
    lines.append(f"  exit      {found.exit_status}")
    facts = {
        "code": code,
        "happened": happened,
        "likely": list(found.likely),
        "try": found.command.format_map(filled),
        "exit_status": found.exit_status,
    }
    output.result("\n".join(lines), facts, as_json)

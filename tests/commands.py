"""A command line through the real parser, without running anything."""

from __future__ import annotations

import click

from p2pfl.cli.main import p2pfl


def parse(arguments: list[str]) -> str:
    """Walk it, group by group; the path of the command that it calls. Raises what click and the groups raise."""
    group: click.Command = p2pfl
    context: click.Context | None = None
    while True:
        try:
            context = group.make_context(group.name or "p2pfl", list(arguments), parent=context)
        except click.exceptions.Exit:  # --help, --version
            return context.command_path if context is not None else "p2pfl"
        if not isinstance(group, click.Group):
            return context.command_path
        arguments = [*context._protected_args, *context.args]
        name, found, arguments = group.resolve_command(context, arguments)
        assert found is not None, name
        group = found

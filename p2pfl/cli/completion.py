"""`p2pfl completion`: what a shell needs to complete p2pfl's commands and options."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from p2pfl.cli import output
from p2pfl.cli.options import json_option

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_P2PFL_COMPLETE"  # click's own, by which the shell asks the command for completions


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print a script for SHELL that completes p2pfl's commands and options.

    In ~/.bashrc write `eval "$(p2pfl completion bash)"`, in ~/.zshrc the same with zsh. For fish, put the script into
    ~/.config/fish/completions/p2pfl.fish.
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}", context)
    script = found(context.find_root().command, {}, "p2pfl", VARIABLE).source()
    output.result(script, {"shell": shell, "script": script}, as_json)

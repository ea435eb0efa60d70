"""`p2pfl completion`: what a shell needs to complete p2pfl's commands and options, printed or put in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Final

import click
from click.shell_completion import get_completion_class

from p2pfl.cli import output
from p2pfl.cli.options import json_option, write_over
from p2pfl.errors.federation import WontOverwrite
from p2pfl.errors.people import NotWritten
from p2pfl.files import TEXT_BYTES, read_file

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_P2PFL_COMPLETE"  # click's own, by which the shell asks the command for completions


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Put it where SHELL looks for completions of this user.")
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, install: bool, as_json: bool) -> None:
    """Print a script for SHELL that completes p2pfl's commands and options; with --install, put it in its place.

    Without --install: in ~/.bashrc write `eval "$(p2pfl completion bash)"`, in ~/.zshrc the same with zsh. No file of
    your shell's own is changed; where it needs a line more, that line is printed.
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}", context)
    script = found(context.find_root().command, {}, "p2pfl", VARIABLE).source()
    if not install:
        output.result(script, {"shell": shell, "script": script}, as_json)
        return
    path, needs = place_of(shell, os.environ)
    _put(path, script)
    told = f"{path}: written; a new {shell} completes p2pfl"
    text = f"{told}, where its start file has\n  {needs}" if needs else told
    output.result(text, {"shell": shell, "path": str(path), "needs": needs or None}, as_json)


def place_of(shell: str, environment: Mapping[str, str]) -> tuple[Path, str]:
    """Where that shell looks for this user's completions, and the line that its start file needs for it, or "".

    bash: of the bash-completion package, its README; zsh: a folder of fpath, zshcompsys(1); fish: its documentation.
    """
    home = Path(environment.get("HOME") or Path.home())
    data = _base(environment.get("XDG_DATA_HOME", ""), home / ".local" / "share")
    if shell == "bash":
        folder = _base(environment.get("BASH_COMPLETION_USER_DIR", ""), data / "bash-completion")
        return folder / "completions" / "p2pfl", ""
    if shell == "fish":
        config = _base(environment.get("XDG_CONFIG_HOME", ""), home / ".config")
        return config / "fish" / "completions" / "p2pfl.fish", ""
    folder = data / "zsh" / "site-functions"
    return folder / "_p2pfl", f"fpath=({quote(str(folder))} $fpath); autoload -Uz compinit && compinit"


def _base(named: str, default: Path) -> Path:
    """As the XDG Base Directory Specification has it: a path that is not absolute is ignored."""
    return Path(named) if named.startswith("/") else default


def _put(path: Path, script: str) -> None:
    """Write it; what lies there is replaced if it is an earlier one of ours. Raises WontOverwrite, NotWritten."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = read_file(path, TEXT_BYTES) if path.is_file() else b""
    except OSError as error:
        raise NotWritten(evidence=error.strerror or type(error).__name__, path=path) from None
    if there and VARIABLE.encode() not in there:
        raise WontOverwrite(evidence=f"{len(there)} bytes that are not p2pfl's lie there", path=path)
    write_over(path, script.encode())

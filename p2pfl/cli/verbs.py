"""Groups of verbs: each verb's module is loaded when it is called, and a mistyped verb is answered with the nearest."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping

import click

from p2pfl.cli.verb import Verb
from p2pfl.errors.people import UnknownVerb


class Verbs(click.Group):
    """A group whose verbs are a table: {verb: what it does}, in the order in which help shows them.

    The verb `show` of a group in the package `p2pfl.cli.peers` is the click command `show` of `p2pfl.cli.peers.show`;
    `attributes` names the command where that would hide a builtin. A verb of two words has a hyphen, its module none.
    """

    def __init__(
        self,
        name: str,
        package: str,
        verbs: Mapping[str, str],
        *,
        attributes: Mapping[str, str] | None = None,
        elsewhere: Mapping[str, str] | None = None,
        chapters: Mapping[str, str] | None = None,
        text: str = "",
    ) -> None:
        """`elsewhere`: verbs of other groups, and how they are called there. `text`: the group's help.

        chapters   heading ► the first verb under it, where there are so many that help needs headings
        """
        super().__init__(name, help=text, no_args_is_help=True)
        self._chapters = {first: heading for heading, first in (chapters or {}).items()}
        self._package, self._verbs = package, dict(verbs)
        self._attributes, self._elsewhere = attributes or {}, elsewhere or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command. Raises UnknownVerb, with the verb that was probably meant."""
        if cmd_name in self._verbs:
            command = self._made(cmd_name)
            return command if isinstance(command, click.Group) else Verb.of(command)
        if ctx.resilient_parsing:  # a shell asks for completions: a word that is not whole yet is no mistake
            return None
        near = difflib.get_close_matches(cmd_name, self._verbs, 1)
        meant = self._elsewhere.get(cmd_name) or (near[0] if near else "")
        hint = f"; did you mean {meant}?" if meant else ""
        group = ctx.command_path.removeprefix("p2pfl")
        raise UnknownVerb(evidence=f"commands: {', '.join(self._verbs)}{hint}", verb=repr(cmd_name), group=group)

    def _made(self, verb: str) -> click.Command:
        """The command as its module has it."""
        name = verb.replace("-", "_")
        command = getattr(importlib.import_module(f"{self._package}.{name}"), self._attributes.get(verb, name))
        if not isinstance(command, click.Command):
            raise TypeError(verb)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        chapters: dict[str, list[tuple[str, str]]] = {}
        heading = "Commands"
        for verb, what in self._verbs.items():
            heading = self._chapters.get(verb, heading)
            chapters.setdefault(heading, []).append((verb, what))
        widest = max(map(len, self._verbs))
        for heading, rows in chapters.items():
            with formatter.section(heading):
                formatter.write_dl([(verb.ljust(widest), what) for verb, what in rows])

"""How a command is shown: its own options first, then those that many share, under headings; then examples.

The order is one for all commands, whatever the order in which their decorators stand, so that whoever has read one
help finds the same things in the same place of the next.
"""

from __future__ import annotations

from typing import Any, Final

import click

from p2pfl.cli.examples import examples_of

FEW: Final = 8  # options that need no headings

# Heading ► (options in their order, and one without which they are a command's own: `init --key-file` writes a key).
SHARED: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "Study and site": (("--peers", "--home", "--agreement"), "--home"),
    "Links": (("--listen", "--proxy", "--proxy-password", "--patience", "--wait"), "--proxy"),
    "Opening the home": (("--key-file", "--pass-phrase", "--recovery", "--key-command"), "--recovery"),
    "What is shown": (("--plain", "--log", "--log-level", "--log-size", "--log-keep", "--metrics"), "--plain"),
    "Output": (("--json", "--help"), "--help"),
}
PLACES: Final = {
    option: (at, place) for at, (options, _) in enumerate(SHARED.values(), 1) for place, option in enumerate(options)
}
METAVARS: Final[tuple[tuple[Any, str], ...]] = (
    (click.types.IntParamType, "N"),  # click says INTEGER RANGE
    (click.types.FloatParamType, "NUMBER"),
)


def _place(option: click.Option, there: set[str]) -> tuple[int, int]:
    """(section, place in it); section 0 holds what is the command's own, in which -o is the last."""
    name = option.opts[-1]
    at, place = PLACES.get(name, (0, 0))
    if at and list(SHARED.values())[at - 1][1] in there:
        return at, place
    return 0, int(name == "--output")


class Verb(click.Command):
    """A command of click, dressed."""

    @classmethod
    def of(cls, command: click.Command) -> Verb:
        """`command` with its options in order. They are the same objects: nothing else about them changes."""
        options = [one for one in command.params if isinstance(one, click.Option)]
        there = {name for one in options for name in one.opts} | {"--help"}
        for one in options:
            for kind, metavar in METAVARS:
                if isinstance(one.type, kind) and one.metavar is None and not one.is_flag:
                    one.metavar = metavar
        arguments = [one for one in command.params if not isinstance(one, click.Option)]
        ordered = [*arguments, *sorted(options, key=lambda one: _place(one, there))]
        return cls(
            command.name,
            context_settings=command.context_settings,
            callback=command.callback,
            params=ordered,
            help=command.help,
            no_args_is_help=command.no_args_is_help,
            hidden=command.hidden,
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As of any command; an option that lacks its argument is told as one of this command, not of `p2pfl`."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Under headings, where there are many."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        there = {name for one in options for name in one.opts}
        shown = [(_place(one, there)[0], one.get_help_record(ctx)) for one in options]
        records = [(at, record) for at, record in shown if record is not None]
        headings = ["Options", *SHARED] if len(records) > FEW else ["Options"]
        for number, heading in enumerate(headings):
            rows = [record for at, record in records if at == number or len(headings) == 1]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lines to paste; longer ones than the terminal's are not broken, since half of one is no command."""
        if lines := examples_of(ctx.command_path):
            formatter.write_paragraph()
            formatter.write("Examples:\n" + "".join(f"  {line}\n" for line in lines))

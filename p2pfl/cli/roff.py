"""Manual pages in man(7)'s roff, from click's commands: what `--help` says, as `man p2pfl-join` shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import click

from p2pfl._version import __version__
from p2pfl.cli.examples import examples_of

EXITS: Final = (
    ("0", "Done."),
    ("1", "Failed for a stated reason."),
    ("2", "Wrong use or configuration."),
    ("3", "A peer broke the protocol."),
    ("4", "The privacy budget is spent."),
    ("5", "Integrity: ledger, rollback, key."),
    ("130", "Interrupted, with nothing final lost."),
)
VARIABLES: Final = (
    ("P2PFL_HOME", "This site's home, where --home is not given."),
    ("P2PFL_PROXY", "The HTTP proxy that connections pass, where --proxy is not given."),
    ("NO_COLOR", "Anything: no colours in a terminal."),
)
FILES: Final = (
    ("~/.p2pfl", "The home, where neither --home nor P2PFL_HOME names another."),
    ("~/.config/p2pfl/NAME.key", "The key file that opens it."),
)
# What roff would read as its own, as its names for the very characters.
SPECIAL: Final = {"\\": "\\[rs]", "-": "\\-", "`": "\\[ga]", "^": "\\[ha]", "~": "\\[ti]", '"': "\\[dq]", "'": "\\[aq]"}
WIDTH: Final = 10_000  # columns of click's text, so that it breaks no line


def every(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for `command` and for each one below it that help shows, in its order."""
    context = click.Context(command, parent=parent, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from every(found, below, context)


def file_of(context: click.Context) -> str:
    """The name of its page: p2pfl-peers-create.1."""
    return context.command_path.replace(" ", "-") + ".1"


def page(context: click.Context) -> str:
    """The manual page of one command."""
    command, name = context.command, context.command_path.replace(" ", "-")
    paragraphs = [" ".join(one.split()) for one in (command.help or "").split("\n\n")]
    short = command.get_short_help_str(WIDTH).rstrip(".")
    usage = [context.command_path, *command.collect_usage_pieces(context)]
    lines = [
        f'.TH "{escaped(name.upper())}" 1 "" "p2pfl {escaped(__version__)}" "p2pfl"',
        *(".SH NAME", f"{escaped(name)} \\- {escaped(short)}"),
        *(".SH SYNOPSIS", f".B {escaped(usage[0])}", escaped(" ".join(usage[1:]))),
        ".SH DESCRIPTION",
    ]
    for place, paragraph in enumerate(paragraphs):
        lines += ([".PP"] if place else []) + [escaped(paragraph)]
    lines += _commands(context) + _options(context) + _examples(context)
    lines += _table("EXIT STATUS", EXITS) + _table("ENVIRONMENT", VARIABLES) + _table("FILES", FILES)
    lines += [".SH SEE ALSO", ", ".join(f"\\fB{escaped(one)}\\fR(1)" for one in _near(context))]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """`text` as roff that says just that: nothing in it is a request, an escape or a character that it lacks."""
    made = "".join(_shown(one) for one in text)
    return f"\\&{made}" if made[:1] in (".", "'") else made


def _shown(one: str) -> str:
    if one in SPECIAL:
        return SPECIAL[one]
    if one == "\n":
        return " "
    return one if one.isascii() and one.isprintable() else f"\\[u{ord(one):04X}]"


def _commands(context: click.Context) -> list[str]:
    command = context.command
    if not isinstance(command, click.Group):
        return []
    found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    rows = [(name, one.get_short_help_str(WIDTH)) for name, one in found if one is not None and not one.hidden]
    return _table("COMMANDS", rows)


def _options(context: click.Context) -> list[str]:
    options = [one for one in context.command.get_params(context) if isinstance(one, click.Option)]
    records = [one.get_help_record(context) for one in options]
    return _table("OPTIONS", [record for record in records if record is not None])


def _examples(context: click.Context) -> list[str]:
    found = [escaped(line) for line in examples_of(context.command_path)]
    return [".SH EXAMPLES", ".nf", *found, ".fi"] if found else []


def _table(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f".SH {title}"] if rows else []
    for term, what in rows:
        lines += [".TP", f"\\fB{escaped(term)}\\fR", escaped(what) or "\\&"]
    return lines


def _near(context: click.Context) -> list[str]:
    """The pages above and below, and of the program itself."""
    command, own = context.command, context.command_path.replace(" ", "-")
    below = command.list_commands(context) if isinstance(command, click.Group) else []
    above = [context.parent.command_path.replace(" ", "-")] if context.parent is not None else []
    return list(dict.fromkeys([*above, *(f"{own}-{name}" for name in below), "p2pfl"]))

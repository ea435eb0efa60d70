"""What each kind of question needs, as options: one for each of its fields, so that none can be in only one place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Final

import click

from p2pfl.cli.stats import KINDS
from p2pfl.cli.stats.asking import ask_together, asking_options
from p2pfl.federation import Federation
from p2pfl.node.question_file import COLUMN, statistic_of
from p2pfl.node.question_terms import term_of
from p2pfl.statistics.question import Quantity, Statistic
from p2pfl.statistics.registry import STATISTICS

ALSO: Final = {"logrank": ("km", ("group",))}  # a verb of its own: (the kind that it asks, what must be said then)
RANGE: Final = "LOW:HIGH:COUNT, or numbers with commas"


def kind_of(verb: str) -> tuple[type[Statistic], tuple[str, ...]]:
    """The statistic that a verb asks, and which of its optional fields the verb needs."""
    kind, needed = ALSO.get(verb, (verb, ()))
    return STATISTICS[kind], needed


def question_options(verb: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options for every field of that question; the command gets `told`, the question as facts."""
    kind, must = kind_of(verb)

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def collected(**given: Any) -> None:
            told: dict[str, Any] = {"kind": kind.kind}
            for one in fields(kind):
                value = given.pop(one.name)
                if value is not None and value != ():
                    told[one.name] = fact_of(*term_of(kind, one), value)
            command(told=told, **given)

        found: Callable[..., None] = collected
        for one in reversed(fields(kind)):
            found = _option(kind, one, one.name in must)(found)
        return found

    return decorated


def _option(kind: type[Statistic], one: Field[Any], must: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    many, what = term_of(kind, one)
    name, needed = f"--{one.name.replace('_', '-')}", must or one.default is MISSING
    said = "" if needed else f"  [default: {_shown(one.default)}]"
    if what is bool and not many:
        return click.option(f"{name}/--no-{name[2:]}", one.name, default=None, help=_help(one, said))
    metavar = {Quantity: "COLUMN", float: "NUMBER", int: "NUMBER", str: "WORD"}.get(what, "VALUE")
    if many:
        metavar = RANGE.partition(",")[0] + "|N,N…" if what is float else "LEVEL,…" if what is str else f"{metavar},…"
    return click.option(name, one.name, required=needed, multiple=many, metavar=metavar, help=_help(one, said))


def _help(one: Field[Any], said: str) -> str:
    return one.name.replace("_", " ").capitalize() + "." + said


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def fact_of(many: bool, what: Any, given: Any) -> Any:
    """What a person gave, as the question's facts have it."""
    if many:
        if what is float and len(given) == 1 and given[0].count(":") == 2:
            return _steps(given[0])
        return [fact_of(False, what, part.strip()) for text in given for part in text.split(",")]
    if what is Quantity:
        return {COLUMN: given}
    if what is int and isinstance(given, str):
        try:
            return int(given)
        except ValueError:
            return given  # the question says what belongs there
    return given


def _steps(text: str) -> list[str]:
    """`0:100:10` as the 11 edges from 0 to 100."""
    try:
        low, high, count = (float(part) for part in text.split(":"))
        if not 1 <= count <= 4096 or count != int(count):
            raise ValueError(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no {RANGE}") from None
    return [repr(low + (high - low) * step / int(count)) for step in range(int(count) + 1)]


def asking_command(verb: str) -> click.Command:
    """`p2pfl stats VERB`."""

    @question_options(verb)
    @asking_options
    def asked(*, told: Mapping[str, Any], peers_file: Path, **how: Any) -> None:
        federation = Federation.load(peers_file)
        ask_together(federation, statistic_of(told, federation, "the command line"), peers_file=peers_file, **how)

    together = "Every site calls it with the same options, but its own --data, at about the same time."
    help_ = "\n\n".join([KINDS[verb], *_said(kind_of(verb)[0]), together])
    return click.command(name=verb, help=help_)(asked)


def _said(kind: type[Statistic]) -> list[str]:
    """What the question says of itself, where it says something."""
    text = " ".join((kind.__doc__ or "").replace("`", "").split())
    return [] if not text or text.startswith(f"{kind.__name__}(") else [text]

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
# What each field is, for a person who knows the study and not this program; KIND.FIELD where a kind means another.
SAID: Final[Mapping[str, str]] = {
    "bins": "Equal bins over the column's bounds; 0: none.",
    "by_site": "Each site's own risk sets, added up (stratified by site): no grid is needed.",
    "column": "The column.",
    "columns": "The columns.",
    "complete": "Of the records with every value alone; how many others there are is counted, and too few end it.",
    "correlation.bins": "Of spearman: equal bins over each column's bounds, whose middle ranks are taken.",
    "covariates": "The columns that explain it; of a code the first level is the reference.",
    "crosstab.columns": "The code whose levels are the columns of the table.",
    "describe.bins": "Bins that tell between which edges the extremes lie; 0, or with noise: they are not told. A bin "
    "that holds somebody, but at no site minimum_cell people, as one at an end may, ends the question (P2P-STATS-007).",
    "edges": "Where the bins end; what lies beyond is counted apart.",
    "event": "The column that says whether the event came at that time, or the record was censored.",
    "exposure": "The column of the time at risk, or of how many.",
    "grid": "The times at which the curve may step; a time counts as the first of these that is not before it.",
    "group": "The code whose levels are compared.",
    "halvings": "The answer is one of 2 to this power of equal bins over the column's bounds.",
    "levels": "Which of the group's levels are compared.",
    "measure": "What each site estimates: mean, difference, or log-odds-ratio.",
    "method": "How.",
    "correlation.method": "Which coefficient: pearson or spearman.",
    "quantiles.method": "Bisection opens little; histogram opens all bins, in one sum.",
    "most_steps": "Newton steps until the question ends without an answer.",
    "outcome": "The column that is explained.",
    "positive": "Which levels count as yes.",
    "km.positive": "Which levels of the event column mean that it came; the others are censored.",
    "cox.positive": "Which levels of the event column mean that it came; the others are censored.",
    "probabilities": "Which quantiles: 0.5 is the median.",
    "ridge": "A penalty on squared coefficients, against separation; 0: none.",
    "rows": "The code whose levels are the rows of the table.",
    "score": "The column of the score; higher ones speak for the outcome.",
    "time": "The column of the time to the event, or to the end of what is known.",
}


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
        return click.option(f"{name}/--no-{name[2:]}", one.name, default=None, help=_help(kind.kind, one, said))
    metavar = {Quantity: "COLUMN", float: "NUMBER", int: "NUMBER", str: "WORD"}.get(what, "VALUE")
    if many:
        metavar = RANGE.partition(",")[0] + "|N,N…" if what is float else "LEVEL,…" if what is str else f"{metavar},…"
    return click.option(
        name, one.name, required=needed, multiple=many, metavar=metavar, help=_help(kind.kind, one, said)
    )


def _help(kind: str, one: Field[Any], said: str) -> str:
    return (SAID.get(f"{kind}.{one.name}") or SAID[one.name]) + said


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

"""Asking a question together with the other sites: the options of this site, the run, and what is printed."""

from __future__ import annotations

import functools
import math
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from p2pfl.cli import output
from p2pfl.cli.joining import Access, ProxyChoice, listen_option, patience_option, proxy_options, wait_option
from p2pfl.cli.monitor import Monitor, monitor_options
from p2pfl.cli.options import Unlock, agreement_option, home_option, json_option, peers_option, unlock_options
from p2pfl.cli.stopping import run
from p2pfl.cli.watch import Here, Watch, braced
from p2pfl.errors.people import ResultUnseen
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.home.keyslots import KeySource
from p2pfl.node import questions
from p2pfl.node.runs.question_noise import AnswerNoise
from p2pfl.node.runs.statistics import Inquiry
from p2pfl.node.studies import studies_of, view_or_new
from p2pfl.peer.statistics import StatisticAnswer
from p2pfl.statistics.question import Statistic, TextTable
from p2pfl.training.records.column_map import MapFile, map_for
from p2pfl.training.records.given_table import GivenTable

Command = Callable[..., None]

data_option = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="This site's records: a CSV with the columns that peers.yaml describes.",
)
map_option = click.option(
    "--map",
    "columns_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Column map of that CSV.  [default: DATA.columns.yaml beside it, if it is there]",
)
show_own_option = click.option(
    "--show-own",
    "shows_own",
    is_flag=True,
    help="This site agrees that its own estimate is opened under its name, where the question asks for that (meta).",
)


def asking_options(command: Command) -> Command:
    """What a site says of itself when it asks."""
    for option in reversed(
        (
            data_option,
            map_option,
            show_own_option,
            peers_option,
            home_option,
            patience_option,
            agreement_option,
            listen_option,
            wait_option,
            proxy_options,
            monitor_options,
            unlock_options,
            json_option,
        )
    ):
        command = functools.partial(option)(command)
    return command


def ask_together(
    federation: Federation,
    statistic: Statistic,
    *,
    data: Path,
    columns_file: Path | None,
    shows_own: bool,
    peers_file: Path,
    home: Path,
    patience_s: float,
    document: Path | None,
    listen: str | None,
    wait_s: float | None,
    proxy: ProxyChoice,
    monitor: Monitor,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Ask with the others, and print what came out."""
    inquiry, columns = Inquiry.of(statistic, federation, os.urandom), map_for(data, columns_file)
    inquiry.check()
    records = GivenTable.of_file(data)
    inquiry.read(records, columns, shows_own)  # what is wrong here is told before any link is made
    keys = unlock.keys()
    _check_approved(inquiry, home, keys)
    asked = _asked_there(click.get_current_context(silent=True), statistic.kind)
    command = f"p2pfl stats {braced(asked)} --peers {{peers}} --data THEIR.csv"
    watch = Watch(federation.roster, command, here=Here(peers_file, home), tell=monitor.tell)
    access = Access(home, keys, listen, wait_s, proxy, document)

    def told(answer: StatisticAnswer) -> None:
        output.seen_result(_text(inquiry.called, answer), _facts(statistic, answer), as_json)
        monitor.tell("waiting for the others to have it")

    with monitor.running(federation, "sum"):
        how = (records, columns, shows_own, patience_s)
        unseen = run(_asked(federation, statistic, how, access, watch, monitor, told))
    if unseen is not None:
        raise unseen


def _asked_there(context: click.Context | None, kind: str) -> str:
    """The verb, and what this site said of the question: all of it must be the same at the others."""
    if context is None:
        return f"{kind} …"
    of_a_site = {one.name for one in click.command()(asking_options(lambda: None)).params}
    words = [str(context.info_name)]
    for one in context.command.params:
        value = context.params.get(str(one.name))
        if one.name in of_a_site or value is None or value == ():
            continue
        if isinstance(one, click.Argument):
            words.append(str(value))
        elif isinstance(value, bool):
            words.append(one.opts[0] if value else one.secondary_opts[0])
        else:
            many = value if isinstance(value, tuple) else (value,)
            words += [word for each in many for word in (one.opts[0], str(each))]
    return shlex.join(words)


def _check_approved(inquiry: Inquiry, home: Path, keys: Sequence[KeySource]) -> None:
    """Raises QuestionNotApproved. A file of an earlier epoch than the home's is judged once the site has joined."""
    federation = inquiry.federation
    with Home.open(home, unlock=keys, write=False) as opened:
        held = next((study for study in studies_of(opened) if study.is_of(federation)), None)
        if held is None or held.federation.digest == federation.digest:
            questions.check(view_or_new(opened, federation), federation, inquiry.facts, inquiry.called)


async def _asked(
    federation: Federation,
    statistic: Statistic,
    how: tuple[GivenTable, MapFile | None, bool, float],
    access: Access,
    watch: Watch,
    monitor: Monitor,
    told: Callable[[StatisticAnswer], None],
) -> ResultUnseen | None:
    """Why nobody read the answer, where that is so."""
    data, columns, shows_own, patience_s = how
    async with access.join(federation, watch, f"stats {statistic.kind}", monitor) as peer:
        answer = await peer.ask(statistic, data, columns=columns, shows_own=shows_own, patience_s=patience_s)
        try:
            told(answer)
        except ResultUnseen as error:  # said at the end: the others are served first
            return ResultUnseen(evidence=f"{error.evidence}; the answer is lost, and may be asked for once more")
    return None


def _facts(statistic: Statistic, answer: StatisticAnswer) -> dict[str, Any]:
    return {
        "kind": statistic.kind,
        "question": answer.question.hex(),
        "result": answer.result.as_json(),
        "survivors": list(answer.survivors),
        "rounds": list(answer.rounds),
        "noise": answer.noise.as_json() if answer.noise is not None else None,
    }


def _text(asked: str, answer: StatisticAnswer) -> str:
    over = f"{asked}, over {len(answer.survivors)} sites: {', '.join(answer.survivors)}"
    tables = answer.result.tables()
    if answer.noise is None:
        return "\n\n".join([over, *(_table(one, []) for one in tables)])
    errors = answer.noise.errors.get("tables") or [[] for _ in tables]
    told = [_table(one, rows) for one, rows in zip(tables, errors, strict=True)]
    return "\n\n".join([f"{over}\n{_of_noise(answer.noise)}", *told])


def _of_noise(noise: AnswerNoise) -> str:
    spent = f"ε = {noise.epsilon} at δ = {noise.delta:g}"
    return (
        f"with noise of multiplier {noise.multiplier:g} for each {noise.unit}, which {noise.parts} sites' parts make "
        f"up; spent of this site's records so far: {spent}\n"
        "± is the standard error by the noise alone; a count below 0 is shown as 0, and totals are those of their parts"
        f"{intervals_text(noise.held, noise.not_held)}"
    )


def intervals_text(held: Sequence[str], not_held: Sequence[str]) -> str:
    """Which figures about who was sampled hold the noise, and which do not: a line for each, where there are such."""
    lines = []
    if held:
        lines.append(f"about who was sampled, the noise included: {_words(held)}")
    if not_held:
        lines.append(f"about who was sampled alone, so more certain than they are: {_words(not_held)}")
    return "".join(f"\n{line}" for line in lines)


def _words(keys: Sequence[str]) -> str:
    return ", ".join(key.replace("_", " ") for key in keys)


def _table(table: TextTable, errors: Sequence[Sequence[float | None]]) -> str:
    """errors: of each row's cells, by the noise; none where there is none. A column that nothing is in is left out."""
    shown = [[cell_text(cell) for cell in row] for row in table.rows]
    for row, known in zip(shown, errors, strict=False):
        row[:] = [f"{cell} ±{error:.2g}" if error else cell for cell, error in zip(row, known, strict=True)]
    told = [at for at in range(len(table.header)) if any(row[at] is not None for row in table.rows)]
    rows = [[row[at] for at in told] for row in (list(table.header), *shown)]
    numbers = [place for place, at in enumerate(told) if not any(isinstance(row[at], str) for row in table.rows)]
    return f"{table.title}\n{output.aligned(rows, numbers)}"


def cell_text(cell: str | float | int | None) -> str:
    """A number to four digits, and to a tenth where it is larger: more is in `--json`."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.1f}".removesuffix(".0") if 1e3 <= abs(cell) < 1e9 else f"{cell:.4g}"

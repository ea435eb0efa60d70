"""`p2pfl sum`: one secure sum. Each site puts in a number; all learn the sum, and nobody another's number."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from p2pfl.cli import output
from p2pfl.cli.inputs import (
    FINE,
    MOST_DECIMALS,
    STATISTICS,
    check_room,
    own_values,
    parts,
    read_off,
    room_for,
    summed_decimals,
)
from p2pfl.cli.joining import Access, ProxyChoice, listen_option, patience_option, proxy_options, wait_option
from p2pfl.cli.monitor import Monitor, monitor_options
from p2pfl.cli.options import Unlock, agreement_option, home_option, json_option, peers_option, unlock_options
from p2pfl.cli.stopping import run
from p2pfl.cli.watch import Here, Watch, braced
from p2pfl.errors.counts import counted
from p2pfl.errors.people import ResultUnseen
from p2pfl.errors.sharing import NothingToAverage
from p2pfl.federation import Federation

if TYPE_CHECKING:
    from p2pfl.node.runs.results import SumResult


DECIMALS: Final = 2  # digits behind the point, where nothing else is said
LONGEST: Final = 100  # characters of a limit
MOST_DIGITS: Final = 30  # before or behind its point


@dataclass(frozen=True, slots=True)
class SumTerms:
    """What all sites must ask alike."""

    name: str
    limit: Decimal | None
    decimals: int
    records: bool  # a column of records is summed, and no one number of each site
    patience_s: float


def exact(text: str) -> Decimal:
    """`text` as an exact decimal above 0, for click."""
    try:
        value = Decimal(text[:LONGEST])
    except ArithmeticError:
        raise ValueError(text) from None
    if len(text) > LONGEST or not value.is_finite() or not value > 0 or abs(value.adjusted()) > MOST_DIGITS:
        raise ValueError(text)
    return value


@click.command(name="sum")
@peers_option
@home_option
@click.option(
    "--value", metavar="NUMBER|-", help="This site's number; - reads it from stdin, so that it is in no process list."
)
@click.option("--csv", "file", type=click.Path(path_type=Path, dir_okay=False), help="Or: this site's records, a CSV.")
@click.option("--column", metavar="COLUMN", help="With --csv: which of its columns.")
@click.option(
    "--stat", "statistic", type=click.Choice(STATISTICS), default="mean", show_default=True, help="What is asked."
)
@click.option(
    "--name",
    "query",
    metavar="NAME",
    help="What the sites call this question; the same at all.  [default: the statistic]",
)
@click.option(
    "--limit",
    type=exact,
    metavar="NUMBER",
    help="Largest absolute value of any site's total; the same at all.  [default: what the field holds]",
)
@click.option(
    "--decimals",
    type=click.IntRange(0, MOST_DECIMALS),
    default=DECIMALS,
    show_default=True,
    help="Digits after the point that count; the same at all. A variance wants all that the values have, and above 4 "
    "leaves room for small numbers alone.",
)
@patience_option
@agreement_option
@listen_option
@wait_option
@proxy_options
@monitor_options
@unlock_options
@json_option
def sum_(
    *,
    peers_file: Path,
    home: Path,
    value: str | None,
    file: Path | None,
    column: str | None,
    statistic: str,
    query: str | None,
    limit: Decimal | None,
    decimals: int,
    patience_s: float,
    document: Path | None,
    listen: str | None,
    wait_s: float | None,
    proxy: ProxyChoice,
    monitor: Monitor,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """The mean, sum, count or variance of the numbers of all sites; no site learns another's.

    Every site calls it with the same --stat, --name, --limit and --decimals, at about the same time.

    The same numbers are summed over one set of sites only, whatever the question is called: two answers over sets that
    differ by one site are that site's number. Numbers of which one has changed are new ones, and no program can tell:
    a sum before and one after tell the change; or roughly a site's number, if it was away from one of them.
    """
    federation = Federation.load(peers_file)
    given = own_values(value, file, column)
    mine, digits = parts(statistic, given, decimals), summed_decimals(statistic, decimals)
    check_room(statistic, given, decimals, len(federation.roster.members))
    if statistic == "variance" and decimals > FINE:
        room = room_for(statistic, decimals, len(federation.roster.members))
        output.progress(f"with --decimals {decimals} the squares of each site may add up to {int(room)} at most")
    command = _asked_there(statistic, query, limit, decimals, column)
    watch = Watch(federation.roster, command, here=Here(peers_file, home), tell=monitor.tell)
    asked = SumTerms(query or statistic, limit, digits, file is not None, patience_s)
    access = Access(home, unlock.keys(), listen, wait_s, proxy, document)

    def report(result: SumResult) -> tuple[str, dict[str, object]]:
        total = [Decimal(str(number)) for number in result.total]
        found, count = f"{read_off(statistic, total):.{digits}f}", int(total[-1])
        of_what = f"{result.sites} sites" + (f", {counted(count, 'value')}" if file else "")
        kept = f"; final in round {result.round} before, and not told since" if result.kept else ""
        facts: dict[str, object] = {
            "statistic": statistic,
            "value": found,
            "count": count,
            "survivors": list(result.survivors),
            "round": result.round,
            "name": asked.name,
            "kept": result.kept,
        }
        return f"{statistic} {found} over {of_what}: {', '.join(result.survivors)}{kept}", facts

    def at_once(result: SumResult) -> bool:
        """Print the result, and say whether that could be done: then the home need not keep it. Raises ResultUnseen."""
        try:
            text, facts = report(result)
        except NothingToAverage:  # said at the end: the others are served first
            return False
        output.seen_result(text, facts, as_json)
        monitor.tell("waiting for the others to have it")
        return True

    with monitor.running(federation, "sum"):
        result, unseen = run(_sum(federation, (given, mine), asked, access, watch, monitor, at_once))
    report(result)  # raises what could not be said at once
    if unseen is not None:
        raise unseen


def _asked_there(statistic: str, query: str | None, limit: Decimal | None, decimals: int, column: str | None) -> str:
    """The command for the people of another site, with all that must be the same there."""
    words = ["--value", "-"] if column is None else ["--csv", "THEIR.csv", "--column", column]
    words += ["--stat", statistic] if statistic != STATISTICS[0] else []
    words += ["--name", query] if query is not None else []
    words += ["--limit", f"{limit}"] if limit is not None else []
    words += ["--decimals", str(decimals)] if decimals != DECIMALS else []
    return f"p2pfl sum --peers {{peers}} {braced(shlex.join(words))}"


async def _sum(
    federation: Federation,
    numbers: tuple[Sequence[Decimal], Sequence[Decimal]],
    asked: SumTerms,
    access: Access,
    watch: Watch,
    monitor: Monitor,
    at_once: Callable[[SumResult], bool],
) -> tuple[SumResult, ResultUnseen | None]:
    """The sum; and why nobody read it, where that is so: then the home keeps it, and the same command tells it."""
    async with access.join(federation, watch, "sum", monitor, name=asked.name) as peer:
        given, mine = numbers
        result = await peer.sum(
            mine,
            limit=asked.limit,
            decimals=asked.decimals,
            name=asked.name,
            data=given,
            records=len(given) if asked.records else None,
            patience_s=asked.patience_s,
        )
        try:
            if at_once(result):
                await peer.forget_answer()
        except ResultUnseen as error:  # said at the end: the others are served first
            peer.keep_answer()
            return result, ResultUnseen(evidence=f"{error.evidence}; the same command tells the answer")
        return result, None

"""`p2pfl withdraw`: whoever withdrew consent is left out of all that this home computes from now on."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from p2pfl.cli import output
from p2pfl.cli.joining import Access
from p2pfl.cli.local_task import LocalInputs, opened_task, reach_of
from p2pfl.cli.options import Unlock, columns_option, home_option, json_option, read_whole, unlock_options
from p2pfl.cli.records import check_readable
from p2pfl.cli.tasks import reads_option, task_process
from p2pfl.errors.counts import counted
from p2pfl.errors.people import NotReadable, WrongUse
from p2pfl.federation import Federation
from p2pfl.home import Home

if TYPE_CHECKING:
    from p2pfl.training.process.facts import TaskSource

STDIN: Final = Path("-")
MOST_STDIN: Final = 1 << 20  # bytes
NEW_LINE: Final = re.compile("\r\n|\r|\n")
REMAINS: Final = (
    "  what stays: earlier models, which learned from these records within the ε that was told, and past sums;",
    "    nobody can take a record out of a model: where that is asked, a study begins anew without it",
    "  what stops: exact measures of a study that held one of the records out, at all sites, and nobody learns whose",
    "  what does not know: `p2pfl sum`, `p2pfl run` and programs of your own read files as they are: take it out there",
)


@click.command()
@click.option(
    "--patients",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with one patient a line, as the records name them; - reads them from stdin.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The records themselves, in the form in which `join --data` takes them: a CSV, or a folder.",
)
@click.option(
    "--peers",
    "peers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The peers file of the study in which they are read, with --data.",
)
@columns_option
@click.option(
    "--task",
    "task_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="This site's copy of the task's file, where peers.yaml pins one.",
)
@reads_option
@home_option
@unlock_options
@json_option
def withdraw(
    *,
    patients: Path | None,
    data: Path | None,
    peers_file: Path | None,
    columns: Path | None,
    task_file: Path | None,
    reads: tuple[Path, ...],
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Leave records out of every study of this home, and of statistics, from the next round on.

    A running site takes it up by itself, and no restart forgets it. With --patients all records of these patients are
    left out, those to come too; with --data these records, and their patients where the task knows them. The site log
    says how many, not who. Nothing is given back to the privacy account.
    """
    if (patients is None) == (data is None) or (data is not None) != (peers_file is not None):
        raise WrongUse(evidence="--patients FILE, or --data and --peers", verb=" withdraw")
    keys = unlock.keys()
    if data is not None and peers_file is not None:
        federation = Federation.load(peers_file)
        names = _names_in(
            LocalInputs(federation, Access(home, keys, None, None), data, columns, task_file, reads=reads)
        )
    else:
        from p2pfl.training.records.withdrawn import patient_name

        names = [patient_name(one.encode()) for one in _lines(patients or STDIN)]
    from p2pfl.node.withdrawals import withdraw as leave_out

    with Home.open(home, unlock=keys, write=False) as opened:
        told, name = leave_out(opened, names, int(time.time())), opened.name
    lines = [
        f"{name}: {counted(told.given, 'name')} given, {told.new} of them new, {told.used} known to "
        "this home's accounts"
    ]
    if told.given and not told.used:
        lines.append(
            "  none of them is known here: nothing that was trained on goes by that name; is it spelled as there?"
        )
    elif patients is not None and told.used < told.given:
        lines.append(
            f"  {told.given - told.used} of {told.given} are not known to this home's accounts: are they spelled as in "
            "the records? Those of whom only questions were asked are not in them"
        )
    output.result("\n".join([*lines, *REMAINS]), {"given": told.given, "new": told.new, "used": told.used}, as_json)


def _lines(file: Path) -> list[str]:
    """The patients named in a file: of each line what stands between blanks. Raises NotReadable, DataNotText."""
    from p2pfl.training.records.columns import text_of

    raw = sys.stdin.buffer.read(MOST_STDIN + 1) if file == STDIN else read_whole(file)
    if file == STDIN and len(raw) > MOST_STDIN:  # whoever stands behind the cut would not be left out
        raise NotReadable(evidence=f"it holds more than {MOST_STDIN} bytes: name them in a file", path=file)
    text = text_of(raw, str(file)) if raw.strip() else ""  # in other bytes than the records' a name is nobody's
    named = [line.strip() for line in NEW_LINE.split(text) if line.strip()]
    if not named:
        raise NotReadable(evidence="it names nobody", path=file)
    return named


def _names_in(site: LocalInputs) -> Iterable[bytes]:
    """What names each record there, as trainings do, and as questions do where the task is a table."""
    check_readable(site.data)
    with task_process(reach_of(site)) as process:
        source = opened_task(site).source
        process.read(source)
        names = process.names_of_records()
    return [*names, *_asked_names(site, source)]


def _asked_names(site: LocalInputs, source: TaskSource) -> Iterable[bytes]:
    schema = site.federation.task.table
    if schema is None:
        return ()
    from p2pfl.node.runs.site_tables import read_records

    return read_records(schema, (), site.data, source.columns).names

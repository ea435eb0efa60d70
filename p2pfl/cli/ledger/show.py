"""`p2pfl ledger show`: the entries of a log, one line each."""

from __future__ import annotations

import json
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, log_option, reading, study_option, unlock_options
from p2pfl.home.segments import LogName
from p2pfl.ledger import entry as entries
from p2pfl.ledger.log import Log


@click.command()
@log_option
@click.option("--last", type=click.IntRange(1), help="Only this many of the newest entries.")
@study_option
@home_option
@unlock_options
@json_option
def show(which: LogName, last: int | None, peers_file: Path | None, home: Path, unlock: Unlock, as_json: bool) -> None:
    """The entries of a log, one line each; with --json their records as they were signed."""
    with reading(home, unlock, peers_file) as opened:
        log = Log.open(opened, which)
        held = list(log.records())
        root = log.root().hex()
    shown = held[-last:] if last else held
    text = "\n".join(entries.render(one) for one in shown) or f"the {which} log is empty"
    facts: dict[str, object] = {
        "log": which,
        "entries": len(held),
        "root": root,
        "records": [
            {"index": one.index, "record": json.loads(one.record), "signed_by": sorted(one.signatures)} for one in shown
        ],
    }
    output.result(text, facts, as_json)

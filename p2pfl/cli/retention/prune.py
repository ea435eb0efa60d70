"""`p2pfl retention prune`: delete what is past its time."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.home import Home
from p2pfl.node import retention
from p2pfl.node.studies import studies_of


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND…]", type=click.Choice(list(retention.BY_NAME)))
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@home_option
@unlock_options
@json_option
def prune(*, kinds: tuple[str, ...], dry_run: bool, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Delete what is past its time in studies that no process works in, or the KINDs of it that are named.

    A kind that is named before its time is refused, and so is a ledger at any time: nothing goes then. What went is
    in the site log, and the ledger verifies as before. The day is this machine's: look at its clock first.
    """
    at = int(time.time())
    today = datetime.datetime.fromtimestamp(at, datetime.UTC).date()
    gone: dict[str, dict[str, list[str]]] = {}
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        name, studies = opened.name, studies_of(opened)
        for study in studies:  # all of them before anything goes in the first
            retention.check_past(study.home, kinds, today)
        for study in studies:
            with opened.enter_study(study.home.study) as entered:
                gone[study.federation.name] = retention.prune(entered, kinds, today, at, dry=dry_run)
    would = "would be deleted" if dry_run else "deleted"
    lines = [
        f"{name}, {study}: {', '.join(f'{len(items)} {kind}' for kind, items in of.items())} {would}"
        for study, of in gone.items()
        if of
    ]
    output.result("\n".join(lines or [f"{name}: nothing is past its time"]), {"name": name, "gone": gone}, as_json)

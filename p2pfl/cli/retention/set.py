"""`p2pfl retention set`: keep a kind of items for another number of years."""

from __future__ import annotations

import time
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.home import Home
from p2pfl.node import retention


@click.command("set")
@click.argument("kind", type=click.Choice(list(retention.BY_NAME)))
@click.argument("years", type=click.IntRange(0, retention.MOST_YEARS))
@home_option
@unlock_options
@json_option
def set_(*, kind: str, years: int, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Keep items of KIND for YEARS after the last entry of their study, in all studies of this home.

    It is this site's own affair, and in its log. The ledger and proofs are kept for six years at least.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        retention.set_years(opened, kind, years, int(time.time()))
        name = opened.name
    text = f"{name}: {kind} are kept for {years} years after the last entry of their study"
    output.result(text, {"name": name, "kind": kind, "years": years}, as_json)

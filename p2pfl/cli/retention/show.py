"""`p2pfl retention show`: what is kept how long."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.home import Home
from p2pfl.node import retention
from p2pfl.node.studies import studies_of


@click.command()
@home_option
@unlock_options
@json_option
def show(*, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Of each study of this home, what is kept for how many years, and from which day on it may go.

    Accounts of records, the list of those who withdrew, keys and approvals are kept as long as the home is.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        held = {one.federation.name: retention.held_by(one.home) for one in studies_of(opened)}
        name = opened.name
    lines = [] if held else [f"{name}: no study has begun"]
    for study, rows in held.items():
        lines.append(f"{name}, {study}")
        for one in rows:
            until = f"until {one.until}" if one.until is not None else "not begun"
            there = "never deleted" if one.kind.name == retention.LEDGER else f"{len(one.items)} here"
            lines.append(f"  {one.kind.name:9} {one.years:3} years  {until}  {there:13}  {one.kind.holds}")
    facts = {
        "name": name,
        "studies": {
            study: {
                one.kind.name: {"years": one.years, "until": str(one.until or ""), "items": len(one.items)}
                for one in rows
            }
            for study, rows in held.items()
        },
    }
    output.result("\n".join(lines), facts, as_json)

"""`p2pfl keys list`: which keys open a home. It opens nothing, and shows no key."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import home_option, json_option
from p2pfl.home import Home
from p2pfl.home.keyring import facts_of


@click.command(name="list")
@home_option
@json_option
def list_(*, home: Path, as_json: bool) -> None:
    """Which keys open this home: the name of each slot, its kind, and where its key lies as far as the slot says.

    It needs no key, and opens nothing.
    """
    name, slots = Home.slots_at(home)
    facts = [facts_of(slot) for slot in slots]
    rows = [[f"  {one['slot']}", str(one["kind"]), str(one["path"] or "")] for one in facts]
    output.result(
        f"{name}: {output.counted(len(rows), 'key')}\n{output.aligned(rows)}",
        {"name": name, "slots": facts},
        as_json,
    )

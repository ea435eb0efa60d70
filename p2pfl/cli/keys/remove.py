"""`p2pfl keys remove`: a key opens a home no more."""

from __future__ import annotations

import time
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.home import Home, keyring


@click.command()
@click.argument("slot")
@home_option
@unlock_options
@json_option
def remove(*, slot: str, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Take the key of SLOT away, as `p2pfl keys list` names it: it opens this home no more. The last one stays.

    Open the home with a key that stays: --pass-phrase, --recovery, --key-file or --key-command.
    Whoever kept the key and an older copy of the home still opens that copy.
    """
    keys = unlock.keys()
    with Home.open(home, unlock=keys, write=False) as opened:
        gone = keyring.remove(opened, slot, int(time.time()), keys)
        name, left = opened.name, keyring.slots_of(opened)
    lines = [
        f"{name}: {gone.kind} {slot} opens the home no more; {output.counted(len(left), 'key')} left",
        *([f"  its file is still there: {path}"] if (path := keyring.where_of(gone)) else []),
        "  an older backup opens with it as it did",
    ]
    facts: dict[str, object] = {"name": name, "removed": keyring.facts_of(gone), "left": len(left)}
    output.result("\n".join(lines), facts, as_json)

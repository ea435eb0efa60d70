"""`p2pfl keys add`: one more key that opens a home."""

from __future__ import annotations

import time
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.keys.new_key import NewKey, new_key_options, show_words, words_of
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.home import Home, keyring
from p2pfl.home.keyslots import RecoveryKey, Slot


@click.command()
@new_key_options
@home_option
@unlock_options
@json_option
def add(*, new: NewKey, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Add a key that opens this home, beside those that do. The site may run meanwhile."""
    key = new.source(" keys add")

    def told(made: Slot) -> tuple[str, dict[str, object]]:
        words, secret = words_of(key)
        facts: dict[str, object] = {"name": opened.name, "added": keyring.facts_of(made)}
        return f"{opened.name}: {key.kind} added, slot {keyring.id_of(made)}{words}", facts | secret

    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        if isinstance(key, RecoveryKey):
            keyring.add(opened, key, int(time.time()), lambda made: show_words(*told(made), as_json, home))
            return
        made = keyring.add(opened, key, int(time.time()))
    output.result(*told(made), as_json)

"""`p2pfl keys rotate`: a fresh key in the place of one that opens a home."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.keys.new_key import NewKey, like, show_words, words_of
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.errors.people import WrongUse
from p2pfl.home import Home, keyring
from p2pfl.home.keyslots import KeyFile, RecoveryKey, Slot


@click.command()
@click.argument("slot")
@click.option("--new-key-command", metavar="COMMAND", help="Of a key command: the program that prints the new key.")
@click.option(
    "--keep-old",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Of a key file: a new file for the old key, with which older backups open.",
)
@home_option
@unlock_options
@json_option
def rotate(
    *,
    slot: str,
    new_key_command: str | None,
    keep_old: Path | None,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Put a fresh key of the same kind in the place of SLOT's, as `p2pfl keys list` names it. The site may run.

    A key file gets another key at the same path: the one that --key-file names, where its key is SLOT's, else the one
    that SLOT names; a pass phrase is asked for; recovery words are printed, once; the credential is the one that this
    unit is handed now. An older backup opens with the old key alone. A copy of a home that opens with the same key
    file as the home wants one of its own first: what is rotated in the copy, the home lacks.
    """

    def told(gone: Slot, made: Slot, words: str = "") -> tuple[str, dict[str, object]]:
        kept = f"the old key is in {keep_old}" if keep_old else "the old key is not kept here"
        name = opened.name
        text = f"{name}: {gone.kind} {slot} is now {keyring.id_of(made)}{words}\n  {kept}: older backups open with it"
        facts: dict[str, object] = {
            "name": name,
            "removed": keyring.facts_of(gone),
            "added": keyring.facts_of(made),
            "kept": str(keep_old) if keep_old else None,
        }
        return text, facts

    def shown(key: RecoveryKey, gone: Slot, made: Slot) -> None:
        words, secret = words_of(key)
        text, facts = told(gone, made, words)
        show_words(text, facts | secret, as_json, home)

    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        before = keyring.checked(opened, slot)
        if keep_old is not None and before.kind != KeyFile.kind:
            raise WrongUse(evidence=f"--keep-old is of a key file, and {slot} is a {before.kind}", verb=" keys rotate")
        if before.kind == KeyFile.kind:
            gone, made = keyring.rotate_file(opened, slot, int(time.time()), keep_old, unlock.key_file)
        else:
            key = like(before, NewKey(command=new_key_command), " keys rotate")
            if isinstance(key, RecoveryKey):
                keyring.rotate(opened, slot, key, int(time.time()), partial(shown, key))
                return
            gone, made = keyring.rotate(opened, slot, key, int(time.time()))
    output.result(*told(gone, made), as_json)

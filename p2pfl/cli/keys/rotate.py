"""`p2pfl keys rotate`: a fresh key in the place of one that opens a home."""

from __future__ import annotations

import time
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.keys.new_key import NewKey, like, words_of
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.errors.people import WrongUse
from p2pfl.home import Home, keyring
from p2pfl.home.keyslots import KeyFile


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

    A key file gets another key at the same path; a pass phrase is asked for; recovery words are printed, once; the
    credential is the one that this unit is handed now. An older backup opens with the old key alone.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        before = keyring.checked(opened, slot)
        if keep_old is not None and before.kind != KeyFile.kind:
            raise WrongUse(evidence=f"--keep-old is of a key file, and {slot} is a {before.kind}", verb=" keys rotate")
        words, secret = "", dict[str, object]()
        if before.kind == KeyFile.kind:
            gone, made = keyring.rotate_file(opened, slot, int(time.time()), keep_old)
        else:
            key = like(before, NewKey(command=new_key_command), " keys rotate")
            gone, made = keyring.rotate(opened, slot, key, int(time.time()))
            words, secret = words_of(key)
        name = opened.name
    kept = f"the old key is in {keep_old}" if keep_old else "the old key is not kept here"
    text = f"{name}: {gone.kind} {slot} is now {keyring.id_of(made)}{words}\n  {kept}: older backups open with it"
    facts: dict[str, object] = {
        "name": name,
        "removed": keyring.facts_of(gone),
        "added": keyring.facts_of(made),
        "kept": str(keep_old) if keep_old else None,
    }
    output.result(text, facts | secret, as_json)

"""`p2pfl peers new-key`: the key that this site changes to, and its card."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, reading, study_option, unlock_options, write_new
from p2pfl.federation.cards import Card
from p2pfl.home.rekey import new_identity


@click.command(name="new-key")
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the card of the new key goes.  [default: NAME.next.card]",
)
@study_option
@home_option
@unlock_options
@json_option
def new_key(target: Path | None, peers_file: Path | None, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Make the key that this site changes to, and its card. The present key stays until a rotation is in force."""
    with reading(home, unlock, peers_file) as opened:
        name = opened.name
        before = Card.load(opened.path / f"{name}.card")
        card = Card.sign(new_identity(opened), name, before.member.addresses)
    path = target or Path(f"{name}.next.card")
    write_new(path, card.to_bytes())
    lines = [
        f"{path}: the next key of {name}, {card.fingerprint}",
        "hand it to a site that proposes the change:",
        f"  p2pfl peers propose rotate {name} {quote(str(path))} -o change.yaml",
        f"without the signature of {name}, with its present key, the rotation does not count",
    ]
    output.result("\n".join(lines), {"path": str(path), "name": name, "fingerprint": card.fingerprint}, as_json)

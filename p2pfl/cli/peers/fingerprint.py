"""`p2pfl peers fingerprint`: eight words per key, to be read aloud."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import PEERS, home_option, json_option
from p2pfl.cli.peers.members import member_lines
from p2pfl.errors.federation import FileUnreadable
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.federation.cards import Card
from p2pfl.files import is_file
from p2pfl.keys import fingerprint as words_of
from p2pfl.roster import Member

CARDS = "*.card"


@click.command()
@click.argument("who", metavar="[CARD|NAME]", required=False)
@click.option("--peers", "peers_file", type=click.Path(path_type=Path, dir_okay=False), help="The sites of this file.")
@home_option
@json_option
def fingerprint(who: str | None, peers_file: Path | None, home: Path, as_json: bool) -> None:
    """Eight words per key, to be read aloud: of a CARD, of a NAME in peers.yaml, or of this home."""
    members = _asked(who, peers_file, home)
    facts: dict[str, object] = {"fingerprints": {member.name: words_of(member.key) for member in members}}
    output.result("\n".join(member_lines(members, addresses=False)), facts, as_json)


def _asked(who: str | None, peers_file: Path | None, home: Path) -> Sequence[Member]:
    if who and is_file(Path(who)):
        return [Card.load(who).member]
    if peers_file or who:
        roster = Federation.load(peers_file or PEERS).roster
        if who and who not in roster:
            evidence = f"{who!r} is no file, and no site of {peers_file or 'peers.yaml'}: {', '.join(roster.names)}"
            raise WrongUse(evidence=evidence, verb=" peers fingerprint")
        return [roster[who]] if who else roster.members
    cards = sorted(home.glob(CARDS)) if home.is_dir() else []
    if not cards:
        raise FileUnreadable(evidence="no card lies there: p2pfl init makes one", path=home / "NAME.card")
    return [Card.load(card).member for card in cards]

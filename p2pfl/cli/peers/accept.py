"""`p2pfl peers accept`: at a site that joins, its signature under the change that adds it."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, agreement_option, home_option, json_option, unlock_options, write_over
from p2pfl.cli.peers.changes import confirm, yes_option
from p2pfl.errors.membership import AgreementUnseen, AgreementUnseenInChange, NotAdded
from p2pfl.federation import Federation, changefile
from p2pfl.federation.agreement import assent
from p2pfl.home import Home
from p2pfl.keys import fingerprint


@click.command()
@click.argument("file", metavar="CHANGE", type=click.Path(path_type=Path))
@agreement_option
@yes_option
@home_option
@unlock_options
@json_option
def accept(*, file: Path, document: Path | None, yes: bool, home: Path, unlock: Unlock, as_json: bool) -> None:
    """At a site that joins: show what it joins, ask, and add its signature to the change.

    That is its signature under the agreement that peers.yaml names. Where one is named, no change counts without it.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        change, name, identity = changefile.load(file), opened.name, opened.newest_identity()
        key = identity.key
        new = change.federation()
        if name not in change.facts["added"] or name not in new.roster or new.roster[name].key != key:
            evidence = f"added: {', '.join(change.facts['added']) or 'nobody'}; the key here is {key.hex()[:16]}"
            raise NotAdded(source=file, name=name, home=home, evidence=evidence)
        try:
            assent(new.agreement, document, source=str(file), signed=False)
        except AgreementUnseen as error:
            raise AgreementUnseenInChange(evidence=error.evidence, path=file) from None
        for line in _joined(new):
            output.progress(line)
        if not yes:
            confirm(f"sign it as {name}?", "accept")
        change = change.sign(identity, name)
        write_over(file, changefile.to_bytes(change))
    lines = [f"{file}: signed by {name}, which joins; hand it back to the site that it came from"]
    named = new.agreement.hex() if new.agreement else None
    facts = {"path": str(file), "change": change.digest.hex(), "name": name, "agreement": named}
    output.result("\n".join(lines), facts | {"epoch": new.roster.epoch}, as_json)


def _joined(new: Federation) -> list[str]:
    """What a site joins, for the person who signs there."""
    signed = f"agreement SHA-256 {new.agreement.hex()}" if new.agreement else "no agreement is named"
    words = [f"  {one.name}  {fingerprint(one.key)}" for one in new.roster.members]
    return [
        f"federation {new.name}, epoch {new.roster.epoch}; {signed}",
        "its sites, and the words of their keys:",
        *words,
    ]

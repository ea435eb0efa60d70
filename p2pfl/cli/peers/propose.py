"""`p2pfl peers propose`: a change of membership, signed by this site, as a file for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, new_file_option, peers_option, reserved, unlock_options
from p2pfl.cli.peers.changes import (
    change_facts,
    change_lines,
    check_due,
    keep_if_complete,
    rounds_done,
    sign_once,
    signature_lines,
    signed_record,
)
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation, changefile
from p2pfl.federation.amend import amend, changed, next_hub
from p2pfl.federation.cards import Card
from p2pfl.federation.membership import EARLIEST, LATEST, RUNS, Change, record_of
from p2pfl.home import Home
from p2pfl.node.epochs import standing
from p2pfl.roster import Member

OPERATIONS = "add CARD | remove NAME | rotate NAME CARD | hub NAME"


@click.command()
@click.argument("steps", nargs=-1, metavar=f"{OPERATIONS} …")
@peers_option
@click.option(
    "--from-round",
    type=click.IntRange(EARLIEST, LATEST),
    default=EARLIEST,
    help="No earlier than at the beginning of this round.  [default: as soon as it is approved]",
)
@click.option("--of", "run", type=click.Choice(RUNS), default=RUNS[0], show_default=True, help="Whose rounds count.")
@click.option("--again", is_flag=True, help="The change that this site has signed, once more: its file was lost.")
@new_file_option
@home_option
@unlock_options
@json_option
def propose(
    *,
    steps: Sequence[str],
    peers_file: Path,
    from_round: int,
    run: str,
    again: bool,
    target: Path,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Make a change of membership, signed by this site: who is added, leaves, has another key, or is the hub.

    It comes into force at the beginning of a round, once a quorum of the present sites has approved it.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        federation, lineage = standing(opened, Federation.load(peers_file))
        if again == bool(steps):
            raise WrongUse(evidence=f"either --again or steps: {OPERATIONS}", verb=" peers propose")
        if again:
            record = signed_record(opened, lineage)
        else:
            members, hub = _next_members(federation, steps)
            file = amend(federation, members, lineage.genesis, hub)
            record = record_of(lineage, file, of=run, from_round=from_round)
            check_due(target, federation, Change(record, {}))
        with reserved(target) as write:  # what cannot be written is not signed either
            change = sign_once(opened, Change(record, {}), lineage)
            write(changefile.to_bytes(change))
        complete = keep_if_complete(opened, change, lineage)
        done = rounds_done(opened, change.facts["of"])
    lines = [*change_lines(federation, change, done), *signature_lines(lineage, change, target, complete, done)]
    output.result("\n".join(lines), change_facts(target, change, lineage), as_json)


def _next_members(federation: Federation, steps: Sequence[str]) -> tuple[tuple[Member, ...], str | None]:
    """`add CARD`, `remove NAME`, `rotate NAME CARD`, in any number, and `hub NAME`: the next members, and their hub."""
    add, remove, rotate, hubs = list[Member](), list[str](), dict[str, Member](), list[str]()
    left = list(steps)
    while left:
        verb, count = left[0], {"add": 1, "remove": 1, "rotate": 2, "hub": 1}.get(left[0], 0)
        words, left = left[1 : count + 1], left[count + 1 :]
        if not count or len(words) < count:
            raise WrongUse(evidence=f"{verb!r}: a step is {OPERATIONS}", verb=" peers propose")
        if verb == "add":
            add.append(Card.load(words[0]).member)
        elif verb == "remove":
            remove.append(words[0])
        elif verb == "hub":
            hubs.append(words[0])
        else:
            rotate[words[0]] = Card.load(words[1]).member
    if len(hubs) > 1:
        raise WrongUse(evidence=f"one site is the hub, not {' and '.join(hubs)}", verb=" peers propose")
    members = changed(federation.roster, add, remove, rotate)
    return members, next_hub(federation, members, hubs[0] if hubs else None, " ".join(steps))

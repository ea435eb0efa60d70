"""`p2pfl peers propose`: a change of membership, signed by this site, as a file for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import (
    Unlock,
    home_option,
    json_option,
    new_file_option,
    peers_option,
    reading,
    reserved,
    unlock_options,
)
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
from p2pfl.errors.membership import CannotRecover, NameOfAnother, NoSuchSite
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation, changefile
from p2pfl.federation.amend import amend, changed, next_hub
from p2pfl.federation.cards import Card
from p2pfl.federation.membership import EARLIEST, EPSILON, LATEST, RUNS, Change, record_of
from p2pfl.home import Home
from p2pfl.keys import fingerprint
from p2pfl.node.epochs import standing
from p2pfl.node.recovery import spent_by
from p2pfl.roster import Member

OPERATIONS = "add CARD | remove NAME | rotate NAME CARD | hub NAME | recover NAME"


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
@click.option(
    "--epsilon",
    metavar="E",
    help="With recover: what any site knows that it has spent, where that is more than this home knows.",
)
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
    epsilon: str | None,
    again: bool,
    target: Path,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Make a change of membership, signed by this site: who is added, leaves, has another key or address, is the hub.

    `recover NAME` lets a site go on whose home was restored from a backup: from the next epoch on, as of what the
    others hold, with all that they know it has spent of its privacy budget.

    The change comes into force at the beginning of a round, once a quorum of the present sites has approved it.
    """
    with reading(home, unlock, peers_file) as opened:
        federation, lineage = standing(opened, Federation.load(peers_file))
        if again == bool(steps):
            raise WrongUse(evidence=f"either --again or steps: {OPERATIONS}", verb=" peers propose")
        if again:
            record = signed_record(opened, lineage)
        else:
            members, hub, older = _next_members(federation, steps)
            if epsilon is not None and not older:
                raise WrongUse(evidence="--epsilon is of recover NAME, and no step is one", verb=" peers propose")
            for one in members:
                if lineage.is_anothers(one.name, one.key):
                    raise NameOfAnother(
                        name=one.name, evidence=f"its last key was {fingerprint(lineage.keys[one.name])}"
                    )
            recovered = {name: _spent(opened, name, epsilon) for name in older}
            file = amend(federation, members, lineage.genesis, hub)
            record = record_of(lineage, file, of=run, from_round=from_round, recovered=recovered)
            check_due(target, federation, Change(record, {}))
        with reserved(target) as write:  # what cannot be written is not signed either
            change = sign_once(opened, Change(record, {}), lineage)
            write(changefile.to_bytes(change))
        complete = keep_if_complete(opened, change, lineage)
        done = rounds_done(opened, change.facts["of"])
    lines = [*change_lines(federation, change, done), *signature_lines(lineage, change, target, complete, done)]
    output.result("\n".join(lines), change_facts(target, change, lineage), as_json)


def _next_members(federation: Federation, steps: Sequence[str]) -> tuple[tuple[Member, ...], str | None, list[str]]:
    """`add CARD`, `remove NAME`, `rotate NAME CARD`, `recover NAME`, in any number, and `hub NAME`.

    The next members, their hub, and who goes on from an older home.
    """
    add, remove, rotate, hubs, older = list[Member](), list[str](), dict[str, Member](), list[str](), list[str]()
    left = list(steps)
    while left:
        verb, count = left[0], {"add": 1, "remove": 1, "rotate": 2, "hub": 1, "recover": 1}.get(left[0], 0)
        words, left = left[1 : count + 1], left[count + 1 :]
        if not count or len(words) < count:
            raise WrongUse(evidence=f"{verb!r}: a step is {OPERATIONS}", verb=" peers propose")
        if verb == "add":
            add.append(Card.load(words[0]).member)
        elif verb == "remove":
            remove.append(words[0])
        elif verb == "hub":
            hubs.append(words[0])
        elif verb == "recover":
            _check_recovery(federation, words[0])
            older.append(words[0])
        else:
            rotate[words[0]] = Card.load(words[1]).member
    if len(hubs) > 1:
        raise WrongUse(evidence=f"one site is the hub, not {' and '.join(hubs)}", verb=" peers propose")
    members = changed(federation.roster, add, remove, rotate)
    return members, next_hub(federation, members, hubs[0] if hubs else None, " ".join(steps)), older


def _check_recovery(federation: Federation, name: str) -> None:
    """Raises NoSuchSite, CannotRecover."""
    roster, quorums = federation.roster, federation.roster.quorums
    if name not in roster:
        raise NoSuchSite(name=name, evidence=f"sites: {', '.join(roster.names)}")
    if quorums.q == quorums.n:
        raise CannotRecover(name=name, evidence=f"{quorums.n} sites, {quorums.q} of them must sign, {name} not counted")


def _spent(home: Home, name: str, stated: str | None) -> str:
    """What the record says that the site has spent: the larger of what this home knows and what was given."""
    if stated is not None and not EPSILON.fullmatch(stated):
        raise WrongUse(evidence=f"--epsilon {stated!r} is no decimal number", verb=" peers propose")
    return max(spent_by(home, name), stated or "0", key=float)

"""`p2pfl peers propose | approve | accept | adopt | newkey | revoke`: how sites change who they are.

All of it works beside a `join` that runs: what it leaves in the home is taken up there within a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from p2pfl import codec
from p2pfl.cli import output
from p2pfl.cli.options import (
    Unlock,
    agreement_option,
    home_option,
    json_option,
    peers_option,
    reserved,
    unlock_options,
    write_new,
    write_over,
)
from p2pfl.errors.membership import (
    ChangeIncomplete,
    ChangeNeverDue,
    ChangeOfSettings,
    ChangeUnfit,
    NoSuchSite,
    NotAdded,
    NothingSigned,
    NotRevoked,
    RevokedTooMany,
    SecondProposal,
)
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation, changefile
from p2pfl.federation.agreement import assent
from p2pfl.federation.amend import amend, changed, next_hub
from p2pfl.federation.cards import Card
from p2pfl.federation.federation import difference, settings_of
from p2pfl.federation.membership import EARLIEST, RUNS, Change, Lineage, record_of
from p2pfl.home import Home
from p2pfl.home.rekey import new_identity
from p2pfl.keys import fingerprint
from p2pfl.node.epochs import keep_change, standing
from p2pfl.node.pending_change import REVOKED, revoked_keys
from p2pfl.roster import Member, Quorums

SIGNED = "membership/signed"
BEHIND_ROUNDS = 2  # the last model's evaluation is a round, too, and a change may begin behind it
OPERATIONS = "add CARD | remove NAME | rotate NAME CARD | hub NAME"

target_option = click.option("-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), required=True,
                             help="The file to write; one that exists is never overwritten.")  # fmt: skip
yes_option = click.option("--yes", is_flag=True, help="Do not ask: the difference was read elsewhere.")


@click.command()
@click.argument("steps", nargs=-1, metavar=f"{OPERATIONS} …")
@peers_option
@click.option(
    "--from-round",
    type=click.IntRange(EARLIEST),
    default=EARLIEST,
    help="No earlier than at the beginning of this round.  [default: as soon as it is approved]",
)
@click.option("--of", "run", type=click.Choice(RUNS), default=RUNS[0], show_default=True, help="Whose rounds count.")
@click.option("--again", is_flag=True, help="The change that this site has signed, once more: its file was lost.")
@target_option
@home_option
@unlock_options
@json_option
def propose(
    *, steps: Sequence[str], peers_file: Path, from_round: int, run: str, again: bool, target: Path, home: Path,
    unlock: Unlock, as_json: bool,
) -> None:  # fmt: skip
    """Make a change of membership, signed by this site: who is added, leaves, has another key, or is the hub.

    It comes into force at the beginning of a round, once a quorum of the present sites has approved it.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        federation, lineage = standing(opened, Federation.load(peers_file))
        if again == bool(steps):
            raise WrongUse(evidence=f"either --again or steps: {OPERATIONS}", verb=" peers propose")
        if again:
            record = _signed_before(opened, lineage)
        else:
            members, hub = _next_members(federation, steps)
            file = amend(federation, members, lineage.genesis, hub)
            record = record_of(lineage, file, of=run, from_round=from_round)
            _check_due(target, federation, Change(record, {}))
        with reserved(target) as write:  # what cannot be written is not signed either
            change = _sign_once(opened, Change(record, {}), lineage)
            write(changefile.to_bytes(change))
        complete = _keep_if_complete(opened, change, lineage)
    lines = [*_told(federation, change), *_standing_lines(lineage, change, target, complete)]
    output.result("\n".join(lines), _facts(target, change, lineage), as_json)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="CHANGE [COPY…]", type=click.Path(path_type=Path))
@peers_option
@yes_option
@home_option
@unlock_options
@json_option
def approve(
    *, files: Sequence[Path], peers_file: Path, yes: bool, home: Path, unlock: Unlock, as_json: bool
) -> None:  # fmt: skip
    """Show a change of membership, ask, and add this site's signature to the file, with those of its COPIES.

    Once enough have signed it, it lies in this home too, and a `join` that runs hands it to the others.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        federation, lineage = standing(opened, Federation.load(peers_file))
        change = _merged(files, federation, lineage)
        for line in _told(federation, change):
            output.progress(line)
        if not yes:
            _ask(f"sign it as {opened.name}?")
        change = _sign_once(opened, change, lineage)
        write_over(files[0], changefile.to_bytes(change))
        complete = _keep_if_complete(opened, change, lineage)
    lines = _standing_lines(lineage, change, files[0], complete)
    output.result("\n".join(lines), _facts(files[0], change, lineage), as_json)


@click.command()
@click.argument("file", metavar="CHANGE", type=click.Path(path_type=Path))
@agreement_option
@yes_option
@home_option
@unlock_options
@json_option
def accept(
    *, file: Path, document: Path | None, yes: bool, home: Path, unlock: Unlock, as_json: bool
) -> None:  # fmt: skip
    """At a site that joins: show what it joins, ask, and add its signature to the change.

    That is its signature under the agreement that peers.yaml names. Where one is named, no change counts without it.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        change, name, key = changefile.load(file), opened.name, opened.identity().key
        new = change.federation()
        if name not in change.facts["added"] or name not in new.roster or new.roster[name].key != key:
            evidence = f"added: {', '.join(change.facts['added']) or 'nobody'}; the key here is {key.hex()[:16]}"
            raise NotAdded(source=file, name=name, home=home, evidence=evidence)
        assent(new.agreement, document, source=str(file), signed=False)
        for line in _joined(new):
            output.progress(line)
        if not yes:
            _ask(f"sign it as {name}?", "accept")
        change = change.sign(opened.identity(), name)
        write_over(file, changefile.to_bytes(change))
    lines = [f"{file}: signed by {name}, which joins; hand it back to the site that it came from"]
    named = new.agreement.hex() if new.agreement else None
    facts = {"path": str(file), "change": change.digest.hex(), "name": name, "agreement": named}
    output.result("\n".join(lines), facts | {"epoch": new.roster.epoch}, as_json)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="CHANGE [COPY…]", type=click.Path(path_type=Path))
@peers_option
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the next peers.yaml, for a site that joins with it.",
)
@home_option
@unlock_options
@json_option
def adopt(
    *, files: Sequence[Path], peers_file: Path, target: Path | None, home: Path, unlock: Unlock, as_json: bool
) -> None:  # fmt: skip
    """Put an approved change into this home, where it was not handed over by another site."""
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        federation, lineage = standing(opened, Federation.load(peers_file))
        change = _merged(files, federation, lineage)
        if lacking := lineage.lacking(change):
            raise ChangeIncomplete(source=files[0], lacking=lacking, evidence=f"signed by {_names(lineage, change)}")
        keep_change(opened, change)
    if target is not None:
        write_new(target, change.federation().raw)
    lines = _standing_lines(lineage, change, files[0], complete=True)
    output.result("\n".join(lines), _facts(files[0], change, lineage), as_json)


@click.command()
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the card of the new key goes.  [default: NAME.next.card]",
)
@home_option
@unlock_options
@json_option
def newkey(target: Path | None, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Make the key that this site changes to, and its card. The present key stays until a rotation is in force."""
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        name = opened.name
        before = Card.load(opened.path / f"{name}.card")
        card = Card.sign(new_identity(opened), name, before.member.addresses)
    path = target or Path(f"{name}.next.card")
    write_new(path, card.to_bytes())
    lines = [f"{path}: the next key of {name}, {card.fingerprint}", "hand it to a site that proposes the change:",
             f"  p2pfl peers propose rotate {name} {path} -o change.yaml",
             f"without the signature of {name}, with its present key, the rotation does not count"]  # fmt: skip
    output.result("\n".join(lines), {"path": str(path), "name": name, "fingerprint": card.fingerprint}, as_json)


@click.command()
@click.argument("name")
@peers_option
@click.option("--undo", is_flag=True, help="Accept NAME's key again: it was revoked by mistake.")
@home_option
@unlock_options
@json_option
def revoke(*, name: str, peers_file: Path, undo: bool, home: Path, unlock: Unlock, as_json: bool) -> None:
    """At this site, at once: close the link to NAME's key and accept nothing of it any more.

    No sum holds this site and that one together from then on. For all sites the removal decides: peers propose remove.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        federation, _ = standing(opened, Federation.load(peers_file))
        roster = federation.roster
        if name not in roster or name == opened.name:
            raise NoSuchSite(name=name, evidence=f"others: {', '.join(set(roster.names) - {opened.name})}")
        with opened.beside():
            keys, key = revoked_keys(opened), roster[name].key
            if undo:
                return _accepted_again(opened, name, [one for one in keys if one != key], key, as_json)
            left = [one.name for one in roster.members if one.key not in {*keys, key}]
            if len(left) < roster.quorums.q:
                raise RevokedTooMany(name=name, quorum=roster.quorums.q, evidence=f"left: {', '.join(left)}")
            if key not in keys:
                opened.replace(REVOKED, b"".join([*keys, key]))
    lines = [f"{name} is revoked at this site; a join that runs closes its link within a second",
             "the others go on with it until they revoke it too, or until this is approved; meanwhile a sum holds this "
             "site or that one, about as often the one as the other:",
             f"  p2pfl peers propose remove {name} -o change.yaml"]  # fmt: skip
    output.result("\n".join(lines), {"revoked": name, "key": key.hex(), "left": left}, as_json)


def _accepted_again(home: Home, name: str, keys: list[bytes], key: bytes, as_json: bool) -> None:
    """`keys` are those that stay revoked. Raises NotRevoked."""
    if len(keys) == len(revoked_keys(home)):
        raise NotRevoked(name=name, evidence=f"keys that are revoked here: {len(keys)}")
    home.replace(REVOKED, b"".join(keys))
    text = f"{name} is accepted again at this site; a join that runs has its link back within seconds"
    output.result(text, {"revoked": None, "key": key.hex()}, as_json)


# ── what they share ───────────────────────────────────────────────────────────────────────────────────────────


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


def _merged(files: Sequence[Path], federation: Federation, lineage: Lineage) -> Change:
    """One change with the signatures of all its copies, fit for the present epoch."""
    copies = [changefile.load(file) for file in files]
    first = copies[0]
    for file, copy in zip(files, copies, strict=True):
        if copy.record != first.record:
            _unfit(file, lineage, f"{files[0]} is another change")
    try:
        lineage.check(first)
    except codec.Malformed as error:
        _unfit(files[0], lineage, str(error))
    if settings_of(first.federation()) != settings_of(federation):
        evidence = difference(federation.raw, first.federation().raw).strip().splitlines()
        raise ChangeOfSettings(source=files[0], evidence="; ".join(evidence[3:7]))
    _check_due(files[0], federation, first)
    # Each copy's own that count, so that a spoilt one in one copy takes no good one of another away.
    counted = [lineage.counted(copy) for copy in copies]
    return Change(first.record, {name: one for copy in counted for name, one in copy.signatures.items()})


def _unfit(file: Path, lineage: Lineage, why: str) -> None:
    raise ChangeUnfit(source=file, epoch=lineage.roster.epoch, evidence=why)


def _sign_once(home: Home, change: Change, lineage: Lineage) -> Change:
    """The change with this site's signature, which it gives to one change for each epoch. Raises SecondProposal."""
    epoch = lineage.roster.epoch + 1
    with home.beside():
        data = home.read(SIGNED)
        if data is not None:
            signed, record = codec.unpack(data, most=1 << 22, items=2)
            if signed >= epoch and record != change.record:
                evidence = f"signed before {Change(record, {}).digest.hex()[:16]}, now {change.digest.hex()[:16]}"
                raise SecondProposal(epoch=epoch, evidence=evidence)
        home.replace(SIGNED, codec.pack((epoch, change.record)))  # durable before the signature is seen
    return change.sign(home.identity(), home.name)


def _signed_before(home: Home, lineage: Lineage) -> bytes:
    """The record of the one change to the next epoch that this site has signed. Raises NothingSigned."""
    data, epoch = home.read(SIGNED), lineage.roster.epoch + 1
    signed, record = codec.unpack(data, most=1 << 22, items=2) if data is not None else (0, b"")
    if signed != epoch:
        raise NothingSigned(epoch=epoch, evidence=f"the last one was to epoch {signed}" if signed else "none ever")
    return bytes(record)


def _check_due(source: Path, federation: Federation, change: Change) -> None:
    """It begins while there are rounds: else each site's one signature for this epoch is spent for nothing."""
    held, rounds = change.facts, federation.rounds
    if held["of"] == RUNS[0] and held["from_round"] > rounds + BEHIND_ROUNDS:
        evidence = f"from round {held['from_round']} of the {held['of']}"
        raise ChangeNeverDue(source=source, rounds=rounds, evidence=evidence)


def _keep_if_complete(home: Home, change: Change, lineage: Lineage) -> bool:
    if lineage.lacking(change):
        return False
    keep_change(home, change)
    return True


def _told(federation: Federation, change: Change) -> list[str]:
    """The difference line by line, and the words of every key that is new."""
    new, held = change.federation(), change.facts
    told = difference(federation.raw, new.raw, f"epoch {federation.roster.epoch}", f"epoch {held['epoch']}")
    words = [f"  {name}  {fingerprint(new.roster[name].key)}" for name in (*held["added"], *held["rotated"])]
    quorums: Quorums = new.roster.quorums
    lines = [
        told.rstrip("\n"),
        f"not before round {held['from_round']} of the {held['of']}",
        *([f"{new.hub} is the hub then"] if new.hub != federation.hub else []),
        f"then {quorums.n} sites; {quorums.q} of them certify a sum; up to {quorums.c} may lie",
    ]
    return [*lines, *(["new keys; have their words read to you by those whose they are:"] if words else []), *words]


def _joined(new: Federation) -> list[str]:
    """What a site joins, for whoever signs there."""
    signed = f"agreement SHA-256 {new.agreement.hex()}" if new.agreement else "no agreement is named"
    words = [f"  {one.name}  {fingerprint(one.key)}" for one in new.roster.members]
    return [f"federation {new.name}, epoch {new.roster.epoch}; {signed}", "its sites, and the words of their keys:",
            *words]  # fmt: skip


def _standing_lines(lineage: Lineage, change: Change, path: Path, complete: bool) -> list[str]:
    held = change.facts
    lines = [f"{path}: signed by {_names(lineage, change)}; {lineage.roster.quorums.q} of the "
             f"{lineage.roster.quorums.n} sites of epoch {lineage.roster.epoch} are needed"]  # fmt: skip
    if complete:
        return [*lines, f"it is approved, and begins with round {held['from_round']} or the next one after it; a join "
                "that runs hands it to the others"]  # fmt: skip
    joins = [f"  p2pfl peers accept {path.name}     (at {', '.join(held['added'])})"] if "agreement" in held else []
    return [*lines, f"still lacking: {lineage.lacking(change)}; hand this file on, and there run",
            f"  p2pfl peers approve {path.name}", *joins]  # fmt: skip


def _names(lineage: Lineage, change: Change) -> str:
    return ", ".join(lineage.signers(change)) or "nobody"


def _facts(path: Path, change: Change, lineage: Lineage) -> dict[str, object]:
    held = change.facts
    return {
        "path": str(path), "change": change.digest.hex(), "approved": not lineage.lacking(change),
        "signed_by": lineage.signers(change), "joins_signed": lineage.joiners(change),
        "quorum": lineage.roster.quorums.q, "hub": change.federation().hub,
        **{key: held[key] for key in ("epoch", "of", "from_round", "configuration", "added", "removed", "rotated")},
    }  # fmt: skip


def _ask(question: str, verb: str = "approve") -> None:
    if not sys.stdin.isatty():
        raise WrongUse(evidence="stdin is no terminal to ask at; --yes says that the difference was read",
                       verb=f" peers {verb}")  # fmt: skip
    click.confirm(question, abort=True, err=True)

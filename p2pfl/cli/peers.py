"""`p2pfl peers`: make peers.yaml from cards, show it, compare it, and print the words that people read aloud."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.firewall import firewall_lines, openings
from p2pfl.cli.membership import accept, adopt, approve, newkey, propose, revoke
from p2pfl.cli.options import fit_name, home_option, json_option, peers_option, write_new
from p2pfl.cli.predict import read_whole
from p2pfl.errors import ConfigurationError
from p2pfl.errors.federation import FileUnreadable
from p2pfl.errors.people import CardsCollide, NoDifferentFile, WrongUse
from p2pfl.federation import Federation, draft, strict_yaml
from p2pfl.federation.cards import Card
from p2pfl.federation.federation import difference, first_difference
from p2pfl.keys import fingerprint as words_of
from p2pfl.roster import Member

KINDS = "*.card"


@click.group()
def peers() -> None:
    """Make, show and compare peers.yaml; print fingerprints; change who takes part."""


for verb in (propose, approve, accept, adopt, newkey, revoke):
    peers.add_command(verb)


@peers.command()
@click.argument("cards", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; one that exists is never overwritten.",
)
@click.option("--name", default="federation", show_default=True, help="The federation's name.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value than the default, as in --set privacy.delta=1e-4.",
)
@click.option(
    "--agreement",
    "document",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The business associate agreement: its SHA-256 is named, and every site signs it.",
)
@click.option("--task", help="FILE:CLASS of a Task, pinned by its SHA-256.  [default: the built-in tabular task]")
@json_option
def create(
    cards: Sequence[Path],
    target: Path,
    name: str,
    overrides: Sequence[str],
    task: str | None,
    document: Path | None,
    as_json: bool,
) -> None:
    """Write the agreement of the sites whose CARDS are given, every default in full.

    One site makes it and hands it to the others; all of them must hold the same bytes.
    """
    if (instead := fit_name(name)) != name:
        raise WrongUse(evidence=f"--name {name!r} cannot be a federation's name; {instead} can", verb=" peers create")
    members = [Card.load(card).member for card in cards]
    _distinct(cards, members)
    if document is not None:
        overrides = [*overrides, f"agreement.sha256={hashlib.sha256(read_whole(document)).hexdigest()}"]
    raw = draft.write(name, members, task_lines(task), overrides)
    write_new(target, raw)
    federation = Federation.parse(raw, str(target))
    shown = f" --agreement {document.name if document else 'FILE'}" if federation.agreement else ""
    lines = [
        f"{target}: {len(members)} sites, SHA-256 {federation.digest.hex()}",
        *_member_lines(members),
        "hand this very file to every site; each of them then runs",
        f"  p2pfl doctor --peers {target} --wait 300       (all at the same time: does every link work?)",
        f"  p2pfl join --peers {target} --data their.csv{shown}",
    ]
    output.result("\n".join(lines), {"path": str(target)} | _facts(federation), as_json)


def _distinct(cards: Sequence[Path], members: Sequence[Member]) -> None:
    """No name, key or address twice, told by the cards' own files. Raises CardsCollide."""
    holders: dict[str, Path] = {}
    for card, one in zip(cards, members, strict=True):
        addresses = (f"the address {address}" for address in dict.fromkeys(one.addresses))
        for what in (f"the name {one.name}", f"the key {one.key.hex()[:16]}…", *addresses):
            if what in holders:
                evidence = f"{one.name}: {words_of(one.key)}"
                raise CardsCollide(first=holders[what], second=card, what=what, evidence=evidence)
            holders[what] = card


@peers.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("peers.yaml"))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Who is in FILE, what they agreed on, what each firewall must open. Where FILE is wrong, the line is shown."""
    raw = strict_yaml.load(file)
    try:
        federation = Federation.parse(raw, str(file))
    except ConfigurationError as error:
        _point(raw, error)
        raise
    quorums = federation.roster.quorums
    privacy, sharing, compression = federation.privacy, federation.sharing, federation.compression
    lines = [
        f"{federation.name}  epoch {federation.roster.epoch}  SHA-256 {federation.digest.hex()}",
        *_member_lines(federation.roster.members),
        f"{quorums.n} sites; {quorums.q} of them certify a sum; up to {quorums.c} may lie",
        f"task         {federation.task.name or f'{federation.task.file}:{federation.task.cls}'}, "
        f"{len(federation.task.features)} columns, {federation.rounds} rounds",
        f"privacy      one {privacy.unit}: noise {privacy.noise_multiplier:g}, clip {privacy.max_grad_norm:g}, "
        f"sample rate {privacy.sample_rate:g}, {privacy.steps_per_round} steps a round; "
        f"ε at most {privacy.max_epsilon:g} at δ = {privacy.delta:g}",
        f"sharing      {sharing.field}-bit field, clip {sharing.clip:g}, largest value {sharing.scale:g}; "
        f"sums are {'checked' if sharing.verify else 'NOT checked'}",
        f"compression  {compression.method}"
        + ("" if compression.method == "none" else f", {100 * compression.density:g} % of the coordinates"),
        f"topology     {federation.topology}" + (f" {federation.hub}" if federation.hub else ""),
        f"agreement    {_agreement(federation)}",
        "what each site's firewall lets through:",
        *firewall_lines(federation.roster),
    ]
    output.result("\n".join(lines), {"path": str(file)} | _facts(federation), as_json)


@peers.command()
@click.argument("other", metavar="NAME|FILE")
@peers_option
@json_option
def diff(other: str, peers_file: Path, as_json: bool) -> None:
    """Line by line, how another site's file differs from --peers. Exit status 0 when it does not."""
    mine = strict_yaml.load(peers_file)
    if not Path(other).exists() and other in Federation.load(peers_file).roster:
        evidence = f"while {other} is at join or at doctor, `p2pfl doctor` shows line by line how its file differs"
        raise NoDifferentFile(evidence=evidence, peer=other)
    theirs = strict_yaml.load(Path(other))
    told = difference(mine, theirs, str(peers_file), other)
    facts: dict[str, object] = {
        "same": mine == theirs,
        "first_line": first_difference(mine, theirs),
        "diff": told,
        "sha256": [hashlib.sha256(raw).hexdigest() for raw in (mine, theirs)],
    }
    output.result(told.rstrip("\n") or f"{peers_file} and {other} are the same bytes", facts, as_json)
    raise click.exceptions.Exit(int(mine != theirs))


@peers.command()
@click.argument("who", metavar="[CARD|NAME]", required=False)
@click.option("--peers", "peers_file", type=click.Path(path_type=Path, dir_okay=False), help="The sites of this file.")
@home_option
@json_option
def fingerprint(who: str | None, peers_file: Path | None, home: Path, as_json: bool) -> None:
    """Eight words per key, to be read aloud: of a CARD, of a NAME in peers.yaml, or of this home."""
    members = _asked(who, peers_file, home)
    facts: dict[str, object] = {"fingerprints": {member.name: words_of(member.key) for member in members}}
    output.result("\n".join(_member_lines(members, addresses=False)), facts, as_json)


def _asked(who: str | None, peers_file: Path | None, home: Path) -> Sequence[Member]:
    if who and Path(who).is_file():
        return [Card.load(who).member]
    if peers_file or who:
        roster = Federation.load(peers_file or Path("peers.yaml")).roster
        if who and who not in roster:
            evidence = f"{who!r} is no file, and no site of {peers_file or 'peers.yaml'}: {', '.join(roster.names)}"
            raise WrongUse(evidence=evidence, verb=" peers fingerprint")
        return [roster[who]] if who else roster.members
    cards = sorted(home.glob(KINDS)) if home.is_dir() else []
    if not cards:
        raise FileUnreadable(evidence="no card lies there: p2pfl init makes one", path=home / "NAME.card")
    return [Card.load(card).member for card in cards]


def _member_lines(members: Sequence[Member], addresses: bool = True) -> list[str]:
    rows = [[f"  {one.name}", words_of(one.key)] for one in members]
    if addresses:
        for row, one in zip(rows, members, strict=True):
            row.append(", ".join(map(str, one.addresses)) or "dials out")
    return output.aligned(rows).splitlines()


def _facts(federation: Federation) -> dict[str, object]:
    return {
        "federation": federation.name,
        "epoch": federation.roster.epoch,
        "sha256": federation.digest.hex(),
        "quorum": federation.roster.quorums.q,
        "rounds": federation.rounds,
        "verify": federation.sharing.verify,
        "topology": federation.topology,
        "hub": federation.hub,
        "agreement": federation.agreement.hex() if federation.agreement else None,
        "peers": [
            {
                "name": one.name,
                "key": one.key.hex(),
                "fingerprint": words_of(one.key),
                "addresses": [str(address) for address in one.addresses],
                "firewall": openings(federation.roster, one.name),
            }
            for one in federation.roster.members
        ],
    }


def _agreement(federation: Federation) -> str:
    if federation.agreement is None:
        return "none is named"
    return f"SHA-256 {federation.agreement.hex()}: `sha256sum` of the document that each site signs at its first start"


def _point(raw: bytes, error: ConfigurationError) -> None:
    """The line of the finding on stderr, with a caret under its column."""
    line, _, column = error.fields.get("place", "").rpartition(":")
    line = line.rpartition(":")[2]
    if line.isdigit() and column.isdigit():
        text = raw.decode("utf-8", "replace").split("\n")[int(line) - 1]
        text = "".join(one if one.isprintable() else "\ufffd" for one in text)  # it may steer the terminal
        output.progress(f"{int(line):>5} | {text}\n      | {' ' * (int(column) - 1)}^")


def task_lines(task: str | None) -> draft.TaskLines:
    """The built-in task with its columns and public constants; or a file's class and digest, which has its own."""
    if task is not None:
        return draft.TaskLines(_pinned(task), (), {})
    from p2pfl.training.tasks.tabular import CONSTANTS, FIELDS

    constants = {name: [f"{number:g}" for number in row] for name, row in CONSTANTS.items()}
    return draft.TaskLines({"name": "tabular"}, tuple(FIELDS), constants)


def _pinned(task: str) -> dict[str, str]:
    path, colon, cls = task.rpartition(":")
    if not colon:
        raise WrongUse(evidence=f"--task {task} is not FILE:CLASS", verb=" peers create")
    raw = strict_yaml.load(Path(path))
    return {"file": Path(path).name, "class": cls, "sha256": hashlib.sha256(raw).hexdigest()}

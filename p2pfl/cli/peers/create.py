"""`p2pfl peers create`: peers.yaml from the cards of the sites, every default in full."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from p2pfl.cli import output
from p2pfl.cli.options import fit_name, json_option, new_file_option, read_whole, write_new
from p2pfl.cli.peers.fit import check_fit
from p2pfl.cli.peers.members import federation_facts, member_lines
from p2pfl.errors.people import CardsCollide, WrongUse
from p2pfl.federation import Federation, draft, strict_yaml
from p2pfl.federation.cards import Card
from p2pfl.keys import fingerprint
from p2pfl.roster import Member


@click.command()
@click.argument("cards", nargs=-1, required=True, type=click.Path(path_type=Path))
@new_file_option
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
@click.option(
    "--task",
    metavar="FILE.yaml|FILE:CLASS|python:NAME",
    help="What is learned: a table's description; a Task's class, pinned by its SHA-256; or a Task that each site "
    "makes in Python, pinned by its name alone.  [default: heart disease]",
)
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
    """Write the peers file of the sites whose CARDS are given, every default in full.

    One site makes it and hands it to the others; all of them must hold the same bytes.
    """
    if (instead := fit_name(name)) != name:
        raise WrongUse(evidence=f"--name {name!r} cannot be a federation's name; {instead} can", verb=" peers create")
    members = [Card.load(card).member for card in cards]
    _distinct(cards, members)
    if document is not None:
        overrides = [*overrides, f"agreement.sha256={hashlib.sha256(read_whole(document)).hexdigest()}"]
    raw = draft.peers_file(name, members, task_lines(task), overrides)
    federation = Federation.parse(raw, str(target))
    check_fit(federation, own=Path(task.rpartition(":")[0]) if task and federation.task.file else None)
    write_new(target, raw)
    shown = f" --agreement {document.name if document else 'FILE'}" if federation.agreement else ""
    train = f"p2pfl join --peers {target} --data their.csv{shown}"
    if federation.task.python is not None:
        train = f"a program that calls peer.train(task, data=…) with the task {federation.task.python}"
    lines = [
        f"{target}: {len(members)} sites, SHA-256 {federation.digest.hex()}",
        *member_lines(members),
        "hand this very file to every site; each of them then runs",
        f"  p2pfl doctor --peers {target} --wait 300       (all at the same time: does every link work?)",
        f"  {train}",
    ]
    output.result("\n".join(lines), {"path": str(target)} | federation_facts(federation), as_json)


def _distinct(cards: Sequence[Path], members: Sequence[Member]) -> None:
    """Raises CardsCollide, which names the cards, where two have the same name, key or address."""
    holders: dict[str, Path] = {}
    for card, one in zip(cards, members, strict=True):
        addresses = (f"the address {address}" for address in dict.fromkeys(one.addresses))
        for what in (f"the name {one.name}", f"the key {one.key.hex()[:16]}…", *addresses):
            if what in holders:
                evidence = f"{one.name}: {fingerprint(one.key)}"
                raise CardsCollide(first=holders[what], second=card, what=what, evidence=evidence)
            holders[what] = card


def task_lines(task: str | None) -> draft.TaskLines:
    """What stands under `task:`: a description of a table, by default heart disease; or a file's class and digest.

    Raises leaves of errors.federation, WrongUse.
    """
    if task is None:
        from p2pfl.training.tasks import heart

        return draft.table_lines(heart.TEXT, heart.FILE)
    if is_description(task):
        return draft.table_lines(strict_yaml.load(Path(task)), task)
    path, colon, cls = task.rpartition(":")
    if not colon:
        raise WrongUse(evidence=f"--task {task} is neither FILE.yaml nor FILE:CLASS", verb=" peers create")
    if path == PYTHON:
        return draft.python_lines(cls)
    raw = strict_yaml.load(Path(path))
    return draft.pinned_lines(Path(path).name, cls, hashlib.sha256(raw).hexdigest())


PYTHON: Final = "python"  # FILE of --task python:NAME


def is_description(task: str) -> bool:
    """--task names a description of a table."""
    return task.endswith((".yaml", ".yml"))

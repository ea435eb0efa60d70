"""`p2pfl peers create`: peers.yaml from the cards of the sites, every default in full."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Final, TypeVar

import click

from p2pfl.cli import output
from p2pfl.cli.options import fit_name, json_option, new_file_option, read_whole, set_option, write_new
from p2pfl.cli.peers.fit import check_described, check_fit
from p2pfl.cli.peers.members import federation_facts, member_lines
from p2pfl.errors.people import CardsCollide, WrongUse
from p2pfl.federation import Federation, draft, strict_yaml
from p2pfl.federation.cards import Card
from p2pfl.federation.clients import CLIENTS
from p2pfl.keys import fingerprint
from p2pfl.roster import Member

F = TypeVar("F", bound=Callable[..., Any])


def client_options(command: F) -> F:
    """--client, --first and --metric: what the sites agree on where each brings a client of its own."""
    for option in (
        click.option(
            "--metric",
            "metrics",
            multiple=True,
            metavar="NAME",
            help="A number of what the client's evaluation returns that is averaged; all others stay at their site.",
        ),
        click.option(
            "--first",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="The first model of a --client, of p2pfl run --write-first; its SHA-256 is named.  [default: zeros]",
        ),
        click.option(
            "--client",
            type=click.Choice(CLIENTS),
            help="Each site brings a client of its own, which p2pfl run runs; needs --set privacy=none.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("cards", nargs=-1, required=True, type=click.Path(path_type=Path))
@new_file_option
@click.option("--name", default="federation", show_default=True, metavar="NAME", help="The federation's name.")
@set_option
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
    help="What is learned: a description of a table, of images or of volumes; a Task's class, pinned by its SHA-256; "
    "or a Task that each site makes in Python, pinned by its name alone.  [default: heart disease]",
)
@client_options
@json_option
def create(
    cards: Sequence[Path],
    target: Path,
    name: str,
    overrides: Sequence[str],
    task: str | None,
    document: Path | None,
    client: str | None,
    first: Path | None,
    metrics: Sequence[str],
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
    if client is None and (first is not None or metrics):
        raise WrongUse(evidence="--first and --metric are of a --client", verb=" peers create")
    if client is not None and task is not None:
        raise WrongUse(evidence="--task and --client: each site trains one of the two", verb=" peers create")
    lines = task_lines(task) if client is None else _client_lines(client, first, metrics)
    raw = draft.peers_file(name, members, lines, overrides)
    federation = Federation.parse(raw, str(target))
    check_fit(federation, own=Path(task.rpartition(":")[0]) if task and federation.task.file else None)
    check_described(federation)
    write_new(target, raw)
    shown = f" --agreement {quote(document.name) if document else 'FILE'}" if federation.agreement else ""
    data = "their.csv" if federation.task.scans is None else "their-scans"
    file = quote(str(target))
    train = f"p2pfl join --peers {file} --data {data}{shown}"
    if federation.task.python is not None:
        train = f"a program that calls peer.train(task, data=…) with the task {federation.task.python}"
    if client is not None:
        train = f"p2pfl run --{client} MODULE:NAME --peers {file}{shown}"
    pinned = federation.task.file
    review = [f"  p2pfl task review {quote(pinned)}       (its code will run on the records)"] if pinned else []
    told = [
        f"{target}: {len(members)} sites, SHA-256 {federation.digest.hex()}",
        *member_lines(members),
        f"hand this very file{beside(federation)} to every site; each of them then runs",
        *review,
        f"  p2pfl doctor --peers {file} --wait 300       (all at the same time: does every link work?)",
        f"  {train}",
    ]
    output.result("\n".join(told), {"path": str(target)} | federation_facts(federation), as_json)


def beside(federation: Federation) -> str:
    """What goes to every site with peers.yaml, by name: a task's file, pretrained weights."""
    scans = federation.task.scans
    weights = scans.how.weights if scans is not None else None
    names = [federation.task.file, weights.file if weights is not None else None]
    return "".join(f", and {name}," for name in names if name)


def _client_lines(kind: str, first: Path | None, metrics: Sequence[str]) -> draft.TaskLines:
    """What stands under `task:` where each site brings a client."""
    return draft.client_lines(kind, hashlib.sha256(read_whole(first)).digest() if first else None, metrics)


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
    """What stands under `task:`: a description of a table (by default heart disease), of images or of volumes; or a
    file's class and digest.

    Raises leaves of errors.federation, WrongUse.
    """
    if task is None:
        from p2pfl.training.tasks import heart

        return draft.description_lines(heart.TEXT, heart.FILE)
    if is_description(task):
        return draft.description_lines(strict_yaml.load(Path(task)), task)
    path, colon, cls = task.rpartition(":")
    if not colon:
        raise WrongUse(evidence=f"--task {task} is neither FILE.yaml nor FILE:CLASS", verb=" peers create")
    if path == PYTHON:
        return draft.python_lines(cls)
    raw = strict_yaml.load(Path(path))
    return draft.pinned_lines(Path(path).name, cls, hashlib.sha256(raw).hexdigest())


PYTHON: Final = "python"  # FILE of --task python:NAME


def is_description(task: str) -> bool:
    """--task names a description."""
    return task.endswith((".yaml", ".yml"))

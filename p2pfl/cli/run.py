"""`p2pfl run`: take part with a client of one's own (Flower, MONAI, scikit-learn), which is run as it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from p2pfl.cli import output
from p2pfl.cli.join_facts import facts_of, ledger_of
from p2pfl.cli.joining import Access, ProxyChoice, listen_option, proxy_options, wait_option
from p2pfl.cli.monitor import Monitor, monitor_options
from p2pfl.cli.options import (
    NamedFile,
    Unlock,
    agreement_option,
    home_option,
    json_option,
    peers_option,
    unlock_options,
    write_new,
)
from p2pfl.cli.stopping import end_with_stdin as watch_stdin
from p2pfl.cli.stopping import run as run_until_stopped
from p2pfl.cli.watch import Here, Watch
from p2pfl.cli.wording import NO_PRIVACY, join_text
from p2pfl.errors.adapters import NoClientAgreed
from p2pfl.errors.counts import counted
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.federation.clients import ClientChoice
from p2pfl.home import Home

if TYPE_CHECKING:
    from p2pfl.adapters.trainer import ClientTrainer

F = TypeVar("F", bound=Callable[..., Any])
Value = bool | float | int | str
MOST_SETTINGS: Final = 100


@dataclass(frozen=True, slots=True)
class ClientInputs:
    """The client that the person named, and what it is told.

    node, run   as Flower calls them: of this site alone; equal at all sites
    """

    kind: str
    reference: str
    node: dict[str, Value]
    run: dict[str, Value]


def setting(text: str) -> tuple[str, Value]:
    """`NAME=VALUE`; a value is a number, true or false where it reads as one, else text. For click."""
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    return name.strip(), read if isinstance(read, bool | float | int) else value


def client_options(command: F) -> F:
    """Which client, and its settings."""
    for option in (
        click.option(
            "--run-config",
            "run_config",
            type=setting,
            multiple=True,
            metavar="NAME=VALUE",
            help="A setting of the client, the same at all sites.",
        ),
        click.option(
            "--node-config",
            "node_config",
            type=setting,
            multiple=True,
            metavar="NAME=VALUE",
            help="A setting of this site's client.  [default: partition-id and num-partitions, by the order of sites]",
        ),
        click.option(
            "--sklearn", metavar="MODULE:NAME", help="A SklearnSite of scikit-learn, or a function that returns one."
        ),
        click.option("--monai", metavar="MODULE:NAME", help="A ClientAlgo of MONAI, or what makes one."),
        click.option("--flower", metavar="MODULE:NAME", help="A ClientApp, NumPyClient or client_fn of Flower."),
    ):
        command = option(command)
    return command


@click.command()
@client_options
@peers_option
@home_option
@click.option(
    "--first",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file of the first model, where peers.yaml names one.",
)
@click.option(
    "--write-first",
    type=NamedFile(),
    metavar="FILE",
    help="Write the arrays with which the client begins, for peers create --first; nothing else is done.",
)
@agreement_option
@listen_option
@wait_option
@proxy_options
@monitor_options
@click.option("--go-on", is_flag=True, help="As of p2pfl join.")
@click.option("--end-with-stdin", is_flag=True, hidden=True)
@unlock_options
@json_option
def run(
    *,
    flower: str | None,
    monai: str | None,
    sklearn: str | None,
    node_config: Sequence[tuple[str, Value]],
    run_config: Sequence[tuple[str, Value]],
    peers_file: Path,
    home: Path,
    first: Path | None,
    write_first: Path | None,
    document: Path | None,
    listen: str | None,
    wait_s: float | None,
    go_on: bool,
    end_with_stdin: bool,
    proxy: ProxyChoice,
    monitor: Monitor,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Take part with a client of your own, unchanged: its model is averaged with the other sites' models, securely.

    The client's code runs in this process, as you. It trains WITHOUT differential privacy, to which all sites agreed by
    `privacy: none`; what it clips or noises by itself is not checked. How many records it has is not sent. A run that
    was interrupted goes on where it stopped when it is started again. Exit statuses are those of `p2pfl join`.
    """
    if end_with_stdin:
        watch_stdin()
    client = _chosen({"flower": flower, "monai": monai, "sklearn": sklearn}, dict(node_config), dict(run_config))
    if write_first is not None:
        output.result(*_first_model(client, write_first), as_json)
        return
    federation = Federation.load(peers_file)
    choice = _agreed(federation, client)
    access = Access(home, unlock.keys(), listen, wait_s, proxy, document)
    monitor.tell(f"privacy: {NO_PRIVACY}; all sites have agreed to that in {peers_file.name}")
    watch = Watch(
        federation.roster,
        f"p2pfl run --{client.kind} MODULE:NAME --peers {{peers}}",
        here=Here(peers_file, home),
        tell=monitor.tell,
    )
    with monitor.running(federation, "run"):
        trainer = _trainer(client, choice, federation, access, first, monitor.tell)
        facts = run_until_stopped(_train(federation, access, trainer, watch, monitor, go_on))
        with output.doing("verifying the ledger", monitor.tell):
            facts["ledger"] = ledger_of(access, federation)
    output.result(join_text(facts), facts, as_json)


def _chosen(named: dict[str, str | None], node: dict[str, Value], run: dict[str, Value]) -> ClientInputs:
    """The one client that was named. Raises WrongUse."""
    given = [(kind, reference) for kind, reference in named.items() if reference is not None]
    if len(given) != 1:
        options = ", ".join(f"--{kind}" for kind in named)
        raise WrongUse(evidence=f"{len(given)} clients are named; one of {options} is wanted", verb=" run")
    if len(node) + len(run) > MOST_SETTINGS:
        raise WrongUse(evidence=f"{len(node) + len(run)} settings; at most {MOST_SETTINGS} are taken", verb=" run")
    kind, reference = given[0]
    return ClientInputs(kind, reference, node, run)


def _agreed(federation: Federation, client: ClientInputs) -> ClientChoice:
    """What peers.yaml says of the client. Raises NoClientAgreed."""
    choice = federation.task.client
    if choice is None or choice.kind != client.kind:
        evidence = f"task: {federation.task.label}, in {federation.source}"
        raise NoClientAgreed(kind=client.kind, evidence=evidence)
    return choice


def _first_model(client: ClientInputs, path: Path) -> tuple[str, dict[str, object]]:
    """Write what the client begins with; what is said of it."""
    from p2pfl.adapters.first import begun, written
    from p2pfl.adapters.load import algorithm

    arrays = begun(algorithm(client.kind, client.reference, client.node, client.run, "first"))
    data = written(arrays)
    write_new(path, data)
    count, found = sum(one.size for one in arrays.values()), hashlib.sha256(data).hexdigest()
    facts: dict[str, object] = {"path": str(path), "bytes": len(data), "sha256": found, "parameters": count}
    return f"{path}: {counted(len(arrays), 'array')}, {counted(count, 'number')}, SHA-256 {found}", facts


def _trainer(
    client: ClientInputs,
    choice: ClientChoice,
    federation: Federation,
    access: Access,
    first: Path | None,
    tell: Callable[[str], None],
) -> ClientTrainer:
    """Everything that needs no other site: the home opens, the client is there, its arrays are the agreed ones."""
    with Home.open(access.home, unlock=access.keys, write=False) as opened:
        name = opened.name
    from p2pfl.adapters.load import algorithm
    from p2pfl.adapters.trainer import ClientTrainer

    names = federation.roster.names
    place: dict[str, Value] = {"partition-id": names.index(name)} if name in names else {}
    node = {"num-partitions": len(names), **place, **client.node}
    made = algorithm(client.kind, client.reference, node, client.run, name)
    trainer = ClientTrainer(made, federation, choice, first=first, settings=client.run, tell=tell)
    tell(f"{name}: the {client.kind} client {client.reference}; {counted(trainer.parameters, 'parameter')}")
    return trainer


async def _train(
    federation: Federation, access: Access, trainer: ClientTrainer, watch: Watch, monitor: Monitor, go_on: bool
) -> dict[str, Any]:
    begun = asyncio.get_running_loop().time()
    async with access.join(federation, watch, "run", monitor, rounds=federation.rounds) as peer:
        result = await peer.train_with(trainer, task=federation.task.label, go_on=go_on)
        await asyncio.to_thread(trainer.finish)
        facts = facts_of(peer, result, watch, trainer.parameters)
    return facts | {"wall_s": round(asyncio.get_running_loop().time() - begun, 2)}

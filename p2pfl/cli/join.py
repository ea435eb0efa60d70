"""`p2pfl join`: take part until the agreed rounds are final; or, with --check, find out whether that would work."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli import output
from p2pfl.cli.figures import classes_of, title
from p2pfl.cli.joining import Access, ProxyChoice, listen_option, proxy_options, wait_option
from p2pfl.cli.monitor import Monitor, monitor_options
from p2pfl.cli.options import (
    Unlock,
    agreement_option,
    home_option,
    json_option,
    peers_option,
    unlock_options,
)
from p2pfl.cli.predict import check_readable, column_map
from p2pfl.cli.stopping import end_with_stdin as watch_stdin
from p2pfl.cli.stopping import run
from p2pfl.cli.tasks import device_option, missing_walls, reads_option, secret_places, task_process
from p2pfl.cli.watch import Watch, label_of
from p2pfl.cli.wording import NO_PRIVACY, bounded, dense_bytes, join_text
from p2pfl.errors import EXIT_DONE, EXIT_FAILED
from p2pfl.errors.adapters import TaskIsAClient
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import Secret
from p2pfl.node import approvals
from p2pfl.node.studies import view
from p2pfl.node.withdrawals import read_withdrawn

if TYPE_CHECKING:
    from p2pfl.node.runs.metric import Metric
    from p2pfl.node.runs.results import TrainResult
    from p2pfl.peer import Peer
    from p2pfl.training.measures.measure import Figure
    from p2pfl.training.process.facts import Reach, TaskSource
    from p2pfl.training.process.remote import RemoteTrainer
    from p2pfl.training.withdrawn import Withdrawn


@dataclass(frozen=True, slots=True)
class LocalInputs:
    """What this site brings: everything local that peers.yaml does not hold."""

    federation: Federation
    access: Access
    data: Path
    columns: Path | None
    task_file: Path | None
    device: str = "cpu"
    reads: tuple[Path, ...] = ()  # what the task may read beside its data


@click.command()
@peers_option
@home_option
@click.option("--data", required=True, type=click.Path(path_type=Path), help="This site's records: a CSV, or a folder.")
@click.option(
    "--columns",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Column map of that CSV.  [default: DATA.columns.yaml beside it, if it is there]",
)
@click.option(
    "--task",
    "task_file",
    metavar="FILE[:CLASS]",
    help="This site's copy of the file that peers.yaml pins: a task's, or pretrained weights.",
)
@device_option
@reads_option
@agreement_option
@listen_option
@wait_option
@proxy_options
@monitor_options
@click.option("--check", is_flag=True, help="Try key, data, port, every link and one private step; send nothing of it.")
@click.option(
    "--go-on",
    is_flag=True,
    help="You have looked why this site was left out of more than one round in ten: it contributes again.",
)
@click.option("--end-with-stdin", is_flag=True, hidden=True)
@unlock_options
@json_option
def join(
    *,
    peers_file: Path,
    home: Path,
    data: Path,
    columns: Path | None,
    task_file: str | None,
    device: str,
    reads: tuple[Path, ...],
    document: Path | None,
    listen: str | None,
    wait_s: float | None,
    check: bool,
    go_on: bool,
    end_with_stdin: bool,
    proxy: ProxyChoice,
    monitor: Monitor,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Take part: train with the other sites until the agreed rounds are final.

    A join that was interrupted goes on where it stopped when it is started again. Exit status 4 when the next pass
    would spend more than the agreed privacy budget; 130 after SIGTERM or Ctrl-C, of which the second ends at once.
    """
    if end_with_stdin:
        watch_stdin()
    federation = Federation.load(peers_file)
    access = Access(home, unlock.keys(), listen, wait_s, proxy, document)
    site = LocalInputs(federation, access, data, columns, _task_path(federation, task_file), device, reads)
    watch = Watch(
        federation.roster,
        "p2pfl join --peers {peers} --data their.csv",
        peers_file=peers_file.name,
        max_epsilon=federation.privacy.max_epsilon,
        tell=monitor.tell,
    )
    refuse_clients(federation)
    if federation.privacy.is_none:
        monitor.tell(f"privacy: {NO_PRIVACY}; all sites have agreed to that in {peers_file.name}")
    if check:
        from p2pfl.cli.check import check_text, links_of  # with doctor, which a site that joins does without

        with monitor.running(federation, "join --check"):
            check_readable(site.data)
            with task_process(reach_of(site), monitor.tell, step=monitor.step) as trainer:
                _prepare(trainer, opened_task(site), monitor.tell)
            facts = run(links_of(federation, access, watch, monitor))
        output.result(check_text(facts), facts, as_json)
        raise click.exceptions.Exit(EXIT_DONE if facts["ready"] else EXIT_FAILED)
    with monitor.running(federation, "join"):
        check_readable(site.data)
        # It loads torch while this process opens the home and its links.
        with task_process(reach_of(site), monitor.tell, step=monitor.step) as trainer:
            with output.doing("opening the home", monitor.tell):
                opened = opened_task(site)
            facts = run(_train(site, trainer, opened, watch, monitor, go_on))
        with output.doing("verifying the ledger", monitor.tell):
            facts["ledger"] = ledger_of(site.access, site.federation)
    output.result(join_text(facts), facts, as_json)


def refuse_clients(federation: Federation) -> None:
    """Raises TaskIsAClient where the sites train clients of their own: `p2pfl run` does."""
    if federation.task.client is not None:
        evidence = f"task: {federation.task.label}, in {federation.source}"
        raise TaskIsAClient(kind=federation.task.client.kind, evidence=evidence)


def _task_path(federation: Federation, given: str | None) -> Path | None:
    """The file of --task; its class, where one is given, must be the agreed one."""
    if given is None:
        return None
    path, colon, cls = given.rpartition(":")
    if colon and cls != federation.task.cls:
        raise WrongUse(evidence=f"--task names the class {cls}, peers.yaml {federation.task.cls}", verb=" join")
    return Path(path if colon else given)


@dataclass(frozen=True, slots=True)
class OpenedTask:
    """What the home gave for it: who this is, what runs, and the key that holds records out."""

    name: str
    source: TaskSource
    key: Secret
    withdrawn: Withdrawn


def opened_task(site: LocalInputs) -> OpenedTask:
    """Everything that is local and quickly looked at: records, column map, key, the task's file and its approval."""
    from p2pfl.training.process.facts import TaskSource
    from p2pfl.training.registry import code_of

    columns = column_map(site.data, site.columns)
    choice = site.federation.task
    with Home.open(site.access.home, unlock=site.access.keys, write=False) as opened:
        name, key, withdrawn = opened.name, opened.holdout_key(), read_withdrawn(opened)
        code = code_of(choice, site.task_file)
        if choice.sha256 is not None:
            approvals.check(opened, choice.sha256, code[1])
    source = TaskSource(site.federation, site.data, columns, *code, site.device)
    return OpenedTask(name, source, key, withdrawn)


def reach_of(site: LocalInputs) -> Reach:
    """What the task may read of this machine. Raises DataHoldsKeys."""
    from p2pfl.training.process.facts import Reach

    closed = secret_places(site.access.home, site.access.keys)
    described = site.federation.task.sha256 is None
    choice = site.federation.task
    pinned = choice.scans.how.weights if choice.scans is not None else None
    weights = (site.task_file or Path(pinned.file),) if pinned is not None else ()
    return Reach.of(site.data, (*site.reads, *weights), closed, site.device, described=described)


def _prepare(trainer: RemoteTrainer, opened: OpenedTask, tell: Callable[[str], None]) -> None:
    """Everything else that needs no other site: records, held-out split, model, one dummy private step."""
    with output.doing("loading PyTorch and the records, and trying one private step", tell):
        facts = trainer.prepare(opened.source, opened.key, opened.withdrawn)
    for notice in facts.notices:
        tell(f"notice: {notice}")
    if lacking := missing_walls(trainer.walls):
        tell(f"notice: {lacking}")
    trained = facts.records - facts.held
    parameters = f"{facts.layout.parameters} parameters"
    patients = f" of {facts.units} patients" if facts.units < trained else ""
    tell(f"{opened.name}: {trained} records{patients} to train on, {facts.held} held out; {parameters}")


async def _train(
    site: LocalInputs, trainer: RemoteTrainer, opened: OpenedTask, watch: Watch, monitor: Monitor, go_on: bool
) -> dict[str, Any]:
    begun = asyncio.get_running_loop().time()
    with trainer:  # ended here, however this ends: a thread may be waiting for it
        async with site.access.join(site.federation, watch, "join", monitor, rounds=site.federation.rounds) as peer:
            if site.federation.task.sha256 is not None:
                await asyncio.to_thread(approvals.note, peer.logs, site.federation.task.sha256)
            await asyncio.to_thread(_prepare, trainer, opened, monitor.tell)
            result = await peer.train_with(trainer, task=site.federation.task.label, go_on=go_on)
            files, calls = trainer.walls
            facts = facts_of(peer, result, watch, trainer.parameters) | {"walls": {"files": files, "calls": calls}}
    return facts | {"wall_s": round(asyncio.get_running_loop().time() - begun, 2)}


def facts_of(peer: Peer, result: TrainResult, watch: Watch, parameters: int) -> dict[str, Any]:
    """What `join --json` prints, but for the ledger and the time. Bytes are those of this process."""
    federation, links = peer.federation, peer.links().values()
    trained = [record for record in result.records if record["configuration"].get("purpose") == "training"]
    count = len(federation.roster.names)
    words = sum(final.payload_bytes for final in watch.rounds)
    return {
        "name": peer.name,
        "federation": federation.name,
        "rounds_completed": len(trained),
        "ended": result.ended or None,
        "metric": _metric(result, classes_of(federation.task)),
        "privacy": federation.privacy.unit,
        "epsilon": bounded(result.epsilon),
        "epsilon_alone": bounded(result.alone) if result.alone is not None else None,
        "delta": result.delta,
        "max_epsilon": bounded(federation.privacy.max_epsilon),
        "parameters": parameters,
        "bytes_sent": sum(link.bytes_sent for link in links),
        "bytes_received": sum(link.bytes_received for link in links),
        "payload_sent": _payload_sent(federation, peer.name, words),
        "dense_bytes": dense_bytes(count, parameters, len(trained)),
        "field": federation.sharing.field,
        "quorum": federation.roster.quorums.q,
        "survivors_per_round": [record["survivors"] for record in trained],
        "tls": watch.tls,
        "links": watch.paths,
        "relayed": {"calls": peer.carried().calls, "bytes": peer.carried().bytes_received},
    }


def _metric(result: TrainResult, classes: Sequence[str]) -> dict[str, Any]:
    """The figure that the training is judged by, first and last; and all that the last model was measured by."""

    def value(metric: Metric | None) -> float | None:
        return metric.figure.value if metric is not None and metric.figure is not None else None

    held = result.final or result.initial
    told = result.final.figures if result.final else {}
    return {
        "name": label_of(held.name if held else ""),
        "figure": held.name if held else None,
        "initial": value(result.initial),
        "final": value(result.final),
        "private": held.private if held else None,
        "figures": {name: _interval(figure) | {"name": title(name, classes)} for name, figure in told.items()},
    }


def _interval(figure: Figure) -> dict[str, Any]:
    low, high = (part if math.isfinite(part) else None for part in (figure.low, figure.high))
    return {"value": figure.value, "low": low, "high": high}


def _payload_sent(federation: Federation, name: str, words: int) -> int:
    """Bytes of masked words to their owners, and of the sums of those that this site owns to all."""
    count = len(federation.roster.names)
    if federation.hub is None:
        return round(2 * (count - 1) / count * words)
    return (count - 1) * words if name == federation.hub else words


def ledger_of(access: Access, federation: Federation) -> dict[str, object]:
    """What `join --json` says of the home's ledger, once it is verified."""
    from p2pfl.ledger.verify import verify

    with Home.open(access.home, unlock=access.keys, write=False) as opened:
        report = verify(view(opened, lambda: federation))
    return {"verified": report.verified, "entries": report.federation.entries, "root": report.federation.root.hex()}

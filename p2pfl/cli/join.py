"""`p2pfl join`: take part until the agreed rounds are final; or, with --check, find out whether that would work."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli import output
from p2pfl.cli.join_facts import facts_of, ledger_of
from p2pfl.cli.joining import Access, ProxyChoice, listen_option, proxy_options, wait_option
from p2pfl.cli.local_task import LocalInputs, OpenedTask, opened_task, reach_of
from p2pfl.cli.monitor import Monitor, monitor_options
from p2pfl.cli.options import (
    Unlock,
    agreement_option,
    columns_option,
    home_option,
    is_default,
    json_option,
    peers_option,
    unlock_options,
)
from p2pfl.cli.records import check_readable
from p2pfl.cli.stopping import end_with_stdin as watch_stdin
from p2pfl.cli.stopping import run
from p2pfl.cli.tasks import device_option, missing_walls, reads_option, task_process
from p2pfl.cli.watch import Here, Watch
from p2pfl.cli.wording import NO_PRIVACY, join_text
from p2pfl.errors import EXIT_DONE, EXIT_FAILED
from p2pfl.errors.adapters import TaskIsAClient
from p2pfl.errors.counts import counted
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.node import approvals

if TYPE_CHECKING:
    from p2pfl.training.process.remote import RemoteTrainer


@click.command()
@peers_option
@home_option
@click.option("--data", required=True, type=click.Path(path_type=Path), help="This site's records: a CSV, or a folder.")
@columns_option
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
        here=Here(peers_file, home),
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
            monitor.ends_with(EXIT_DONE if facts["ready"] else EXIT_FAILED)
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
    output.result("\n".join([join_text(facts), *next_steps(home, peers_file, federation.name)]), facts, as_json)


def next_steps(home: Path, peers_file: Path, study: str) -> list[str]:
    """What people do with a study that is through, which a home of several is told by its file."""
    at = f" --peers {shlex.quote(str(peers_file))}"
    at += "" if is_default(home) else f" --home {shlex.quote(str(home))}"
    return [
        "next, a page to print and sign, and the model with its card:",
        f"  p2pfl report{at} --audit -o {study}.html",
        f"  p2pfl model export{at} -o {study}.safetensors",
    ]


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


def _prepare(trainer: RemoteTrainer, opened: OpenedTask, tell: Callable[[str], None]) -> None:
    """Everything else that needs no other site: records, held-out split, model, one dummy private step."""
    with output.doing("loading PyTorch and the records, and trying one private step", tell):
        facts = trainer.prepare(opened.source, opened.key, opened.withdrawn)
    for notice in facts.notices:
        tell(f"notice: {notice}")
    if lacking := missing_walls(trainer.walls):
        tell(f"notice: {lacking}")
    trained = facts.records - facts.held
    parameters = counted(facts.layout.parameters, "parameter")
    patients = f" of {counted(facts.units, 'patient')}" if facts.units < trained else ""
    tell(f"{opened.name}: {counted(trained, 'record')}{patients} to train on, {facts.held} held out; {parameters}")


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

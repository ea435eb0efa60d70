"""What a site brings to a training on its own machine: records, the task's file, and what of the home they need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl.cli.joining import Access
from p2pfl.cli.tasks import secret_places
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import Secret
from p2pfl.node import approvals
from p2pfl.node.withdrawals import read_withdrawn
from p2pfl.training.records.column_map import map_for

if TYPE_CHECKING:
    from p2pfl.training.process.facts import Reach, TaskSource
    from p2pfl.training.records.withdrawn import Withdrawn


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

    columns = map_for(site.data, site.columns)
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

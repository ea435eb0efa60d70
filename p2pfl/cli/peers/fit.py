"""What `join` would refuse of a peers.yaml before it speaks with anybody, refused where the file is made or shown."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl.cli import output
from p2pfl.errors import LocalFault
from p2pfl.federation import Federation
from p2pfl.files import is_file

if TYPE_CHECKING:
    from p2pfl.training.task import Task


def check_fit(federation: Federation, own: Path | None = None) -> None:
    """Task and the grid of the sums, as `join` checks them.

    own   this person's own file of the task: it is run, as `join` runs it, and its model built
          None: of a task's file that lies here the digest is checked alone, since peers.yaml may be anybody's
    Raises TaskFileChanged, TaskUnusable, ModelNotPrivate, LimitInvalid, SumCouldWrap, SupportTooLarge.
    """
    # Loaded late: a file that cannot even be read is refused without numpy.
    from p2pfl.sharing.field import FIELDS
    from p2pfl.sharing.quantiser import Quantiser
    from p2pfl.training.registry import load_task, task_file

    sharing, task = federation.sharing, federation.task
    Quantiser(FIELDS[sharing.field], len(federation.roster.names), sharing.clip, sharing.scale, sharing.field == 16)
    if own is not None:
        output.loading_torch()
        _check_model(federation, load_task(task, own))
    elif task.file is not None and is_file(Path(task.file)):
        task_file(task)


def check_described(federation: Federation) -> None:
    """A leader's positions fit the model that is described, as far as this machine can build it. Loads torch then.

    Raises ModelNotPrivate, SupportTooLarge.
    """
    task = federation.task
    weights = task.scans.how.weights if task.scans is not None else None
    described = task.table is not None or task.scans is not None
    if federation.compression.method != "leader" or not described:
        return
    if weights is not None and not is_file(Path(weights.file)):  # they may lie at the sites alone, and so may packages
        return
    from p2pfl.training.registry import described_task

    output.loading_torch()
    with contextlib.suppress(LocalFault):
        _check_model(federation, described_task(task.table or task.scans))


def _check_model(federation: Federation, task: Task) -> None:
    from p2pfl.node.runs.sizes import check_leader
    from p2pfl.training.model.personal import divided
    from p2pfl.training.models import build

    layout = build(task).layout
    check_leader(federation, divided(layout, federation.local.personal)[0].parameters)

"""What `join` would refuse of a peers.yaml before it speaks with anybody, refused where the file is made or shown."""

from __future__ import annotations

from pathlib import Path

from p2pfl.cli import output
from p2pfl.federation import Federation
from p2pfl.files import is_file


def check_fit(federation: Federation, own: Path | None = None) -> None:
    """Task and the grid of the sums, as `join` checks them.

    own   this person's own file of the task: it is run, as `join` runs it, and its model built
          None: of a task's file that lies here the digest is checked alone, since peers.yaml may be anybody's
    Raises TaskFileChanged, TaskUnusable, ModelNotPrivate, LimitInvalid, SumCouldWrap.
    """
    # Loaded late: a file that cannot even be read is refused without numpy.
    from p2pfl.sharing.field import FIELDS
    from p2pfl.sharing.quantiser import Quantiser
    from p2pfl.training.registry import load_task, task_file

    sharing, task = federation.sharing, federation.task
    Quantiser(FIELDS[sharing.field], len(federation.roster.names), sharing.clip, sharing.scale, sharing.field == 16)
    if own is not None:
        output.loading_torch()
        from p2pfl.training.models import build

        build(load_task(task, own))
    elif task.file is not None and is_file(Path(task.file)):
        task_file(task)

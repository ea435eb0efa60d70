"""How a verb runs a task: in a process of its own, whose loading is told; on which device, with what to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.cli import output
from p2pfl.home.keyslots import KeyFile, KeySource, default_key_path

if TYPE_CHECKING:
    from p2pfl.training.process.facts import Reach
    from p2pfl.training.process.remote import RemoteTrainer

device_option = click.option(
    "--device", default="cpu", show_default=True, metavar="NAME", help="Where torch computes: cpu, cuda, cuda:1, mps."
)
reads_option = click.option(
    "--task-reads",
    "reads",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A file or folder that the task may read beside its data, such as pretrained weights. May be repeated.",
)


def task_process(
    reach: Reach,
    tell: Callable[[str], None] = output.progress,
    echo: Callable[[str], None] | None = None,
    step: Callable[[int, int], None] | None = None,
) -> AbstractContextManager[RemoteTrainer]:
    """A process in which a task will run, loading PyTorch meanwhile; ended with the block.

    echo    gets what the task prints; without it nobody does, since that may hold patients' values
    step    called with (steps done, steps of the pass), in a thread of the process's
    """
    from p2pfl.training.process.remote import RemoteTrainer

    tell("loading PyTorch")
    return RemoteTrainer(reach, step, echo)


def secret_places(home: Path, keys: Sequence[KeySource] = ()) -> tuple[Path, ...]:
    """Where this site's home and keys lie, as far as the command line says."""
    named = [one.path for one in keys if isinstance(one, KeyFile) and one.path is not None]
    return (home.absolute(), default_key_path("any").parent, *(path.absolute() for path in named))


def missing_walls(walls: tuple[bool, bool]) -> str:
    """What the system does not keep the task from; empty where it keeps it from all."""
    files, calls = walls
    lacking = ([] if files else ["reading this user's files"]) + ([] if calls else ["connections and programs"])
    return f"this system does not keep the task from {' and '.join(lacking)}: read it well" if lacking else ""

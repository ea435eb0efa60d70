"""How a verb runs a task: in a process of its own, whose loading is told; on which device, with what to read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.cli import output

if TYPE_CHECKING:
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
    tell: Callable[[str], None] = output.progress, echo: Callable[[str], None] | None = None
) -> AbstractContextManager[RemoteTrainer]:
    """A process in which a task will run, loading PyTorch meanwhile; ended with the block.

    echo    gets what the task prints; without it nobody does, since that may hold patients' values
    """
    from p2pfl.training.process.remote import RemoteTrainer

    tell("loading PyTorch")
    return RemoteTrainer(echo=echo)

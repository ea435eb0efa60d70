"""Each record once through the model and the loss: what a step would meet in the tenth round is told before the first.

A step that is tried sees a few records alone. One whose label is beyond the classes, whose file is cut, or which holds
a number that is not finite, would end a pass of a study later, with its charge.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors import P2PFLError
from p2pfl.errors.training import RecordFails
from p2pfl.training.models import MEASURED_NUMBERS, as_inputs, build, loss_of
from p2pfl.training.private_check import place_of
from p2pfl.training.records.records import Records
from p2pfl.training.task import Task
from p2pfl.training.update import write_vector

AT_ONCE = 32  # records; a scan's layers hold many times its own size


def first_model(task: Task, device: torch.device) -> nn.Module:
    """The task's model as a study might start it."""
    built = build(task)
    write_vector(built.model, built.first(task, bytes(32)), built.layout)
    return built.model.eval().to(device)


def try_records(task: Task, model: nn.Module, records: Records, rows: NDArray[np.int64], device: torch.device) -> None:
    """The loss of each record at `rows` is a finite number. Raises RecordMisfit, RecordFails for the first that fails.

    What else the task raises on many records at once, and on none of them alone, is raised.
    """
    start, at_once = 0, 1  # the first one says how large they are
    while start < len(rows):
        some = rows[start : start + at_once]
        start += at_once
        try:
            finite, numbers = _finite(task, model, records, some, device)
        except P2PFLError:
            raise
        except Exception:
            for row in some:
                _try_one(task, model, records, row, device)
            raise
        if not finite.all():
            _refuse(records, some[np.flatnonzero(~finite)[0]], "its loss is not finite", task)
        at_once = max(1, min(AT_ONCE, MEASURED_NUMBERS // max(1, numbers)))


def _try_one(task: Task, model: nn.Module, records: Records, row: np.int64, device: torch.device) -> None:
    try:
        _finite(task, model, records, np.array([row]), device)
    except P2PFLError:
        raise
    except Exception as error:  # its text may hold a value
        _refuse(records, row, f"{place_of(error)}{type(error).__name__}", task)


def _finite(
    task: Task, model: nn.Module, records: Records, rows: NDArray[np.int64], device: torch.device
) -> tuple[NDArray[np.bool_], int]:
    """Whether the loss of each is finite, and of how many numbers an input is.    (B,) ► (B,)"""
    x, y = (as_inputs(part, device) for part in records.batch(rows))
    with torch.no_grad():
        found: NDArray[np.bool_] = torch.isfinite(loss_of(task, model(x), y)).cpu().numpy()
    return found, x[0].numel()


def _refuse(records: Records, row: np.int64, why: str, task: Task) -> None:
    evidence = f"record {records.rows[row] + 1}: {why}"
    raise RecordFails(evidence=evidence, source=records.source, task=task.name) from None

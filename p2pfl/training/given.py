"""What a caller in Python hands over: a Task, which must be the one that peers.yaml names, and records in some form."""

from __future__ import annotations

import hashlib
import inspect
import os
import threading
from pathlib import Path
from typing import Any, Final

from p2pfl.errors.from_python import DataNotRecords, TaskNotAgreed
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.files import is_file
from p2pfl.training.records.column_map import map_for
from p2pfl.training.records.given_table import FRAME, is_frame
from p2pfl.training.records.records import Dataset, Records
from p2pfl.training.registry import load_task, task_file
from p2pfl.training.task import Task
from p2pfl.training.tasks.table import TableTask

SHOWN: Final = 16  # hex digits of a digest that a person or a round's configuration shows

# `inspect` parses the file, and Python 3.11 parses wrongly while another thread does (cpython issue 106905).
_PARSING: Final = threading.Lock()

Place = str | os.PathLike[str]


def agreed_task(choice: TaskChoice, given: Task | None, file: Path | None = None) -> Task:
    """The task that peers.yaml names: `given`, where it is that one, or made from the file or the description.

    Of a task that is pinned by its file's digest, `given` must be of a class of that name in a file that has the digest
    now. What Python loaded of it before, and what the caller changed since, is the caller's own affair: this finds the
    wrong file, and not somebody who wants to deceive themselves.
    Raises TaskNotAgreed, TaskNotGiven, TaskIsAClient, TaskFileChanged, TaskUnusable.
    """
    if given is None or choice.client is not None:
        return load_task(choice, file)
    if not isinstance(given, Task):
        raise TaskNotAgreed(evidence=f"{type(given).__name__} is no p2pfl.Task", task=type(given).__name__)
    differs = _difference(choice, given, file)
    if differs:
        raise TaskNotAgreed(evidence=differs, task=given.name)
    return given


def _difference(choice: TaskChoice, given: Task, file: Path | None) -> str:
    """How `given` is not what peers.yaml names; empty where it is."""
    kind = type(given)
    if choice.python is not None:
        return "" if given.name == choice.python else f"its name is {given.name}, agreed is {choice.python}"
    if choice.table is not None:
        same = isinstance(given, TableTask) and given.schema == choice.table
        return "" if same else "peers.yaml describes a table: leave the task out, and it is made from there"
    if choice.sha256 is None:
        return f"peers.yaml names {choice.label}: leave the task out, and it is made from there"
    if kind.__name__ != choice.cls:
        return f"its class is {kind.__name__}, agreed is {choice.cls} of {choice.file}"
    path = file or _file_of(kind)
    if path is None:
        return f"{kind.__name__} is in no file; agreed is {choice.file} with SHA-256 {choice.sha256.hex()[:SHOWN]}…"
    task_file(choice, path)
    return ""


def _file_of(kind: type) -> Path | None:
    try:
        found = inspect.getsourcefile(kind)
    except TypeError:  # a class of `__main__`, as in a notebook
        return None
    return Path(found) if found and is_file(Path(found)) else None


def label_of(choice: TaskChoice, task: Task) -> str:
    """How rounds and models call the task; of one in Python with what tells it from another of the same name.

    That is the text of its classes, where Python has it, and the two numbers that every task has. Sites whose notebooks
    differ in them do not add up; what a class calls outside of itself, or was given by hand, is in no text.
    """
    if choice.python is None:
        return choice.label
    return f"{choice.label}:{text_digest(task).hex()[:SHOWN]}"


def text_digest(task: Task) -> bytes:
    """SHA-256 over the text of a task's own classes, its learning rate and its expected batch."""
    state = hashlib.sha256(repr((task.learning_rate, task.expected_batch, task.copies)).encode())
    for kind in type(task).__mro__:
        if issubclass(kind, Task) and not kind.__module__.startswith("p2pfl."):
            try:
                with _PARSING:
                    text = inspect.cleandoc("\n" + inspect.getsource(kind))
            except (OSError, TypeError):  # typed at a prompt that keeps no text
                text = ""
            state.update(f"{kind.__name__}\0{text}\0".encode())
    return state.digest()


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────────


def records_of(task: Task, data: Any, columns: Place | None = None, *, labelled: bool = True) -> Records:
    """The records that `data` is: a path, as `Task.dataset` takes it; a pandas DataFrame; or a dataset of (x, y).

    columns     a column map; of a path the one beside it is taken, as `p2pfl join` does
    labelled    False: labels are not needed, and may be anything
    Raises DataNotRecords, FrameUnsupported, what the task raises.
    """
    named = Path(columns) if columns is not None else None
    if isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        found = task.dataset(path, map_for(Path(path), named), labelled=labelled)
        return Records(found, path)
    if is_frame(data):
        return Records(task.from_frame(data, map_for(None, named), labelled=labelled), FRAME)
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, (dict, tuple)):
        raise DataNotRecords(evidence="a dataset has a length, and gives (x, y) by number", kind=type(data).__name__)
    dataset: Dataset = data
    return Records(dataset, f"the {type(data).__name__}")

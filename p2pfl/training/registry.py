"""The Task that peers.yaml names: a table that it describes, or a class in a file whose digest it holds."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

from p2pfl.errors.adapters import TaskIsAClient
from p2pfl.errors.from_python import TaskNotGiven
from p2pfl.errors.task_process import TaskFileMissing
from p2pfl.errors.training import TaskFileChanged, TaskUnusable
from p2pfl.federation.description import Described
from p2pfl.federation.scan_schema import ImageSchema
from p2pfl.federation.table_schema import TableSchema
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.files import TEXT_BYTES, read_file
from p2pfl.training.process.faults import MODULE
from p2pfl.training.source_text import source_text
from p2pfl.training.task import API, Task
from p2pfl.training.tasks.table import TableTask


def task_file(choice: TaskChoice, file: Path | None = None) -> tuple[Path, bytes]:
    """The file of a pinned task, and its bytes, whose digest holds. Raises TaskFileChanged, TaskFileMissing."""
    path = file or Path(choice.file or "")
    try:
        raw = read_file(path, TEXT_BYTES)
    except OSError as error:
        raise TaskFileMissing(evidence=str(error.strerror), path=path) from None
    found = hashlib.sha256(raw).digest()
    if found != choice.sha256:
        agreed = (choice.sha256 or b"").hex()[:16]
        raise TaskFileChanged(evidence=f"SHA-256 here {found.hex()[:16]}…, agreed {agreed}…", path=path)
    return path, raw


def code_of(choice: TaskChoice, file: Path | None = None) -> tuple[str, str, bytes]:
    """Class, file and bytes of the code that a process of its own will run. Of a description there is no code; its file
    is that of its pretrained weights, where it names any: in the working folder, or `file`.

    Raises TaskNotGiven, TaskIsAClient, TaskFileChanged, TaskFileMissing, TaskNotPython.
    """
    if choice.table is not None:
        return "", "", b""
    if choice.scans is not None:
        weights = choice.scans.how.weights
        return "", str((file or Path(weights.file)).absolute()) if weights is not None else "", b""
    if choice.client is not None:
        raise TaskIsAClient(kind=choice.client.kind, evidence=f"task: {choice.label}, in peers.yaml")
    if choice.python is not None:
        raise TaskNotGiven(evidence="peers.yaml holds its name alone", task=choice.python)
    path, raw = task_file(choice, file)
    source_text(raw, path)
    return choice.cls or "", str(path), raw


def described_task(schema: Described | None, weights: Path | None = None, beside: Path | None = None) -> Task:
    """The task of a description. The weights that it may name are at `weights`, or in the folder `beside`."""
    if schema is None:
        raise ValueError("a task without a description")
    if isinstance(schema, TableSchema):
        return TableTask(schema)
    named = schema.how.weights
    path = weights or (beside or Path()) / named.file if named is not None else None
    if isinstance(schema, ImageSchema):
        from p2pfl.training.tasks.images import Images

        return Images.of(schema, path)
    from p2pfl.training.tasks.volumes import Volumes

    return Volumes.of(schema, path)


def load_task(choice: TaskChoice, file: Path | None = None) -> Task:
    """The task that peers.yaml names; `file` is this site's copy of what it pins: a task's file, or weights.

    It runs the very bytes whose digest was checked. Raises TaskUnusable, and what `code_of` raises.
    """
    if choice.client is not None:
        raise TaskIsAClient(kind=choice.client.kind, evidence=f"task: {choice.label}, in peers.yaml")
    if choice.python is not None:
        raise TaskNotGiven(evidence="peers.yaml holds its name alone", task=choice.python)
    if choice.table is not None or choice.scans is not None:
        return described_task(choice.table or choice.scans, file)
    return run_task(choice.cls or "", *task_file(choice, file))


def run_task(cls: str, path: Path, raw: bytes) -> Task:
    """The task that the class `cls` of a file makes, whose bytes are `raw`. Raises TaskUnusable, TaskNotPython."""
    text = source_text(raw, path)  # and not the bytes: Python would read them as they themselves say
    name = MODULE + hashlib.sha256(raw).hexdigest()[:16]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # classes of the file are found by their module's name, as when a model is copied
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - the site's own file, pinned by digest
        task = getattr(module, cls)()
    except Exception as error:
        raise TaskUnusable(evidence=f"{type(error).__name__}: {error}", path=path, cls=cls) from error
    if not isinstance(task, Task):
        raise TaskUnusable(evidence=f"{type(task).__name__} is not a Task", path=path, cls=cls)
    if task.api != API:
        evidence = f"it is written for version {task.api} of the interface, this program has {API}"
        raise TaskUnusable(evidence=evidence, path=path, cls=cls)
    return task

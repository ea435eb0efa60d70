"""What went wrong in the process of the task, told to the node: whose fault it is, as an error of the catalogue.

The text of a foreign exception may hold a patient's value, so of one its type and place alone are told. What comes from
there is not trusted: an error is one of those that such a process can have, and its fields are those of its class.
"""

from __future__ import annotations

import contextlib
import errno
import traceback
from collections.abc import Iterator
from typing import Any, Final

from p2pfl.errors import (
    ConfigurationError,
    LocalFault,
    P2PFLError,
    federation,
    leaves,
    people,
    scans,
    task_process,
    training,
)
from p2pfl.errors.people import NothingLeft, OurMistake, SystemRefused
from p2pfl.errors.task_process import TaskOverreached
from p2pfl.errors.training import TaskFailed

MODULE: Final = "p2pfl_task_"  # a task's file is a module of this name and of its digest
SCARCE: Final = {
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
    errno.EAGAIN: "threads",
    errno.ENOMEM: "memory",
    errno.ENOSPC: "room on the disk",
    errno.EDQUOT: "room on the disk",
}
# What the system's loader says of a library that it has no memory for.
NO_ROOM: Final = ("failed to map segment", "cannot allocate memory")
DENIED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
Told = tuple[str, str, tuple[tuple[str, str], ...]]  # code, evidence, fields

_MAY: Final = {
    leaf.code: leaf
    for leaf in leaves()
    if leaf.__module__ in {one.__name__ for one in (training, scans, task_process, federation, people)}
    and issubclass(leaf, (ConfigurationError, LocalFault, OurMistake))
    and leaf.exit_status in (1, 2)
}


def task_failed(error: BaseException) -> TaskFailed | TaskOverreached | None:
    """The error for an exception that came up in the site's own file of the task; None for any other."""
    for one in _chain(error):
        for frame, line in reversed(list(traceback.walk_tb(one.__traceback__))):
            if not str(frame.f_globals.get("__name__", "")).startswith(MODULE):
                continue
            where = f"{frame.f_code.co_filename}:{line}"
            if isinstance(one, OSError) and one.errno in DENIED:
                what = _named(one) or "something of the system"
                return TaskOverreached(evidence=f"{one.strerror}, in {frame.f_code.co_name}", what=what, where=where)
            if one is error:
                evidence = f"in {frame.f_code.co_name}; P2PFL_TRACEBACK=1 shows the whole way there"
                return TaskFailed(evidence=evidence, kind=type(one).__name__, where=where)
    return None


def scarce(error: BaseException) -> NothingLeft | None:
    """The error for what the system had no more of: descriptors, threads, memory, room on a disk."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in SCARCE):
        what = SCARCE[error.errno or errno.ENOMEM] if isinstance(error, OSError) else SCARCE[errno.ENOMEM]
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        what = SCARCE[errno.EAGAIN]
    elif isinstance(error, (ImportError, OSError)) and any(words in str(error).lower() for words in NO_ROOM):
        what = SCARCE[errno.ENOMEM]
    else:
        return None
    return NothingLeft(what=what, evidence=f"{type(error).__name__} from the system")


def told_of(error: BaseException) -> Told:
    """What the node is told of an exception."""
    overreached = task_failed(error)
    if isinstance(overreached, TaskOverreached):
        known: P2PFLError = overreached  # also where the catalogue's error came of it
    elif isinstance(error, P2PFLError):
        known = error
    else:
        known = scarce(error) or overreached or _refused(error) or _our_mistake(error)
    return known.code, known.evidence, tuple(known.fields.items())


def error_of(told: Told) -> P2PFLError | None:
    """The error that was told; None where such a process can have no such error."""
    code, evidence, fields = told
    kind, named = _MAY.get(code), dict(fields)
    return None if kind is None or not kind.places() <= named.keys() else _make(kind, evidence, named)


def _make(kind: type[P2PFLError], evidence: str, fields: dict[str, str]) -> P2PFLError | None:
    with contextlib.suppress(TypeError):  # a field that is no argument of its class
        return kind(evidence=evidence, **fields)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it came of."""
    held: BaseException | None = error
    for _ in range(20):
        if held is None:
            return
        yield held
        held = held.__cause__ or held.__context__


def _refused(error: BaseException) -> SystemRefused | None:
    if isinstance(error, OSError) and (path := _named(error)):
        return SystemRefused(path=path, evidence=error.strerror or type(error).__name__)
    return None


def _named(error: OSError) -> str:
    named: Any = error.filename
    return named.decode("utf-8", "replace") if isinstance(named, bytes) else str(named or "")


def _our_mistake(error: BaseException) -> OurMistake:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/p2pfl/" in frame.filename] or list(frames)
    where = f"{ours[-1].filename.rpartition('/')[2]}:{ours[-1].lineno}" if ours else "an unknown place"
    chain = " in ".join(frame.name for frame in reversed(ours[-3:]))
    evidence = f"{chain}, in the process of the task; P2PFL_TRACEBACK=1 shows the whole way there"
    return OurMistake(evidence=evidence, kind=type(error).__name__, where=where)

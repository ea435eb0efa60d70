"""The process of a task, started again where it has ended, and what is asked of it without a training.

`remote.py` has the rest: passes and measures.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.task_process import TaskProcessEnded
from p2pfl.errors.training import ModelDiverged
from p2pfl.training.passes import PassCut, PassStopped
from p2pfl.training.process.child import Echo, TaskProcess
from p2pfl.training.process.facts import Reach, TaskSource, layout_from, unusable
from p2pfl.training.process.parting import each_name, unusable_now
from p2pfl.training.process.wire import NAME_BYTES, SharedBuffer
from p2pfl.training.update import FlatVector, TensorLayout

MOST_ENDS: Final = 3  # times that the process may end in one piece of work
MOST_PREDICTED: Final = 1 << 33  # bytes of all predictions


class RemoteTask:
    """The process, started again where it has ended; a context manager that ends it."""

    def __init__(self, reach: Reach, echo: Echo | None = None) -> None:
        """Start the process, which loads torch meanwhile; `open` says what it runs."""
        self._reach, self._echo, self._closed = reach, echo, False
        self.walls = (False, False)  # around files, around system calls: known once it is open
        self._process = TaskProcess(reach, echo)
        self._source: TaskSource | None = None
        self._records, self._patients = -1, False
        self.writes_masks = False  # known once predictions are made
        self._opening = threading.RLock()
        self._ready: TaskProcess | None = None  # the process in which the task is open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._closed = True
        self._process.end()

    @property
    def number(self) -> int | None:
        """The number of the process in the system."""
        return self._process.number

    def peak_memory(self) -> int:
        """Bytes of memory that the process had at most; 0 where the system does not say."""
        return self._process.peak_memory()

    def open(self, source: TaskSource) -> int:
        """Load the task and its records there; returns how many records there are. Raises what the task raises."""
        self._source = source
        self._ask("open_only")
        return self._records

    def _prepare(self, process: TaskProcess) -> None:
        """Bring a new process to where the last one was."""
        if self._source is None:
            raise ValueError("no task is open")
        files, calls = process.ask("walls")  # before any code of the task runs
        self.walls = bool(files), bool(calls)
        records, patients = process.ask("open", *self._source.fields())
        if self._records not in (-1, records):
            raise unusable_now(f"{records} records, {self._records} before")
        self._records, self._patients = records, bool(patients)

    def _living(self) -> TaskProcess:
        """The process, with the task open in it."""
        with self._opening:
            if self._closed:
                raise PassStopped
            if self._process.is_gone:
                self._process = TaskProcess(self._reach, self._echo)
                self._end_if_closed()
            if self._ready is not self._process:
                self._prepare(self._process)
                self._ready = self._process
            return self._process

    def _end_if_closed(self) -> None:
        """Another thread may have closed it while the process was started."""
        if self._closed:
            self._process.end()

    def _ask(self, kind: str, *fields: Any, buffer: SharedBuffer | None = None) -> tuple[Any, ...]:
        """Ask something that may be asked again. Raises TaskProcessEnded."""
        how = ""
        for _ in range(MOST_ENDS):
            try:
                process = self._living()
                return () if kind == "open_only" else process.ask(kind, *fields, buffer=buffer)
            except PassCut as cut:
                if self._closed:
                    raise PassStopped from None
                how = cut.how
        raise TaskProcessEnded(count=MOST_ENDS, how=how, evidence=f"it was asked: {kind.partition('_')[0]}")

    def layout_of_model(self) -> TensorLayout:
        """The layout of the task's model. Raises what building it raises."""
        return layout_from(self._ask("layout")[0])

    def names_of_records(self) -> Iterator[bytes]:
        """What names each record, and each patient where the task knows them: 32 bytes each. They stay at the site."""
        with SharedBuffer(NAME_BYTES * self._records * (1 + self._patients)) as buffer:
            self._ask("names", buffer=buffer)
            return each_name(buffer.read("u1").tobytes())

    def _read_names(self, process: TaskProcess) -> bytes:
        with SharedBuffer(NAME_BYTES * self._records * (1 + self._patients)) as buffer:
            process.ask("names", buffer=buffer)
            return buffer.read("u1").tobytes()

    def predict(self, model: FlatVector) -> tuple[NDArray[np.float64], Sequence[str]]:
        """What the model (m,) says of the records, and names of its numbers.    (N, k)"""
        with SharedBuffer(model.nbytes) as buffer:
            buffer.write(np.ascontiguousarray(model, "<f4"))
            width, names, writes = self._ask("predict", buffer=buffer)
        self.writes_masks = bool(writes)
        size = 8 * self._records * width
        if size > MOST_PREDICTED:
            raise unusable(f"{width} numbers for each of {self._records} records")
        with SharedBuffer(size) as buffer:
            self._ask("predictions", buffer=buffer)
            found = buffer.read("<f8").reshape(self._records, width)
        if not np.isfinite(found).all():
            raise ModelDiverged(evidence=f"{np.count_nonzero(~np.isfinite(found))} numbers", what="the predictions")
        return found, names

    def masks(self) -> Iterator[tuple[str, bytes]]:
        """Of each record the name of its file, and the .nii.gz of what `predict` said, in the grid of that file.

        Raises what reading the record raises; TaskProcessEnded: what it had said is gone with it.
        """
        for row in range(self._records):
            try:
                name, size = self._process.ask("mask", row)
                with SharedBuffer(size) as buffer:
                    self._process.ask("mask_bytes", buffer=buffer)
                    yield name, buffer.read("u1").tobytes()
            except PassCut as cut:
                raise TaskProcessEnded(count=1, how=cut.how, evidence=f"it was writing mask {row + 1}") from None

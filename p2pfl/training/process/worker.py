"""The program that runs a task: answers the node's questions over the one socket that it was started with.

It holds no key, and none ever comes here: of this site it gets its records, the agreed settings, and the seed of the
pass that it makes. Torch is loaded before the first question comes, while the node opens its links; the task's own code
runs behind the walls that boot.py sets up. It ends when the node does, whatever the task is doing.
"""

from __future__ import annotations

import mmap
import os
import queue
import socket
import struct
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import nn

from p2pfl import codec
from p2pfl.errors import P2PFLError
from p2pfl.federation import Federation
from p2pfl.federation.description import parse_description
from p2pfl.keys import Secret
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.lean import without_compiler
from p2pfl.training.local import Trainer
from p2pfl.training.models import as_inputs, build, predict
from p2pfl.training.passes import PassStopped
from p2pfl.training.privacy.account import Charge, Mechanism
from p2pfl.training.process.faults import told_of
from p2pfl.training.process.wire import ASKED, MOST_ASKED, Wire
from p2pfl.training.records.column_map import MapFile
from p2pfl.training.records.records import HELD, TRAINED, Records, SiteRecords, owners_of
from p2pfl.training.registry import described_task, run_task
from p2pfl.training.task import Task
from p2pfl.training.tried import first_model, try_records
from p2pfl.training.update import TensorLayout

MEASURES: Final = ("evaluate", "figures", "predict", "predictions", "mask", "mask_bytes")  # asked for while a pass runs


class Worker:
    """What is asked of the task, one method a kind; `buffer` is the memory that came with the question."""

    def __init__(self, wire: Wire, walls: tuple[bool, bool]) -> None:
        self._wire, self._walls = wire, walls
        self._task: Task
        self._records: Records
        self._trainer: Trainer
        self._federation: Federation
        self._device = "cpu"
        self._tried: nn.Module | None = None  # through which all records go once
        self._predictions: NDArray[np.float64]
        self._masks: NDArray[np.uint8]
        self._mask = b""

    def stop(self) -> None:
        """End the pass under way before its next step."""
        if hasattr(self, "_trainer"):
            self._trainer.stopping = True

    def walls(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        return tuple(map(int, self._walls))

    def open(
        self, ticket: int, buffer: Any, peers: bytes, source: str, cls: str, file: str, raw: bytes, *rest: Any
    ) -> tuple[Any, ...]:
        data, mapped, columns, columns_source, device, labelled = rest
        self._federation, self._device = Federation.parse(peers, source), device
        self._task = run_task(cls, Path(file), raw) if cls else self._described(Path(file), raw)
        column_map = MapFile.of(columns, columns_source) if mapped else None
        dataset = self._task.dataset(data, column_map, labelled=bool(labelled))
        self._records = Records(dataset, data)
        return (len(self._records), int(self._records.has_patients))

    def _described(self, file: Path, raw: bytes) -> Task:
        """Of a description in a file of its own, beside which weights lie; or of the agreed one; `file` its weights."""
        if raw:
            return described_task(parse_description(raw, str(file)), beside=file.parent)
        agreed = self._federation.task
        return described_task(agreed.table or agreed.scans, file)

    def layout(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        return (_tensors(build(self._task).layout),)

    def owners(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        buffer[:] = owners_of(self._records).reshape(-1).data
        return ()

    def names(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        buffer[:] = b"".join(self._records.names())
        return ()

    def split(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        part = np.frombuffer(buffer, np.uint8)  # (N,) of each record: TRAINED, HELD or LEFT_OUT
        site = SiteRecords(*(self._records.at(np.flatnonzero(part == one)) for one in (TRAINED, HELD)))
        trainer = self._trainer = Trainer(
            task=self._task,
            site=site,
            privacy=self._federation.privacy,
            local=self._federation.local,
            measures=self._federation.measures,
            device=self._device,
        )
        trainer.release()  # each pass brings the model
        tensors = _tensors(trainer.whole)
        x, y = (as_inputs(part, trainer._device) for part in site.train.batch(np.array([0])))
        shapes = list(x.shape[1:]), list(y.shape[1:])
        named, expected = str(self._task.name)[:200], repr(float(self._task.expected_batch))
        notices = [notice[:1000] for notice in trainer.notices[:1000]]
        return (
            named,
            tensors,
            trainer.frozen,
            trainer.counts,
            notices,
            expected,
            *shapes,
            trainer.units,
            trainer.slots,
        )

    def try_records(self, ticket: int, buffer: Any, first: int, count: int) -> tuple[Any, ...]:
        if self._tried is None:
            self._tried = first_model(self._task, self._trainer._device)
        rows = np.arange(first, min(first + count, len(self._records)))
        try_records(self._task, self._tried, self._records, rows, self._trainer._device)
        return ()

    def steps(self, ticket: int, buffer: Any, steps: int) -> tuple[Any, ...]:
        privacy = replace(self._federation.privacy, steps_per_round=steps)
        self._federation = replace(self._federation, privacy=privacy)
        self._trainer._privacy = privacy
        return ()

    def initial(self, ticket: int, buffer: Any, seed: bytes) -> tuple[Any, ...]:
        trainer = self._trainer
        buffer[:] = _bytes_of(np.concatenate([trainer.initial(seed), trainer.first_personal(seed)]))
        return ()

    def inputs(self, ticket: int, buffer: Any, at_once: int, rounds_before: int) -> tuple[Any, ...]:
        self._trainer.at_once = at_once
        return (self._trainer.inputs(np.frombuffer(buffer, "<f4"), rounds_before),)

    def train(
        self, ticket: int, buffer: Any, number: int, seed: bytes, at_once: int, rounds_before: int
    ) -> tuple[Any, ...]:
        trainer, parameters = self._trainer, self._trainer.whole.parameters
        model = np.frombuffer(buffer, "<f4", count=parameters)
        carriers = np.frombuffer(buffer, "<f8", offset=4 * parameters).copy() if len(buffer) > 4 * parameters else None
        density, subspace = self._federation.compression.density, None
        if carriers is not None:
            subspace = Subspace.with_carriers(trainer.layout, density, carriers)
        trainer.at_once, trainer.stopping = at_once, False
        trainer._progress = lambda step, steps: self._wire.send(ticket, "step", step, steps)
        charge = Charge(Mechanism.of_pass(self._federation.privacy), number)
        try:
            moved = trainer.train_within(model, charge, Secret(seed, "seed of a pass"), rounds_before, subspace)
        finally:
            trainer.release()  # the model lay in the buffer, which is the node's
        if moved is not None:
            buffer[: 4 * len(moved)] = _bytes_of(moved)
        return ()

    def evaluate(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        counts = self._trainer.evaluate(np.frombuffer(buffer, "<f4"))
        return (np.ascontiguousarray(counts, "<i8").tobytes(),)

    def figures(self, ticket: int, buffer: Any, total: bytes, noise: bytes) -> tuple[Any, ...]:
        found = self._trainer.figures(np.frombuffer(total, "<i8"), *struct.unpack("<d", noise))
        rows = [(name, one.value, one.low, one.high) for name, one in found.items()]
        return ([[name, struct.pack("<3d", *values)] for name, *values in rows],)

    def predict(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        found = predict(self._task, np.frombuffer(buffer, "<f4"), self._records, self._device)
        self._predictions = np.asarray(self._task.table(found), np.float64).reshape(len(self._records), -1)
        names = [str(name)[:200] for name in self._task.prediction_names][: 1 << 12]
        writes = self._records.masks is not None
        if writes:
            self._masks = found.astype(np.uint8)
        return (self._predictions.shape[1], names, int(writes))

    def predictions(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        buffer[:] = self._predictions.astype("<f8").reshape(-1).view(np.uint8).data
        return ()

    def mask(self, ticket: int, buffer: Any, row: int) -> tuple[Any, ...]:
        writer = self._records.masks
        if writer is None:
            raise ValueError("these records have no masks")
        self._mask = writer.mask_file(row, self._masks[row])
        return (writer.name(row)[:255], len(self._mask))

    def mask_bytes(self, ticket: int, buffer: Any) -> tuple[Any, ...]:
        buffer[:] = self._mask
        return ()


def _tensors(layout: TensorLayout) -> list[list[Any]]:
    return [[name, list(shape)] for name, shape in layout.tensors]


def _bytes_of(vector: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(vector, "<f4").view(np.uint8).data


Question = tuple[int, str, tuple[Any, ...], int | None]


def _answer(worker: Worker, wire: Wire, question: Question) -> None:
    """Answer one question, whatever comes of it."""
    ticket, kind, fields, descriptor = question
    try:
        with _MappedMemory(descriptor) as buffer:
            answer = getattr(worker, kind)(ticket, buffer, *fields)
        wire.send(ticket, "done", codec.pack(answer))
    except PassStopped:
        wire.send(ticket, "fault", "stopped", "", ())
    except BaseException as error:
        _tell(wire, ticket, error)


def _tell(wire: Wire, ticket: int, error: BaseException) -> None:
    """The question's answer is what went wrong."""
    if os.environ.get("P2PFL_TRACEBACK") and not isinstance(error, P2PFLError):
        traceback.print_exception(error)
    code, evidence, named = told_of(error)
    wire.send(ticket, "fault", code, evidence, [list(row) for row in named])


class _MappedMemory:
    """The shared memory of a question, as writable bytes; None where there is none."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> memoryview | None:
        if self._descriptor is None:
            return None
        size = os.fstat(self._descriptor).st_size
        return memoryview(mmap.mmap(self._descriptor, size)) if size else memoryview(bytearray())

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # what is mapped goes with the last array over it


def _work(worker: Worker, wire: Wire) -> Callable[[Question], None]:
    """Answers questions in a thread of its own, one after another: the function that hands it one.

    Where the system has no thread for it, that is the answer to each.
    """
    questions: queue.SimpleQueue[Question] = queue.SimpleQueue()

    def answer() -> None:
        while True:
            _answer(worker, wire, questions.get())

    try:
        threading.Thread(target=answer, daemon=True).start()
    except RuntimeError as error:
        lacking = error  # Python takes the other name away
        return lambda question: _tell(wire, question[0], lacking)
    return questions.put


def serve(end: socket.socket, walls: tuple[bool, bool]) -> NoReturn:
    """Answer until the node is gone. Passes and measures have a thread each, and this one hears of the end."""
    wire = Wire(end, ASKED, MOST_ASKED)
    worker = Worker(wire, walls)
    pass_, measure = _work(worker, wire), _work(worker, wire)
    try:
        while (came := wire.receive()) is not None:
            (ticket, kind, fields), descriptor = came
            if kind == "stop":
                worker.stop()
            else:
                (measure if kind in MEASURES else pass_)((ticket, kind, fields, descriptor))
    finally:
        os._exit(0)  # whatever the task is doing: nobody waits for it


def main(descriptor: int, walls: tuple[bool, bool]) -> NoReturn:
    """Run the program on the socket that it inherited; `walls` says what stands around it (boot.py)."""
    without_compiler()
    serve(socket.socket(fileno=descriptor), walls)

"""A task in a process of its own, as the node uses it: to train, to measure, to predict.

Whatever comes back is held to its form here: shapes, sizes, finite numbers. A process that ends is started again where
nothing depends on what it held; a pass that it was making is cut (PassCut), and whoever drives the training repeats it
from the same seed, at no charge (node/runs/training.py).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.task_process import TaskAnswerUnusable, TaskProcessEnded
from p2pfl.errors.training import MeasureUnusable, ModelDiverged
from p2pfl.keys import Secret
from p2pfl.training.measures.joint import BOUND
from p2pfl.training.measures.measure import Counts, Figure
from p2pfl.training.passes import AT_ONCE, PassCut, PassStopped
from p2pfl.training.privacy import Charge, Mechanism
from p2pfl.training.process.child import Echo, OnStep, TaskProcess
from p2pfl.training.process.facts import Reach, TaskFacts, TaskSource, facts_of, layout_from, unusable
from p2pfl.training.process.wire import NAME_BYTES, SharedBuffer
from p2pfl.training.records import held_out
from p2pfl.training.subspace import Subspace
from p2pfl.training.update import FlatVector, TensorLayout, not_finite

MOST_ENDS: Final = 3  # times that the process may end in one piece of work
STOPPING_S: Final = 2.0  # seconds for a task to hear that it is to stop, before its process is ended
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
            raise _changed(f"{records} records, {self._records} before")
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


@dataclass
class _Asked:
    """What is asked at this moment."""

    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> None:
        with self.lock:
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.count -= 1


class RemoteTrainer(RemoteTask):
    """training/local.py's Trainer, in a process of its own."""

    def __init__(self, reach: Reach, progress: OnStep | None = None, echo: Echo | None = None) -> None:
        super().__init__(reach, echo)
        self._progress = progress
        self._key: Secret | None = None
        self._names: bytes | None = None
        self._facts: TaskFacts | None = None
        self._held = np.zeros(0, np.bool_)
        self._stopping, self._busy = False, _Asked()
        self._mechanism: Mechanism | None = None
        self.at_once = AT_ONCE  # most records whose gradients are in memory at the same time

    def prepare(self, source: TaskSource, key: Secret) -> TaskFacts:
        """Load the task, hold records out by `key`, which stays here, and try one private step.

        Raises what the task, its records and its model raise; TaskProcessEnded.
        """
        self._key, self._mechanism = key, Mechanism.of_pass(source.federation.privacy)
        self.open(source)
        return self.facts

    def set_steps(self, steps: int) -> None:
        """Make passes of another number of steps, for a trial. Not kept where the process is started again."""
        self._ask("steps", steps)
        if self._mechanism is not None:
            self._mechanism = Mechanism(self._mechanism.noise_multiplier, self._mechanism.sample_rate, steps)

    def _prepare(self, process: TaskProcess) -> None:
        super()._prepare(process)
        owners, names = self._read_names(process)
        if self._names not in (None, names):
            raise _changed("other records than before")
        self._names = names
        if self._source is None or self._key is None:
            raise ValueError("no key was given")
        held = self._held = held_out(owners, self._key, str(self._source.data))
        with SharedBuffer(len(held)) as buffer:
            buffer.write(held.astype(np.uint8))
            answer = process.ask("split", buffer=buffer)
        prefixes = self._source.federation.local.personal
        facts = facts_of(answer, self._records, int(np.count_nonzero(held)), prefixes)
        if self._facts not in (None, facts):
            raise _changed("a model of another form than before")
        self._facts = facts

    def _read_names(self, process: TaskProcess) -> tuple[NDArray[np.uint8], bytes]:
        """Whose each record is (N, 32); what names each, and each patient, 32 bytes each."""
        with SharedBuffer(NAME_BYTES * self._records) as buffer:
            process.ask("owners", buffer=buffer)
            owners = buffer.read("u1").reshape(self._records, NAME_BYTES)
        with SharedBuffer(NAME_BYTES * self._records * (1 + self._patients)) as buffer:
            process.ask("names", buffer=buffer)
            return owners, buffer.read("u1").tobytes()

    def names(self) -> Iterator[bytes]:
        """What names each record, held out or not, and each patient: 32 bytes. They stay at the site."""
        names = self._names or b""
        return (names[at : at + NAME_BYTES] for at in range(0, len(names), NAME_BYTES))

    def held_out_names(self) -> Iterator[bytes]:
        """Those of them that are of records held out."""
        of_each = 1 + self._patients
        return (name for place, name in enumerate(self.names()) if self._held[place // of_each])

    @property
    def slots(self) -> int:
        """How many counts a held-out unit moves by one at most, where measures are private; else 0."""
        return self.facts.slots

    @property
    def facts(self) -> TaskFacts:
        """What the task says of itself."""
        if self._facts is None:
            raise ValueError("the task is not open yet")
        return self._facts

    @property
    def layout(self) -> TensorLayout:
        """Names and shapes of what trains and is shared."""
        return self.facts.layout

    @property
    def personal(self) -> TensorLayout:
        """Names and shapes of what trains and stays here."""
        return self.facts.personal

    @property
    def frozen(self) -> bytes:
        """Digest of what does not train."""
        return self.facts.frozen

    @property
    def parameters(self) -> int:
        """m"""
        return self.facts.layout.parameters

    @property
    def expected_batch(self) -> float:
        """The public divisor of each step's sum."""
        return self.facts.expected_batch

    @property
    def counts(self) -> int:
        """How many numbers `evaluate` counts."""
        return self.facts.counts

    @property
    def stopping(self) -> bool:
        """Set by another thread: the pass ends soon, and with it whatever else the task is doing."""
        return self._stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._stopping = value
        if value and self._busy.count:
            self._process.stop_pass()
            hung = threading.Timer(STOPPING_S, self._end_if_busy, [self._process])
            hung.daemon = True
            hung.start()

    def _end_if_busy(self, process: TaskProcess) -> None:
        if self._stopping and self._busy.count and process is self._process:
            process.end()

    def _ask(self, kind: str, *fields: Any, buffer: SharedBuffer | None = None) -> tuple[Any, ...]:
        with self._busy:
            return super()._ask(kind, *fields, buffer=buffer)

    def _with_model(self, kind: str, model: FlatVector, *fields: Any) -> tuple[Any, ...]:
        with SharedBuffer(model.nbytes) as buffer:
            buffer.write(np.ascontiguousarray(model, "<f4"))
            return self._ask(kind, *fields, buffer=buffer)

    def initial(self, seed: bytes) -> FlatVector:
        """The model that every site starts from, given 32 public bytes.    (m,)"""
        return self._first(seed)[: self.parameters]

    def first_personal(self, seed: bytes) -> FlatVector:
        """What the layers that stay at home start from.    (k,)"""
        return self._first(seed)[self.parameters :]

    def _first(self, seed: bytes) -> FlatVector:
        with SharedBuffer(4 * (self.parameters + self.personal.parameters)) as buffer:
            self._ask("initial", seed, buffer=buffer)
            return _finite(buffer.read("<f4"), "the first model")

    def inputs(self, model: FlatVector, rounds_before: int = 0) -> bytes:
        """Names all that an update from `model` (m + k,) follows from; empty where no pass is repeated."""
        found: bytes = self._with_model("inputs", model, self.at_once, rounds_before)[0]
        return found

    def train(
        self,
        model: FlatVector,
        charge: Charge,
        seed: Secret,
        rounds_before: int = 0,
        subspace: Subspace | None = None,
    ) -> FlatVector:
        """Return local − model after one private pass from `model`.    (m + k,); in a subspace θ (d,) and k behind it

        Raises PassNotCharged; PassCut when the process ended, and the pass may be repeated; StepOutOfMemory; and what
        the task raises; ModelDiverged; PassStopped.
        """
        if self._mechanism is None:
            raise ValueError("the task is not open yet")
        charge.use(self._mechanism)
        carriers = subspace.carriers if subspace is not None else np.zeros(0)
        with self._busy, SharedBuffer(model.nbytes + carriers.nbytes) as buffer:
            buffer.write(np.ascontiguousarray(model, "<f4"))
            buffer.write(np.ascontiguousarray(carriers, "<f8"), model.nbytes)
            try:
                process = self._living()
                if self._stopping:
                    raise PassStopped
                fields = (charge.number, seed.reveal(), self.at_once, rounds_before)
                process.ask("train", *fields, buffer=buffer, on_step=self._progress)
            except PassCut:
                if self._stopping or self._closed:
                    raise PassStopped from None
                raise
            if carriers.size or self._mechanism.parts > 1:  # without carriers θ is the whole update
                length = subspace.length + self.personal.parameters if subspace is not None else model.size
                return _finite(buffer.read("<f4", length), "the update")
            local = _finite(buffer.read("<f4"), "the update")  # the model as the pass left it
        return _finite(np.subtract(local, model, out=local), "the update")

    def evaluate(self, model: FlatVector) -> Counts:
        """How `model` does on the held-out records, as the task's measures count it.    (counts,)"""
        found = np.frombuffer(self._with_model("evaluate", model)[0], "<i8")
        if found.shape != (self.counts,):
            raise unusable(f"{found.size} counts, not {self.counts}")
        if found.size and int(np.abs(found).max()) > BOUND:
            raise MeasureUnusable(evidence="a count lies beyond 2⁵⁰", task=self.facts.name)
        return found.astype(np.int64)

    def figures(self, total: Counts, noise: float = 0.0) -> Mapping[str, Figure]:
        """What the sum of all sites' counts says, in order; the first figure is the training's metric."""
        (rows,) = self._ask("figures", np.ascontiguousarray(total, "<i8").tobytes(), struct.pack("<d", noise))
        return {name: Figure(*struct.unpack("<3d", packed)) for name, packed in rows}


def _finite(vector: FlatVector, what: str) -> FlatVector:
    """The vector, which another process made. Raises ModelDiverged."""
    odd = not_finite(vector)
    if odd:
        raise ModelDiverged(evidence=f"{odd} coordinates", what=what)
    return vector.astype(np.float32, copy=False)


def _changed(what: str) -> TaskAnswerUnusable:
    return TaskAnswerUnusable(evidence="the process was started again, and the task is another one now", what=what)

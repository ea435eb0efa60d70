"""A task in a process of its own, as the node uses it: to train, to measure, to predict.

Whatever comes back is held to its form here: shapes, sizes, finite numbers. A process that ends is started again where
nothing depends on what it held; a pass that it was making is cut (PassCut), and whoever drives the training repeats it
from the same seed, at no charge (node/runs/making.py).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from p2pfl.errors.training import MeasureUnusable, ModelDiverged
from p2pfl.keys import KEY_BYTES, Secret
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.measures.joint import are_within
from p2pfl.training.measures.measure import Counts, Figure
from p2pfl.training.passes import AT_ONCE, PassCut, PassStopped
from p2pfl.training.privacy.account import Charge, Mechanism
from p2pfl.training.process.child import Echo, OnStep, TaskProcess
from p2pfl.training.process.facts import Reach, TaskFacts, TaskSource, facts_of, unusable
from p2pfl.training.process.parting import Parting, unusable_now
from p2pfl.training.process.remote_task import RemoteTask
from p2pfl.training.process.wire import NAME_BYTES, SharedBuffer
from p2pfl.training.records.records import held_out
from p2pfl.training.records.withdrawn import Withdrawn
from p2pfl.training.update import FlatVector, TensorLayout, not_finite

STOPPING_S: Final = 2.0  # seconds for a task to hear that it is to stop, before its process is ended


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
        self._facts: TaskFacts | None = None
        self._parting = Parting(Withdrawn(Secret(bytes(KEY_BYTES), "no key")))
        self._parted = True  # as those who withdrew were known last
        self._stopping, self._busy = False, _Asked()
        self._mechanism: Mechanism | None = None
        self.at_once = AT_ONCE  # most records whose gradients are in memory at the same time

    def prepare(self, source: TaskSource, key: Secret, withdrawn: Withdrawn | None = None) -> TaskFacts:
        """Load the task, hold records out by `key`, which stays here, and try one private step.

        withdrawn   records that are left out
        Raises what the task, its records and its model raise; TaskProcessEnded.
        """
        self._key, self._mechanism = key, Mechanism.of_pass(source.federation.privacy)
        if withdrawn is not None:
            self._parting = Parting(withdrawn)
        self.open(source)
        return self.facts

    def read(self, source: TaskSource) -> None:
        """Load the task and its records, however few they are, for `names_of_records` alone."""
        self._source, self._key = source, None
        self._ask("open_only")

    def set_steps(self, steps: int) -> None:
        """Make passes of another number of steps, for a trial. Not kept where the process is started again."""
        self._ask("steps", steps)
        if self._mechanism is not None:
            self._mechanism = replace(self._mechanism, steps=steps)

    def try_records(self, first: int, count: int) -> int:
        """Put so many records, from the first one on, through the model and the loss; returns how many are left.

        Raises RecordMisfit, RecordFails, and what the task raises.
        """
        self._ask("try_records", first, count)
        return max(0, self._records - first - count)

    def _prepare(self, process: TaskProcess) -> None:
        super()._prepare(process)
        if self._key is None:  # they are only read
            return
        with SharedBuffer(NAME_BYTES * self._records) as buffer:  # whose each record is
            process.ask("owners", buffer=buffer)
            owners = buffer.read("u1").reshape(self._records, NAME_BYTES)
        self._parting.read(held_out(owners, self._key, self._name_of_data), self._read_names(process))
        self._part(process)

    def _part(self, process: TaskProcess) -> None:
        """Say which records train, which measure, and which do neither. Raises TooFewRecords."""
        parting = self._parting
        with SharedBuffer(self._records) as buffer:
            buffer.write(parting.parts(self._name_of_data))
            answer = process.ask("split", buffer=buffer)
        prefixes = self._source.federation.local.personal if self._source is not None else ()
        facts = facts_of(answer, *parting.counts, prefixes)
        if self._facts is not None and facts != (self._facts if self._parted else self._facts.over(facts)):
            raise unusable_now("a model of another form than before")
        self._facts, self._parted = facts, True

    @property
    def _name_of_data(self) -> str:
        return str(self._source.data) if self._source is not None else ""

    def leave_out(self, withdrawn: Withdrawn) -> None:
        """From the next pass on neither train nor measure on those. Raises TooFewRecords, and what `prepare` raises."""
        if self._parting.changes(withdrawn):
            self._parted = False
            self._ask("open_only")

    def _living(self) -> TaskProcess:
        process = super()._living()
        if not self._parted:  # its task is open, and its records are to be parted anew
            with self._opening:
                self._part(process)
        return process

    def names(self) -> Iterator[bytes]:
        """What names each record, held out or not, and each patient: 32 bytes. They stay at the site."""
        return self._parting.names()

    def held_out_names(self) -> Iterator[bytes]:
        """Those of them that are of records held out."""
        return self._parting.held_out_names()

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
        if not are_within(found):
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

"""What the process of a task is given of a site, and what a task says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2pfl.errors.task_process import DataHoldsKeys, TaskAnswerUnusable
from p2pfl.federation import Federation
from p2pfl.training.model.personal import divided, joined
from p2pfl.training.process.landlock import holds
from p2pfl.training.process.wire import MOST_PARAMETERS
from p2pfl.training.records.column_map import MapFile
from p2pfl.training.update import TensorLayout


@dataclass(frozen=True, slots=True)
class Reach:
    """What the process may read beside its interpreter: everything else is walled off, where the system can.

    forbidden    the home and the keys: no folder that holds one of them is opened to it
    devices      it may use accelerators
    """

    readable: tuple[Path, ...] = ()
    forbidden: tuple[Path, ...] = ()
    devices: bool = False

    @classmethod
    def of(cls, data: Path, reads: Sequence[Path], forbidden: Sequence[Path], device: str, *, described: bool) -> Reach:
        """Of a task on `data`: a folder is read whole, of a file its folder too where the task is none of a site's own
        code but `described`. Raises DataHoldsKeys.
        """
        closed = tuple(one.resolve() for one in forbidden)
        for folder in (one for one in (data, *reads) if one.is_dir()):
            if holds(folder, closed):
                raise DataHoldsKeys(
                    evidence="the task may read the whole of it", path=folder, what="the home or its key"
                )
        beside = data.absolute().parent
        more = (beside,) if described and not holds(beside, closed) else ()
        paths = (data, *reads, *more)
        return cls(tuple(one.resolve() for one in paths), closed, device.partition(":")[0] != "cpu")


@dataclass(frozen=True, slots=True)
class TaskSource:
    """What the process is given of this site: no key is among it.

    cls       the class in the task's file; empty where the task is a described table
    raw       bytes of the task's file, whose digest was checked; of a table's description; none: that of peers.yaml
    """

    federation: Federation
    data: Path
    columns: MapFile | None = None
    cls: str = ""
    file: str = ""
    raw: bytes = b""
    device: str = "cpu"
    labelled: bool = True

    def fields(self) -> tuple[Any, ...]:
        """Of the question `open`."""
        columns, mapped = self.columns or b"", self.columns is not None
        source = self.columns.source if self.columns is not None else ""
        task = (self.federation.raw, self.federation.source, self.cls, self.file, self.raw, str(self.data.absolute()))
        return (*task, int(mapped), bytes(columns), source, self.device, int(self.labelled))


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a task says of itself and of the records, once it is ready to train.

    layout      the tensors that the sites share
    personal    those that stay at the site
    """

    name: str
    layout: TensorLayout
    personal: TensorLayout
    frozen: bytes
    counts: int
    notices: tuple[str, ...]
    expected_batch: float
    input: tuple[int, ...]
    label: tuple[int, ...]
    records: int
    held: int  # records held out
    units: int  # records, or patients, that train
    slots: int  # counts that a held-out one moves, where measures are private; else 0

    def over(self, other: TaskFacts) -> TaskFacts:
        """The same over the records of `other`."""
        return replace(self, records=other.records, held=other.held, units=other.units, notices=other.notices)


def expected(text: str) -> float:
    """The public divisor, as the task says it. Raises TaskAnswerUnusable."""
    try:
        return float(text)
    except ValueError:
        raise unusable(f"expected_batch {text[:40]!r}") from None


def facts_of(answer: tuple[Any, ...], records: int, held: int, prefixes: Sequence[str]) -> TaskFacts:
    """What the answer to `split` says; which layers stay at home follows from peers.yaml. Raises TaskAnswerUnusable."""
    name, tensors, frozen, counts, notices, divisor, given, label, units, slots = answer
    if units > records - held:
        raise unusable(f"{units} units of {records - held} records")
    whole, batch = layout_from(tensors), expected(divisor)
    shared, personal = divided(whole, prefixes)
    if not shared.tensors or joined(shared, personal) != whole:
        raise unusable("tensors in another order than peers.yaml says")
    return TaskFacts(name, shared, personal, frozen, counts, notices, batch, given, label, records, held, units, slots)


def layout_from(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> TensorLayout:
    """A layout of a size that can be. Raises TaskAnswerUnusable."""
    layout = TensorLayout(tuple((name, tuple(shape)) for name, shape in tensors))
    if not 1 <= layout.parameters <= MOST_PARAMETERS:
        raise unusable(f"a model of {layout.parameters} parameters")
    return layout


def unusable(what: str) -> TaskAnswerUnusable:
    """The error for an answer that breaks its form."""
    return TaskAnswerUnusable(evidence="what comes from that process is checked before it is used", what=what)

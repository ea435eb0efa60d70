"""A task on a table that peers.yaml describes: columns become inputs, a linear model or a small MLP learns the label.

Numbers are centred and scaled by the **public constants** of the schema, never by a statistic of anybody's records,
which would be an un-noised release. Codes are spread one-hot. A column may have an indicator: that a test was not done
says something about the patient, and between hospitals blanks differ more than patients do. One-hot inputs and
indicators are 2 rather than 1, found on splits of UCI Heart Disease other than those reported: with per-record clipping
the inputs' scale decides how a record's one unit of influence is spread over the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.federation.table_columns import CodeColumn, Column, NumberColumn
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.measures.measure import Measure
from p2pfl.training.records.columns import TableReader
from p2pfl.training.records.given_table import GivenTable
from p2pfl.training.records.records import Arrays, PatientArrays
from p2pfl.training.task import Task
from p2pfl.training.tasks.heads import head_of
from p2pfl.training.update import FlatVector, TensorLayout, layout_of

if TYPE_CHECKING:
    import torch
    from torch import nn

SWITCH: Final = 2.0  # value of a one-hot input, or of an indicator, that is on
CUT: Final = 2.0  # bound of a scaled number, so that one odd reading does not fill a record's whole gradient


def encode(column: Column, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """values (N,), NaN where not measured ► inputs (N, k); not measured is 0, and its indicator is on.

    A number is one input; so is a code that is ordered, evenly from −1 to 1, or has two levels, −1 and 1. Any other
    code has one input for each level.
    """
    missing = np.isnan(values)  # (N,)
    parts = _number(column, values) if isinstance(column, NumberColumn) else _code(column, values)
    if column.indicator:
        parts.append(SWITCH * missing)
    return np.stack(parts, axis=1)


def _number(column: NumberColumn, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    scaled = np.clip((values - column.centre) / column.scale, -CUT, CUT)
    return [np.where(np.isnan(values), 0.0, scaled)]


def _code(column: CodeColumn, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    if column.ordered or len(column.values) == 2:
        places = np.linspace(-1.0, 1.0, len(column.values))
        return [np.sum([place * (values == one) for place, one in zip(places, column.values, strict=True)], axis=0)]
    return [SWITCH * (values == one) for one in column.values]


def inputs_of(column: Column) -> int:
    """k of `encode`."""
    return int(encode(column, np.zeros(1)).shape[1])


class TableTask(Task):
    """What a schema describes."""

    name: ClassVar[str] = "table"

    def __init__(self, schema: TableSchema) -> None:
        self.schema, self._head = schema, head_of(schema.label)
        self.inputs = sum(map(inputs_of, schema.columns))
        self.learning_rate, self.expected_batch = schema.learning_rate, schema.expected_batch

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        """The CSV at `path`. Raises what `read` does, and DataUnreadable."""
        return self._read(GivenTable.of_file(path), columns, labelled=labelled)

    def from_frame(self, frame: Any, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        """A DataFrame, read as the CSV that it would be written to. Raises what `read` does."""
        return self._read(GivenTable.of_frame(frame), columns, labelled=labelled)

    def read(self, raw: bytes, source: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        """A CSV with the schema's names and levels, or with a column map. Raises leaves of errors.training 001–019."""
        return self._read(GivenTable(raw, source), columns, labelled=labelled)

    def _read(self, given: GivenTable, columns: bytes | None, *, labelled: bool) -> Arrays:
        """What is only asked has a place in the column map of the one file, and is not read here."""
        wanted, labels, patient = self.schema.columns, self.schema.label.columns, self.schema.patient
        reader = TableReader(wanted, labels, given.column_map(self.schema, columns), given.source, patient)
        read = reader.read_cells(given.raw, labelled=labelled)
        x = np.concatenate([encode(one, read.values[:, place]) for place, one in enumerate(wanted)], axis=1)  # (N, d)
        y = self._head.targets(read.labels)  # (N, …)
        # The record's own numbers, not its line: the same record is held out at every reading.
        rows = np.concatenate([read.values, y.reshape(len(y), -1)], axis=1).astype("<f8")
        inputs, named = x.astype(np.float32), tuple(row.tobytes() for row in rows)
        return PatientArrays(inputs, y, named, read.patients) if read.patients else Arrays(inputs, y, named)

    def model(self) -> nn.Module:
        """d inputs ► the outputs of the label's kind, by one linear layer, or through one hidden layer of tanh.

        Bounded activations suit clipped gradients (Papernot et al. 2021).
        """
        from torch import nn

        hidden, outputs = self.schema.hidden, self._head.outputs
        if not hidden:
            return nn.Linear(self.inputs, outputs)
        return nn.Sequential(nn.Linear(self.inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))

    def first(self, model: nn.Module, seed: bytes) -> FlatVector:
        """Zeros for a linear model, whose loss is convex: a random start would have to be unlearned under noise."""
        if self.schema.hidden:
            return super().first(model, seed)
        layout: TensorLayout = layout_of(model)
        return np.zeros(layout.parameters, dtype=np.float32)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As the label's kind has it.    (B, k), (B, …) ► (B,)"""
        return self._head.loss(outputs, targets)

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """A probability, one for each class, a number in its unit, or the chance of no event until then."""
        return self._head.predictions(outputs)

    @property
    def prediction_names(self) -> Sequence[str]:
        """One for each number of a prediction."""
        return self._head.names

    def measures(self) -> Sequence[Measure]:
        """Those of the label's kind."""
        return self._head.measures()

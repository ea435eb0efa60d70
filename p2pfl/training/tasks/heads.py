"""What a described table's label makes of a task: outputs, targets, loss, predictions, measures. One class a kind.

Every loss is one number for each record, and from that record alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl.federation.table_columns import CodeColumn
from p2pfl.federation.table_labels import BinaryLabel, ClassLabel, Label, NumberLabel, TimeLabel
from p2pfl.training.measures.classification import Binary, Classes
from p2pfl.training.measures.measure import Counts, Measure
from p2pfl.training.measures.regression import Number
from p2pfl.training.measures.survival import Concordance

if TYPE_CHECKING:
    import torch


class LabelHead(Protocol):
    """A kind of label. B records, `outputs` numbers for each."""

    outputs: int

    @property
    def names(self) -> Sequence[str]:
        """A name for each number of a prediction."""

    def targets(self, labels: NDArray[np.float64]) -> NDArray[Any]:
        """labels (N, L) as they were read, NaN where there is none ► y (N, …)."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B, outputs), (B, …) ► (B,)"""

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """(B, outputs) ► what people read."""

    def measures(self) -> Sequence[Measure]:
        """The first figure of the first is what a training is judged by."""


def head_of(label: Label) -> LabelHead:
    """The head of a label's kind."""
    match label:
        case BinaryLabel():
            return BinaryHead(label)
        case ClassLabel():
            return ClassHead(label)
        case NumberLabel():
            return NumberHead(label)
        case TimeLabel():
            return TimeHead(label)


def _is_one(column: CodeColumn, levels: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values (N,) stand for one of `levels`."""
    return np.isin(values, [column.values[column.levels.index(level)] for level in levels])


class BinaryHead:
    """Log-odds of a positive label, and binary cross-entropy."""

    outputs = 1

    def __init__(self, label: BinaryLabel) -> None:
        self._label = label
        self.names = (f"{label.column.name}: {label.yes}",)

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 for a positive label.    (N,)"""
        return _is_one(self._label.column, self._label.positive, labels[:, 0]).astype(np.int64)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B, 1), (B,) ► (B,)"""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype), reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The probability of a positive label.    (B, 1) ► (B,)"""
        return outputs[:, 0].sigmoid()

    def measures(self) -> Sequence[Measure]:
        """AUC first."""
        return (Binary(),)


class ClassHead:
    """One logit for each class, and cross-entropy."""

    def __init__(self, label: ClassLabel) -> None:
        self._values, self.names = label.column.values, label.column.levels
        self.outputs = len(self.names)

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class's place among the levels, 0 where there is none.    (N,)"""
        places: NDArray[np.int64] = np.argmax(labels[:, :1] == np.array(self._values), axis=1)
        return places

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B, K), (B,) ► (B,)"""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets, reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The probability of each class.    (B, K)"""
        return outputs.softmax(dim=1)

    def measures(self) -> Sequence[Measure]:
        """AUC first: the mean over classes, each against the rest."""
        return (Classes(self.outputs),)


class NumberHead:
    """The number in scales from its centre, and its squared error there."""

    outputs = 1

    def __init__(self, label: NumberLabel) -> None:
        self._column = label.column
        self.names = (label.column.name,)

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float32]:
        """The number in its unit, the centre where there is none.    (N,)"""
        return np.nan_to_num(labels[:, 0], nan=self._column.centre).astype(np.float32)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B, 1), (B,) ► (B,)"""
        return (outputs[:, 0] - (targets - self._column.centre) / self._column.scale) ** 2

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The number in its unit.    (B, 1) ► (B,)"""
        return self._column.centre + self._column.scale * outputs[:, 0]

    def measures(self) -> Sequence[Measure]:
        """Root of the mean squared error first, in the number's unit."""
        return (Number(self._column.scale, self._column.centre),)


class TimeHead:
    """The chance of the event in each interval of the grid, for whoever has come so far: logistic hazards.

    The likelihood of discrete times (Brown 1975; Gensheimer and Narasimhan 2019). A record that ends within an interval
    without the event says nothing of that interval. Times beyond the grid are censored at its end.
    """

    def __init__(self, label: TimeLabel) -> None:
        self._label, self._grid = label, label.grid
        self.outputs = len(label.grid)
        self.names = tuple(f"without {label.event.name} at {time:g} {label.time.unit}" for time in label.grid)

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float32]:
        """Time, and 1 where the event came; 0 and 0 where there is none.    (N, 2)"""
        time = np.nan_to_num(labels[:, 0])
        happened = _is_one(self._label.event, self._label.positive, labels[:, 1])
        return np.stack([time, happened], axis=1).astype(np.float32)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """−log likelihood: intervals that were passed, and the one in which the event came.    (B, K), (B, 2) ► (B,)"""
        import torch
        from torch.nn import functional

        ends = torch.tensor(self._grid, dtype=targets.dtype, device=targets.device)  # (K,)
        starts = torch.cat([torch.full_like(ends[:1], -1.0), ends[:-1]])  # (K,); time 0 lies in the first interval
        time, event = targets[:, :1], targets[:, 1:]
        passed = (time > ends).to(outputs.dtype)  # (B, K)
        came = ((time > starts) & (time <= ends) & (event > 0)).to(outputs.dtype)
        return (passed * functional.softplus(outputs) + came * functional.softplus(-outputs)).sum(dim=1)

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The chance to be without the event at the end of each interval.    (B, K)"""
        import torch
        from torch.nn import functional

        return torch.exp(-functional.softplus(outputs).cumsum(dim=1))  # a product of 1 − sigmoid, which ONNX has not

    def measures(self) -> Sequence[Measure]:
        """Concordance."""
        return (CurveConcordance(),)


class CurveConcordance(Concordance):
    """Concordance of curves (B, K): who is expected to be without the event for longer has the lower risk."""

    def count(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Counts:
        """(N, K), (N, 2) ► as Concordance."""
        return super().count(-np.asarray(predictions, np.float64).sum(axis=1), targets)

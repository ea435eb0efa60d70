"""What each column of a linear model on a table adds to its output: the weights, by the columns' names and levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.models import NotLinear
from p2pfl.federation.table_columns import CodeColumn, Column, NumberColumn
from p2pfl.federation.table_labels import BinaryLabel, ClassLabel, NumberLabel, TimeLabel
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.model.file import ModelFile
from p2pfl.training.tasks.heads import head_of
from p2pfl.training.tasks.table import SWITCH, inputs_of

TENSORS: Final = ("weight", "bias")


@dataclass(frozen=True, slots=True)
class InputWeight:
    """One thing that a record may have: `adds` (K,) to the K outputs, by the weights (K,) of its input.

    A number adds so much for each `scale` that it lies above its centre, at most twice that.
    """

    column: str
    having: str
    weights: tuple[float, ...]
    adds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LinearWeights:
    """All rows, the constant last; what the K outputs are called, and what is added up."""

    rows: tuple[InputWeight, ...]
    outputs: tuple[str, ...]
    unit: str


def weights_of(file: ModelFile) -> LinearWeights:
    """The weights of a linear model on a table. Raises NoCard, NotLinear."""
    schema = file.expect_card().task.table
    tensors = file.layout.split(file.vector)
    if schema is None or schema.hidden or set(tensors) != set(TENSORS):
        kind = f"{schema.hidden} hidden units" if schema is not None else "a task in Python"
        raise NotLinear(evidence=kind, source=file.source)
    inputs = sum(map(inputs_of, schema.columns))
    outputs = head_of(schema.label).outputs
    if tensors["weight"].shape != (outputs, inputs) or tensors["bias"].shape != (outputs,):
        evidence = f"weights {tensors['weight'].shape} of {inputs} inputs and {outputs} outputs"
        raise NotLinear(evidence=evidence, source=file.source)
    label = schema.label
    scale, centre = (label.column.scale, label.column.centre) if isinstance(label, NumberLabel) else (1.0, 0.0)
    weight, bias = tensors["weight"].astype(np.float64), tensors["bias"].astype(np.float64)
    rows = [_row(name, having, weight[:, at], on * scale) for name, having, at, on in _inputs(schema.columns)]
    constant = InputWeight("", "every record", tuple(bias.tolist()), tuple((centre + scale * bias).tolist()))
    return LinearWeights((*rows, constant), _outputs(schema), _unit(schema))


def _row(name: str, having: str, weight: NDArray[np.float64], on: float) -> InputWeight:
    return InputWeight(name, having, tuple(weight.tolist()), tuple((on * weight).tolist()))


def _inputs(columns: Sequence[Column]) -> Iterator[tuple[str, str, int, float]]:
    """(column, what a record has, which input that is, the input's value then), in the order of `encode`."""
    at = 0
    for column in columns:
        if isinstance(column, NumberColumn):
            yield column.name, f"each {column.scale:g} {column.unit} above {column.centre:g}", at, 1.0
            at += 1
        else:
            for level, inner, value in _levels(column):
                yield column.name, level, at + inner, value
            at += inputs_of(column) - int(column.indicator)
        if column.indicator:
            yield column.name, "not measured", at, SWITCH
            at += 1


def _levels(column: CodeColumn) -> Iterator[tuple[str, int, float]]:
    if column.ordered or len(column.levels) == 2:
        places = np.linspace(-1.0, 1.0, len(column.levels))
        yield from ((level, 0, float(place)) for level, place in zip(column.levels, places, strict=True))
    else:
        yield from ((level, place, SWITCH) for place, level in enumerate(column.levels))


def _outputs(schema: TableSchema) -> tuple[str, ...]:
    label = schema.label
    if isinstance(label, TimeLabel):
        return tuple(f"{label.event.name} by {time:g} {label.time.unit}" for time in label.grid)
    return tuple(head_of(label).names)


def _unit(schema: TableSchema) -> str:
    match schema.label:
        case BinaryLabel():
            return "log-odds"
        case ClassLabel():
            return "a score: the class with the highest is the likeliest"
        case NumberLabel(column):
            return column.unit
        case TimeLabel():
            return "log-odds of the event in the interval that ends there, for whoever has come so far"

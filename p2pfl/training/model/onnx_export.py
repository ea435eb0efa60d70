"""A model as ONNX, with what is done to its inputs and outputs: a table's columns go in as they are measured.

Needs the packages onnx and onnxscript, of the extra [onnx]. Where onnxruntime is installed the file is run, and must
give what the model gives.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors.models import NotExportable, OnnxExtraMissing
from p2pfl.federation.table_columns import Column, NumberColumn
from p2pfl.keys import Secret
from p2pfl.training.models import as_inputs, build
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.records.records import Records
from p2pfl.training.task import Task
from p2pfl.training.tasks.table import CUT, SWITCH, TableTask
from p2pfl.training.update import FlatVector, write_vector

INPUT, OUTPUT = "x", "predictions"
TRIED: Final = 64  # records on which the file is compared with the model
TOLERANCE: Final = 1e-4  # of float32, in another order of additions
PUBLIC: Final = bytes(range(32))


class TableEncoder(nn.Module):
    """Measured values (N, F) float64, NaN where there is none, a code's level as its value ► inputs (N, d) float32.

    The twin of `tasks.table.encode`, in operations that ONNX has.
    """

    def __init__(self, columns: tuple[Column, ...]) -> None:
        super().__init__()
        self._columns = columns

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(N, F) ► (N, d)"""
        parts = [part for place, column in enumerate(self._columns) for part in _encoded(column, values[:, place])]
        return torch.stack(parts, dim=1).to(torch.float32)


def _encoded(column: Column, values: torch.Tensor) -> list[torch.Tensor]:
    missing = torch.isnan(values)
    if isinstance(column, NumberColumn) and column.zero_is_missing:
        missing = missing | (values == 0.0)
    zero = torch.zeros_like(values)
    if isinstance(column, NumberColumn):
        scaled = torch.clamp((values - column.centre) / column.scale, -CUT, CUT)
        parts = [torch.where(missing, zero, scaled)]
    elif column.ordered or len(column.values) == 2:
        places = np.linspace(-1.0, 1.0, len(column.values))
        found = zero
        for place, one in zip(places, column.values, strict=True):
            found = torch.where(values == one, zero + float(place), found)
        parts = [found]
    else:
        parts = [torch.where(values == one, zero + SWITCH, zero) for one in column.values]
    return [*parts, torch.where(missing, zero + SWITCH, zero)] if column.indicator else parts


class ExportedModule(nn.Module):
    """What `p2pfl predict` does, as one module: encoding where it is a table's, the model, its predictions."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.encoded = TableEncoder(task.schema.columns) if isinstance(task, TableTask) else nn.Identity()
        self.model, self._task = model, task

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, …) ► what `Task.predictions` makes of it"""
        return self._task.predictions(self.model(self.encoded(x)))


def as_onnx(task: Task, vector: FlatVector, example: str | None = None) -> tuple[bytes, bool]:
    """The model `vector` (m,) as an ONNX file, and whether onnxruntime was there and gave the same.

    example    records of a task that is not a table's: their shape is the input's, and nothing else of them is used
    Raises NotExportable, OnnxExtraMissing, and what the task's dataset raises.
    """
    _expect_packages()
    built = build(task)
    write_vector(built.model, vector)
    whole = ExportedModule(task, built.model).eval()
    inputs = _table_inputs(task) if isinstance(task, TableTask) else _blank_inputs(task, example or "")
    written = _exported(whole, inputs)
    return written, _compared(written, whole, inputs)


def _expect_packages() -> None:
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ImportError:
            raise OnnxExtraMissing(evidence=f"no package called {package}", package=package) from None


def _exported(whole: ExportedModule, inputs: NDArray[Any]) -> bytes:
    """Raises NotExportable."""
    batch = {INPUT: {0: torch.export.Dim("records", min=1)}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                whole,
                (as_inputs(inputs, torch.device("cpu")),),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=batch,
                dynamo=True,
                verbose=False,
            )
        if program is None:
            raise TypeError("no program came out")
        made = program.model_proto
        _forget_traces(made)
        row = made.metadata_props.add()
        row.key, row.value = "columns", json.dumps(columns_told(whole), ensure_ascii=False)
        written: bytes = made.SerializeToString()
        return written
    except Exception as error:  # of torch's exporter, which has many
        told = (str(error).strip().splitlines() or [""])[0][:200]
        raise NotExportable(evidence=f"{type(error).__name__}: {told}") from None


def _forget_traces(message: Any) -> None:
    """No note is left in `message` or below it: torch's exporter writes into each operation which lines of which files
    it came from, so the paths of this machine and the text of the task, many times the size of a small model."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for one in value if hasattr(value, "__len__") else (value,):
                _forget_traces(one)


def columns_told(whole: ExportedModule) -> list[dict[str, Any]]:
    """What stands in which place of the input, for whoever runs the file: a code's levels with their values."""
    told: list[dict[str, Any]] = []
    for column in whole.encoded._columns if isinstance(whole.encoded, TableEncoder) else ():
        if isinstance(column, NumberColumn):
            told.append({"name": column.name, "unit": column.unit})
        else:
            told.append({"name": column.name, "levels": dict(zip(column.levels, column.values, strict=True))})
    return told


def _table_inputs(task: TableTask) -> NDArray[np.float64]:
    """Made-up records that reach every branch: within and beyond the ranges, each level, nothing measured.    (N, F)"""
    stream = BitStream(Secret(PUBLIC, "public: records to try"), "training/initial", b"onnx")
    columns = task.schema.columns
    chance = stream.uniforms(TRIED * len(columns)).reshape(TRIED, len(columns))
    values = np.empty_like(chance)
    for place, column in enumerate(columns):
        if isinstance(column, NumberColumn):
            values[:, place] = column.low + chance[:, place] * (column.high - column.low)
            values[1::3, place] = column.centre + (chance[1::3, place] - 0.5) * 4.0 * column.scale
        else:
            values[:, place] = np.array(column.values)[(chance[:, place] * len(column.values)).astype(np.int64)]
    values[chance > 0.9] = np.nan
    return values


def _blank_inputs(task: Task, example: str) -> NDArray[Any]:
    """Two records of zeros in the shape and type of the example's first.    (2, …)"""
    x, _ = Records(task.dataset(example, labelled=False), example).batch(np.array([0]))
    return np.zeros((2, *x.shape[1:]), x.dtype)


def _compared(written: bytes, whole: ExportedModule, inputs: NDArray[Any]) -> bool:
    """It was run, and gave what the model gives; False where onnxruntime is not installed. Raises NotExportable."""
    try:
        import onnxruntime
    except ImportError:
        return False
    with torch.no_grad():
        wanted = whole(as_inputs(inputs, torch.device("cpu"))).numpy()
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        found = np.asarray(session.run([OUTPUT], {INPUT: inputs})[0])
        one = np.asarray(session.run([OUTPUT], {INPUT: inputs[:1]})[0])
    except Exception as error:  # of the runtime, which has many
        raise NotExportable(evidence=f"onnxruntime: {type(error).__name__}") from None
    most = float(np.abs(wanted).max(initial=1.0)) * TOLERANCE
    if found.shape != wanted.shape or not np.allclose(found, wanted, atol=most) or one.shape[0] != 1:
        evidence = f"onnxruntime gives {found.shape}, the model {wanted.shape}, or other numbers"
        raise NotExportable(evidence=evidence)
    return True

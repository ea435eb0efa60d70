"""A model written as ONNX gives what the model gives, from values as they are measured; else it is told."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.errors.models import NotExportable, OnnxExtraMissing
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.model import onnx_export
from p2pfl.training.model.onnx_export import INPUT, TableEncoder, as_onnx
from p2pfl.training.models import build, predict
from p2pfl.training.records.records import Records
from p2pfl.training.tasks import heart
from p2pfl.training.tasks.table import TableTask
from tests.federation.sample import LABELLED, TABLE
from tests.training.settings import Small
from tests.training.tables import of_heart

onnx = pytest.importorskip("onnx", reason="onnx, of the extra [onnx], is not installed")
pytest.importorskip("onnxscript", reason="onnxscript, of the extra [onnx], is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime, which runs what was written, is not installed")

HEART = b"""age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal
62,1,4,140,268,0,2,160,0,3.6,3,2,3
41,0,2,,0,?,0,,1,,,,
-9,1,1,300,1000,1,1,30,1,-5,2,4,7
"""


def vector_of(task: Any) -> np.ndarray:
    return np.random.default_rng(1).normal(size=build(task).layout.parameters).astype(np.float32)


def ran(written: bytes, x: np.ndarray) -> np.ndarray:
    return np.asarray(runtime.InferenceSession(written).run(None, {INPUT: x})[0])


def test_values_as_measured_become_the_inputs_that_records_become() -> None:
    """The twin of `encode`: codes, blanks, a zero that means missing, numbers beyond the cut."""
    task = TableTask(heart.heart())
    wanted = task.read(HEART, "new.csv", labelled=False).x
    rows = [
        [float(cell) if cell not in ("", "?", "-9") else np.nan for cell in line.split(",")]
        for line in HEART.decode().split()[1:]
    ]
    found = TableEncoder(task.schema.columns)(torch.tensor(rows, dtype=torch.float64))
    assert np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(
    "schema",
    [of_heart("age", "cp", "chol", "fbs"), replace(TableSchema.parse(LABELLED[2], "task.yaml"), hidden=4)],
    ids=["a linear model of yes or no", "a network of times"],
)
def test_a_table_is_written_with_what_is_done_to_its_columns(schema: TableSchema) -> None:
    task = TableTask(schema)
    vector = vector_of(task)
    written, checked = as_onnx(task, vector)
    assert checked, "onnxruntime ran it, and compared"
    text = b"age,sex\n62,male\n,female\n90,\n" if schema.hidden else b"age,cp,chol,fbs\n62,4,268,0\n41,2,0,?\n-9,1,,1\n"
    values = [
        [np.nan if cell in ("", "?", "-9") else cell for cell in line.split(",")] for line in text.decode().split()[1:]
    ]
    told = json.loads(next(one.value for one in onnx.load_from_string(written).metadata_props if one.key == "columns"))
    assert [one["name"] for one in told] == [one.name for one in schema.columns]
    coded = [
        [one["levels"].get(cell, cell) if "levels" in one else cell for one, cell in zip(told, row, strict=True)]
        for row in values
    ]
    records = Records(task.read(text, "new.csv", labelled=False))
    assert np.allclose(ran(written, np.array(coded, np.float64)), predict(task, vector, records), atol=1e-5)


def test_the_file_holds_no_path_of_this_machine_and_no_text_of_a_program() -> None:
    task = TableTask(of_heart("age", "cp"))
    written, checked = as_onnx(task, vector_of(task))
    assert checked
    assert str(Path(onnx_export.__file__).parent).encode() not in written
    assert b".py" not in written
    assert b"forward" not in written


class Untraceable(nn.Module):
    """Its way depends on the values that come in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight(x) if float(x.sum()) > 0 else -self.weight(x)


class Odd(Small):
    def model(self) -> nn.Module:
        return Untraceable()


def test_what_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_blank_inputs", lambda task, example: np.zeros((2, 4), np.float32))
    with pytest.raises(NotExportable, match="cannot be written as ONNX"):
        as_onnx(Odd(), vector_of(Odd()))


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(OnnxExtraMissing) as caught:
        as_onnx(TableTask(TableSchema.parse(TABLE, "task.yaml")), np.zeros(4, np.float32))
    assert caught.value.suggestion == "pip install onnxscript"

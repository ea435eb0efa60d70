"""The built-in task: does this patient have heart disease, from the 13 fields of UCI Heart Disease.

A logistic regression on about thirty inputs. Numbers are centred and scaled by **public constants**, round figures of
clinical practice and never a statistic of anybody's records, which would be an un-noised release. Codes are spread
one-hot. A field that many hospitals leave blank has an indicator of its own: that a test was not done says something
about the patient, and at four hospitals blanks differ more than patients do (chol = 0 means not measured: all of
Switzerland). One-hot inputs and indicators are 2 rather than 1, found on splits other than those reported: with
per-record clipping the inputs' scale decides how a record's one unit of influence is spread over the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import TaskMisfit
from p2pfl.training.columns import Column, ColumnMap, MapFile, TableReader, read_file
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.measure import Measure
from p2pfl.training.records import Arrays
from p2pfl.training.task import Task
from p2pfl.training.update import FlatVector, TensorLayout, layout_of

if TYPE_CHECKING:
    import torch
    from torch import nn

SWITCH: Final = 2.0  # value of a one-hot input, or of an indicator, that is on
CUT: Final = 2.0  # bound of a scaled number, so that one odd reading does not fill a record's whole gradient


@dataclass(frozen=True, slots=True)
class Feature:
    """One field and how it becomes inputs. A number has (centre, scale); a code does not."""

    column: Column
    centre: float = 0.0
    scale: float = 1.0
    indicator: bool = True

    @property
    def inputs(self) -> int:
        return (len(self.column.codes) if len(self.column.codes) > 2 else 1) + self.indicator

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """values (N,), NaN where not measured ► inputs (N, self.inputs); not measured is 0, and its indicator on."""
        missing = np.isnan(values)  # (N,)
        if len(self.column.codes) > 2:
            parts = [SWITCH * (values == code) for code in self.column.codes]
        elif self.column.codes:
            low, high = self.column.codes
            parts = [1.0 * (values == high) - 1.0 * (values == low)]
        else:
            scaled = np.clip((values - self.centre) / self.scale, -CUT, CUT)
            parts = [np.where(missing, 0.0, scaled)]
        if self.indicator:
            parts.append(SWITCH * missing)
        return np.stack(parts, axis=1)


def _number(
    name: str,
    low: float,
    high: float,
    unit: str,
    constants: tuple[float, float],
    *,
    zero_is_missing: bool = False,
    indicator: bool = True,
) -> Feature:
    column = Column(name, low, high, unit, zero_is_missing=zero_is_missing)
    return Feature(column, *constants, indicator=indicator)


def _code(name: str, *codes: float, indicator: bool = True) -> Feature:
    return Feature(Column(name, codes=codes, unit="a code"), indicator=indicator)


# The fields, with UCI's names and codes. Nearly every record has age, sex, cp and restecg: no indicator.
FIELDS: Final = {
    feature.column.name: feature
    for feature in (
        _number("age", 0, 120, "years", (55, 10), indicator=False),
        _code("sex", 0, 1, indicator=False),  # 1 male
        _code("cp", 1, 2, 3, 4, indicator=False),  # chest pain: typical, atypical, non-anginal, none
        _number("trestbps", 30, 300, "mmHg", (130, 20), zero_is_missing=True),
        _number("chol", 50, 1000, "mg/dl", (240, 50), zero_is_missing=True),
        _code("fbs", 0, 1),  # fasting blood sugar over 120 mg/dl
        _code("restecg", 0, 1, 2, indicator=False),  # normal, ST-T abnormality, hypertrophy
        _number("thalach", 30, 250, "beats a minute", (140, 25)),
        _code("exang", 0, 1),  # angina by exercise
        _number("oldpeak", -5, 10, "mm", (1, 1)),
        _code("slope", 1, 2, 3),  # up, flat, down
        _number("ca", 0, 4, "vessels", (1, 1)),
        _code("thal", 3, 6, 7),  # normal, fixed defect, reversible defect
    )
}
LABEL: Final = Column("num", codes=(0, 1, 2, 3, 4), unit="a grade")  # > 0: disease
HEADER: Final = (*FIELDS, LABEL.name)

# What peers.yaml writes out under task.constants: (centre, scale) of each number.
CONSTANTS: Final = {name: (f.centre, f.scale) for name, f in FIELDS.items() if not f.column.codes}


class Tabular(Task):
    """Heart disease by logistic regression. `features`: which fields (default all); `constants`: (centre, scale)."""

    name: ClassVar[str] = "tabular"

    def __init__(self, features: Sequence[str] = (), constants: Mapping[str, Sequence[float]] | None = None) -> None:
        """Raises TaskMisfit for a field that is not UCI's, or for constants that are not (centre, scale > 0)."""
        names = tuple(features) or tuple(FIELDS)
        unknown = [name for name in (*names, *(constants or {})) if name not in FIELDS]
        if unknown:
            raise TaskMisfit(evidence=f"it has {', '.join(FIELDS)}", name=self.name, what=f"the field {unknown[0]}")
        self.features = tuple(self._scaled(FIELDS[name], (constants or {}).get(name)) for name in names)
        self.inputs = sum(feature.inputs for feature in self.features)

    @classmethod
    def _scaled(cls, feature: Feature, constants: Sequence[float] | None) -> Feature:
        if constants is None:
            return feature
        if feature.column.codes or len(constants) != 2 or not constants[1] > 0:
            raise TaskMisfit(
                evidence="constants are [centre, scale] of a number, scale above 0",
                name=cls.name,
                what=f"the constants of {feature.column.name}",
            )
        return Feature(feature.column, float(constants[0]), float(constants[1]), feature.indicator)

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        """The CSV at `path`. Raises what `read` does, and DataUnreadable."""
        return self.read(read_file(path), path, columns, labelled=labelled)

    @property
    def prediction_names(self) -> Sequence[str]:
        """The chance of disease."""
        return ("probability",)

    def measures(self) -> Sequence[Measure]:
        """AUC first."""
        return (Binary(),)

    def read(self, raw: bytes, source: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        """A CSV with UCI's names and codes, or with a column map. Raises the leaves of errors.training 001–013."""
        names = (*(feature.column.name for feature in self.features), LABEL.name)
        mapped = columns.source if isinstance(columns, MapFile) else f"{source}'s column map"
        column_map = ColumnMap.parse(columns, mapped, names) if columns is not None else ColumnMap()
        reader = TableReader([feature.column for feature in self.features], LABEL, column_map, source)
        read = reader.read_cells(raw, labelled=labelled)
        x = np.concatenate([f.encode(read.values[:, place]) for place, f in enumerate(self.features)], axis=1)  # (N, d)
        y = (np.nan_to_num(read.labels) > 0).astype(np.int64)  # (N,)
        # The record's own numbers, not its line: the same record is held out at every reading.
        rows = np.concatenate([read.values, y[:, None]], axis=1).astype("<f8")
        return Arrays(x.astype(np.float32), y, tuple(row.tobytes() for row in rows))

    def model(self) -> nn.Module:
        """d inputs ► one log-odds."""
        from torch import nn

        return nn.Linear(self.inputs, 1)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy of each record.    (B, 1), (B,) ► (B,)"""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype), reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The probability of disease.    (B, 1) ► (B,)"""
        return outputs[:, 0].sigmoid()

    def first(self, model: nn.Module, seed: bytes) -> FlatVector:
        """Zeros: the loss is convex, so a random start would only have to be unlearned under noise."""
        layout: TensorLayout = layout_of(model)
        return np.zeros(layout.parameters, dtype=np.float32)

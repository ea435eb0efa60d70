"""Made-up records of a described table, for choosing settings where nobody has public ones.

Each number is normal around the description's own centre, each code one of its levels; a hidden direction of all
columns decides the label, with as much chance as leaves an AUC of some .85. Sites differ in their means. Nothing of
anybody's records is in it: a real table is harder or easier, and settings that are chosen here are a start.
"""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.federation.table_columns import CodeColumn, Column, NumberColumn
from p2pfl.federation.table_labels import BinaryLabel, ClassLabel, Label, NumberLabel
from p2pfl.federation.table_schema import TableSchema
from p2pfl.keys import Secret
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.records.records import HELD_OUT, Records
from p2pfl.training.tasks.table import TableTask

STRENGTH: Final = 2.0  # of the hidden direction, beside a logistic chance
SHIFT: Final = 0.3  # of a site's mean of a column, in units of its scale
HELD_BACK: Final = 1.0 - HELD_OUT

Values = NDArray[np.float64]


def made_up(schema: TableSchema, sites: int, records: int, seed: int = 0) -> dict[str, Records]:
    """By site (site-1, …), as many records as leave some `records` to train on."""
    name = hashlib.sha256(f"made-up table {seed}".encode()).digest()
    draw, task = BitStream(Secret(name, "public: a made-up table"), "training/sampling"), TableTask(schema)
    direction = draw.normals(len(schema.columns))
    direction *= STRENGTH / max(1e-9, float(np.linalg.norm(direction)))
    found = {}
    for place in range(sites):
        raw = _table(schema, draw, direction, round(records / HELD_BACK))
        found[f"site-{place + 1}"] = Records(task.read(raw, f"made-up site {place + 1}"), f"made-up site {place + 1}")
    return found


def _table(schema: TableSchema, draw: BitStream, direction: Values, count: int) -> bytes:
    """A CSV of `count` records of one site."""
    columns, standard = dict[str, list[str]](), list[Values]()
    for column in schema.columns:
        cells, values = _column(column, draw, count)
        columns[column.name] = cells
        standard.append(values)
    score = np.stack(standard, axis=1) @ direction  # (N,)
    columns |= _labels(schema.label, draw, score)
    if schema.patient:
        columns[schema.patient] = [f"made-up-{place}" for place in range(count)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(schema.names)
    writer.writerows(zip(*(columns[name] for name in schema.names), strict=True))
    return out.getvalue().encode()


def _column(column: Column, draw: BitStream, count: int) -> tuple[list[str], Values]:
    """Cells, and what they are worth in the hidden direction, some normal number each.    (N,), (N,)"""
    if isinstance(column, CodeColumn):
        often = np.cumsum(0.5 + draw.uniforms(len(column.levels)))
        chosen = np.searchsorted(often / often[-1], draw.uniforms(count), side="right")
        worth = (chosen - (len(column.levels) - 1) / 2) / max(0.5, len(column.levels) / np.sqrt(12.0))
        return [column.levels[one] for one in chosen], worth
    values = SHIFT * draw.normals(1) + draw.normals(count)
    return _numbers(column, values), values


def _numbers(column: NumberColumn, values: Values) -> list[str]:
    held = np.clip(column.centre + column.scale * values, column.low, column.high)
    return [f"{one:.9g}" for one in held]


def _labels(label: Label, draw: BitStream, score: Values) -> dict[str, list[str]]:
    uniform = np.clip(draw.uniforms(len(score)), 1e-9, 1.0 - 1e-9)
    chance = score + np.log(uniform / (1.0 - uniform))  # a logistic number beside the score
    if isinstance(label, BinaryLabel):
        return {label.column.name: _yes_or_no(label.column, label.positive, chance > 0.0)}
    if isinstance(label, ClassLabel):
        levels = label.column.levels
        ranks = np.searchsorted(np.linspace(-2.0, 2.0, len(levels) - 1), chance)
        return {label.column.name: [levels[one] for one in ranks]}
    if isinstance(label, NumberLabel):
        return {label.column.name: _numbers(label.column, chance / 2.0)}
    middle = label.grid[len(label.grid) // 2]
    times = np.clip(-middle * np.log(uniform) * np.exp(-score / 2.0), middle * 1e-3, label.time.high)
    seen = times < 2.0 * label.grid[-1] * draw.uniforms(len(score))
    return {
        label.time.name: [f"{one:.9g}" for one in times],
        label.event.name: _yes_or_no(label.event, label.positive, seen),
    }


def _yes_or_no(column: CodeColumn, positive: tuple[str, ...], yes: NDArray[np.bool_]) -> list[str]:
    negative = next(level for level in column.levels if level not in positive)
    return [positive[0] if one else negative for one in yes]

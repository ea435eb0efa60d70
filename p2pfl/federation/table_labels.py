"""The label of a described table: yes or no, one of several classes, a number, or the time to an event.

    label:
      relapse: {binary: ["no", "yes"], positive: ["yes"]}
or    grade: {class: [low, middle, high]}
or    HbA1c: {number: mmol/mol, low: 10, high: 200, centre: 40, scale: 10}
or    months: {time: months, high: 240, grid: [12, 24, 36, 48, 60]}
      died: {event: [alive, dead], positive: [dead]}

Of a time, the grid's intervals are what a model tells apart: agreed times, never quantiles of anybody's records.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from p2pfl.federation.misfits import Misfits
from p2pfl.federation.readers import List, Table, YamlNode, decimal, items, shown, table, wrong
from p2pfl.federation.table_columns import (
    NONE,
    CodeColumn,
    Column,
    NumberColumn,
    kind_of,
    levels_of,
    named_row,
    read_levels,
    read_number_column,
    read_unit,
)

MOST_CLASSES: Final = 64
MOST_TIMES: Final = 64
LONGEST: Final = 1e9
NO_TIMES: Final[tuple[float, ...]] = ()

KINDS: Final = ("binary", "class", "number", "time", "event")
KEYS: Final = {
    "binary": ("binary", "positive"),
    "class": ("class",),
    "number": ("number", "low", "high", "centre", "scale"),
    "time": ("time", "high", "grid"),
    "event": ("event", "positive"),
}


@dataclass(frozen=True, slots=True)
class BinaryLabel:
    """Yes or no: one of `positive`, or another of the column's levels."""

    column: CodeColumn
    positive: tuple[str, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column,)

    @property
    def summary(self) -> str:
        return f"{self.column.name} (yes or no)"

    @property
    def yes(self) -> str:
        """The levels that count as yes, in words."""
        return " or ".join(self.positive)

    @property
    def no(self) -> str:
        """The others."""
        return " or ".join(level for level in self.column.levels if level not in self.positive)


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One of the column's levels."""

    column: CodeColumn

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column,)

    @property
    def summary(self) -> str:
        return f"{self.column.name} (one of {len(self.column.levels)} classes)"


@dataclass(frozen=True, slots=True)
class NumberLabel:
    """A number, learned as (it − centre) / scale."""

    column: NumberColumn

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column,)

    @property
    def summary(self) -> str:
        return f"{self.column.name} (a number, in {self.column.unit})"


@dataclass(frozen=True, slots=True)
class TimeLabel:
    """A time, and whether the event came then (one of `positive`) or the record ends there (censored).

    grid    ends of the intervals that the model tells apart, rising; later times count as censored at the last
    """

    time: NumberColumn
    event: CodeColumn
    positive: tuple[str, ...]
    grid: tuple[float, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.time, self.event)

    @property
    def summary(self) -> str:
        return f"{self.time.name} to {self.event.name} (in {len(self.grid)} intervals)"


Label = BinaryLabel | ClassLabel | NumberLabel | TimeLabel


def read_label(top: Table, columns: set[str], found: Misfits) -> Label | None:
    """The label under `label`, of which no column has the name; None after a misfit."""
    none = Table({}, top.place, "label")
    rows = found.read(top, "label", table, none)
    if rows is none:
        return None
    read = [one for name in rows.rows if (one := _row(name, rows, columns, found)) is not None]
    kinds = {kind for kind, _, _ in read}
    if len(read) < len(rows.rows) <= 2:
        return None  # for a reason that is kept
    if len(read) == 1 and kinds <= {"time", "event"}:
        lacking = ({"time", "event"} - kinds).pop()
        found.add(rows.place, f"label has a row of its {kinds.pop()}, and lacks one of its {lacking}")
    elif len(read) == 2 and kinds == {"time", "event"}:
        by_kind = {kind: (name, row) for kind, name, row in read}
        return _time(*by_kind["time"], *by_kind["event"], found)
    elif len(read) == 1:
        return _label_of(*read[0], found)
    else:
        found.add(rows.place, "label must be one row, or one of a time and one of its event")
    return None


def _row(name: str, rows: Table, columns: set[str], found: Misfits) -> tuple[str, str, Table] | None:
    """(kind, name, row) of a label's row."""
    if name in columns:
        found.add(rows.rows[name][0], f"{name} is the label, so it can be no column")
    row = named_row(name, rows, found)
    kind = None if row is None else kind_of(row, KINDS, found)
    if row is None or kind is None:
        return None
    found.only(row, KEYS[kind])
    return kind, name, row


def _label_of(kind: str, name: str, row: Table, found: Misfits) -> Label:
    if kind == "number":
        return NumberLabel(read_number_column(name, row, found, "number"))
    column = CodeColumn(name, read_levels(row, kind, found))
    if kind == "binary":
        return BinaryLabel(column, _positive(row, column, found))
    if len(column.levels) > MOST_CLASSES:
        found.add(row.node(kind).place, f"{row.named(kind)} must have at most {MOST_CLASSES} levels")
    return ClassLabel(column)


def _time(name: str, row: Table, event: str, other: Table, found: Misfits) -> TimeLabel:
    unit = found.read(row, "time", read_unit, "")
    high = found.read(row, "high", decimal(0, LONGEST), LONGEST)
    grid = found.read(row, "grid", _read_grid, NO_TIMES)
    if grid and grid[-1] > high:
        found.add(row.node("grid").place, f"{row.named('grid')} must end at high ({high:g}) or before")
    column = CodeColumn(event, read_levels(other, "event", found))
    time = NumberColumn(name, unit, 0.0, high, 0.0, high)
    return TimeLabel(time, column, _positive(other, column, found), grid)


def _read_grid(node: YamlNode, key: str) -> tuple[float, ...]:
    """Rising times above 0."""
    count = len(node.values) if isinstance(node, List) else 0
    if not 1 <= count <= MOST_TIMES:
        wrong(node, key, f"a list of 1 to {MOST_TIMES} times, not of {count}")
    times = items(decimal(0, LONGEST), MOST_TIMES)(node, key)
    if any(later <= earlier for earlier, later in pairwise(times)):
        wrong(node, key, "a list of times that rise")
    return times


def _positive(row: Table, column: CodeColumn, found: Misfits) -> tuple[str, ...]:
    """Those of the levels that count as yes: one at least, and not all."""
    said = found.read(row, "positive", levels_of(1), NONE)
    if not said or not column.levels:
        return ()
    place, name, levels = row.node("positive").place, row.named("positive"), [column.level(one) for one in said]
    for one, level in zip(said, levels, strict=True):
        if level is None:
            found.add(place, f"{name} has {shown(one)}, and the levels are {', '.join(column.levels)}")
    positive = tuple(level for level in column.levels if level in levels)
    if len(positive) == len(column.levels):
        found.add(place, f"{name} must leave a level that is negative")
    return positive

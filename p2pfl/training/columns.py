"""A hospital's own CSV ► plain numbers, or named errors that say line and column and never the value.

A file may have other column names, other codes and other marks for "not measured": its column map says so. The map
is YAML beside the data and local to the site; nothing of it stands in peers.yaml.

    columns: {Alter: age, Geschlecht: sex}      # theirs: ours; columns with our names need no entry
    codes:   {sex: {m: 1, w: 0}}                # ours: {theirs: our number}
    missing: ["", "?", "k.A."]                  # marks of "not measured"; the empty cell always is one
    absent:  [ca, thal]                         # ours that this hospital does not have
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import (
    CellNotANumber,
    DataEmpty,
    DataNotText,
    DataUnreadable,
    DuplicateColumn,
    MissingColumn,
    MissingLabel,
    MissingLabelColumn,
    OutOfRange,
    RaggedRecord,
    UnknownCode,
    WrongColumnMap,
)
from p2pfl.federation import strict_yaml
from p2pfl.federation.readers import Position, Table, Word, YamlNode, items, table, text

MISSING: Final = ("", "?", "-9", "-9.0", "NA", "NaN", "nan")  # UCI's own marks, and those of common tools
DELIMITERS: Final = (",", ";", "\t")
MOST_COLUMNS: Final = 4096
DIGITS: Final = frozenset("0123456789+-.?")  # first characters that a value may have and a column's name does not

_read_word: Final = text(r"[^\n]{0,200}", "a word")


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a task reads. `codes` empty: a measured number from `low` to `high`, in `unit`."""

    name: str
    low: float = -math.inf
    high: float = math.inf
    unit: str = "a number"
    codes: tuple[float, ...] = ()
    zero_is_missing: bool = False


class MapFile(bytes):
    """The bytes of a column map, with the name of their file for errors."""

    source = "the column map"

    @classmethod
    def of(cls, raw: bytes, source: str) -> MapFile:
        """`raw`, read from `source`."""
        made = cls(raw)
        made.source = source
        return made


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """A column map, read: the four keys shown above. `source` names it in errors."""

    columns: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset(MISSING)
    absent: frozenset[str] = frozenset()
    source: str = MapFile.source

    @classmethod
    def parse(cls, raw: bytes, source: str, known: Sequence[str]) -> ColumnMap:
        """Raises leaves of errors.federation for what is not YAML, WrongColumnMap for all that does not fit in it.

        known   our names; the map may name no others
        """
        wrong: list[tuple[Position, str]] = []
        ours = partial(_one_of, known, wrong)
        top = strict_yaml.read_yaml(raw, source)
        top.only(("columns", "codes", "missing", "absent"))
        empty = Table({}, top.place)
        columns = top.value("columns", table) if "columns" in top.rows else empty
        codes = top.value("codes", table) if "codes" in top.rows else empty
        wrong += [(place, f"there is no {name}") for name, (place, _) in codes.rows.items() if name not in known]
        missing = top.value("missing", items(_read_word, 100)) if "missing" in top.rows else MISSING
        absent = top.value("absent", items(ours, MOST_COLUMNS)) if "absent" in top.rows else ()
        found = cls(
            columns={theirs: ours(columns.node(theirs), theirs) for theirs in columns.rows},
            codes={name: _numbers(codes.value(name, table), wrong) for name in codes.rows},
            missing=frozenset({"", *missing}),
            absent=frozenset(absent),
            source=source,
        )
        if wrong:
            _refuse_map(wrong, source, known)
        return found


@dataclass(frozen=True, slots=True)
class CsvValues:
    """values (N, F), NaN where not measured, F in the order asked for; labels (N,), NaN where not read. float64."""

    values: NDArray[np.float64]
    labels: NDArray[np.float64]


def _one_of(known: Sequence[str], wrong: list[tuple[Position, str]], node: YamlNode, key: str) -> str:
    """One of our names; anything else is added to `wrong`."""
    if isinstance(node, Word) and node.text in known:
        return node.text
    shown = node.shown if isinstance(node, Word) else "a list or table"
    wrong.append((node.place, f"there is no column {shown}"))
    return ""


def _numbers(row: Table, wrong: list[tuple[Position, str]]) -> dict[str, float]:
    """Their codes ► our numbers; anything else is added to `wrong`."""
    codes = {}
    for theirs in row.rows:
        node = row.node(theirs)
        number = _number(node.text) if isinstance(node, Word) else None
        if number is None:
            wrong.append((node.place, f"{theirs} is not translated to a number"))
        codes[theirs] = math.nan if number is None else number
    return codes


def _refuse_map(wrong: list[tuple[Position, str]], source: str, known: Sequence[str]) -> NoReturn:
    (place, first), *others = sorted(wrong, key=lambda one: (one[0].line, one[0].column))
    what = "; ".join([first, *(f"line {at.line}: {text}" for at, text in others)])
    raise WrongColumnMap(evidence=f"known are {', '.join(known)}", place=place, source=source, what=what)


def _number(cell: str) -> float | None:
    """The finite number that `cell` is, or None. No blanks, underscores, hex or infinities."""
    if not cell.isascii() or "_" in cell:
        return None
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def header_told(names: Sequence[str]) -> str:
    """What a file's first line has, for an error: its names; only their number when it looks like a record itself."""
    if any(name[:1] in DIGITS for name in names if name):
        return f"the first line holds numbers in {len(names)} cells: it is a record, and a header is missing"
    return f"the header has {', '.join(name[:30] or 'a blank' for name in names[:20])}"


def read_file(path: str | Path) -> bytes:
    """A file of records. Raises DataUnreadable."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataUnreadable(evidence=error.strerror or type(error).__name__, path=path) from None


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────


class TableReader:
    """Reads one file with one column map; `source` names it in errors."""

    def __init__(self, wanted: Sequence[Column], label: Column, column_map: ColumnMap, source: str) -> None:
        self.wanted, self.label, self.map, self.source = tuple(wanted), label, column_map, source

    def read_cells(self, raw: bytes, *, labelled: bool) -> CsvValues:
        """Every record of `raw`. Raises the first misfit, in file order."""
        rows = csv.reader(io.StringIO(self._text(raw), newline=""), self._dialect(raw), strict=True)
        try:
            header = next(rows, None)
            if header is None:
                raise DataEmpty(evidence="not even a header", path=self.source)
            places = self._places(header, labelled)
            values, labels = [], []
            for cells in rows:
                if not cells:
                    continue  # an empty line, as many tools leave at the end
                if len(cells) != len(header):
                    raise RaggedRecord(
                        evidence=f"{len(cells)} cells, the header has {len(header)}",
                        path=self.source,
                        line=rows.line_num,
                    )
                values.append([self._value(column, cells, places, rows.line_num) for column in self.wanted])
                labels.append(self._label(cells, places, rows.line_num) if labelled else math.nan)
        except csv.Error as error:
            raise DataNotText(evidence=f"line {rows.line_num}: {error}", path=self.source) from None
        if not values:
            raise DataEmpty(evidence="a header and nothing below it", path=self.source)
        return CsvValues(np.array(values, dtype=np.float64).reshape(len(values), len(self.wanted)), np.array(labels))

    def _text(self, raw: bytes) -> str:
        if not raw.strip():
            raise DataEmpty(evidence=f"{len(raw)} bytes", path=self.source)
        try:
            read = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataNotText(evidence=f"byte {error.start} is not UTF-8", path=self.source) from None
        if "\0" in read:
            raise DataNotText(evidence="it holds zero bytes", path=self.source)
        return read

    def _dialect(self, raw: bytes) -> type[csv.Dialect]:
        """Comma, semicolon or tab: whichever the header has most of."""
        first = raw.split(b"\n", 1)[0].decode("utf-8", "replace")

        class Found(csv.excel):
            delimiter = max(DELIMITERS, key=first.count)

        return Found

    def _places(self, header: Sequence[str], labelled: bool) -> dict[str, int]:
        """Our name ► place in the file. Raises one error for all columns that do not fit."""
        names = [name.strip() for name in header]
        held: dict[str, list[int]] = {}
        for place, theirs in enumerate(names):
            held.setdefault(self.map.columns.get(theirs, theirs), []).append(place)
        unnamed = [theirs for theirs in self.map.columns if theirs not in names]
        told_of = held.keys() | {self.map.columns[theirs] for theirs in unnamed}
        lacking = [*unnamed, *(one.name for one in self.wanted if one.name not in told_of | self.map.absent)]
        unlabelled = labelled and self.label.name not in told_of
        twice = {
            ours: f"columns {' and '.join(str(place + 1) for place in places)}"
            for ours, places in held.items()
            if len(places) > 1 and ours in self._names()
        }
        lacking += [self.label.name] * unlabelled
        taken = [f"{ours} is taken from {places}" for ours, places in twice.items()]
        if twice and not unnamed:
            told = taken if lacking or len(twice) > 1 else list(twice.values())
            told += [f"it lacks {', '.join(lacking)}"] if lacking else []
            raise DuplicateColumn(evidence="; ".join(told), path=self.source, column=", ".join(twice))
        told = [f"{self.map.source} names {', '.join(unnamed)}"] if unnamed else []
        evidence = "; ".join([*told, *taken, header_told(names)])
        if unlabelled and len(lacking) == 1:
            raise MissingLabelColumn(evidence=evidence, path=self.source, column=self.label.name)
        if lacking:
            which = f"{'columns' if len(lacking) > 1 else 'column'} {', '.join(lacking)}"
            raise MissingColumn(evidence=evidence, path=self.source, column=which)
        return {ours: places[0] for ours, places in held.items()}

    def _names(self) -> set[str]:
        return {column.name for column in self.wanted} | {self.label.name}

    def _value(self, column: Column, cells: Sequence[str], places: Mapping[str, int], line: int) -> float:
        """The cell's number, NaN when not measured."""
        if column.name in self.map.absent:
            return math.nan
        cell = cells[places[column.name]].strip()
        theirs = self.map.codes.get(column.name, {})
        if cell in theirs:
            number: float | None = theirs[cell]
        elif cell in self.map.missing:
            return math.nan
        else:
            number = _number(cell)
        if number is None:
            self._refuse_word(column, len(cell), line)
        if column.zero_is_missing and number == 0.0:
            return math.nan
        if column.codes and number not in column.codes:
            self._unknown_code(column, line)
        if not column.low <= number <= column.high:
            low, high = f"{column.low:g}", f"{column.high:g}"
            raise OutOfRange(
                evidence=f"plausible is {low} to {high} ({column.unit})",
                path=self.source,
                line=line,
                column=column.name,
                low=low,
                high=high,
            )
        return number

    def _refuse_word(self, column: Column, length: int, line: int) -> NoReturn:
        if column.codes:
            self._unknown_code(column, line)
        raise CellNotANumber(evidence=f"a cell of {length} characters", path=self.source, line=line, column=column.name)

    def _unknown_code(self, column: Column, line: int) -> NoReturn:
        codes = ", ".join(f"{code:g}" for code in column.codes)
        raise UnknownCode(evidence=f"known are {codes}", path=self.source, line=line, column=column.name)

    def _label(self, cells: Sequence[str], places: Mapping[str, int], line: int) -> float:
        label = self._value(self.label, cells, places, line)
        if math.isnan(label):
            raise MissingLabel(evidence="the cell is blank", path=self.source, line=line, column=self.label.name)
        return label

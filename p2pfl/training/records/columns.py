"""A hospital's own CSV ► numbers by column, or named errors that say line and column and never the value.

All that does not fit is told at once: misfits of one kind in one column are one line of the error, however many records
they are in. What is kept of a misfit is its line's number.
"""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from p2pfl import files
from p2pfl.errors import P2PFLError
from p2pfl.errors.training import (
    CellNotANumber,
    CellsUnfit,
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
)
from p2pfl.federation.table_columns import DIGITS, CodeColumn, Column, NumberColumn, number_in
from p2pfl.training.records.column_map import ColumnMap

DELIMITERS: Final = (",", ";", "\t")
MOST_KEPT: Final = 4096  # different cells of a column whose meaning is kept, so that a file of any size is read
LINES_TOLD: Final = 3  # of a kind of misfit

Leaf = type[P2PFLError]


@dataclass(frozen=True, slots=True)
class CsvValues:
    """values (N, F), NaN where not measured, F in the order asked for; labels (N, L), NaN where not read. float64.

    patients   whose each record is, empty where the cell is; none where no column says
    """

    values: NDArray[np.float64]
    labels: NDArray[np.float64]
    patients: tuple[bytes, ...] = ()


def header_told(names: Sequence[str]) -> str:
    """What a file's first line has, for an error: its names; only their number when it looks like a record itself."""
    if is_record(names):
        return f"the first line holds numbers in {len(names)} cells: it is a record, and a header is missing"
    return f"the header has {', '.join(name[:30] or 'a blank' for name in names[:20])}"


def is_record(names: Sequence[str]) -> bool:
    """A file's first line looks like a record: none of it may be shown."""
    return any(name[:1] in DIGITS for name in names if name)


def read_file(path: str | Path) -> bytes:
    """A file of records. Raises DataUnreadable."""
    try:
        return files.read_file(Path(path), files.LARGE_BYTES)
    except OSError as error:
        raise DataUnreadable(evidence=error.strerror or type(error).__name__, path=path) from None


def text_of(raw: bytes, source: str) -> str:
    """The text of a CSV. Raises DataEmpty, DataNotText."""
    if not raw.strip():
        raise DataEmpty(evidence=f"{len(raw)} bytes", path=source)
    try:
        read = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataNotText(evidence=f"byte {error.start} is not UTF-8", path=source) from None
    if "\0" in read:
        raise DataNotText(evidence="it holds zero bytes", path=source)
    return read


def rows_of(raw: bytes, source: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not empty, the header first. Raises DataEmpty, DataNotText."""
    first = raw.split(b"\n", 1)[0].decode("utf-8", "replace")

    class Found(csv.excel):
        delimiter = max(DELIMITERS, key=first.count)  # comma, semicolon or tab: whichever the header has most of

    rows = csv.reader(io.StringIO(text_of(raw, source), newline=""), Found, strict=True)
    try:
        yield from ((rows.line_num, cells) for cells in rows if cells)
    except csv.Error as error:
        raise DataNotText(evidence=f"line {rows.line_num}: {error}", path=source) from None


# ── one column ────────────────────────────────────────────────────────────────────────────────────────────────


class _Cells:
    """One column's cells ► numbers. A cell that does not fit is the leaf that says how."""

    def __init__(self, column: Column, column_map: ColumnMap, *, is_label: bool) -> None:
        self.column, self._is_label, self._number = column, is_label, column_map.number
        self.numbers = array("d")
        self._known: dict[str, float | Leaf] = {mark: self._blank() for mark in column_map.missing}
        theirs = column_map.codes.get(column.name, {})
        self._known.update({cell: self._measured(word, number_in) for cell, word in theirs.items()})

    def read(self, cell: str) -> Leaf | None:
        """Keep the cell's number, NaN where it was not measured or does not fit; return how it does not fit."""
        found: float | Leaf | None = self._known.get(cell)
        if found is None:
            found = self._measured(cell, self._number)
            if len(self._known) < MOST_KEPT:
                self._known[cell] = found
        if isinstance(found, float):
            self.numbers.append(found)
            return None
        self.numbers.append(math.nan)
        return found

    def _blank(self) -> float | Leaf:
        return MissingLabel if self._is_label else math.nan

    def _measured(self, word: str, number: Callable[[str], float | None]) -> float | Leaf:
        if isinstance(self.column, CodeColumn):
            level = self.column.level(word)
            if level is None and "," in word and (value := number(word)) is not None:
                level = self.column.level(repr(value))  # 1,0 of a file with decimal commas is what 1.0 is of others
            return UnknownCode if level is None else self.column.values[self.column.levels.index(level)]
        value = number(word)
        if value is None:
            return CellNotANumber
        if self.column.zero_is_missing and value == 0.0:
            return self._blank()
        return value if self.column.low <= value <= self.column.high else OutOfRange


@dataclass(slots=True)
class _Misfit:
    """Cells of one column that do not fit for one reason: the first lines, and how many there are."""

    column: Column | None
    leaf: Leaf
    lines: list[int] = field(default_factory=list)
    count: int = 0
    pointed: bool = False  # a number in a file with decimal points, and this file has commas

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < LINES_TOLD:
            self.lines.append(line)

    @property
    def where(self) -> str:
        lines = ", ".join(map(str, self.lines))
        more = f" and {self.count - len(self.lines)} more" if self.count > len(self.lines) else ""
        return f"line{'s' if self.count > 1 else ''} {lines}{more}"

    @property
    def known(self) -> str:
        """What would fit."""
        if isinstance(self.column, CodeColumn) and self.leaf is UnknownCode:
            return f"known are {', '.join(self.column.levels)}"
        if isinstance(self.column, NumberColumn) and self.leaf is OutOfRange:
            return f"plausible is {self.column.low:g} to {self.column.high:g} ({self.column.unit})"
        if self.leaf is RaggedRecord:
            return "the header has another number of cells"
        if self.pointed:
            return "it has a point, and the column map says decimal: comma"
        return "the cell is blank" if self.leaf is MissingLabel else "it is no number"

    @property
    def told(self) -> str:
        """One of several misfits."""
        of = f"column {self.column.name}, " if self.column else ""
        return f"{of}{self.where}: {self.known}"

    def refuse(self, source: str) -> NoReturn:
        """Raise the leaf: there is no other misfit."""
        evidence = self.known if self.count == 1 else f"{self.where}: {self.known}"
        fields: dict[str, object] = {"path": source, "line": self.lines[0]}
        if self.column is not None:
            fields["column"] = self.column.name
        if isinstance(self.column, NumberColumn):
            fields |= {"low": f"{self.column.low:g}", "high": f"{self.column.high:g}"}
        raise self.leaf(evidence=evidence, **fields)


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────


class TableReader:
    """Reads one file with one column map; `source` names it in errors, `patient` the column of patients."""

    def __init__(
        self,
        wanted: Sequence[Column],
        labels: Sequence[Column],
        column_map: ColumnMap,
        source: str,
        patient: str = "",
    ) -> None:
        self.wanted, self.labels, self.map, self.source = tuple(wanted), tuple(labels), column_map, source
        self.patient = patient

    def read_cells(self, raw: bytes, *, labelled: bool) -> CsvValues:
        """Every record of `raw`. Raises one error for all columns that do not fit, or for all cells."""
        rows = rows_of(raw, self.source)
        _, header = next(rows, (0, None))
        if header is None:
            raise DataEmpty(evidence="not even a header", path=self.source)
        places = self._places(header, labelled)
        columns = [_Cells(one, self.map, is_label=False) for one in self.wanted]
        labels = [_Cells(one, self.map, is_label=True) for one in self.labels]
        read = [one for one in (*columns, *labels) if one.column.name in places]
        misfits, count = dict[tuple[str, Leaf], _Misfit](), 0
        patients, whose = list[bytes](), places.get(self.patient)
        for line, cells in rows:
            count += 1
            if len(cells) != len(header):
                misfits.setdefault(("", RaggedRecord), _Misfit(None, RaggedRecord)).add(line)
                continue
            if whose is not None:
                named = cells[whose].strip()
                patients.append(b"" if named in self.map.missing else named.encode())
            for one in read:
                cell = cells[places[one.column.name]].strip()
                leaf = one.read(cell)
                if leaf is not None:
                    misfit = misfits.setdefault((one.column.name, leaf), _Misfit(one.column, leaf))
                    misfit.add(line)
                    misfit.pointed |= leaf is CellNotANumber and self.map.decimal_comma and number_in(cell) is not None
        if not count:
            raise DataEmpty(evidence="a header and nothing below it", path=self.source)
        if misfits:
            self._refuse(list(misfits.values()))
        return CsvValues(_stacked(columns, count), _stacked(labels, count), tuple(patients))

    def _refuse(self, misfits: list[_Misfit]) -> NoReturn:
        if len(misfits) == 1:
            misfits[0].refuse(self.source)
        told = "\n".join(one.told for one in sorted(misfits, key=lambda one: one.lines[0]))
        raise CellsUnfit(
            evidence=told,
            path=self.source,
            count=sum(one.count for one in misfits),
            line=min(one.lines[0] for one in misfits),
        )

    def _places(self, header: Sequence[str], labelled: bool) -> dict[str, int]:
        """Our name ► place in the file, of every column that is read. Raises one error for all that do not fit."""
        names = [name.strip() for name in header]
        held: dict[str, list[int]] = {}
        for place, theirs in enumerate(names):
            held.setdefault(self.map.columns.get(theirs, theirs), []).append(place)
        wanted = [one.name for one in self.wanted if one.name not in self.map.absent]
        labels = [one.name for one in self.labels] if labelled else []
        if self.patient and (labelled or self.patient in held) and self.patient not in self.map.absent:
            wanted.insert(0, self.patient)  # who predicts needs to say of nobody's records whose they are
        unnamed = [theirs for theirs in self.map.columns if theirs not in names]
        told_of = held.keys() | {self.map.columns[theirs] for theirs in unnamed}
        unlabelled = [name for name in labels if name not in told_of - self.map.absent]
        lacking = [*unnamed, *(name for name in wanted if name not in told_of), *unlabelled]
        self._refuse_twice(held, lacking, unnamed)
        twice = self._twice(held)
        told = [f"{self.map.source} names {', '.join(unnamed)}"] if unnamed else []
        told += [f"{name} is absent in {self.map.source}" for name in unlabelled if name in self.map.absent]
        evidence = "; ".join([*told, *twice.values(), header_told(names)])
        if unlabelled and len(lacking) == len(unlabelled) == 1:
            raise MissingLabelColumn(evidence=evidence, path=self.source, column=unlabelled[0])
        if lacking:
            which = f"{'columns' if len(lacking) > 1 else 'column'} {', '.join(lacking)}"
            raise MissingColumn(evidence=evidence, path=self.source, column=which)
        return {name: held[name][0] for name in (*wanted, *labels)}

    def _twice(self, held: Mapping[str, Sequence[int]]) -> dict[str, str]:
        """Our columns that several of the file's are taken for."""
        ours = {one.name for one in (*self.wanted, *self.labels)} | ({self.patient} if self.patient else set())
        return {
            name: f"{name} is taken from columns {' and '.join(str(place + 1) for place in places)}"
            for name, places in held.items()
            if len(places) > 1 and name in ours
        }

    def _refuse_twice(self, held: Mapping[str, Sequence[int]], lacking: Sequence[str], unnamed: Sequence[str]) -> None:
        """Raises DuplicateColumn, unless a name of the map is wrong, which may be why."""
        twice = self._twice(held)
        if twice and not unnamed:
            told = [*twice.values(), *([f"it lacks {', '.join(lacking)}"] if lacking else [])]
            raise DuplicateColumn(evidence="; ".join(told), path=self.source, column=", ".join(twice))


def _stacked(columns: Sequence[_Cells], count: int) -> NDArray[np.float64]:
    """(count, columns); a column that was not read is NaN."""
    numbers = [np.array(one.numbers) if one.numbers else np.full(count, np.nan) for one in columns]
    return np.stack(numbers, axis=1) if numbers else np.empty((count, 0))

"""One site's CSV as a statistic reads it: the asked columns, checked; and what names each record, for the budget."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from p2pfl import codec
from p2pfl.errors.counts import counted
from p2pfl.errors.privacy_units import PatientsUnknown
from p2pfl.errors.questions import PatientsUntold, WithdrawnUnknown
from p2pfl.federation.table_columns import CodeColumn, Column
from p2pfl.federation.table_schema import TableSchema
from p2pfl.node.runs.gone import GoneRecords
from p2pfl.node.runs.patients import layers_of
from p2pfl.statistics.question import Factor, Floats, Quantity, SiteTable, Variable
from p2pfl.training.records.column_map import ColumnMap, MapFile
from p2pfl.training.records.columns import TableReader, rows_of
from p2pfl.training.records.given_table import GivenTable
from p2pfl.training.records.withdrawn import Withdrawn, patient_name


@dataclass(frozen=True)
class AskedRecords:
    """What a site brings to a question. names: of each record, its cells in the columns that are learned.

    What is only asked, as a time of follow-up that every export has longer, names no record: it would be another one to
    the budget of questions, and to whoever withdrew (docs/adr/0077).

    counted   what the budget of questions knows each by: its name, and whose it is where a column says. The records of
              two patients may have the same cells, and one of the two may withdraw
    gone      those that are left out, since somebody withdrew
    read      of each record its cells in the columns that are learned and in those that the question asks of: where one
              of them has changed, the same question has another answer
    """

    table: SiteTable
    names: tuple[bytes, ...] = field(repr=False)
    counted: tuple[bytes, ...] = field(default=(), repr=False)
    read: tuple[bytes, ...] = field(default=(), repr=False)
    gone: GoneRecords = field(default_factory=GoneRecords, repr=False)

    def at(self, site: int, sites: int) -> SiteTable:
        """The table of the site at that place among those that are asked."""
        return replace(self.table, site=site, sites=sites)


def columns_of(schema: TableSchema) -> dict[str, Column]:
    """Every column that the schema describes, those that no training reads too."""
    return {one.name: one for one in schema.described}


def variable_of(column: Column) -> Variable:
    """The column as a statistic knows it."""
    if isinstance(column, CodeColumn):
        return Factor(column.name, column.levels)
    return Quantity(column.name, column.low, column.high)


def read_records(
    schema: TableSchema,
    wanted: Sequence[str],
    data: Any,
    columns: MapFile | None = None,
    *,
    shows_own: bool = False,
    noised: bool = False,
    one_each: bool = False,
    withdrawn: Withdrawn | None = None,
) -> AskedRecords:
    """The columns `wanted` of a CSV with the schema's names and levels, or with a column map.

    data   the path of a CSV, a DataFrame, or the GivenTable that was made of one
    noised     the question's sums have noise
    one_each   of each patient one record is taken, so that one record is what a patient moves
    withdrawn   records, and patients, that are left out
    Columns that are not asked may be blank, wrong, or not there; those that are learned must be there where no column
    says whose a record is: whether or not somebody withdrew, so that nobody sees by a site's silence that one did.
    Raises leaves of errors.training 001-019, PatientsUnknown, PatientsUntold, WithdrawnUnknown.
    """
    given, every = GivenTable.of(data), columns_of(schema)
    column_map, source = given.column_map(schema, columns), given.source
    asked = [every[name] for name in dict.fromkeys(wanted)]
    reader = TableReader(asked, (), column_map, source, schema.patient if one_each else "")
    read = reader.read_cells(given.raw, labelled=False)
    held = {one.name: _placed(one, read.values[:, at]) for at, one in enumerate(asked)}
    levels = {one.name: one.levels for one in asked if isinstance(one, CodeColumn)}
    written, learned = _Written.of(given, column_map, every), set(schema.names)
    names = written.names(learned)
    cells = names if learned.issuperset(wanted) else written.names(learned.union(wanted))
    whose = written.patients(schema.patient, column_map.missing)
    counted = names if whose is None else tuple(map(bytes.__add__, names, whose))  # 32 bytes behind each
    out = np.zeros(len(names), np.bool_)  # (N,)
    if withdrawn is not None:
        out = withdrawn.among(names)
        if whose is not None:
            out |= withdrawn.among(whose)
    rows = np.flatnonzero(~out).tolist()
    if one_each:
        rows = _one_each(read.patients, written.names(every.keys()), rows, source)
    if schema.patient and whose is None and asked and not noised:
        evidence = "a group of five records may be one patient's"
        raise PatientsUntold(evidence=evidence, source=source, patient=schema.patient)
    if whose is None:
        written.check_named(learned - column_map.absent)
    layers = layers_of([whose[row] for row in rows]) if whose is not None and not noised else ()
    columns_read = {name: values[rows] for name, values in held.items()}
    table = SiteTable(columns_read, levels, shows_own=shows_own, noised=noised, layers=layers)
    went = np.flatnonzero(out).tolist()
    left = SiteTable({name: values[went] for name, values in held.items()}, levels, shows_own=shows_own, least=0)
    patients = [str(row).encode() for row in range(len(names))] if whose is None else whose
    gone = GoneRecords(left, *(tuple(one[row] for row in went) for one in (counted, patients)))
    kept, known_by, told = (tuple(one[row] for row in rows) for one in (names, counted, cells))
    return AskedRecords(table, kept, known_by, told, gone)


def _one_each(patients: Sequence[bytes], whole: Sequence[bytes], rows: Sequence[int], source: str) -> list[int]:
    """Of `rows` those that count, one of each patient: chosen by the patient's own records alone, each as a `whole`.

    Raises PatientsUnknown.
    """
    named = [row for row in rows if patients and patients[row]]
    if len(named) < len(rows):
        raise PatientsUnknown(
            evidence=f"{counted(len(rows) - len(named), 'record')} of no named patient", source=source
        )
    chosen: dict[bytes, int] = {}
    for row in named:
        patient = patients[row]
        if patient not in chosen or _order(whole[row]) < _order(whole[chosen[patient]]):
            chosen[patient] = row
    return sorted(chosen.values())


def _order(name: bytes) -> bytes:
    return hashlib.sha256(name).digest()


def _placed(column: Column, values: Floats) -> Floats:
    """A code's number ► the index of its level; NaN where missing."""
    if not isinstance(column, CodeColumn):
        return values
    placed = np.full(values.shape, np.nan)
    for index, value in enumerate(column.values):
        placed[values == value] = index
    return placed


@dataclass(frozen=True)
class _Written:
    """A CSV as it is written: our names of its columns, and the cells of each record."""

    source: str
    columns: list[str]
    records: list[list[str]] = field(repr=False)
    map: ColumnMap
    described: Mapping[str, Column]

    @classmethod
    def of(cls, given: GivenTable, column_map: ColumnMap, described: Mapping[str, Column]) -> _Written:
        (_, header), *records = rows_of(given.raw, given.source)
        ours = [column_map.columns.get(name.strip(), name.strip()) for name in header]
        return cls(given.source, ours, [cells for _, cells in records], column_map, described)

    def patients(self, column: str, missing: Set[str]) -> list[bytes] | None:
        """What names whose each record is; None where no column says."""
        if not column or column not in self.columns:
            return None
        at = self.columns.index(column)
        told = [cells[at].strip() for cells in self.records]
        return [patient_name(b"" if one in missing else one.encode()) for one in told]

    def names(self, known: Set[str]) -> tuple[bytes, ...]:
        """Of each record, its cells in the `known` columns, by one name however a file writes them."""
        places = sorted((name, at) for at, name in enumerate(self.columns) if name in known)
        says = {name: partial(self.map.told, self.described[name]) for name, _ in places if name in self.described}
        told = [(name, at, says.get(name, str)) for name, at in places]  # whose a record is stays as it is written
        return tuple(codec.pack([[name, say(cells[at].strip())] for name, at, say in told]) for cells in self.records)

    def check_named(self, learned: Set[str]) -> None:
        """A record without a cell that it was withdrawn with would go by another name. Raises WithdrawnUnknown."""
        if lacking := sorted(learned - set(self.columns)):
            evidence = (
                "a record is known by its cells in all columns that are learned, where no column says whose it is"
            )
            raise WithdrawnUnknown(evidence=evidence, source=self.source, columns=", ".join(lacking))

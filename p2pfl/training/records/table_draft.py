"""A CSV's header ► the description of a table that people go on writing: names and kinds, and no number.

The file goes to every site, so it may tell nothing of the records that it was drafted from. A column's name is not
theirs; its kind is whether more of its cells are numbers or words. No range, no mean, no count is written, no level (a
word that occurs tells that somebody has it), and not even whether cells are blank. People fill these in from clinical
practice and from the study's code book, which also name what this site's records happen to lack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pfl.errors.training import DataEmpty, DuplicateColumn, HeaderMissing, MissingColumn, MissingLabelColumn
from p2pfl.federation.misfits import TODO
from p2pfl.federation.table_columns import is_column_name
from p2pfl.training.records.column_map import ColumnMap
from p2pfl.training.records.columns import header_told, is_record, rows_of

HEAD: Final = f"""\
# Drafted by `p2pfl task draft`, from the names of columns and from whether their cells are numbers or words. Every
# site gets this file: no number in it may come from records, and no word that was only seen there.
#   1. Delete the columns that nobody needs: names and numbers of patients, dates, free text. Whatever stands under
#      `columns` is learned from, so nothing that comes after the outcome belongs there. What statistics shall ask of
#      and no model shall see stands under `asked`, without centre and scale.
#   2. Is a column of numbers a code? Then its row is {{code: [{TODO}, {TODO}]}}. Is a code really numbers, written 2,3?
#      Then write `decimal: comma` into records.columns.yaml, beside records.csv, delete this, draft again.
#   3. Fill in every {TODO}. number: the unit. low and high: what is plausible. centre and scale: round figures of
#      clinical practice; most patients lie within centre ± 2 × scale. code: every level of the study's code book.
#   4. Add `indicator: true` where it matters whether something was measured, `zero_is_missing: true` where 0 means
#      that it was not, `ordered: true` where levels go from least to most.
#   5. p2pfl task check THIS-FILE --data records.csv
#      p2pfl peers create A.card B.card … -o peers.yaml --task THIS-FILE
"""
NUMBER: Final = f"{{number: {TODO}, low: {TODO}, high: {TODO}, centre: {TODO}, scale: {TODO}}}"
ASKED_NUMBER: Final = f"{{number: {TODO}, low: {TODO}, high: {TODO}}}"
CODE: Final = f"{{code: [{TODO}, {TODO}]}}"
EVENT: Final = f"{{event: [{TODO}, {TODO}], positive: [{TODO}]}}"
LABELS: Final = {
    "binary": (f"{{binary: [{TODO}, {TODO}], positive: [{TODO}]}}", "all its levels, and those that count as yes"),
    "class": (f"{{class: [{TODO}, {TODO}]}}", "all its levels"),
    "number": (NUMBER, "the model tells this number"),
    "time": (
        f"{{time: {TODO}, high: {TODO}, grid: [{TODO}]}}",
        "unit, longest plausible time, round times to tell apart",
    ),
}
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_. -]*")  # a name that YAML reads as itself without quotes


@dataclass(frozen=True, slots=True)
class DraftedColumn:
    """A column by our name; `number`: most of its cells are numbers."""

    name: str
    number: bool


@dataclass(frozen=True, slots=True)
class TableDraft:
    """A table's columns in the file's order, and the places of those whose names cannot be ours."""

    columns: tuple[DraftedColumn, ...]
    unnamed: tuple[int, ...]

    def text(self, label: str | None, kind: str = "binary", event: str | None = None, asked: Sequence[str] = ()) -> str:
        """The description to be filled in.

        event   of a time, the column that says whether the event came
        asked   columns that statistics shall ask of and no model shall see
        """
        row, meaning = LABELS[kind]
        lines = [
            "label:",
            f"  {_key(label or TODO)}: {row}   # {meaning}",
            *(
                [f"  {_key(event or TODO)}: {EVENT}   # all its levels, and which are the event"]
                if kind == "time"
                else []
            ),
            "model: linear                       # or {mlp: 16}: one hidden layer of 16 units",
            "learning_rate: 0.01                 # of each private step",
            "expected_batch: 2.0                 # about sample_rate × the records of a typical site: a round figure",
            "columns:",
            *(
                f"  {_key(one.name)}: {NUMBER if one.number else CODE}"
                for one in self.columns
                if one.name not in (label, event, *asked)
            ),
            *(
                f"  # column {place} has a name that cannot be used: a column map gives it one"
                for place in self.unnamed
            ),
            *self._asked(asked),
        ]
        return HEAD + "\n".join(lines) + "\n"

    def _asked(self, asked: Sequence[str]) -> list[str]:
        rows = [
            f"  {_key(one.name)}: {ASKED_NUMBER if one.number else CODE}" for one in self.columns if one.name in asked
        ]
        head = "asked:                              # statistics may ask of these; no model sees them"
        return [head, *rows] if rows else []


def read_draft(
    raw: bytes, source: str, column_map: ColumnMap, labels: Sequence[str] = (), asked: Sequence[str] = ()
) -> TableDraft:
    """The draft of the CSV `raw`; `labels` and those that are `asked` must be among its columns.

    Raises DataEmpty, DataNotText, HeaderMissing, DuplicateColumn, MissingLabelColumn, MissingColumn.
    """
    rows = rows_of(raw, source)
    _, header = next(rows, (0, None))
    if header is None:
        raise DataEmpty(evidence="not even a header", path=source)
    theirs = [name.strip() for name in header]
    if is_record([name for name in theirs if name not in column_map.columns]):
        raise HeaderMissing(evidence=header_told(theirs), path=source)
    names = [column_map.columns.get(name, name) for name in theirs]
    twice = sorted({name for name in names if is_column_name(name) and names.count(name) > 1})
    if twice:
        raise DuplicateColumn(evidence="the header, and the column map", path=source, column=", ".join(twice))
    lacking = [name for name in labels if name not in names]
    if lacking:
        raise MissingLabelColumn(evidence=header_told(theirs), path=source, column=", ".join(lacking))
    if unasked := [name for name in asked if name not in names]:
        which = f"{'columns' if len(unasked) > 1 else 'column'} {', '.join(unasked)}"
        raise MissingColumn(evidence=header_told(theirs), path=source, column=which)
    numbers, words = [0] * len(names), [0] * len(names)
    for _, cells in rows:
        for place, cell in enumerate(cells[: len(names)]):
            if cell.strip() not in column_map.missing:
                into = words if column_map.number(cell.strip()) is None else numbers
                into[place] += 1
    return TableDraft(
        tuple(
            DraftedColumn(name, numbers[place] >= words[place] and name not in column_map.codes)
            for place, name in enumerate(names)
            if is_column_name(name)
        ),
        tuple(place for place, name in enumerate(names, start=1) if not is_column_name(name)),
    )


def _key(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)

"""A hospital's own names, codes and marks for "not measured" ► the schema's.

The map is YAML beside the data and local to the site; nothing of it stands in peers.yaml.

    columns: {Alter: age, Geschlecht: sex}      # theirs: ours; columns with our names need no entry
    codes:   {sex: {m: male, w: female}}        # ours: {theirs: our level}; of a number: our number
    missing: ["", "?", "k.A."]                  # marks of "not measured"; the empty cell always is one
    absent:  [ca, thal]                         # ours that this hospital does not have
    decimal: comma                              # numbers are written 2,3; without this line, 2.3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn

from p2pfl.errors.training import WrongColumnMap
from p2pfl.federation import strict_yaml
from p2pfl.federation.readers import Position, Table, Word, YamlNode, choice, items, shown, table, text
from p2pfl.federation.table_columns import (
    MISSING,
    MOST_COLUMNS,
    CodeColumn,
    Column,
    NumberColumn,
    is_column_name,
    number_in,
)
from p2pfl.files import is_file

DECIMALS: Final = ("point", "comma")
_read_word: Final = text(r"[^\n]{0,200}", "a word")


class MapFile(bytes):
    """The bytes of a column map, with the name of their file for errors."""

    source = "the column map"

    @classmethod
    def of(cls, raw: bytes, source: str) -> MapFile:
        """`raw`, read from `source`."""
        made = cls(raw)
        made.source = source
        return made


def map_for(data: Path | None, named: Path | None) -> MapFile | None:
    """The column map that was named, else the one beside the data: their.columns.yaml for their.csv, else none.

    Raises leaves of errors.federation where it cannot be read.
    """
    beside = data.with_suffix(".columns.yaml") if data is not None and data.name else None  # a path of "." has no name
    chosen = named or (beside if beside is not None and is_file(beside) else None)
    return MapFile.of(strict_yaml.load(chosen), str(chosen)) if chosen is not None else None


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """A column map, read: the keys shown above. `source` names it in errors."""

    columns: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset(MISSING)
    absent: frozenset[str] = frozenset()
    decimal_comma: bool = False
    source: str = MapFile.source

    @classmethod
    def parse(cls, raw: bytes, source: str, known: Sequence[Column] | None) -> ColumnMap:
        """Raises leaves of errors.federation for what is not YAML, WrongColumnMap for all that does not fit in it.

        known   our columns; the map may name no others. None: there is no schema yet, and any name may be ours
        """
        top = strict_yaml.read_yaml(raw, source)
        top.only(("columns", "codes", "missing", "absent", "decimal"))
        empty = Table({}, top.place)
        ours = _Ours(known)
        columns = top.value("columns", table) if "columns" in top.rows else empty
        codes = top.value("codes", table) if "codes" in top.rows else empty
        missing = top.value("missing", items(_read_word, 100)) if "missing" in top.rows else MISSING
        absent = top.value("absent", items(ours.name, MOST_COLUMNS)) if "absent" in top.rows else ()
        found = cls(
            columns={theirs: ours.name(columns.node(theirs), theirs) for theirs in columns.rows},
            codes={name: ours.codes(name, codes) for name in codes.rows},
            missing=frozenset({"", *missing}),
            absent=frozenset(absent),
            decimal_comma="decimal" in top.rows and top.value("decimal", choice(*DECIMALS)) == "comma",
            source=source,
        )
        ours.refuse_any(source)
        return found

    def of_numbers(self) -> ColumnMap:
        """The same for a DataFrame: its numbers are numbers, however its export writes them."""
        return replace(self, decimal_comma=False)

    def number(self, cell: str) -> float | None:
        """The finite number that a cell of the site's file is, or None.

        Of files with decimal commas a point is none: it could only be a mark of thousands, and 1.234 then is not 1.234.
        """
        if not self.decimal_comma:
            return number_in(cell)
        return None if "." in cell else number_in(cell.replace(",", "."))

    def told(self, column: Column, cell: str) -> str:
        """What a cell of our `column` says, by one text however a file writes it; what does not fit stays as it is.

        A number is the shortest text of its float64, a code our level, and what was not measured empty.
        """
        word = self.codes.get(column.name, {}).get(cell)
        if word is None and cell in self.missing:
            return ""
        number = number_in(word) if word is not None else self.number(cell)
        if isinstance(column, CodeColumn):
            level = column.level(cell if word is None else word)
            if level is None and number is not None:
                level = column.level(repr(number))
            return cell if level is None else level
        if number is None:
            return cell
        return "" if number == 0 and column.zero_is_missing else repr(number + 0.0)  # −0 is 0


class _Ours:
    """What a map may say of our columns; all that it says wrong is kept, and told together."""

    def __init__(self, known: Sequence[Column] | None) -> None:
        self._known = None if known is None else {one.name: one for one in known}
        self._wrong: list[tuple[Position, str]] = []

    def name(self, node: YamlNode, key: str) -> str:
        """One of our names."""
        if isinstance(node, Word) and self._is_ours(node.text):
            return node.text
        told = node.shown if isinstance(node, Word) else "a list or table"
        self._wrong.append((node.place, f"there is no column {told}"))
        return ""

    def codes(self, name: str, rows: Table) -> dict[str, str]:
        """Their codes ► our levels, or our numbers as written."""
        if not self._is_ours(name):
            self._wrong.append((rows.rows[name][0], f"there is no column {shown(name)}"))
            return {}
        column, row, codes = (self._known or {}).get(name), rows.value(name, table), {}
        for theirs in row.rows:
            node = row.node(theirs)
            word = _translated(column, node) if isinstance(node, Word) else None
            if word is None:
                self._wrong.append((node.place, f"{shown(theirs)} is not translated to {_wanted(column)}"))
            codes[theirs] = word or ""
        return codes

    def refuse_any(self, source: str) -> None:
        """Raises WrongColumnMap if something is wrong."""
        if self._wrong:
            self._refuse(source)

    def _is_ours(self, name: str) -> bool:
        return is_column_name(name) if self._known is None else name in self._known

    def _refuse(self, source: str) -> NoReturn:
        (place, first), *others = sorted(self._wrong, key=lambda one: (one[0].line, one[0].column))
        what = "; ".join([first, *(f"line {at.line}: {told}" for at, told in others)])
        known = "any name" if self._known is None else ", ".join(self._known)
        raise WrongColumnMap(evidence=f"known are {known}", place=place, source=source, what=what)


def _translated(column: Column | None, node: Word) -> str | None:
    """Our level, or a number as written; None where it is neither."""
    if isinstance(column, CodeColumn):
        return column.level(node.text)
    if isinstance(column, NumberColumn):
        return node.text if number_in(node.text) is not None else None
    return node.text


def _wanted(column: Column | None) -> str:
    return f"one of {', '.join(column.levels)}" if isinstance(column, CodeColumn) else "a number"

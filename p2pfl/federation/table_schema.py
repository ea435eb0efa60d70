"""What a task on a table is: columns, label, model and public constants, from YAML that peers.yaml holds in full.

    columns:
      age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
      sex: {code: [female, male]}
    label:
      relapse: {binary: ["no", "yes"], positive: ["yes"]}
    model: linear
    learning_rate: 0.01
    expected_batch: 2.0

The first key of a row is its kind. All numbers are public and agreed: what is plausible, and the round figures of
clinical practice that scale a column. None is ever a statistic of records. A cell matches a level by its text, or as
an equal number. All that does not fit is told at once, with line and column. Nothing here needs numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

from p2pfl.errors.federation import MissingKey, TableUnfit, WrongValue
from p2pfl.federation import strict_yaml
from p2pfl.federation.readers import (
    List,
    Position,
    Table,
    Word,
    YamlNode,
    decimal,
    items,
    number,
    shown,
    table,
    truth,
    whole,
    wrong,
)

TODO: Final = "TODO"  # what `p2pfl task draft` leaves for people to fill in
MISSING: Final = ("", "?", "-9", "-9.0", "NA", "NaN", "nan")  # UCI's own marks, and those of common tools
DIGITS: Final = frozenset("0123456789+-.?")  # first characters that a value may have and a column's name does not
MOST_COLUMNS: Final = 2048
MOST_LEVELS: Final = 256
MOST_HIDDEN: Final = 4096
MOST_NAME: Final = 64  # characters of a column's name, a level or a unit
MOST_TOLD: Final = 40  # misfits that one error lists

T = TypeVar("T")
NONE: Final[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A measured number in `unit`, plausible from `low` to `high`; (it − centre) / scale is what a model sees."""

    name: str
    unit: str
    low: float
    high: float
    centre: float
    scale: float
    zero_is_missing: bool = False
    indicator: bool = False


@dataclass(frozen=True, slots=True)
class CodeColumn:
    """One of `levels`, which are words or numbers as written; `ordered`: from least to most."""

    name: str
    levels: tuple[str, ...]
    ordered: bool = False
    indicator: bool = False

    @property
    def values(self) -> tuple[float, ...]:
        """What stands for each level in an array: its number if all levels are numbers, else its place in the list."""
        numbers = [number_in(level) for level in self.levels]
        known = [one for one in numbers if one is not None]
        return tuple(known) if len(known) == len(numbers) else tuple(map(float, range(len(numbers))))

    def level(self, word: str) -> str | None:
        """The level that `word` is, by its text or as an equal number."""
        if word in self.levels:
            return word
        value = number_in(word)
        return None if value is None else next((one for one in self.levels if number_in(one) == value), None)


Column = NumberColumn | CodeColumn


@dataclass(frozen=True, slots=True)
class BinaryLabel:
    """Yes or no: one of `positive`, or another of the column's levels."""

    column: CodeColumn
    positive: tuple[str, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column,)


Label = BinaryLabel


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A task on a table, whole. `hidden` units make an MLP; 0: the model is linear."""

    columns: tuple[Column, ...]
    label: Label
    hidden: int
    learning_rate: float
    expected_batch: float

    @classmethod
    def parse(cls, raw: bytes, source: str) -> TableSchema:
        """The schema in a file of its own. Raises leaves of errors.federation with line and column."""
        return cls.read(strict_yaml.read_yaml(raw, source))

    @classmethod
    def read(cls, top: Table) -> TableSchema:
        """The schema that a table of YAML holds. Raises TableUnfit, which tells all that does not fit."""
        found = Misfits(top.place)
        found.only(top, KEYS)
        columns = _columns(top, found)
        label = _label(top, {one.name for one in columns}, found)
        hidden = found.read(top, "model", _read_model, 0)
        rate = found.read(top, "learning_rate", decimal(0, 1000), 0.0)
        batch = found.read(top, "expected_batch", decimal(0, 1e6), 0.0)
        found.refuse_any()
        if label is None:
            raise ValueError("a label that could not be read, and no misfit")
        return cls(columns, label, hidden, rate, batch)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that is read, the label's last: a file with these and no others fits."""
        return (*(one.name for one in self.columns), *(one.name for one in self.label.columns))

    @property
    def summary(self) -> str:
        """One line for people."""
        model = f"an MLP of {self.hidden} hidden units" if self.hidden else "a linear model"
        return f"{len(self.columns)} columns, {model}, label {', '.join(one.name for one in self.label.columns)}"


def number_in(word: str) -> float | None:
    """The finite number that `word` is, or None. No blanks, underscores, hex or infinities."""
    if not word.isascii() or "_" in word:
        return None
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# ── all misfits at once ───────────────────────────────────────────────────────────────────────────────────────


class Misfits:
    """What does not fit in one file, with its places: readers go on behind a misfit, and all are told together."""

    def __init__(self, place: Position) -> None:
        self._place = place
        self._found: list[tuple[Position, str]] = []
        self._blank: dict[int, list[tuple[Position, str]]] = {}  # by line: what a draft left to fill in

    def add(self, place: Position, what: str) -> None:
        self._found.append((place, what))

    def add_blank(self, place: Position, key: str) -> None:
        """A placeholder of a draft."""
        self._blank.setdefault(place.line, []).append((place, key))

    def only(self, row: Table, keys: tuple[str, ...]) -> None:
        """Every key of `row` must be one of `keys`."""
        for key, (place, _) in row.rows.items():
            if key not in keys:
                self.add(place, f"{row.named(shown(key))} is not known; known here are {', '.join(keys)}")

    def read(self, row: Table, key: str, read: Callable[[YamlNode, str], T], otherwise: T) -> T:
        """The value of `key`; `otherwise` after a misfit, which is kept."""
        if key in row.rows and (blanks := _blanks_in(row.rows[key][1])):
            for place in blanks:
                self.add_blank(place, row.named(key))
            return otherwise
        try:
            return row.value(key, read)
        except MissingKey:
            self.add(row.place, f"{row.named(key)} is missing")
        except WrongValue as error:
            source, line, column = error.fields["place"].rsplit(":", 2)
            text = f"{error.fields['key']} must be {error.fields['wanted']} ({error.evidence})"
            self.add(Position(source, int(line), int(column)), text)
        return otherwise

    def flag(self, row: Table, key: str) -> bool:
        """`true` or `false`; a key that is not there is false."""
        return key in row.rows and self.read(row, key, truth, False)

    def refuse_any(self) -> None:
        """Raises TableUnfit if there is a misfit."""
        for blanks in self._blank.values():  # those of one line are one misfit
            keys = list(dict.fromkeys(key for _, key in blanks))
            rest = "".join(f", {key.rpartition('.')[2]}" for key in keys[1:])
            self.add(blanks[0][0], f"{keys[0]}{rest} {'are' if rest else 'is'} still to fill in")
        if self._found:
            self._refuse()

    def _refuse(self) -> NoReturn:
        (place, first), *others = sorted(self._found, key=lambda one: (one[0].line, one[0].column))
        told = [f"line {at.line}, column {at.column}: {what}" for at, what in others[:MOST_TOLD]]
        told += [f"and {len(others) - MOST_TOLD} more"] if len(others) > MOST_TOLD else []
        evidence = "\n".join(told) or "nothing else in it is wrong"
        raise TableUnfit(evidence=evidence, place=place, source=self._place.source, what=first)


def _blanks_in(node: YamlNode) -> list[Position]:
    """Where a draft's placeholder stands in a value or a list of values."""
    if isinstance(node, Word):
        return [node.place] if node.text == TODO and not node.quoted else []
    return [place for one in node.values for place in _blanks_in(one)] if isinstance(node, List) else []


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS: Final = ("columns", "label", "model", "learning_rate", "expected_batch")
NUMBER_KEYS: Final = ("number", "low", "high", "centre", "scale", "zero_is_missing", "indicator")
CODE_KEYS: Final = ("code", "ordered", "indicator")
BINARY_KEYS: Final = ("binary", "positive")


def is_name(word: str) -> bool:
    """It can name a column, a level or a unit: printable, on one line, at most 64 characters."""
    return 0 < len(word) <= MOST_NAME and word.isprintable() and word == word.strip()


def is_column_name(word: str) -> bool:
    """It can name a column: a name that does not begin like a value, and no placeholder."""
    return is_name(word) and word[0] not in DIGITS and word != TODO


def read_unit(node: YamlNode, key: str) -> str:
    """A unit. Raises WrongValue."""
    if isinstance(node, Word) and is_name(node.text):
        return node.text
    wrong(node, key, f"a unit, as in mmHg: at most {MOST_NAME} printable characters")


def read_level(node: YamlNode, key: str) -> str:
    """A level as it is written. A mark of *not measured* is none. Raises WrongValue."""
    if isinstance(node, Word) and is_name(node.text) and node.text not in MISSING:
        return node.text
    marks = ", ".join(filter(None, MISSING))
    wrong(node, key, f"a word or a number of at most {MOST_NAME} characters, none of {marks}")


def levels_of(least: int) -> Callable[[YamlNode, str], tuple[str, ...]]:
    """A list of `least` levels or more."""

    def read(node: YamlNode, key: str) -> tuple[str, ...]:
        count = len(node.values) if isinstance(node, List) else 0
        if not least <= count <= MOST_LEVELS:
            wrong(node, key, f"a list of {least} to {MOST_LEVELS} levels, not of {count}")
        return items(read_level, MOST_LEVELS)(node, key)

    return read


def _read_model(node: YamlNode, key: str) -> int:
    """`linear`, or `{mlp: UNITS}`, as the number of hidden units. Raises WrongValue."""
    if isinstance(node, Word) and node.text == "linear":
        return 0
    if isinstance(node, Table) and list(node.rows) == ["mlp"]:
        return whole(1, MOST_HIDDEN)(node.rows["mlp"][1], f"{key}.mlp")
    wrong(node, key, f"linear, or {{mlp: UNITS}} with 1 to {MOST_HIDDEN} hidden units")


def _columns(top: Table, found: Misfits) -> tuple[Column, ...]:
    rows = found.read(top, "columns", table, Table({}, top.place, "columns"))
    if "columns" in top.rows and not 1 <= len(rows.rows) <= MOST_COLUMNS:
        found.add(rows.place, f"columns must be 1 to {MOST_COLUMNS} (found {len(rows.rows)})")
    columns = (_column(name, rows, found) for name in rows.rows)
    return tuple(one for one in columns if one is not None)


def _column(name: str, rows: Table, found: Misfits) -> Column | None:
    row = named_row(name, rows, found)
    if row is None:
        return None
    kind = kind_of(row, ("number", "code"), found)
    if kind == "number":
        found.only(row, NUMBER_KEYS)
        return read_number_column(name, row, found, "number")
    if kind == "code":
        found.only(row, CODE_KEYS)
        levels = read_levels(row, "code", found)
        return CodeColumn(name, levels, found.flag(row, "ordered"), found.flag(row, "indicator"))
    return None


def named_row(name: str, rows: Table, found: Misfits) -> Table | None:
    """The row of a column, which has a name that can be one."""
    place = rows.rows[name][0]
    if name == TODO:
        found.add_blank(place, f"{rows.path}'s name")
    elif not is_column_name(name):
        wanted = f"a name: at most {MOST_NAME} printable characters, the first no digit, sign or dot"
        found.add(place, f"{shown(name)} is not {wanted}")
    none = Table({}, place)
    row = found.read(rows, name, table, none)
    return None if row is none else row


def kind_of(row: Table, kinds: tuple[str, ...], found: Misfits) -> str | None:
    """The one of `kinds` that `row` names."""
    named = [kind for kind in kinds if kind in row.rows]
    if len(named) == 1:
        return named[0]
    says = f"says {' and '.join(named)}" if named else "says no kind"
    found.add(row.place, f"{row.path} {says}: one of {', '.join(kinds)} must stand there")
    return None


def read_number_column(name: str, row: Table, found: Misfits, kind: str) -> NumberColumn:
    """The number that `row` describes; its unit stands behind `kind`."""
    unit = found.read(row, kind, read_unit, "")
    low, high, centre, scale = (found.read(row, key, number, math.nan) for key in ("low", "high", "centre", "scale"))
    if low >= high:
        found.add(row.node("high").place, f"{row.named('high')} must lie above low ({low:g})")
    elif centre < low or centre > high:
        found.add(row.node("centre").place, f"{row.named('centre')} must lie from low to high ({low:g} to {high:g})")
    if scale <= 0:
        found.add(row.node("scale").place, f"{row.named('scale')} must be above 0")
    flags = found.flag(row, "zero_is_missing"), found.flag(row, "indicator")
    return NumberColumn(name, unit, low, high, centre, scale, *flags)


def read_levels(row: Table, key: str, found: Misfits) -> tuple[str, ...]:
    """The levels under `key`: 2 or more, no two of them alike."""
    known = CodeColumn("", ())
    for level in found.read(row, key, levels_of(2), NONE):
        if known.level(level) is not None:
            found.add(row.node(key).place, f"{row.named(key)} has the level {shown(level)} twice")
        known = CodeColumn("", (*known.levels, level))
    return known.levels


# ── the label ─────────────────────────────────────────────────────────────────────────────────────────────────


def _label(top: Table, columns: set[str], found: Misfits) -> Label | None:
    none = Table({}, top.place, "label")
    rows = found.read(top, "label", table, none)
    if rows is none:
        return None
    if len(rows.rows) != 1:
        found.add(rows.place, f"the label must be one column (found {len(rows.rows)})")
    labels = [_label_row(name, rows, columns, found) for name in rows.rows]
    return labels[0] if labels else None


def _label_row(name: str, rows: Table, columns: set[str], found: Misfits) -> Label | None:
    row = named_row(name, rows, found)
    if name in columns:
        found.add(rows.rows[name][0], f"{name} is the label, so it can be no column")
    if row is None or kind_of(row, ("binary",), found) is None:
        return None
    found.only(row, BINARY_KEYS)
    column = CodeColumn(name, read_levels(row, "binary", found))
    return BinaryLabel(column, read_positive(row, column, found))


def read_positive(row: Table, column: CodeColumn, found: Misfits) -> tuple[str, ...]:
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

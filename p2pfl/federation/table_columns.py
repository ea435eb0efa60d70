"""The columns of a described table: numbers and codes, and how their rows are read.

A cell matches a level of a code by its text, or as an equal number. All numbers are public and agreed: what is
plausible, and the round figures of clinical practice that scale a column. None is ever a statistic of records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from p2pfl.federation.misfits import TODO, Misfits
from p2pfl.federation.readers import List, Table, Word, YamlNode, items, number, shown, table, wrong

MISSING: Final = ("", "?", "-9", "-9.0", "NA", "NaN", "nan")  # UCI's own marks, and those of common tools
DIGITS: Final = frozenset("0123456789+-.?")  # first characters that a value may have and a column's name does not
MOST_COLUMNS: Final = 2048
MOST_LEVELS: Final = 256
MOST_NAME: Final = 64  # characters of a column's name, a level or a unit
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


def number_in(word: str) -> float | None:
    """The finite number that `word` is, or None. No blanks, underscores, hex or infinities."""
    if not word.isascii() or "_" in word:
        return None
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

NUMBER_KEYS: Final = ("number", "low", "high", "centre", "scale", "zero_is_missing", "indicator")
CODE_KEYS: Final = ("code", "ordered", "indicator")
ASKED_KEYS: Final = {"number": ("number", "low", "high", "zero_is_missing"), "code": ("code",)}


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


def read_columns(top: Table, found: Misfits) -> tuple[Column, ...]:
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


def read_asked(top: Table, taken: set[str], found: Misfits) -> tuple[Column, ...]:
    """The columns under `asked`, if it is there: what statistics need of them, and nothing that a model would.

    taken   columns and label: what is learned may be asked as that
    """
    if "asked" not in top.rows:
        return ()
    none = Table({}, top.place, "asked")
    rows = found.read(top, "asked", table, none)
    if rows is not none and not 1 <= len(rows.rows) <= MOST_COLUMNS:
        found.add(rows.place, f"asked must be 1 to {MOST_COLUMNS} rows (found {len(rows.rows)})")
    for name in taken & rows.rows.keys():
        found.add(rows.rows[name][0], f"{name} is a column or the label, and may be asked as that")
    columns = (_asked(name, rows, found) for name in rows.rows)
    return tuple(one for one in columns if one is not None)


def _asked(name: str, rows: Table, found: Misfits) -> Column | None:
    row = named_row(name, rows, found)
    kind = None if row is None else kind_of(row, tuple(ASKED_KEYS), found)
    if row is None or kind is None:
        return None
    found.only(row, ASKED_KEYS[kind])
    if kind == "code":
        return CodeColumn(name, read_levels(row, "code", found))
    unit = found.read(row, "number", read_unit, "")
    low, high = _read_bounds(row, found)
    # No model scales it: the whole range is one.
    return NumberColumn(name, unit, low, high, low, high - low, found.flag(row, "zero_is_missing"))


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
    low, high = _read_bounds(row, found)
    centre, scale = (found.read(row, key, number, math.nan) for key in ("centre", "scale"))
    if low < high and (centre < low or centre > high):
        found.add(row.node("centre").place, f"{row.named('centre')} must lie from low to high ({low:g} to {high:g})")
    if scale <= 0:
        found.add(row.node("scale").place, f"{row.named('scale')} must be above 0")
    flags = found.flag(row, "zero_is_missing"), found.flag(row, "indicator")
    return NumberColumn(name, unit, low, high, centre, scale, *flags)


def _read_bounds(row: Table, found: Misfits) -> tuple[float, float]:
    """What is plausible: from `low` to `high`."""
    low, high = (found.read(row, key, number, math.nan) for key in ("low", "high"))
    if low >= high:
        found.add(row.node("high").place, f"{row.named('high')} must lie above low ({low:g})")
    return low, high


def read_levels(row: Table, key: str, found: Misfits) -> tuple[str, ...]:
    """The levels under `key`: 2 or more, no two of them alike."""
    known = CodeColumn("", ())
    for level in found.read(row, key, levels_of(2), NONE):
        if known.level(level) is not None:
            found.add(row.node(key).place, f"{row.named(key)} has the level {shown(level)} twice")
        known = CodeColumn("", (*known.levels, level))
    return known.levels

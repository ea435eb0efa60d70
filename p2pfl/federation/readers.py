"""The values of a strict YAML file: nodes that know their line and column, and readers that say what each must be.

A word has no type of its own: `no`, `1e3` and `007` are words until a reader takes them for a number, a truth value
or a name. A reader returns the value or raises WrongValue with the place. `strict_yaml.read_yaml` makes the nodes.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

from p2pfl.errors.federation import MissingKey, UnknownKey, WrongValue

MOST_SHOWN: Final = 40  # characters of a wrong value that an error repeats

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file: line and column count from 1; line 0 is the command line."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Word:
    """One scalar as written; `quoted` words are never numbers, truth values or null."""

    text: str
    quoted: bool
    place: Position

    @property
    def shown(self) -> str:
        return shown(self.text)


@dataclass(frozen=True, slots=True)
class List:
    """A sequence."""

    values: tuple[YamlNode, ...]
    place: Position


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with its keys' places; `path` is the dotted name for errors ("" at the top)."""

    rows: dict[str, tuple[Position, YamlNode]]
    place: Position
    path: str = ""

    def named(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def only(self, keys: Iterable[str]) -> None:
        """Raise UnknownKey at the first key that is not in `keys`."""
        known = list(keys)
        for key, (place, _) in self.rows.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                evidence = f"known here: {', '.join(known)}{hint}"
                raise UnknownKey(evidence=evidence, place=place, source=place.source, key=shown(key))

    def node(self, key: str) -> YamlNode:
        """The value of `key`. Raises MissingKey."""
        if key not in self.rows:
            where = f"the table {self.path}" if self.path else "the file"
            raise MissingKey(
                evidence=f"{where} has {', '.join(self.rows) or 'no keys'}",
                place=self.place,
                source=self.place.source,
                key=self.named(key),
            )
        return self.rows[key][1]

    def value(self, key: str, read: Callable[[YamlNode, str], T]) -> T:
        """The value of `key`, as `read` returns it. Raises MissingKey, and what `read` raises."""
        return read(self.node(key), self.named(key))


YamlNode = Word | List | Table


def shown(text: str) -> str:
    """`text` quoted for an error: escaped, and cut when long."""
    return repr(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…")


def wrong(node: YamlNode, key: str, wanted: str) -> NoReturn:
    """Raise WrongValue, which shows what was found."""
    found = node.shown if isinstance(node, Word) else "a list" if isinstance(node, List) else "a table"
    raise WrongValue(evidence=f"found {found}", place=node.place, source=node.place.source, key=key, wanted=wanted)


# ── readers: (node, key) ► value, or WrongValue ───────────────────────────────────────────────────────────────


def text(pattern: str, wanted: str) -> Callable[[YamlNode, str], str]:
    """A word that matches `pattern` as a whole."""
    compiled = re.compile(pattern)

    def read(node: YamlNode, key: str) -> str:
        if isinstance(node, Word) and compiled.fullmatch(node.text):
            return node.text
        wrong(node, key, wanted)

    return read


def choice(*options: str) -> Callable[[YamlNode, str], str]:
    """One of a few words."""

    def read(node: YamlNode, key: str) -> str:
        if isinstance(node, Word) and node.text in options:
            return node.text
        wrong(node, key, f"one of {', '.join(options)}" if len(options) > 1 else options[0])

    return read


def whole(least: int, most: int) -> Callable[[YamlNode, str], int]:
    """A whole number from `least` to `most`, unquoted."""

    def read(node: YamlNode, key: str) -> int:
        if isinstance(node, Word) and not node.quoted and _WHOLE.fullmatch(node.text):
            value = int(node.text)
            if least <= value <= most:
                return value
        wrong(node, key, f"a whole number from {least} to {most}")

    return read


def decimal(above: float, most: float) -> Callable[[YamlNode, str], float]:
    """A finite number greater than `above` and at most `most`, unquoted."""
    return _number(lambda value: above < value <= most, f"a number above {above:g} and at most {most:g}")


def between(least: float, most: float) -> Callable[[YamlNode, str], float]:
    """A number from `least` to `most`, both of them included, unquoted."""
    return _number(lambda value: least <= value <= most, f"a number from {least:g} to {most:g}")


def _number(fits: Callable[[float], bool], what: str) -> Callable[[YamlNode, str], float]:
    def read(node: YamlNode, key: str) -> float:
        if isinstance(node, Word) and not node.quoted and _DECIMAL.fullmatch(node.text):
            value = float(node.text)
            if math.isfinite(value) and fits(value):
                return value
        wrong(node, key, what)

    return read


def part(node: YamlNode, key: str) -> float:
    """A number from 0 on and below 1, unquoted."""
    if isinstance(node, Word) and not node.quoted and _DECIMAL.fullmatch(node.text) and 0.0 <= float(node.text) < 1.0:
        return float(node.text)
    wrong(node, key, "a number from 0 on and below 1")


def number(node: YamlNode, key: str) -> float:
    """A number of at most 18 digits before the point, of either sign, unquoted."""
    if isinstance(node, Word) and not node.quoted and _DECIMAL.fullmatch(node.text):
        value = float(node.text)
        if math.isfinite(value):
            return value
    wrong(node, key, "a number")


def truth(node: YamlNode, key: str) -> bool:
    """`true` or `false`; yes, no, on and off are words."""
    if isinstance(node, Word) and not node.quoted and node.text in ("true", "false"):
        return node.text == "true"
    wrong(node, key, "true or false")


def nothing_or(read: Callable[[YamlNode, str], T]) -> Callable[[YamlNode, str], T | None]:
    """`null`, or what `read` takes."""

    def either(node: YamlNode, key: str) -> T | None:
        if isinstance(node, Word) and not node.quoted and node.text == "null":
            return None
        return read(node, key)

    return either


def items(read: Callable[[YamlNode, str], T], most: int) -> Callable[[YamlNode, str], tuple[T, ...]]:
    """A list of at most `most` values."""

    def read_all(node: YamlNode, key: str) -> tuple[T, ...]:
        if not isinstance(node, List) or len(node.values) > most:
            wrong(node, key, f"a list of at most {most}")
        return tuple(read(value, f"{key}[{index}]") for index, value in enumerate(node.values))

    return read_all


def table(node: YamlNode, key: str) -> Table:
    """A table, its path set for the errors of its rows."""
    if not isinstance(node, Table):
        wrong(node, key, "a table of keys and values")
    return Table(node.rows, node.place, key)

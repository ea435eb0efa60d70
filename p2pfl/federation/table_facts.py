"""A table's description as facts, for the file of a model that was trained on one; read back by the reader of YAML.

Columns are a list, since the keys of facts have no order. Numbers are decimal text, which reads back as the same float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from p2pfl.federation.misfits import TODO
from p2pfl.federation.readers import List, Position, Table, Word, YamlNode, wrong
from p2pfl.federation.table_columns import CodeColumn, Column, NumberColumn
from p2pfl.federation.table_labels import BinaryLabel, ClassLabel, Label, NumberLabel
from p2pfl.federation.table_schema import TableSchema

Facts = dict[str, Any]

MOST_DEPTH: Final = 8


def facts_of(schema: TableSchema) -> Facts:
    """The schema as text, whole numbers, truth values, lists and maps of those."""
    return {
        "columns": [_column(one) for one in schema.columns],
        "label": _label(schema.label),
        "model": {"mlp": schema.hidden} if schema.hidden else "linear",
        "learning_rate": decimal_text(schema.learning_rate),
        "expected_batch": decimal_text(schema.expected_batch),
        **({"patient": schema.patient} if schema.patient else {}),
        **({"asked": [_asked(one) for one in schema.asked]} if schema.asked else {}),
    }


def schema_of(facts: Mapping[str, Any], source: str) -> TableSchema:
    """The inverse. Raises leaves of errors.federation: what peers.yaml may not say, nobody's file may."""
    rows = dict(facts)
    for key in ("columns", "label", *(["asked"] if "asked" in rows else [])):
        rows[key] = _by_name(rows.get(key), key, source)
    found = node_of(rows, source)
    if not isinstance(found, Table):
        raise TypeError(type(found).__name__)
    return TableSchema.read(found)


def decimal_text(value: float) -> str:
    """The shortest decimal that reads back as the same float: 55, 0.1, 1e-05."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def node_of(value: object, source: str, depth: int = 0) -> YamlNode:
    """A value of JSON as the readers take it. What is no text, number, list or map becomes a word that fits nowhere."""
    place = Position(source, 1, 1)
    if depth < MOST_DEPTH and isinstance(value, Mapping):
        return Table({str(key): (place, node_of(one, source, depth + 1)) for key, one in value.items()}, place)
    if depth < MOST_DEPTH and isinstance(value, (list, tuple)):
        return List(tuple(node_of(one, source, depth + 1) for one in value), place)
    if isinstance(value, bool):
        return Word("true" if value else "false", False, place)
    if value is None:
        return Word("null", False, place)
    return Word(str(value), value == TODO, place) if isinstance(value, (str, int)) else Word("", True, place)


def _by_name(rows: object, key: str, source: str) -> Facts:
    """[{name, …}] ► {name: {…}}. Raises WrongValue where it is no such list, or names one twice."""
    found: Facts = {}
    for row in rows if isinstance(rows, list) else [None]:
        name = row.get("name") if isinstance(row, Mapping) else None
        if not isinstance(row, Mapping) or not isinstance(name, str) or name in found:
            wrong(node_of(None, source), key, "a list of rows, each with a name of its own")
        found[name] = {inner: value for inner, value in row.items() if inner != "name"}
    return found


def _column(column: Column) -> Facts:
    indicator = {"indicator": True} if column.indicator else {}
    if isinstance(column, NumberColumn):
        zero = {"zero_is_missing": True} if column.zero_is_missing else {}
        return {**_number(column), **zero, **indicator}
    ordered = {"ordered": True} if column.ordered else {}
    return {**_code(column, "code"), **ordered, **indicator}


def _number(column: NumberColumn) -> Facts:
    numbers = {key: decimal_text(getattr(column, key)) for key in ("low", "high", "centre", "scale")}
    return {"name": column.name, "number": column.unit, **numbers}


def _asked(column: Column) -> Facts:
    return {key: told for key, told in _column(column).items() if key not in ("centre", "scale")}


def _code(column: CodeColumn, kind: str) -> Facts:
    return {"name": column.name, kind: list(column.levels)}


def _label(label: Label) -> list[Facts]:
    if isinstance(label, BinaryLabel):
        return [{**_code(label.column, "binary"), "positive": list(label.positive)}]
    if isinstance(label, ClassLabel):
        return [_code(label.column, "class")]
    if isinstance(label, NumberLabel):
        return [_number(label.column)]
    time = {"time": label.time.unit, "high": decimal_text(label.time.high), "grid": [*map(decimal_text, label.grid)]}
    event = {**_code(label.event, "event"), "positive": list(label.positive)}
    return [{"name": label.time.name, **time}, event]

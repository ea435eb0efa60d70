"""What a question needs, field by field, from the statistic's own types: command and Python ask for the same."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, Final

from p2pfl.node.question_file import COLUMN
from p2pfl.statistics.question import Factor, Quantity, Statistic

COLUMNS: Final = (Quantity, Factor)


def term_of(kind: type[Statistic], one: Field[Any]) -> tuple[bool, Any]:
    """What a field holds: (a list, or one, of which type). None and unions are left out; any column is a Quantity."""
    hint = typing.get_type_hints(kind)[one.name]
    many = typing.get_origin(hint) is tuple
    inner = typing.get_args(hint)[0] if many else hint
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        inner = next(part for part in typing.get_args(inner) if part is not type(None))
    return many, (Quantity if inner in COLUMNS else inner)


def told_of(kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A question as facts, from its parameters as a program gives them: columns by name, numbers as numbers.

    What does not fit is left as it is: reading the facts tells what belongs there.
    """
    from p2pfl.statistics.registry import STATISTICS  # all kinds: a training and a sum start without them

    cls, told = STATISTICS.get(kind), dict[str, Any]({"kind": kind})
    terms = {one.name: term_of(cls, one) for one in fields(cls)} if cls is not None else {}
    for name, value in parameters.items():
        many, what = terms.get(name, (False, None))
        told[name] = [_told(what, one) for one in value] if many and not isinstance(value, str) else _told(what, value)
    return told


def _told(what: Any, value: Any) -> Any:
    if what is Quantity and isinstance(value, str):
        return {COLUMN: value}
    return repr(float(value)) if what is float and hasattr(value, "__float__") else value

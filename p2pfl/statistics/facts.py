"""A question as facts and back: how it is proposed, approved and written down. Nothing that it may not be is read.

Reals are decimal text, which reads back as the same float: facts have no floats, so that one question has one digest.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Final

from p2pfl.errors.statistics import WrongQuestion
from p2pfl.statistics.question import Factor, Facts, Quantity, Statistic

MOST_ITEMS: Final = 4096  # of a list: edges, times, levels, columns
MOST_TEXT: Final = 64  # characters of a name or a level, as in a schema
MOST_DIGITS: Final = 32  # of a number as text


def facts_of(statistic: Statistic) -> Facts:
    """Text, whole numbers, truth values, None, lists and maps of those."""
    return {"kind": statistic.kind, **_plain_fields(statistic)}


def question_of(facts: Mapping[str, Any]) -> Statistic:
    """The inverse. Raises WrongQuestion, whoever wrote the facts."""
    from p2pfl.statistics.registry import STATISTICS  # all kinds: a training and a sum start without them

    kind = facts.get("kind")
    cls = STATISTICS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise WrongQuestion(evidence=f"known are {', '.join(STATISTICS)}", kind=_shown(kind))
    try:
        found = _read_fields(cls, {key: value for key, value in facts.items() if key != "kind"}, "")
    except _Unfit as unfit:
        raise WrongQuestion(evidence=str(unfit), kind=cls.kind) from None
    if not isinstance(found, Statistic):
        raise TypeError(type(found).__name__)
    return found


class _Unfit(Exception):
    """A fact that is not of its field's type."""


def _shown(value: object) -> str:
    return value[:MOST_TEXT] if isinstance(value, str) and value.isprintable() else type(value).__name__


def _plain(value: object) -> object:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return _plain_fields(value) if is_dataclass(value) else value


def _plain_fields(value: object) -> Facts:
    return {field.name: _plain(getattr(value, field.name)) for field in fields(typing.cast(Any, value))}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read_fields(cls: type, facts: object, where: str) -> object:
    if not isinstance(facts, Mapping):
        raise _Unfit(f"{where or 'the question'} must be a map")
    known = fields(cls)
    if strange := [key for key in facts if key not in {field.name for field in known}]:
        raise _Unfit(
            f"{where or 'the question'} has no {_shown(strange[0])}: known are {', '.join(f.name for f in known)}"
        )
    found = {}
    for field in known:
        path = f"{where}.{field.name}".lstrip(".")
        if field.name in facts:
            found[field.name] = _read(_hints(cls)[field.name], facts[field.name], path)
        elif field.default is MISSING:
            raise _Unfit(f"{path} is missing")
    return cls(**found)


def _read(hint: Any, value: object, where: str) -> object:
    """`value` as the type `hint`. Raises _Unfit."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _read_either(inner, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) > MOST_ITEMS:
            raise _Unfit(f"{where} must be a list of at most {MOST_ITEMS}")
        return tuple(_read(inner[0], one, f"{where}[{place}]") for place, one in enumerate(value))
    if hint is float:
        return _read_float(value, where)
    if hint is str:
        if not isinstance(value, str) or not 0 < len(value) <= MOST_TEXT or not value.isprintable():
            raise _Unfit(f"{where} must be a text of 1 to {MOST_TEXT} printable characters")
        return value
    if hint in (bool, int):
        if type(value) is not hint or not isinstance(value, int) or abs(value) > 1 << 53:
            raise _Unfit(f"{where} must be {'true or false' if hint is bool else 'a whole number'}")
        return value
    return _read_fields(hint, value, where)


def _read_either(hints: tuple[Any, ...], value: object, where: str) -> object:
    """One of several: None, or a column, which is a number when it has bounds and a code when it has levels."""
    if type(None) in hints and value is None:
        return None
    left = [hint for hint in hints if hint is not type(None)]
    if left == [Quantity, Factor]:
        return _read(Factor if isinstance(value, Mapping) and "levels" in value else Quantity, value, where)
    return _read(left[0], value, where)


def _read_float(value: object, where: str) -> float:
    if type(value) is int and abs(value) <= 1 << 53:
        return float(value)
    text = value if isinstance(value, str) and value.isascii() and "_" not in value else ""
    try:
        found = float(text) if 0 < len(text) <= MOST_DIGITS else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise _Unfit(f"{where} must be a number")
    return found

"""What a field of an entry may hold: one function for each, from value to yes or no."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from p2pfl.roster import NAME

HEX32: Final = re.compile(r"[0-9a-f]{64}")
REAL: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]{1,3})?|inf)")

Check = Callable[[Any], bool]


def is_hash(value: Any) -> bool:
    """32 bytes, in hex."""
    return isinstance(value, str) and HEX32.fullmatch(value) is not None


def is_whole(value: Any) -> bool:
    """A whole number, 0 or more."""
    return type(value) is int and value >= 0


def is_text(value: Any) -> bool:
    """A short line of text."""
    return isinstance(value, str) and len(value) <= 200 and value.isprintable()


def is_real(value: Any) -> bool:
    """A decimal number, as text."""
    return isinstance(value, str) and REAL.fullmatch(value) is not None


def is_spent(value: Any) -> bool:
    """A decimal number, or empty: a round that charges nothing."""
    return value == "" or is_real(value)  # empty: a round that charges nothing


def is_name(value: Any) -> bool:
    """A site's name."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def is_map(value: Any) -> bool:
    """A map, whose keys are its writer's matter."""
    return isinstance(value, dict)


def optional(check: Check) -> Check:
    """Null, or what `check` takes."""
    return lambda value: value is None or check(value)


def many(check: Check) -> Check:
    """A list of what `check` takes."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def by_name(check: Check) -> Check:
    """By site, what `check` takes."""
    return lambda value: isinstance(value, dict) and all(is_name(name) and check(one) for name, one in value.items())


def is_peers(value: Any) -> bool:
    """Names and keys, in order."""
    rows = value if isinstance(value, list) else []
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2 and is_name(row[0]) and is_hash(row[1])]
    return bool(rows) and len(pairs) == len(rows)


def is_vote(value: Any) -> bool:
    """One of the two votes."""
    return value in ("SURVIVORS", "ABANDON")

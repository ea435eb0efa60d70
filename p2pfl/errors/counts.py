"""A number and its noun, for people: one round, two passes, no entries."""

from __future__ import annotations


def counted(count: int, one: str) -> str:
    """`1 round`, `2 rounds`, `0 passes`; `one` is a single one of them, and its last word is what there are many of."""
    if count == 1:
        return f"1 {one}"
    if one.endswith("y") and one[-2] not in "aeou":
        return f"{count} {one[:-1]}ies"
    return f"{count} {one}es" if one.endswith(("s", "sh", "ch", "x")) else f"{count} {one}s"

"""How two files that should be the same differ, line by line."""

from __future__ import annotations

import difflib


def difference(mine: bytes, theirs: bytes, mine_name: str = "yours", theirs_name: str = "theirs") -> str:
    """Line diff of two files, "" when they are the same bytes."""
    left, right = (raw.decode("utf-8", "replace").splitlines(keepends=True) for raw in (mine, theirs))
    lines = difflib.unified_diff(left, right, mine_name, theirs_name, n=1)
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def first_difference(mine: bytes, theirs: bytes) -> int | None:
    """Number (from 1) of the first line that differs; None when the bytes are the same."""
    if mine == theirs:
        return None
    left, right = mine.split(b"\n"), theirs.split(b"\n")
    pairs = enumerate(zip(left, right, strict=False), start=1)
    return next((number for number, (one, other) in pairs if one != other), min(len(left), len(right)) + 1)

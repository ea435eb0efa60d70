"""Rows as CSV. What a file that somebody handed on calls a column or a level is a word, and never a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

FORMULAS: Final = ("=", "+", "-", "@", "\t")  # first characters that a spreadsheet takes for one


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """The rows, each a line: a cell may hold a comma, a quotation mark, a line break."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().removesuffix("\n")


def inert(text: str) -> str:
    """`text` as a spreadsheet shows it: behind an apostrophe, where it would be computed."""
    return f"'{text}" if text.startswith(FORMULAS) else text

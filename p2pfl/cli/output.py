"""The only print of the program. Progress to stderr, one result to stdout, the same content as `--json`.

With --json stdout holds exactly one line, a JSON object, so `| tail -n 1` and `| jq` both work. Errors go to stderr
as text; with --json the object is {"error": …} then.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from p2pfl.errors import P2PFLError


def progress(line: str) -> None:
    """One line on stderr, seen at once."""
    print(line, file=sys.stderr, flush=True)


def result(text: str, facts: Mapping[str, object], as_json: bool) -> None:
    """The command's one result on stdout: `text`, or `facts` as one line of JSON."""
    print(json.dumps(facts, ensure_ascii=False, allow_nan=False) if as_json else text, flush=True)


def failure(error: P2PFLError, as_json: bool) -> None:
    """The error on stderr; with --json also as the last line of stdout."""
    print(error.render(), file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps({"error": error.as_json()}, ensure_ascii=False), flush=True)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns padded to their widest cell, two blanks apart; `right` names the columns that align right."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(width) if at in right else cell.ljust(width)
                  for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def amount(count: float) -> str:
    """Bytes as people read them: 812 B, 3.1 kB, 412 MB (powers of 1000)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            scaled = count / size
            return f"{scaled:.0f} {unit}" if scaled >= 100 else f"{scaled:.1f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """41 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

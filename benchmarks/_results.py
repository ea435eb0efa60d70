"""What benchmarks found, as JSON lines: written, read, and the last run compared with the one before it.

A line is one finding of one script. Two of them are of the same thing when command, benchmark, name, processor, cores
and inner loops are the same: what another machine found is never compared.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def line_of(told: Line, *, run: str, commit: str, section: str, command: str, seconds: float) -> Line:
    """A finding as it is kept. `ratio` is its median, or null where that has a unit; `seconds` are the script's."""
    ratio = told["median"] if not told["unit"] else None
    where = {"run": run, "commit": commit, "section": section, "command": command, "seconds": round(seconds, 2)}
    return {**where, "ratio": ratio, **told}


def told(path: Path) -> list[Line]:
    """What a script wrote into the file that FINDINGS_FILE named; nothing when it wrote none."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def append(path: Path, lines: Iterable[Line]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)


def read(path: Path) -> list[Line]:
    """All lines, in order; none of a file that is not there. Raises ValueError, which says which line is no finding."""
    if not path.exists():
        return []
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            one = json.loads(text)
            _of(one)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}, is no finding: {error!r}") from None
        found.append(one)
    return found


def _of(line: Line) -> tuple[object, ...]:
    """What the line is a finding of."""
    on = line["machine"]
    machine = (on.get("processor"), on.get("cores"), on.get("inner loops"))
    return (line["command"], line["benchmark"], line["name"], line["unit"], *machine)


def promised(lines: Sequence[Line]) -> list[str]:
    """One line for each promise, under the benchmark that measured it; those that are not held say so."""
    told = [one for one in lines if one["promise"]]
    found, title = [], None
    width = max((len(str(one["name"])) for one in told), default=0)
    for one in told:
        if one["benchmark"] != title:
            title = one["benchmark"]
            found.append(str(title))
        median, spread = f"{one['median']:8.3g}", f"({one['least']:.3g} to {one['most']:.3g})"
        found.append(f"  {one['name']!s:{width}s} {median} {one['unit']!s:10s} {spread:20s} {one['promise']}")
    held = sum(bool(one["holds"]) for one in told)
    return [*found, f"{held} of {len(told)} promises are held"]


def compared(now: Sequence[Line], before: Sequence[Line]) -> list[str]:
    """Each finding beside the newest of the same thing in `before`. `apart`: the two ranges do not meet."""
    last = {_of(one): one for one in before}  # later lines win
    pairs = [(one, last[_of(one)]) for one in now if _of(one) in last]
    if not pairs:
        return ["nothing of this was measured before on this machine"]
    width = max(len(str(one["name"])) for one, _ in pairs)
    found, title = [], None
    for one, old in pairs:
        if one["benchmark"] != title:
            title = one["benchmark"]
            found.append(f"{title}, beside {old['commit']} of {old['run']}")
        ratio = f"{one['median'] / old['median']:6.3g} ×" if old["median"] else "     – ×"
        apart = "apart" if one["least"] > old["most"] or one["most"] < old["least"] else ""
        values = f"{one['median']:8.3g} / {old['median']:8.3g} {one['unit']!s:10s}"
        found.append(f"  {one['name']!s:{width}s} {values} {ratio}  {apart}".rstrip())
    times = [one["median"] / old["median"] for one, old in pairs if one["unit"] == "s" and old["median"]]
    if times:
        found.append(f"all times of these, now / before: {statistics.geometric_mean(times):.3g} (geometric mean)")
    return found

"""What was promised and what was found, of all benchmarks of one run: how `make bench` ends.

python -m benchmarks._table FILE       the file that P2PFL_PROMISES named while they ran
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def lines(told: list[dict[str, object]]) -> list[str]:
    """One line for each promise, under the benchmark that measured it; those that are not held say so."""
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


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    print("\n".join(["", "== promised and found", *lines([json.loads(line) for line in text.splitlines()])]))


if __name__ == "__main__":
    main()

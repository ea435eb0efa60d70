"""Write p2pfl/report/checklist.json, the rows of docs/hipaa.md that `p2pfl report --audit` answers.

python -m tools.checklist [--check]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final

from tools.written import write_or_check

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "docs" / "hipaa.md"
FILE: Final = ROOT / "p2pfl" / "report" / "checklist.json"
HEAD: Final = ("requirement", "what p2pfl does", "check it yourself", "tests", "in the ledger", "yours")


def plain(cell: str) -> str:
    """A cell without Markdown."""
    cell = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell)
    return re.sub(r"\*\*|`|(?<!\w)\*(?!\s)|(?<=\w)\*(?!\w)", "", cell).strip()


def rows() -> list[dict[str, object]]:
    """Every row under the heading that it stands under, in the document's order."""
    found, heading = list[dict[str, object]](), ""
    inside = False
    for line in SOURCE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading, inside = plain(line.lstrip("# ")), False
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if tuple(cells) == HEAD:
            inside = True
        elif inside and len(cells) == len(HEAD) and set(cells[0]) != {"-"}:
            requirement, does, check, _, ledger, yours = cells
            found.append(
                {
                    "rules": heading,
                    "requirement": plain(requirement),
                    "does": plain(does),
                    "check": plain(check),
                    "kinds": re.findall(r"`(\w+)`", ledger),
                    "yours": plain(yours),
                }
            )
    return found


def page() -> str:
    """The file's text."""
    return json.dumps(rows(), ensure_ascii=False, indent=1) + "\n"


def main() -> int:
    return write_or_check({FILE: page()})


if __name__ == "__main__":
    sys.exit(main())

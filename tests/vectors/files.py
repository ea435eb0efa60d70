"""Files of cases: written, or, with --check, compared with those that are committed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
Case = dict[str, Any]
Files = Mapping[str, Callable[[], list[Case]]]


def render(cases: list[Case]) -> str:
    """One case a line, so that a change shows as the case that it changes."""
    return "[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n"


def is_current(name: str, cases: list[Case]) -> bool:
    """The committed file holds these very cases."""
    path = FOLDER / name
    return path.exists() and path.read_text(encoding="utf-8") == render(cases)


def write(files: Files, arguments: Sequence[str]) -> int:
    """The generator's exit status: with --check, 1 where a file differs."""
    made = {name: cases() for name, cases in files.items()}
    differing = [name for name, cases in made.items() if not is_current(name, cases)]
    if "--check" not in arguments:
        for name in differing:
            (FOLDER / name).write_text(render(made[name]), encoding="utf-8")
    verb = "differing" if "--check" in arguments else "written"
    print(f"{len(files)} files, {verb}: {', '.join(differing) or 'none'}")
    return 1 if differing and "--check" in arguments else 0

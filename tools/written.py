"""Files that a tool writes from the code: written, or, with --check, compared with what lies there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(made: Mapping[Path, str]) -> int:
    """The tool's exit status: with --check, 1 where a file is not there or differs."""
    files = {file: text.encode() for file, text in made.items()}
    if "--check" in sys.argv:
        return int(any(not file.is_file() or file.read_bytes() != data for file, data in files.items()))
    for file, data in files.items():
        file.write_bytes(data)
    return 0

"""The text of a task's file: the very one that a person is shown is the one that runs.

Python reads a file in whatever encoding its first lines name (PEP 263). In utf-7 a comment can hold code: a person
who is shown the bytes as UTF-8 reads one text, and another one runs. So a file is UTF-8 or is refused, and what is
compiled is its text, of which Python asks for no encoding any more.
"""

from __future__ import annotations

import io
import tokenize
from pathlib import Path
from typing import Final

from p2pfl.errors.task_process import TaskNotPython

PLAIN: Final = ("utf-8", "utf-8-sig")  # the second begins with a byte order mark, which is no part of the text


def source_text(raw: bytes, path: Path | str) -> str:
    """The text of the file. Raises TaskNotPython unless it is UTF-8, and names no other encoding."""
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
        if encoding not in PLAIN:
            raise TaskNotPython(evidence=f"it names the encoding {encoding}; UTF-8 is wanted", path=path)
        return raw.decode(encoding)
    except SyntaxError:
        evidence = "its first lines name an encoding that is none, or are no UTF-8"
        raise TaskNotPython(evidence=evidence, path=path) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TaskNotPython(evidence=f"line {line}: a byte that is no UTF-8", path=path) from None


def lines_of(text: str) -> list[str]:
    """Its lines, as Python sees them. str.splitlines breaks at more: a comment would be shown as code."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")

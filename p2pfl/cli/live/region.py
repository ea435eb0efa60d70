"""A few lines at the foot of a terminal, drawn anew in place; what is printed meanwhile stands above them.

A frame is one write, and the cursor is hidden within it only: however this process ends, even by kill -9, the terminal
is whole. Nothing here knows what the lines say; they hold no control characters but the colours of `rich`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from os import terminal_size
from typing import Final, TextIO

from rich.cells import cell_len

BEGIN: Final = "\x1b[?2026h\x1b[?25l"  # a terminal that knows it shows the frame as a whole; others ignore it
END: Final = "\x1b[?25h\x1b[?2026l"
BELOW: Final = "\x1b[J"  # erases from the cursor to the end of the screen
COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


class Region:
    """The lines, on `stream`, a terminal of `size` columns and rows. Raises OSError when that is gone."""

    def __init__(self, stream: TextIO, size: Callable[[], terminal_size]) -> None:
        self._stream, self._size = stream, size
        self._widths: list[int] = []  # cells of each line that stands there

    def draw(self, lines: Sequence[str]) -> None:
        """Show `lines` in place of those that stand there. One that is too wide or too many is left out."""
        lines = [line for line in lines if cells(line) < self._size().columns][: self._size().lines - 1]
        erased = self._erased()
        self._widths = [cells(line) for line in lines]
        self._write(BEGIN + erased + "\n".join(lines) + END)

    def erase(self) -> None:
        """Nothing stands there: the cursor is where the first line began."""
        erased, self._widths = self._erased(), []
        if erased:
            self._write(BEGIN + erased + END)

    def forget(self) -> None:
        """What stands there is no longer this region's: somebody else has written beneath it."""
        self._widths = []

    def _erased(self) -> str:
        """What takes the cursor back to the first line and erases from there. A narrower terminal has wrapped lines."""
        if not self._widths:
            return ""
        columns = max(1, self._size().columns)
        rows = sum(max(1, -(-width // columns)) for width in self._widths)
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "") + BELOW

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def cells(line: str) -> int:
    """How many columns `line` takes, without its colours."""
    return cell_len(COLOUR.sub("", line))

"""The live view of a verb: drawn several times a second by a thread of its own, out of the way of all that is printed.

It is there where stderr is a terminal that can move its cursor, unless --plain, TERM=dumb or lines of JSON on stderr
say otherwise. NO_COLOR takes the colours away. Lines that are printed scroll above the view, as without it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from os import terminal_size
from typing import Final, Protocol, Self, TextIO

from rich.console import Console, RenderableType

from p2pfl.cli import output
from p2pfl.cli.interrupts import INTERRUPTS
from p2pfl.cli.live.region import COLOUR, Region

EVERY_S: Final = 0.25  # seconds between two frames
WIDEST: Final = 200  # columns that a view uses
UNDER_THE_VIEW: Final = b"\x1b[?25h\x1b[?2026l\r\n"  # before words that are written past this module


class View(Protocol):
    """What is shown. `render` is called by the screen's thread while others change what it shows."""

    def render(self, now: float, doing: str) -> RenderableType:
        """The view at `now`; `doing` says what this process does that takes a moment, or is empty."""
        ...


def fits(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """`stream` is a terminal whose cursor can be moved."""
    terminal = environment.get("TERM", "")
    return stream.isatty() and terminal not in ("", "dumb", "unknown") and os.name == "posix"


def size_of(stream: TextIO) -> terminal_size:
    """Columns and rows of the terminal, now."""
    try:
        return os.get_terminal_size(stream.fileno())
    except OSError:
        return shutil.get_terminal_size()


class Screen:
    """`view` at the foot of the terminal while the block runs."""

    def __init__(self, view: View, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._view, self._stream, self._now = view, stream or sys.stderr, now
        self._region = Region(self._stream, lambda: size_of(self._stream))
        self._lock = threading.RLock()  # of the terminal
        self._over, self._gone = threading.Event(), False
        self._doing: list[tuple[str, float]] = []  # the latest counts, and since when
        self._thread = threading.Thread(target=self._work, name="live view", daemon=True)
        self._colours = Console(file=self._stream).color_system  # what the terminal has

    def __enter__(self) -> Self:
        output.take_foot(self)
        INTERRUPTS.before_words = UNDER_THE_VIEW
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGCONT, lambda number, frame: self._region.forget())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._put(self._region.erase)
        output.take_foot(None)
        INTERRUPTS.before_words = b""
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGCONT, signal.SIG_DFL)

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Nothing stands at the foot of the terminal while the block prints, or asks."""
        with self._lock:
            self._put(self._region.erase)
            try:
                yield
            finally:
                if not self._over.is_set():
                    self._draw()

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """The view says `what`, and for how long, while the block runs."""
        mine = (what, self._now())
        self._doing.append(mine)
        try:
            yield
        finally:
            self._doing.remove(mine)

    def _work(self) -> None:
        while not self._over.is_set():
            self._draw()
            self._over.wait(EVERY_S)

    def _draw(self) -> None:
        lines = self._lines()
        with self._lock:
            if not self._over.is_set():
                self._put(lambda: self._region.draw(lines))

    def _put(self, write: Callable[[], None]) -> None:
        """A terminal that is gone, as a closed window, gets nothing more; what runs goes on."""
        if self._gone:
            return
        try:
            with self._lock:
                write()
        except (OSError, ValueError):
            self._gone = True

    def _lines(self) -> list[str]:
        now, doing = self._now(), self._doing[-1:]
        told = [f"{what}  {output.duration(now - since)}" for what, since in doing]
        width = max(1, min(WIDEST, size_of(self._stream).columns - 1))
        return lines_of(self._view.render(now, "".join(told)), width, self._colours)


def lines_of(view: RenderableType, width: int, colours: str | None) -> list[str]:
    """The view as lines of at most `width` columns, in colours as rich calls them; None: none."""
    drawn = StringIO()
    console = Console(
        file=drawn,
        width=width,
        force_terminal=True,
        color_system=colours,  # type: ignore[arg-type]  # a string that rich itself gave
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    console.print(view, no_wrap=True, overflow="ellipsis", crop=True)
    lines = (line.rstrip() for line in drawn.getvalue().split("\n"))
    if colours is None:
        lines = (COLOUR.sub("", line) for line in lines)
    return [line for line in lines if COLOUR.sub("", line).strip()]


@contextlib.contextmanager
def shown(view: View, *, plain: bool) -> Iterator[None]:
    """The view stands at the foot of the terminal while the block runs, if stderr is one that can have it."""
    if plain or not fits(sys.stderr):
        yield
        return
    with Screen(view):
        yield

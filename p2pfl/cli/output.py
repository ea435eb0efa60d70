"""The only print of the program. Progress to stderr, one result to stdout, the same content as `--json`.

With --json stdout holds exactly one line, a JSON object, so `| tail -n 1` and `| jq` both work. Errors go to stderr
as text; with --json the object is {"error": …} then. Whoever stops reading (`| head`) ends nothing: what runs goes
on, and the exit status still says how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TextIO

from p2pfl.errors import P2PFLError
from p2pfl.errors.counts import counted as counted
from p2pfl.errors.people import ResultUnseen
from p2pfl.report.words import amount as amount

SILENT_S: Final = 1.5  # seconds that something may take before a line says what it is


class Foot(Protocol):
    """What stands at the foot of the terminal: a live view."""

    def lifted(self) -> AbstractContextManager[None]:
        """It is out of the way while the block prints, or asks."""
        ...

    def doing(self, what: str) -> AbstractContextManager[None]:
        """It says `what` while the block runs."""
        ...


_foot: Foot | None = None
_unread: Final = set[TextIO]()  # streams that lead to nobody: closed from the beginning, or their reader has left


def take_foot(foot: Foot | None) -> None:
    """`foot` stands at the foot of the terminal from now on; None: nothing does."""
    global _foot
    _foot = foot


def lifted() -> AbstractContextManager[None]:
    """The terminal is free for words, or for a question, while the block runs."""
    return contextlib.nullcontext() if _foot is None else _foot.lifted()


@contextlib.contextmanager
def doing(what: str, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """A live view says `what` while the block runs; without one a line does, once the block has taken SILENT_S."""
    if _foot is not None:
        with _foot.doing(what):
            yield
        return
    timer = threading.Timer(SILENT_S, tell or progress, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def prepare() -> None:
    """Make the three streams usable: a closed one becomes the null device, and no locale refuses a character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: Any = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, mode)  # noqa: SIM115 - for as long as the process lives
            setattr(sys, name, stream)
            _unread.add(stream)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if name == "stdin" else "backslashreplace")


def settle() -> None:
    """Flush what was printed, and drop streams without a reader: the interpreter's own last flush would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _forget(stream)


def _forget(stream: TextIO) -> None:
    _unread.add(stream)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str, stream: TextIO) -> bool:
    """One print, and whether it was written. Raises ResultUnseen when it is the result that a device refuses."""
    try:
        with lifted():
            print(shown(text) + "\n", end="", file=stream, flush=True)  # in one piece: several threads tell of progress
    except BrokenPipeError:
        _forget(stream)
    except OSError as error:
        _forget(stream)
        if stream is sys.stdout:
            raise ResultUnseen(evidence=f"stdout: {error.strerror or type(error).__name__}") from None
    return stream not in _unread


def shown(text: str) -> str:
    """`text` without what steers a terminal or reverses a line: words of peers and files of others are printed too."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def progress(line: str) -> None:
    """One line on stderr, seen at once."""
    _say(line, sys.stderr)


def loading_torch(tell: Callable[[str], None] = progress) -> None:
    """Say that PyTorch is loading, before it does: it takes seconds."""
    if "torch" not in sys.modules:
        tell("loading PyTorch")


def result(text: str, facts: Mapping[str, object], as_json: bool) -> bool:
    """The command's one result on stdout: `text`, or `facts` as one line of JSON. False: nobody reads it.

    Raises ResultUnseen.
    """
    return _say(json.dumps(facts, allow_nan=False) if as_json else text, sys.stdout)


def seen_result(text: str, facts: Mapping[str, object], as_json: bool) -> None:
    """As `result`, of what is lost where nobody reads it. Raises ResultUnseen then, too."""
    if not result(text, facts, as_json):
        raise ResultUnseen(evidence="nobody reads stdout")


def failure(error: P2PFLError, as_json: bool) -> None:
    """The error on stderr; with --json also as the last line of stdout."""
    _say(error.render(), sys.stderr)
    if as_json:
        with contextlib.suppress(ResultUnseen):
            _say(json.dumps({"error": error.as_json()}), sys.stdout)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns padded to their widest cell, two blanks apart; `right` names the columns that align right."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def duration(seconds: float) -> str:
    """41 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

"""Events as lines of JSON for machines.

A table says which fields of an event are written; nothing else (an error's suggestion, a vector, a field that an event
gains later) reaches a log. A thread of its own writes the lines, behind a bounded queue, so that a disk that hangs
holds up no link; lines that find no room are counted, and the next line says how many. Time is UTC; keys never change
their meaning.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from logging.handlers import QueueListener, RotatingFileHandler
from typing import IO, Any, Final

from p2pfl.cli import output
from p2pfl.cli.watch import metric_of
from p2pfl.errors.people import LogNotWritable
from p2pfl.node.progress import LinkRefused, Progress, RoundFinal, RuleBroken, StillWaiting

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
MOST_QUEUED: Final = 10_000
AGAIN_S: Final = 60.0  # seconds before the same wait is written again
STDERR: Final = "-"

# event: (level, the fields of it that are written)
EVENTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "listening": ("info", ("address",)),
    "link_up": ("info", ("peer", "version", "cipher", "group", "path", "via")),
    "link_down": ("warning", ("peer", "reason")),
    "refused": ("warning", ("peer",)),
    "waiting": ("warning", ("round", "phase", "missing", "silent")),
    "charged": ("info", ("round", "epsilon", "limit")),
    "repeated": ("info", ("round", "epsilon")),
    "personal_lost": ("warning", ("layers", "why")),
    "held_out_changed": ("warning", ()),
    "cut": ("warning", ("round", "how", "at_once")),
    "step": ("debug", ("round", "step", "steps")),
    "trained": ("info", ("round", "seconds")),
    "phase": ("debug", ("round", "attempt", "phase")),
    "abandoned": ("warning", ("round", "attempt", "waited_for")),
    "left": ("warning", ("round", "attempt", "lacking", "sent")),
    "caught_up": ("info", ("round", "peer")),
    "model_lacking": ("warning", ("model", "why")),
    "sum_lost": ("warning", ("item", "why")),
    "change": ("info", ("epoch", "from_round", "added", "removed", "rotated", "hub", "recovered")),
    "epoch": ("info", ("epoch", "sites")),
    "breach": ("error", ("peer", "proof")),
    "round": (
        "info",
        ("round", "rounds", "survivors", "epsilon", "seconds", "bytes_sent", "payload_bytes", "taken_up"),
    ),
}


class _File(RotatingFileHandler):
    """A log file of mode 0600. A full disk ends no training: stderr says so, once."""

    complained = False

    def _open(self) -> IO[str]:  # type: ignore[override, unused-ignore]
        return open(self.baseFilename, "a", encoding="utf-8", opener=_opened)

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.complained:
            self.complained = True
            output.progress(f"the log cannot be written any more: {sys.exc_info()[1]}")


class JsonLog:
    """An observer that writes. `target` is a path, or - for stderr; `size` bytes are rotated, `keep` files kept.

    Raises LogNotWritable.
    """

    def __init__(
        self,
        target: str,
        level: str = "info",
        size: int = 0,
        keep: int = 5,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._least, self._now, self._wall = LEVELS[level], now, wall
        self.site = ""
        self._handler: logging.Handler
        if target == STDERR:
            self._handler = logging.StreamHandler(sys.stderr)
        else:
            try:
                self._handler = _File(target, "a", maxBytes=size, backupCount=keep)
            except OSError as error:
                raise LogNotWritable(evidence=error.strerror or type(error).__name__, path=target) from None
        self._queue: queue.Queue[Any] = queue.Queue(MOST_QUEUED)
        self._listener = QueueListener(self._queue, self._handler)
        self._listener.start()
        self._dropped = 0
        self._waited: tuple[Any, float] = (None, -math.inf)

    def __call__(self, event: Progress) -> None:
        """Write what `event` says, as far as the table lets it through."""
        if isinstance(event, StillWaiting) and not self._is_news(event):
            return
        level, names = EVENTS[event.kind]
        facts = {name: getattr(event, name) for name in names}
        if isinstance(event, LinkRefused | RuleBroken):
            facts |= {"code": event.error.code, "text": event.error.happened, "evidence": event.error.evidence}
        if isinstance(event, RoundFinal) and (metric := metric_of(event.outcome)) is not None:
            facts |= {"metric": metric[0], "value": metric[1]}
        self.note(level, event.kind, **facts)

    def _is_news(self, event: StillWaiting) -> bool:
        whom = sorted({*event.missing, *event.silent})
        what = (event.round, event.phase, whom)
        before, at = self._waited
        if not whom or (what == before and self._now() - at < AGAIN_S):
            return False
        self._waited = (what, self._now())
        return True

    def note(self, level: str, event: str, **facts: Any) -> None:
        """One line, unless its level is below the one that was asked for."""
        if LEVELS[level] < self._least:
            return
        at = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        held = {"time": at, "level": level, "site": self.site, "event": event, **facts}
        if self._dropped:
            held["lines_dropped"] = self._dropped
        line = json.dumps(_plain(held), separators=(", ", ": "), default=str)
        try:
            self._queue.put_nowait(logging.LogRecord("p2pfl", LEVELS[level], "", 0, line, None, None))
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def reopen(self) -> None:
        """Go on in a new file of the same name, since the present one was moved away."""
        if isinstance(self._handler, _File):
            with contextlib.suppress(OSError):
                self._handler.close()  # it is opened again with the next line

    def close(self) -> None:
        """Write what waits, and end."""
        with contextlib.suppress(AttributeError):  # closed before
            self._listener.stop()
        with contextlib.suppress(OSError):  # what could not be written has been said
            self._handler.close()


def _plain(value: Any) -> Any:
    """JSON has no infinities, and a line must be one to every reader."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _opened(path: str, flags: int) -> int:
    """A descriptor for writing; OSError for a pipe that nobody reads, where a plain open would wait for ever."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    os.set_blocking(descriptor, True)
    return descriptor

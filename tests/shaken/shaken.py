"""Tests on a machine that stops at the worst moment: with P2PFL_SHAKEN=SEED threads and processes pause at lines.

    P2PFL_SHAKEN=1 python -m pytest tests/end_to_end/test_wire.py

Off by default, and then nothing of it is loaded. With a seed (any word), every thread of the tests and of each Python
process that they start now and then sleeps before a line: 5 to 50 ms, seldom .3 to 1.5 s. Lines of the tests and their
helpers do so most often: so a test reads late, a signal comes late, what a process tells is read before it has done
what comes next. Lines of the package follow, and the few files of the standard library in which threads and event
loops hand over to one another. Processes start late and end late. Tests run in another order: the files, and those in
a file. A process that takes nothing from its environment (`python -I`: a task's) is not shaken.

Which lines are slow follows from the seed, the test's name and the line, not from the time: the same seed finds much
the same again, for one test alone as for all. A slow machine may do all this, so a test that it turns red hangs on
luck, or the package has a fault.
"""

from __future__ import annotations

import atexit
import hashlib
import inspect
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
ROOT: Final = HERE.parents[2]
LIBRARY: Final = Path(os.__file__).resolve().parent
SWITCH_S: Final = 1e-5  # how long a thread runs before another may
# Where one thread or process hands over to another, in the standard library.
HANDS_OVER: Final = (
    *("asyncio/base_events.py", "asyncio/locks.py", "asyncio/queues.py", "asyncio/selector_events.py"),
    *("asyncio/streams.py", "asyncio/taskgroups.py", "asyncio/tasks.py", "asyncio/threads.py", "asyncio/timeouts.py"),
    *("asyncio/unix_events.py", "concurrent/futures/_base.py", "concurrent/futures/thread.py", "queue.py"),
    *("socket.py", "socketserver.py", "subprocess.py", "threading.py"),
)
# By the beginning of a file's path: the odds of a line to pause shortly, and for long.
ODDS: Final[dict[str, tuple[float, float]]] = {
    str(ROOT / "tests"): (1 / 12, 1 / 150),
    str(ROOT / "p2pfl/sharing"): (1 / 300, 1 / 6000),  # computes
    str(ROOT / "p2pfl"): (1 / 60, 1 / 1500),
    **{str(LIBRARY / file): (1 / 60, 1 / 1500) for file in HANDS_OVER},
}
SHORT_S: Final = (0.005, 0.05)
LONG_S: Final = (0.3, 1.5)
MOST_LONG: Final = 2  # pauses of a line that is slow for long
DRAWN_ANEW: Final = 40  # calls of a test's function, each of which is slow at other lines


class Place:
    """One slow line. Its pauses become rarer, since a line in a loop would else take all the time."""

    def __init__(self, drawn: random.Random, is_long: bool) -> None:
        self._drawn, self._within, self._left = drawn, LONG_S if is_long else SHORT_S, MOST_LONG if is_long else 1 << 30
        self._hits, self._due = 0, 1

    def reached(self) -> None:
        self._hits += 1
        if self._hits >= self._due and self._left:
            self._left -= 1
            self._due = self._hits + self._drawn.randint(1, self._hits)
            time.sleep(self._drawn.uniform(*self._within))


class Shaker:
    """What `sys.settrace` calls in every thread; `name` is whom it shakes: a test, and one of its processes."""

    def __init__(self, seed: str, name: str) -> None:
        self._seed = seed
        self.begin(name)

    def begin(self, name: str) -> None:
        """Draw all places anew, for this test."""
        self._name = name
        self._slow: dict[int, dict[int, Place]] = {}  # by code, by line
        self._kept: list[CodeType] = []  # so that no other gets its number
        self._calls: dict[int, int] = {}

    def drawn(self, *of: object) -> random.Random:
        return random.Random(hashlib.blake2b(repr((self._seed, self._name, *of)).encode()).digest())

    def called(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        places = self._slow.get(id(code))
        if places is None or id(code) in self._calls:
            places = self._places(code)
        return self._line if places else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "line":
            place = self._slow.get(id(frame.f_code), {}).get(frame.f_lineno)
            if place is not None:
                place.reached()
        return self._line

    def _places(self, code: CodeType) -> dict[int, Place]:
        """The slow lines of a function: none of a module's or a class's own code, which an import runs once."""
        odds = next((odds for path, odds in ODDS.items() if code.co_filename.startswith(path)), None)
        found: dict[int, Place] = {}
        calls = self._calls.get(id(code), 0)
        if odds is not None and code.co_flags & inspect.CO_OPTIMIZED and Path(code.co_filename) != HERE:
            first = code.co_firstlineno
            for line in sorted({line for _, _, line in code.co_lines() if line}):
                drawn = self.drawn(code.co_qualname, line - first, calls)
                at = drawn.random()
                if at < sum(odds):
                    found[line] = Place(drawn, at < odds[1])
            if code.co_filename.startswith(str(ROOT / "tests")) and calls < DRAWN_ANEW:
                self._calls[id(code)] = calls + 1
            else:
                self._calls.pop(id(code), None)
        self._kept.append(code)
        self._slow[id(code)] = found
        return found

    def start(self) -> None:
        sys.setswitchinterval(SWITCH_S)
        threading.settrace(self.called)
        sys.settrace(self.called)


def shake_child() -> None:
    """Shake a process that a test started, from its first line to its last."""
    # What it was asked to do, without what differs from run to run: the folders that hold it all, ports.
    asked = re.sub(r"[^\s\"',]*/(?=[^/\s\"']+/[^/\s\"']+)|\d{4,}", "", " ".join(sys.orig_argv[1:]))
    shaker = Shaker(os.environ["P2PFL_SHAKEN"], f"{os.environ.get('PYTEST_CURRENT_TEST', '')} {asked}")
    for moment in ("begins", "ends"):
        drawn = shaker.drawn(moment)
        if (at := drawn.random()) < 0.3:
            pause = drawn.uniform(*(LONG_S if at < 0.08 else SHORT_S))
            if moment == "begins":
                time.sleep(pause)
            else:
                atexit.register(time.sleep, pause)
    shaker.start()

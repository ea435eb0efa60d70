"""The demo's peers: real processes of this same program, each with its own home, port and file.

A child's stdin is a pipe that nobody writes to: when this process is gone, however it went, the pipe closes and the
child ends as on Ctrl-C. So no demo leaves peers behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from p2pfl.errors.people import DemoPeerFailed

KEPT_LINES: Final = 30
LET_GO_SECONDS: Final = 30.0  # seconds for a child to end after it is asked to


@dataclass
class Child:
    """One peer's process and what it said."""

    name: str
    process: subprocess.Popen[str]
    said: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    out: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    killed: bool = False  # by this process

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON object of its last line, {} when there is none."""
        try:
            found = json.loads(self.out[-1]) if self.out else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


Line = Callable[[str, str], None]  # (peer, line of its progress)
Event = Callable[[str, Mapping[str, Any]], None]  # (peer, line of its --log)
KILLED: Final = {"event": "killed"}


class Children:
    """All peers of one demo. Leaving the context ends those that still run."""

    def __init__(self, on_line: Line, on_event: Event) -> None:
        self._on_line, self._on_event = on_line, on_event
        self._children: list[Child] = []
        self._news: queue.Queue[tuple[Child, str | Mapping[str, Any] | None]] = queue.Queue()
        self._running = 0

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self._end([child for child in self._children if child.process.poll() is None])

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """`python -m p2pfl` with `arguments`, in a session of its own: Ctrl-C here reaches it only through us, once.

        What it logs comes through a pipe of its own, and what it says to people through stderr.
        """
        log, theirs = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", "p2pfl", *arguments, "--log", f"/dev/fd/{theirs}", "--log-level", "debug"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
            pass_fds=(theirs,),
        )
        os.close(theirs)
        child = Child(name, process)
        self._children.append(child)
        self._running += 1
        threading.Thread(target=self._watch, args=(child, log), daemon=True).start()

    def kill(self, name: str) -> None:
        """End that peer as a power cut would. It has no result; it may be started again."""
        for child in self._children:
            if child.name == name and child.process.poll() is None:
                child.killed = True
                child.process.kill()

    def _watch(self, child: Child, log: int) -> None:
        """The child's three streams into its deques and our queue; then None as its last event."""
        out = threading.Thread(target=_collect, args=(child.process.stdout or (), child.out), daemon=True)
        events = threading.Thread(target=self._read_log, args=(child, log), daemon=True)
        out.start()
        events.start()
        for line in child.process.stderr or ():
            self._news.put((child, line.rstrip("\n")))
        out.join()
        events.join()
        child.process.wait()
        self._news.put((child, None))

    def _read_log(self, child: Child, log: int) -> None:
        with os.fdopen(log, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # cut short with the process
                    event = json.loads(line)
                    if isinstance(event, dict):
                        self._news.put((child, event))

    def wait(self) -> dict[str, dict[str, Any]]:
        """The result of each peer that came to its end, by name. Raises DemoPeerFailed for the first that failed."""
        while self._running:
            child, said = self._news.get()
            if isinstance(said, str):
                child.said.append(said)
                self._on_line(child.name, said)
                continue
            if said is not None:
                self._on_event(child.name, said)
                continue
            self._running -= 1
            status = child.process.returncode
            if child.killed:
                self._on_event(child.name, KILLED)
            elif status:
                last = "\n".join(f"  {child.name}: {line}" for line in child.said)
                raise DemoPeerFailed(evidence=f"its last lines:\n{last}", peer=child.name, status=status)
        return {child.name: child.facts for child in self._children if not child.killed}

    def _end(self, running: Iterable[Child]) -> None:
        """Ask each to end as on Ctrl-C, wait, and only then force the rest."""
        running = list(running)
        for child in running:
            child.process.send_signal(signal.SIGINT)
        for child in running:
            try:
                child.process.wait(LET_GO_SECONDS)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def _collect(lines: Iterable[str], into: deque[str]) -> None:
    for line in lines:
        into.append(line.rstrip("\n"))

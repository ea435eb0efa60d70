"""A real terminal for a real process: its own pseudo-terminal, read by an emulator that knows what stands where."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

DEADLINE_S = 600  # a hang, not a speed
END_OF_FRAME = b"\x1b[?2026l"  # of a synchronized update


class Terminal:
    """`p2pfl` with `arguments` in a terminal of its own, of which it is the foreground: Ctrl-C reaches it."""

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str], columns: int = 100) -> None:
        self.screen = pyte.Screen(columns, 40)
        self.raw, self._shown = b"", 0  # all that came, and how much of it is on the screen
        self._stream, (ours, theirs) = pyte.ByteStream(self.screen), pty.openpty()
        self._end = ours
        self.resize(columns, 40)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2pfl", *arguments],
            cwd=folder,
            env={**os.environ, "HOME": str(folder), "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def until(self, holds: Callable[[str], bool]) -> str:
        """The screen, once it is as asked. Fails where the process ends before.

        Each frame is looked at by itself, also when several came at once, since this reader was slow.
        """
        until = time.monotonic() + DEADLINE_S
        while True:
            shown = self._show_frame()
            if holds(self.text):
                return self.text
            if not shown:
                assert time.monotonic() < until, self.text
                assert self._read(), f"it ended:\n{self.text}"

    def ended(self) -> int:
        """Read to its end; its status."""
        while self._read():
            while self._show_frame():
                pass
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._end)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], DEADLINE_S)
        assert ready, f"nothing came any more:\n{self.text}"
        try:
            came = os.read(self._end, 1 << 16)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.raw += came
        return bool(came)

    def _show_frame(self) -> bool:
        """Show what came, up to the end of one frame. False when all that came is shown."""
        end = self.raw.find(END_OF_FRAME, self._shown)
        end = len(self.raw) if end < 0 else end + len(END_OF_FRAME)
        self._stream.feed(self.raw[self._shown : end])
        self._shown = end
        return end < len(self.raw)


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)

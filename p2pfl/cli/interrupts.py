"""What SIGINT, SIGTERM and SIGHUP do: the first of them ends this process cleanly, the second at once, both with 130.

`first_signals` holds them while this is loaded, and one handler from here to the program's last line, so that neither
Python's traceback nor the system's default answers one. A service manager's SIGTERM and a closed terminal's SIGHUP are
as Ctrl-C. What the *first* does depends on where the process stands: `first_does`. Everything that matters is on the
disk at every moment, so the second leaves without another step. Nothing slow may be imported here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, NoReturn

from p2pfl.cli.first_signals import CLEANLY, INTERRUPTED

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_S: Final = 0.01  # most seconds between the two signals of `timeout`: one to the process, one to its group
AGAIN_S: Final = 0.05  # seconds before an interrupt that Python swallowed comes once more
IMPORTER: Final = "<frozen importlib._bootstrap>"
AT_ONCE: Final = "ended at once: what is on the disk is whole"


def raise_interrupt() -> None:
    """What the first signal does where nothing else is said."""
    raise KeyboardInterrupt


class Interrupts:
    """The signals of one process that ask for its end.

    asked   the first has come
    unheard it has, and what is to end has yet to hear of it: one that comes within SAME_S then is no second one
    before_words    what leads to a line of its own, where a live view stands at the foot of the terminal
    before_leaving  what is done first where the process is left past all its blocks
    """

    def __init__(self) -> None:
        self.asked = self.unheard = False
        self.before_words = b""
        self.before_leaving: Callable[[], None] | None = None
        self._first: Callable[[], None] = raise_interrupt
        self._at = 0.0  # when the first came

    def take(self) -> None:
        """Hold the signals from now on; also those that a script's `p2pfl … &` starts with ignored, as nohup does not.

        Does nothing outside of the main thread, whose program keeps its signals.
        """
        with contextlib.suppress(ValueError):
            for number in ENDING:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored: nohup
                    signal.signal(number, self._come)
            sys.unraisablehook, sys.excepthook = self._unraisable, _uncaught

    @contextlib.contextmanager
    def first_does(self, what: Callable[[], None]) -> Iterator[None]:
        """Within the block the first signal calls `what`, in the main thread; one that has come before calls it now."""
        before, self._first = self._first, what
        try:
            if self.asked:
                what()
            yield
        finally:
            self._first = before

    @contextlib.contextmanager
    def leaving_does(self, what: Callable[[], None]) -> Iterator[None]:
        """Within the block `what` is done, too, where the process is left past it."""
        before = self.before_leaving

        def both() -> None:
            with contextlib.suppress(OSError):
                what()
            if before is not None:
                before()

        self.before_leaving = both
        try:
            yield
        finally:
            self.before_leaving = before

    def _come(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.asked:
            self.asked, self._at = True, now
            if self._first is raise_interrupt and is_importing(frame):
                leave(CLEANLY)
            self._first()
        elif not self.unheard or now - self._at >= SAME_S:
            leave(AT_ONCE)

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Let an interrupt come again that fell into a finaliser, where Python drops exceptions."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        import threading

        self.asked = False
        threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()


def is_importing(frame: FrameType | None) -> bool:
    """A module is being loaded. An exception there may fall into one that is no Python, which panics (cryptography)."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTER:
            return True
        frame = frame.f_back
    return False


def _uncaught(kind: type[BaseException], error: BaseException, at: Any) -> None:
    """The last resort: an interrupt during the last message. Anything else keeps Python's traceback."""
    if issubclass(kind, KeyboardInterrupt):
        leave(CLEANLY)
    sys.__excepthook__(kind, error, at)


def leave(said: str) -> NoReturn:
    """End this process with 130 and one line, past everything that Python would still do."""
    if INTERRUPTS.before_leaving is not None:
        with contextlib.suppress(OSError):
            INTERRUPTS.before_leaving()
    with contextlib.suppress(OSError):  # not through sys.stderr: the signal may have come within a print
        os.write(2, INTERRUPTS.before_words + said.encode("ascii") + b"\n")
    os._exit(INTERRUPTED)


INTERRUPTS: Final = Interrupts()  # signals are the process's, and so is this

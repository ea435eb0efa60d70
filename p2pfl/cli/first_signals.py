"""Signals before anything that takes time is loaded: each ends the process with 130, as `interrupts` does from then on.

Until a handler stands, a signal gets Python's traceback or the system's default. So nothing is imported here that
Python has not loaded by itself: `_signal` is built in, and the module over it loads a dozen others.
"""

import _signal  # type: ignore[import-not-found]
import os

INTERRUPTED = 130
CLEANLY = "interrupted: nothing final is lost"


def hold() -> None:
    """SIGINT, SIGTERM and SIGHUP end this process so from now on. Does nothing outside of the main thread."""
    try:
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
            if number != _signal.SIGHUP or _signal.getsignal(number) != _signal.SIG_IGN:  # ignored: nohup
                _signal.signal(number, _leave)
    except ValueError:
        pass


def _leave(*_: object) -> None:
    try:
        os.write(2, CLEANLY.encode("ascii") + b"\n")
    finally:  # also where nobody reads that, or stderr is closed
        os._exit(INTERRUPTED)

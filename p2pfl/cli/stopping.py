"""How a site that takes part is stopped: well at the first signal, at once at the second.

After the first SIGTERM or SIGINT nothing new begins; a certified round is finished, since the others may need this
site's seed, and what was said is handed on, within STOP_S seconds. Everything that matters is on the disk at every
moment, so the second signal leaves without another step.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl.cli import output
from p2pfl.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from p2pfl.peer import Peer

STOP_S: Final = 20.0  # most seconds to finish a certified round
ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def hanging_up(handler: Callable[[], None] | None) -> Iterator[None]:
    """SIGHUP calls `handler` while the block runs, also before the site takes part and as it lingers. None: as ever."""
    before = signal.getsignal(signal.SIGHUP)
    if handler is None or before == signal.SIG_IGN:  # nohup
        yield
        return
    try:
        signal.signal(signal.SIGHUP, lambda number, frame: handler())
    except ValueError:  # not in the main thread, which keeps the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.asynccontextmanager
async def stoppable(peer: Peer) -> AsyncIterator[None]:
    """Signals that come while the block runs end it as the module says, with click.Abort."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    stopping: list[asyncio.Task[None]] = []

    async def wind_down() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await peer.node.wind_down()
        if task is not None:
            task.cancel()

    def stop() -> None:
        if stopping:
            output.progress("ended at once: what is on the disk is whole")
            os._exit(EXIT_INTERRUPTED)
        output.progress("stopping: a certified round is finished first; a second signal ends at once")
        stopping.append(loop.create_task(wind_down()))

    handlers: dict[signal.Signals, Callable[[], None]] = dict.fromkeys(ENDING, stop)
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in handlers}
    try:
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
    except (ValueError, RuntimeError):  # not in the main thread, which keeps the signals
        handlers = {}
    try:
        yield
    except asyncio.CancelledError:
        if stopping:
            raise click.Abort from None
        raise
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
        for one in stopping:
            one.cancel()

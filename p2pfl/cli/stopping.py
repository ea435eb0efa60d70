"""How a site that takes part is stopped: well at the first signal, at once at the second (interrupts.py).

After the first SIGTERM or SIGINT nothing new begins; a certified round is finished, since the others may need this
site's seed, and what was said is handed on, within STOP_S seconds. Everything that matters is on the disk at every
moment, so the second signal leaves without another step.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from p2pfl.cli import output
from p2pfl.cli.interrupts import INTERRUPTS

if TYPE_CHECKING:
    from p2pfl.peer import Peer

T = TypeVar("T")
STOP_S: Final = 20.0  # most seconds to finish a certified round


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, in an event loop of its own. The first signal cancels it: raises click.Abort.

    No interrupt is ever raised within the loop, whose own callbacks could not tell what became of them.
    """
    with INTERRUPTS.first_does(lambda: None):  # while the loop is made, and closed
        try:
            _check_descriptors()
        except OSError:
            work.close()
            raise
        return asyncio.run(_cancelled_by_a_signal(work))


def _check_descriptors() -> None:
    """Raise OSError where the system has too few for an event loop: one that is half made leaves a traceback."""
    with contextlib.ExitStack() as held:
        for end in (*os.pipe(), *os.pipe()):
            held.callback(os.close, end)


async def _cancelled_by_a_signal(work: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel() -> None:
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    with INTERRUPTS.first_does(cancel):
        try:
            return await work
        except asyncio.CancelledError:
            if INTERRUPTS.asked:
                raise click.Abort from None
            raise


@contextlib.contextmanager
def hanging_up(handler: Callable[[], None] | None) -> Iterator[None]:
    """SIGHUP calls `handler` while the block runs: from before the site takes part until it has lingered."""
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

    def begin() -> None:
        INTERRUPTS.unheard = False
        output.progress("stopping: a certified round is finished first; a second signal ends at once")
        stopping.append(loop.create_task(wind_down()))

    def stop() -> None:
        INTERRUPTS.unheard = True
        loop.call_soon_threadsafe(begin)

    try:
        with INTERRUPTS.first_does(stop):
            yield
    except asyncio.CancelledError:
        if stopping:
            raise click.Abort from None
        raise
    finally:
        for one in stopping:
            one.cancel()


def end_with_stdin() -> None:
    """In a child: end as on Ctrl-C when stdin closes, which is when the parent is gone."""

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin: a thread that waits in its lock could not be left at exit
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()

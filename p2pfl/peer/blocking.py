"""Peer for code that is not async: its loop runs in a thread of its own, so links live on while the caller computes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from p2pfl.peer.averages import Averages
from p2pfl.peer.statistics import Statistics
from p2pfl.peer.sums import Sums
from p2pfl.peer.training import Trainings

if TYPE_CHECKING:
    from p2pfl.peer.peer import Peer

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Of = TypeVar("Of")


def _blocking(
    method: Callable[Concatenate[Of, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[BlockingPeer, P], R]:
    """`method` of a Peer, with the same arguments, that returns its result."""

    @functools.wraps(method)
    def called(peer: BlockingPeer, /, *arguments: P.args, **options: P.kwargs) -> R:
        return wait_in(peer.loop, method(peer.peer, *arguments, **options))  # type: ignore[arg-type]

    return called


class BlockingPeer:
    """Peer for code that is not async: the same methods. Ctrl-C, or a notebook's stop, ends the call under way."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop

    sum = _blocking(Sums.sum)
    mean = _blocking(Sums.mean)
    average = _blocking(Averages.average)
    ask = _blocking(Statistics.ask)
    stats = _blocking(Statistics.stats)
    train = _blocking(Trainings.train)
    train_with = _blocking(Trainings.train_with)


def wait_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives in that loop, which runs in another thread."""
    begun = list[asyncio.Task[T]]()

    async def told() -> T:
        begun.append(asyncio.create_task(work))
        return await begun[0]

    async def until_ended() -> None:
        if not begun:
            work.close()
        for task in begun:
            await asyncio.wait((task,))

    found = asyncio.run_coroutine_threadsafe(told(), loop)
    try:
        return found.result()
    except BaseException:
        if found.cancel():  # nobody waits for it any more; the next call begins where its last step has ended
            asyncio.run_coroutine_threadsafe(until_ended(), loop).result()
        raise

"""Peer for code that is not async: its loop runs in a thread of its own, so links live on while the caller computes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from p2pfl.node.runs.results import SumResult, TrainResult
from p2pfl.node.runs.training import Trains

if TYPE_CHECKING:
    from p2pfl.peer.peer import Peer

T = TypeVar("T")


class BlockingPeer:
    """Peer for code that is not async."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self._peer, self._loop = peer, loop

    def sum(self, vector: Any, **options: Any) -> SumResult:
        """As Peer.sum."""
        return wait_in(self._loop, self._peer.sum(vector, **options))

    def mean(self, vector: Any, **options: Any) -> Any:
        """As Peer.mean."""
        return wait_in(self._loop, self._peer.mean(vector, **options))

    def train(self, trainer: Trains, **options: Any) -> TrainResult:
        """As Peer.train."""
        return wait_in(self._loop, self._peer.train(trainer, **options))


def wait_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives in that loop, which runs in another thread."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()

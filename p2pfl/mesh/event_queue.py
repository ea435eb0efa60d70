"""A mesh's events on their way to its owner: in order, unbounded, ended by `close` or by a fault of this program."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from p2pfl.mesh.events import MeshEvent


class EventQueue:
    """Used by one event loop. Payloads are bounded by their links (backlog.py), other events by their rates."""

    def __init__(self) -> None:
        self._events: deque[MeshEvent] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._fault: BaseException | None = None

    def put(self, event: MeshEvent) -> None:
        self._events.append(event)
        self._changed.set()

    def fail(self, fault: BaseException) -> None:
        """Raise `fault` to the reader, behind the events that are queued."""
        self._fault = fault
        self._changed.set()

    def close(self) -> None:
        """End the stream behind the events that are queued."""
        self._closed = True
        self._changed.set()

    async def stream(self) -> AsyncIterator[MeshEvent]:
        """The events in order. Raises what `fail` was given."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._fault is not None:
                raise self._fault
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()

"""Work of a node, which ends between two of its steps whoever is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Steps:
    """Half a step would be a letter that was taken and not answered, or an item on the disk without what follows it."""

    def __init__(self) -> None:
        self._resting: set[asyncio.Task[Any] | None] = set()
        self._ending: set[asyncio.Task[Any] | None] = set()

    async def between(self, event: Coroutine[Any, Any, T]) -> T:
        """Wait for what the next step begins with: here alone the work may end."""
        task = asyncio.current_task()
        if task in self._ending:
            event.close()
            raise asyncio.CancelledError
        self._resting.add(task)
        try:
            return await event
        finally:
            self._resting.discard(task)

    async def carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives. Where the caller is cancelled, the step under way is carried out first."""
        task = asyncio.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self.end(task)
            raise

    async def end(self, task: asyncio.Task[Any]) -> None:
        """End the work between two steps, and wait until it has ended."""
        self._ending.add(task)
        if task in self._resting:
            task.cancel()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):  # the step cannot be left for that either
                await asyncio.wait((task,))
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # whoever cancelled asks for no more

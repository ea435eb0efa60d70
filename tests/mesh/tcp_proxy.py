"""A TCP proxy between two sites: records the bytes that pass, holds them back, or cuts or stalls after some of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from p2pfl.roster import Address
from tests.mesh.sites import free_address

UNLIMITED = 1 << 62


class Proxy:
    """Listens on `address` and forwards to `target`. Each new connection asks `budget()` how many bytes it may pass.

    stalls    bytes over the budget vanish without a word; otherwise the connection is cut
    segment   the budget is only for connections whose segments may be larger than this
    """

    def __init__(
        self, target: Address, budget: Callable[[], int] = lambda: UNLIMITED, *, stalls: bool = False, segment: int = 0
    ) -> None:
        self._stalls = stalls
        self._segment = segment
        self.address = free_address()
        self.captured = bytearray()
        self.accepted = 0
        self.open = 0
        self.gate = asyncio.Event()  # nothing passes before it is set
        self.gate.set()
        self.flow = asyncio.Event()  # while clear, connections look alive and are silent
        self.flow.set()
        self.changed = asyncio.Condition()
        self._target = target
        self._budget = budget
        self._transports: set[asyncio.StreamWriter] = set()
        self._callers: set[asyncio.StreamWriter] = set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self.changed:
            await self.changed.wait_for(holds)

    def cut(self) -> None:
        """Cut every connection now."""
        for writer in self._transports:
            writer.transport.abort()

    def freeze(self) -> None:
        """Silence the present connections; later ones are not touched."""
        self.flow.clear()
        self.flow = asyncio.Event()
        self.flow.set()

    def forget_callers(self) -> None:
        """Cut every connection at its caller's end alone: the other end hears nothing of it."""
        self.flow.clear()
        for writer in self._callers:
            writer.transport.abort()
        self.flow = asyncio.Event()
        self.flow.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, self.address.host, self.address.port)
        async with server:
            yield self
            self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._transports.add(writer)
        self._callers.add(writer)
        caller = writer.get_extra_info("socket")
        large = caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > self._segment
        budget = self._budget() if large else UNLIMITED  # asked before the connection counts: it may be cut at once
        await self._count(accepted=1, still=1)
        try:
            await self.gate.wait()
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection(self._target.host, self._target.port)
                self._transports.add(back)
                await self._both(reader, writer, there, back, budget)
                self._transports.discard(back)
        finally:
            self._transports.discard(writer)
            self._callers.discard(writer)
            writer.close()
            await self._count(still=-1)

    async def _count(self, *, accepted: int = 0, still: int = 0) -> None:
        async with self.changed:
            self.accepted += accepted
            self.open += still
            self.changed.notify_all()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        budget: int,
    ) -> None:
        left, flow = [budget], self.flow

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while (data := await source.read(1 << 16)) or not flow.is_set():
                    await flow.wait()
                    passed = data[: left[0]]
                    left[0] -= len(passed)
                    self.captured += passed
                    sink.write(passed)
                    await sink.drain()
                    if not left[0] and not self._stalls:
                        break
                else:
                    return
            for each in (writer, back):
                each.transport.abort()

        await asyncio.gather(carry(reader, back), carry(there, writer))
        for each in (writer, back):
            each.close()

"""A small HTTP proxy that serves CONNECT (RFC 9110) to names that it alone knows, or says fixed bytes instead."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from p2pfl.mesh.proxy import Proxy
from p2pfl.roster import Address
from tests.mesh.sites import free_address


class ConnectProxy:
    """`names`: where each name leads; `password`: NAME:PASSWORD; `says`: sent in place of any answer."""

    def __init__(self, names: Mapping[str, Address], password: str = "", says: bytes | None = None) -> None:
        self.address = free_address()
        self.asked: list[str] = []
        self.captured = bytearray()
        self._changed = asyncio.Condition()
        self._names = names
        self._password = password
        self._says = says

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(holds)

    def proxy(self, credentials: str = "") -> Proxy:
        user = f"{credentials}@" if credentials else ""
        return Proxy.parse(f"http://{user}{self.address}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ConnectProxy]:
        self._writers: set[asyncio.StreamWriter] = set()
        server = await asyncio.start_server(self._serve, self.address.host, self.address.port)
        async with server:
            yield self
            for writer in self._writers:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            if self._says is not None:
                writer.write(self._says)
                await writer.drain()
            else:
                await self._carry(request, reader, writer)
        writer.close()
        self._writers.discard(writer)

    async def _carry(self, request: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb, target, version = request[0].split(" ")
        async with self._changed:
            self.asked.append(target)
            self._changed.notify_all()
        given = base64.b64encode(self._password.encode()).decode()
        if self._password and f"Proxy-Authorization: Basic {given}" not in request:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
        elif (verb, version) != ("CONNECT", "HTTP/1.1") or f"Host: {target}" not in request:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif target not in self._names:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        else:
            where = self._names[target]
            there, back = await asyncio.open_connection(where.host, where.port)
            self._writers.add(back)
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                self.captured += data
                sink.write(data)
                await sink.drain()
        sink.close()

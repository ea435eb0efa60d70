"""One mutually authenticated TLS 1.3 stream: read here during handshake and opening, then pumped for ZeroMQ.

`SSLObject` works on two memory buffers, fed from one asyncio callback at a time. OpenSSL never sees a socket, so the
same code runs inside a relay, the ServerHello can be read as it passes, and no second thread touches the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from p2pfl.errors.mesh import HandshakeUnfinished
from p2pfl.mesh.certificates import ALPN, RELAY_ALPN
from p2pfl.mesh.events import DIRECT, Limits, Path, TlsFacts
from p2pfl.mesh.pump import CHUNK_BYTES, RECORD_BYTES, Pump, Scratch
from p2pfl.mesh.serverhello import group_of

SERVER_HELLO_BYTES: Final = 8 << 10  # enough for a ServerHello with a post-quantum key share


class Wasteful(ConnectionError):
    """The far end's TLS records carry next to no content."""


class Tunnel(Pump):
    """A pump that finds out first who is at its far end. Everything but the coroutines returns at once.

    scratch   the buffers that move bytes once the tunnel is pumped; shared by the tunnels of this event loop
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        limits: Limits,
        now: Callable[[], float],
        *,
        scratch: Scratch | None = None,
        path: Path = DIRECT,
    ) -> None:
        super().__init__(sock, context, now, scratch)
        self.limits = limits
        self.path = path
        self.first_bytes = b""  # of the far end, at most 16
        self._server_hello = bytearray()  # the start of the server's bytes, for the key-exchange group
        self.established = False  # TLS is finished, as far as this end can know
        self.expires = 0.0
        self._authenticated = False
        self._stall_s: float | None = None  # seconds without progress that end the opening
        self._flush_lock = asyncio.Lock()
        self._read = memoryview(bytearray(RECORD_BYTES))

    # ── the handshake and the opening: coroutines ─────────────────────────────────────────────────────────────

    async def handshake(self) -> None:
        """Finish TLS, or raise what OpenSSL or the socket raised, after the far end was sent its alert."""
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
                continue
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()
                raise
            await self._flush()
            self.established = True
            return

    def mark_authenticated(self, expires: float) -> None:
        """The far end is a member until `expires` (Unix seconds): only what is slow ends its opening from here on."""
        self._authenticated = True
        self._stall_s = self.limits.opening_s
        self.expires = expires

    @property
    def certificate(self) -> bytes:
        """The far end's leaf, DER."""
        return self._ssl.getpeercert(binary_form=True) or b""

    @property
    def application(self) -> str | None:
        return self._ssl.selected_alpn_protocol()

    @property
    def speaks_p2pfl(self) -> bool:
        return self.application == ALPN

    @property
    def speaks_relay(self) -> bool:
        return self.application == RELAY_ALPN

    @property
    def resumed(self) -> bool:
        return bool(self._ssl.session_reused)

    @property
    def facts(self) -> TlsFacts:
        cipher, group = self._ssl.cipher(), group_of(bytes(self._server_hello))
        return TlsFacts(self._ssl.version() or "none", cipher[0] if cipher else "none", group)

    async def write(self, data: bytes) -> None:
        """Send bytes during the opening; returns when the kernel has them."""
        self._encrypt(memoryview(data))
        await self._flush()

    async def read_exactly(self, count: int) -> bytes:
        """Exactly `count` bytes, during the opening. Raises what ended the stream instead, TimeoutError."""
        async with asyncio.timeout(self._allowed_s(count)):
            await self._collect(count)
        taken = bytes(self._early[:count])
        del self._early[:count]
        return taken

    def _allowed_s(self, count: int) -> float | None:
        """Seconds for so many bytes, which come in whole records: a byte now and then is progress, and has no end."""
        if self._stall_s is None:
            return None
        return self._stall_s + (count + RECORD_BYTES) / self.limits.opening_bytes_per_s

    async def _collect(self, count: int) -> None:
        while len(self._early) < count:
            if self.wasteful:
                raise Wasteful("TLS records that hold next to nothing")
            try:
                got = self._ssl.read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
                continue
            if not got:
                raise ConnectionError("the far end closed the connection")
            self._early += got
            self._content_bytes += len(got)

    async def _fill(self) -> None:
        async with asyncio.timeout(self._stall_s):
            count = await self._loop.sock_recv_into(self._tcp, self._read)
        if not count:
            raise ConnectionError("the far end closed the connection")
        self._arrived(count)
        if not self._authenticated and self.bytes_received > self.limits.unauthenticated_bytes:
            evidence = f"{self.bytes_received} bytes, and not authenticated"
            raise HandshakeUnfinished(peer="the far end", evidence=evidence)
        self._in.write(self._read[:count])

    async def _flush(self) -> None:
        async with self._flush_lock:
            while data := self._out.read(CHUNK_BYTES):
                self._keep_server_hello(data, from_server=not self.dialed)
                async with asyncio.timeout(self._stall_s):
                    await self._loop.sock_sendall(self._tcp, data)
                self.bytes_sent += len(data)

    def _arrived(self, count: int) -> None:
        self.bytes_received += count
        self.last_heard = self._now()
        if len(self.first_bytes) < 16:
            self.first_bytes = (self.first_bytes + bytes(self._read[: min(count, 16)]))[:16]
        self._keep_server_hello(self._read[:count], from_server=self.dialed)

    def _keep_server_hello(self, data: bytes | memoryview, *, from_server: bool) -> None:
        room = SERVER_HELLO_BYTES - len(self._server_hello)
        if from_server and not self._authenticated and room > 0:
            self._server_hello += data[:room]

    async def close_gently(self) -> None:
        """Close so that the far end can still read the last words: send no more, wait a second for it to close."""
        if self.closed:
            return
        with contextlib.suppress(OSError, TimeoutError):
            self._tcp.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(1.0):
                while await self._loop.sock_recv_into(self._tcp, self._read):
                    pass
        self.close()

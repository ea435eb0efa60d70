"""One mutually authenticated TLS 1.3 stream, first read by us (the handshake, the opening), then pumped for ZeroMQ.

`SSLObject` over two memory buffers, fed from one asyncio callback at a time: OpenSSL never sees a socket, so the same
code will run inside a relay, the ServerHello can be read as it passes, and no second thread touches the session.
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

SNIFFED_BYTES: Final = 8 << 10  # enough for a ServerHello with a post-quantum key share


class Wasteful(ConnectionError):
    """The far end's TLS records hold next to nothing."""


class Tunnel(Pump):
    """A pump whose far end becomes known first. All but the coroutines returns at once.

    scratch   what moves bytes once it is pumped; shared with the other tunnels of this event loop
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
        self.first = b""  # the first bytes that the far end sent
        self._hello = bytearray()  # what the server said first, for the group
        self.established = False  # TLS is finished, as far as this end can know
        self.expires = 0.0
        self._authenticated = False
        self._patience_s: float | None = None
        self._flush_lock = asyncio.Lock()
        self._read = memoryview(bytearray(RECORD_BYTES))

    # ── the handshake and the opening: coroutines ─────────────────────────────────────────────────────────────

    async def handshake(self) -> None:
        """Finish TLS, or raise what OpenSSL or the socket raised; the alert for the far end is sent first."""
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

    def authenticated(self, expires: float) -> None:
        """A member until `expires` (Unix seconds): from here on only standing still ends its opening."""
        self._authenticated = True
        self._patience_s = self.limits.opening_s
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
        cipher = self._ssl.cipher()
        return TlsFacts(self._ssl.version() or "none", cipher[0] if cipher else "none", group_of(bytes(self._hello)))

    async def say(self, data: bytes) -> None:
        """Send bytes of the opening; returns when the kernel has them."""
        self._encrypt(memoryview(data))
        await self._flush()

    async def hear(self, count: int) -> bytes:
        """Exactly `count` bytes of the opening. Raises what ended the stream instead."""
        while len(self._heard) < count:
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
            self._heard += got
            self._held_bytes += len(got)
        taken = bytes(self._heard[:count])
        del self._heard[:count]
        return taken

    async def _fill(self) -> None:
        async with asyncio.timeout(self._patience_s):
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
                self._sniff(data, from_server=not self.dialed)
                async with asyncio.timeout(self._patience_s):
                    await self._loop.sock_sendall(self._tcp, data)
                self.bytes_sent += len(data)

    def _arrived(self, count: int) -> None:
        self.bytes_received += count
        self.last_heard = self._now()
        if len(self.first) < 16:
            self.first = (self.first + bytes(self._read[: min(count, 16)]))[:16]
        self._sniff(self._read[:count], from_server=self.dialed)

    def _sniff(self, data: bytes | memoryview, *, from_server: bool) -> None:
        room = SNIFFED_BYTES - len(self._hello)
        if from_server and not self._authenticated and room > 0:
            self._hello += data[:room]

    async def part(self) -> None:
        """Close after a refusal so that the far end can still read it: say no more, wait briefly for its end."""
        with contextlib.suppress(OSError, TimeoutError):
            self._tcp.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(1.0):
                while await self._loop.sock_recv_into(self._tcp, self._read):
                    pass
        self.close()

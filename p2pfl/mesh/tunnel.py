"""One mutually authenticated TLS 1.3 stream, first read by us (the opening), then pumped for ZeroMQ.

`SSLObject` over two memory buffers, fed from one asyncio callback at a time: OpenSSL never sees a socket, so the same
code will run inside a relay, the ServerHello can be read as it passes, and no second thread touches the session.
After the opening every byte goes  TCP ► decrypt ► Checker ► unix socket of the local ROUTER  and back. Each direction
stops reading while the other end of it cannot take more, so the memory of a link is its four fixed buffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from p2pfl.errors.mesh import HandshakeUnfinished
from p2pfl.mesh.certificates import ALPN
from p2pfl.mesh.events import Limits, TlsFacts
from p2pfl.mesh.serverhello import group_of
from p2pfl.mesh.zmtp import Checker, MalformedZmtp

CHUNK_BYTES: Final = 128 << 10
TURNS: Final = 8  # chunks that one callback moves at most, so that every link gets its turn
RECORD_BYTES: Final = 16 << 10  # the most that one TLS record carries
SNIFFED_BYTES: Final = 8 << 10  # enough for a ServerHello with a post-quantum key share

OnEnd = Callable[[str, Exception | None], None]


class Tunnel:
    """A connected TCP socket and its TLS session. Used by one event loop; all but the coroutines returns at once.

    Counts what crosses the wire (`bytes_sent`, `bytes_received`) and when a byte last arrived (`last_heard`).
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, dialed: bool, limits: Limits, now: Callable[[], float]
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.dialed = dialed
        self.limits = limits
        self.bytes_sent = 0
        self.bytes_received = 0
        self.last_heard = now()
        self.first = b""  # the first bytes that the far end sent
        self.closed = False
        self._now = now
        self._tcp = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._in, self._out, server_side=not dialed)
        self._hello = bytearray()  # what the server said first, for the group
        self.established = False  # TLS is finished, as far as this end can know
        self.expires = 0.0
        self._authenticated = False
        self._patience_s: float | None = None
        self._flush_lock = asyncio.Lock()
        self._heard = bytearray()  # decrypted and not used yet
        self._cipher = memoryview(bytearray(RECORD_BYTES))  # the large buffers come with `start`
        self._plain = self._clear = memoryview(b"")
        self._loop = asyncio.get_running_loop()
        self._local: socket.socket | None = None
        self._on_end: OnEnd | None = None
        self._checker = Checker()
        self._ours = Checker()  # what the ROUTER says, until it has said READY
        self._tcp_rest = memoryview(b"")  # encrypted, waits for TCP
        self._local_rest = memoryview(b"")  # decrypted and checked, waits for the ROUTER
        self._tcp_full = self._local_full = False

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
            try:
                got = self._ssl.read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
                continue
            if not got:
                raise ConnectionError("the far end closed the connection")
            self._heard += got
        taken = bytes(self._heard[:count])
        del self._heard[:count]
        return taken

    async def _fill(self) -> None:
        async with asyncio.timeout(self._patience_s):
            count = await self._loop.sock_recv_into(self._tcp, self._cipher)
        if not count:
            raise ConnectionError("the far end closed the connection")
        self._arrived(count)
        if not self._authenticated and self.bytes_received > self.limits.unauthenticated_bytes:
            evidence = f"{self.bytes_received} bytes, and not authenticated"
            raise HandshakeUnfinished(peer="the far end", evidence=evidence)
        self._in.write(self._cipher[:count])

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
            self.first = (self.first + bytes(self._cipher[: min(count, 16)]))[:16]
        self._sniff(self._cipher[:count], from_server=self.dialed)

    def _sniff(self, data: bytes | memoryview, *, from_server: bool) -> None:
        room = SNIFFED_BYTES - len(self._hello)
        if from_server and not self._authenticated and room > 0:
            self._hello += data[:room]

    # ── the pump: callbacks ───────────────────────────────────────────────────────────────────────────────────

    def start(self, local: socket.socket, on_end: OnEnd) -> None:
        """Carry ZMTP between the far end and `local`, the ROUTER's connection, until one of them ends.

        `on_end(reason, error)` is called once, from the loop; error is MalformedZmtp when the far end broke ZMTP.
        """
        local.setblocking(False)
        self._local, self._on_end = local, on_end
        self._cipher = memoryview(bytearray(CHUNK_BYTES))
        self._plain = memoryview(bytearray(CHUNK_BYTES + 2 * RECORD_BYTES))
        self._clear = memoryview(bytearray(CHUNK_BYTES))
        self._loop.add_reader(local, self._from_local)
        self._loop.add_reader(self._tcp, self._from_tcp)
        self._loop.call_soon(self._early)

    def _early(self) -> None:
        """What came behind the opening's last bytes: decrypted already, or whole records that wait in memory."""
        early, self._heard = bytes(self._heard), bytearray()
        if not self.closed and (not early or self._pass_on(memoryview(early))):
            self._decrypt()

    def close(self) -> None:
        """Close both sockets at once; safe to call twice."""
        if self.closed:
            return
        self.closed = True
        for sock in (self._tcp, self._local):
            if sock is not None:
                self._loop.remove_reader(sock)
                self._loop.remove_writer(sock)
        if self._local is not None:
            self._local.close()
            if not self._tcp_rest:  # half a record is out: anything more would be noise
                with contextlib.suppress(OSError, ssl.SSLError):
                    self._ssl.unwrap()  # writes close_notify: the far end learns that this is no cut
                with contextlib.suppress(OSError):
                    self._tcp.send(self._out.read())
        self._tcp.close()

    async def part(self) -> None:
        """Close after a refusal so that the far end can still read it: say no more, wait briefly for its end."""
        with contextlib.suppress(OSError, TimeoutError):
            self._tcp.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(1.0):
                while await self._loop.sock_recv_into(self._tcp, self._cipher):
                    pass
        self.close()

    def _end(self, reason: str, error: Exception | None = None) -> bool:
        """Close and tell; always False, for those who say whether to go on."""
        if not self.closed:
            self.close()
            if self._on_end is not None:
                self._on_end(reason, error)
        return False

    def _encrypt(self, clear: memoryview) -> None:
        done, size, write = 0, len(clear), self._ssl.write
        while done < size:
            done += write(clear[done : done + RECORD_BYTES])

    def _from_local(self) -> None:
        """Encrypt what the ROUTER says; a few times in a row, which costs less than being called again for each."""
        for _ in range(TURNS):
            if self._local is None or self.closed or self._tcp_full or not self._one_from_local(self._local):
                return

    def _one_from_local(self, local: socket.socket) -> bool:
        try:
            count = local.recv_into(self._clear)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._end(f"local socket: {error.strerror}")
        if not count:
            return self._end("the local socket closed")
        try:
            if not self._ours.ready:
                self._ours.feed(self._clear[:count])
            self._encrypt(self._clear[:count])
        except ssl.SSLError as error:
            return self._end(f"TLS: {error.reason or error}")
        self._to_tcp()
        return True

    def _to_tcp(self) -> None:
        """Hand what is encrypted to TCP; while it cannot take all, nothing more is read from the ROUTER."""
        rest = self._tcp_rest or memoryview(self._out.read())
        try:
            count = self._tcp.send(rest)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._end(f"connection lost: {error.strerror}")
            return
        self.bytes_sent += count
        self._tcp_rest = rest[count:] or memoryview(self._out.read())
        full = bool(self._tcp_rest)
        if full != self._tcp_full and self._local is not None:
            self._tcp_full = full
            if full:
                self._loop.remove_reader(self._local)
                self._loop.add_writer(self._tcp, self._to_tcp)
            else:
                self._loop.remove_writer(self._tcp)
                self._loop.add_reader(self._local, self._from_local)

    def _from_tcp(self) -> None:
        for _ in range(TURNS):
            if self.closed or self._local_full or not self._one_from_tcp():
                return

    def _one_from_tcp(self) -> bool:
        try:
            count = self._tcp.recv_into(self._cipher)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._end(f"connection lost: {error.strerror}")
        if not count:
            return self._end("connection cut")
        self.bytes_received += count
        self.last_heard = self._now()
        self._in.write(self._cipher[:count])
        self._decrypt()
        return True

    def _decrypt(self) -> None:
        if self.closed or self._local_rest:
            return
        got, read, plain = 0, self._ssl.read, self._plain
        ended = False
        try:
            while got + RECORD_BYTES <= len(plain):
                count = int(read(RECORD_BYTES, plain[got:]))
                if not count:
                    ended = True
                    break
                got += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            self._end(f"TLS: {error.reason or error}")
            return
        if got and not self._pass_on(plain[:got]):
            return
        if ended:
            self._end("closed by the far end")
            return
        if self._out.pending and not self._tcp_rest:
            self._to_tcp()  # an answer of TLS itself, to a key update

    def _pass_on(self, clear: memoryview) -> bool:
        """Check decrypted bytes and hand them to the ROUTER; False when the link ended."""
        try:
            self._checker.feed(clear)
            # libzmq gives its pipe up for good when a message comes before its own READY has left.
            if self._checker.spoke and not self._ours.ready:
                raise MalformedZmtp("a message before the handshake was done")
        except MalformedZmtp as error:
            self._end("malformed ZMTP", error)
            return False
        self._to_local(clear)
        return not self.closed

    def _to_local(self, clear: memoryview) -> None:
        """Hand checked bytes to the ROUTER; while it cannot take all, nothing more is read from TCP."""
        local = self._local
        if local is None:
            return
        try:
            count = local.send(clear)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._end(f"local socket: {error.strerror}")
            return
        self._local_rest = clear[count:]
        full = bool(self._local_rest)
        if full != self._local_full:
            self._local_full = full
            if full:
                self._loop.remove_reader(self._tcp)
                self._loop.add_writer(local, self._local_writable)
            else:
                self._loop.remove_writer(local)
                self._loop.add_reader(self._tcp, self._from_tcp)

    def _local_writable(self) -> None:
        self._to_local(self._local_rest)
        if not self._local_rest and not self.closed:
            self._decrypt()  # whole records may wait in memory, and TCP would not wake us for them

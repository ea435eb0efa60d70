"""Moves one link's bytes:  TCP ► decrypt ► Checker ► unix socket of the local ROUTER, and back.

All of it happens in callbacks of one event loop. Each direction stops reading while its other end cannot take more, so
the memory of a link is bounded: what OpenSSL's two memory buffers hold, and one chunk that waits in each direction.

A chunk is large, because each step costs the same for a byte and for a chunk: a callback, two calls of the kernel,
a thread woken at the other end of the unix socket. The buffers in which chunks are moved hold nothing between two
callbacks, so all links of a mesh share them, and they stay in the processor's cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from p2pfl.mesh.zmtp import Checker, MalformedZmtp

CHUNK_BYTES: Final = 512 << 10
TURNS: Final = 2  # chunks that one callback moves at most, so that every link gets its turn
RECORD_BYTES: Final = 16 << 10  # the most that one TLS record carries
# What comes may be so many bytes more than `WASTE` times what it holds: a record has 22 bytes around its content, and
# the shortest that p2pfl says in number are twice as long. Key updates, and records of one byte, cost the loop as
# much as a hundred times their bytes.
WASTE: Final = 4
WASTE_BYTES: Final = 128 << 10

OnEnd = Callable[[str, Exception | None], None]
OnTaken = Callable[[int], None]


class Scratch:
    """The buffers in which the links of one event loop move their bytes; empty again when a callback returns."""

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(CHUNK_BYTES))
        # One read of TCP and what was held back of a record before it; whole records only fit whole.
        self.plain = memoryview(bytearray(CHUNK_BYTES + 2 * RECORD_BYTES))


class Pump:
    """A connected TCP socket and its TLS session, which never sees the socket. Used by one event loop.

    This end is TLS's client (`dialed`) when the context is one for clients.
    Counts what crosses the wire (`bytes_sent`, `bytes_received`) and when a byte last arrived (`last_heard`).
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, now: Callable[[], float], scratch: Scratch | None
    ) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:  # a connection that a relay carries begins in this process
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.dialed = context.protocol is ssl.PROTOCOL_TLS_CLIENT
        self.bytes_sent = 0
        self.bytes_received = 0
        self.last_heard = now()
        self.closed = False
        self._now = now
        self._tcp = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._in, self._out, server_side=not self.dialed)
        self._scratch = scratch or Scratch()
        self._heard = bytearray()  # decrypted before `start` and not used yet
        self._loop = asyncio.get_running_loop()
        self._local: socket.socket | None = None
        self._on_end: OnEnd | None = None
        self._on_taken: OnTaken = lambda count: None
        self._zmtp = True
        self._held_bytes = 0  # what the records that came held
        self._checker = Checker()
        self._ours = Checker()  # what the ROUTER says, until it has said READY
        self._tcp_rest = memoryview(b"")  # encrypted, waits for TCP
        self._local_rest = memoryview(b"")  # decrypted and checked, waits for the ROUTER
        self._tcp_full = self._local_full = False

    def start(
        self, local: socket.socket, on_end: OnEnd, on_taken: OnTaken = lambda count: None, *, zmtp: bool = True
    ) -> None:
        """Carry ZMTP between the far end and `local`, the ROUTER's connection, until one of them ends.

        Without `zmtp` any bytes are carried: those of a call, which are another pair's TLS records.

        `on_end(reason, error)` is called once, from the loop; error is MalformedZmtp when the far end broke ZMTP.
        `on_taken(count)` is called when so many bytes of the ROUTER are on their way to the far end.
        """
        local.setblocking(False)
        self._local, self._on_end, self._on_taken, self._zmtp = local, on_end, on_taken, zmtp
        self._loop.add_reader(local, self._from_local)
        self._loop.add_reader(self._tcp, self._from_tcp)
        self._loop.call_soon(self._early)

    def _early(self) -> None:
        """What came behind the opening's last bytes: decrypted already, or whole records that wait in memory."""
        early, self._heard = bytes(self._heard), bytearray()
        if not self.closed and (not early or self._pass_on(memoryview(early))):
            self._decrypt()

    @property
    def wasteful(self) -> bool:
        """What came were many bytes around very little."""
        return self.bytes_received - self._in.pending > WASTE_BYTES + WASTE * self._held_bytes

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

    def _end(self, reason: str, error: Exception | None = None) -> bool:
        """Close and tell; always False, for those who say whether to go on."""
        if not self.closed:
            self.close()
            if self._on_end is not None:
                self._on_end(reason, error)
        return False

    # ── from the ROUTER to the far end ────────────────────────────────────────────────────────────────────────

    def _from_local(self) -> None:
        """Encrypt what the ROUTER says; a few times in a row, which costs less than being called again for each."""
        for _ in range(TURNS):
            if self._local is None or self.closed or self._tcp_full or not self._one_from_local(self._local):
                return

    def _one_from_local(self, local: socket.socket) -> bool:
        clear = self._scratch.plain
        try:
            count = local.recv_into(clear, CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._end(f"local socket: {error.strerror}")
        if not count:
            return self._end("the local socket closed")
        try:
            if self._zmtp and not self._ours.ready:
                self._ours.feed(clear[:count])
            self._encrypt(clear[:count])
        except ssl.SSLError as error:
            return self._end(f"TLS: {error.reason or error}")
        self._to_tcp()
        self._on_taken(count)
        return True

    def _encrypt(self, clear: memoryview) -> None:
        while clear:  # mostly once: OpenSSL cuts it into records, and memory is never full
            clear = clear[self._ssl.write(clear) :]

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

    # ── from the far end to the ROUTER ────────────────────────────────────────────────────────────────────────

    def _from_tcp(self) -> None:
        for _ in range(TURNS):
            if self.closed or self._local_full or not self._one_from_tcp():
                return

    def _one_from_tcp(self) -> bool:
        cipher = self._scratch.cipher
        try:
            count = self._tcp.recv_into(cipher)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._end(f"connection lost: {error.strerror}")
        if not count:
            return self._end("connection cut")
        self.bytes_received += count
        self.last_heard = self._now()
        self._in.write(cipher[:count])
        self._decrypt()
        return True

    def _decrypt(self) -> None:
        if self.closed or self._local_rest:
            return
        got, read, plain = 0, self._ssl.read, self._scratch.plain
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
        self._held_bytes += got
        if self.wasteful:
            self._end("TLS records that hold nothing", MalformedZmtp("TLS records that hold next to nothing"))
            return
        if got and not self._pass_on(plain[:got]):
            return
        if ended:
            if not self._local_rest:  # else what came before the end goes first, and this is read again
                self._end("closed by the far end")
            return
        if self._out.pending and not self._tcp_rest:
            self._to_tcp()  # an answer of TLS itself, to a key update

    def _pass_on(self, clear: memoryview) -> bool:
        """Check decrypted bytes and hand them to the ROUTER; False when the link ended."""
        if self._zmtp:
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
        # `clear` lies in the buffer that the next link will use: what stays behind needs a place of its own.
        own = clear is self._local_rest
        self._local_rest = clear[count:] if own else memoryview(bytes(clear[count:]))
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

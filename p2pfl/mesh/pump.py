"""Moves one link's bytes:  TCP ► decrypt ► Checker ► unix socket of the local ROUTER, and back.

Everything happens in callbacks of one event loop. A direction stops reading while its other end cannot take more, so
a link's memory is bounded: OpenSSL's two memory buffers, and one chunk that waits in each direction.

Chunks are large because each step costs the same for a byte as for a chunk: a callback, two system calls, a thread
woken at the other end of the unix socket. So TCP wakes this end for what a large part of a message lacks, and not for
each packet of it (docs/adr/0066). The buffers that move chunks are empty between two callbacks, so all links of a mesh
share them, and they stay in the processor's cache.
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
TURNS: Final = 2  # most chunks that one callback moves, so that every link gets its turn
RECORD_BYTES: Final = 16 << 10  # most content of one TLS record
LEAST_AWAITED: Final = 32 << 10  # bytes that a part lacks: for fewer, each packet may wake this end
MOST_AWAITED: Final = 128 << 10  # far below TCP's window: the far end must go on sending while this end wakes up
# The wire may carry WASTE_BYTES more than WASTE times the content. A record adds 22 bytes to its content, and the
# shortest records that p2pfl sends in number hold twice that. Key updates and records of one byte cost the loop as
# much as a hundred times their bytes.
WASTE: Final = 4
WASTE_BYTES: Final = 128 << 10

OnEnd = Callable[[str, Exception | None], None]  # the reason; an error when the far end broke ZMTP
OnForwarded = Callable[[int], None]  # bytes of the ROUTER that are on their way to the far end


class Scratch:
    """The buffers that move the bytes of all links of one event loop; empty again when a callback returns."""

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(CHUNK_BYTES))
        # One read of TCP, and the rest of the record before it; records are read whole.
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
        self._early = bytearray()  # decrypted before the pump started, and not consumed yet
        self._loop = asyncio.get_running_loop()
        self._local: socket.socket | None = None
        self._on_end: OnEnd | None = None
        self._on_forwarded: OnForwarded | None = None
        self._zmtp = True
        self._content_bytes = 0  # decrypted so far
        self._far_checker = Checker()  # of the far end's ZMTP
        self._own_checker = Checker()  # of the ROUTER's ZMTP, until its READY has passed
        self._tcp_rest = memoryview(b"")  # encrypted, waits for TCP
        self._local_rest = memoryview(b"")  # decrypted and checked, waits for the ROUTER
        self._tcp_full = self._local_full = False
        self._awaited = 1  # bytes that TCP collects before it wakes this end

    def start_zmtp(self, local: socket.socket, on_end: OnEnd, on_forwarded: OnForwarded) -> None:
        """Carry ZMTP between the far end and `local`, the ROUTER's connection, until one of them ends.

        Both callbacks come from the loop. `on_end` comes once; its error is MalformedZmtp when the far end broke ZMTP.
        """
        self._on_forwarded = on_forwarded
        self._start(local, on_end)

    def start_raw(self, local: socket.socket, on_end: OnEnd) -> None:
        """Carry any bytes between the far end and `local`: a relayed call's, which are another pair's TLS records."""
        self._zmtp = False
        self._start(local, on_end)

    def _start(self, local: socket.socket, on_end: OnEnd) -> None:
        local.setblocking(False)
        self._local, self._on_end = local, on_end
        self._loop.add_reader(local, self._from_local)
        self._loop.add_reader(self._tcp, self._from_tcp)
        self._loop.call_soon(self._forward_early)

    def _forward_early(self) -> None:
        """Forward what followed the opening's last bytes: already decrypted, or whole records that wait in memory."""
        early, self._early = bytes(self._early), bytearray()
        if not self.closed and (not early or self._forward(memoryview(early))):
            self._decrypt()

    @property
    def wasteful(self) -> bool:
        """The far end sent many bytes around very little content."""
        return self.bytes_received - self._in.pending > WASTE_BYTES + WASTE * self._content_bytes

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
        """Close and report; always False, so that a step can return it for "do not go on"."""
        if not self.closed:
            self.close()
            if self._on_end is not None:
                self._on_end(reason, error)
        return False

    # ── from the ROUTER to the far end ────────────────────────────────────────────────────────────────────────

    def _from_local(self) -> None:
        """Encrypt what the ROUTER says; a few turns in a row cost less than a callback for each."""
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
            if self._zmtp and not self._own_checker.ready:
                self._own_checker.feed(clear[:count])
            self._encrypt(clear[:count])
        except ssl.SSLError as error:
            return self._end(f"TLS: {error.reason or error}")
        self._to_tcp()
        if self._on_forwarded is not None:
            self._on_forwarded(count)
        return True

    def _encrypt(self, clear: memoryview) -> None:
        while clear:  # mostly once: OpenSSL cuts it into records, and a memory buffer is never full
            clear = clear[self._ssl.write(clear) :]

    def _to_tcp(self) -> None:
        """Hand encrypted bytes to TCP; while it cannot take all of them, nothing more is read from the ROUTER."""
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
        self._await_part()
        return True

    def _await_part(self) -> None:
        """Be woken for what a large part of a message still lacks, or much of it, and not for each of its packets.

        Nothing can be done with it before. Its sender owes every byte that is waited for: a part that has begun is
        sent to its end, and of it OpenSSL may hold all but one byte of a record already, where nobody can count them.
        The end of the connection wakes this end at once, and `look` comes often enough that a slow link is not taken
        for a dead one.
        """
        if self.closed or self._tcp.family == socket.AF_UNIX:
            return
        lacking = min(self._far_checker.lacking - self._in.pending - RECORD_BYTES, MOST_AWAITED)
        self._await(lacking if lacking >= LEAST_AWAITED else 1)

    def _await(self, count: int) -> None:
        if count != self._awaited:
            with contextlib.suppress(OSError):  # where the system has no such option each packet wakes this end
                self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self._awaited = count

    def look(self) -> None:
        """Take what has come so far of a part that is waited for; called about twice a second."""
        if self._awaited > 1:
            self._await(1)  # a system may give less to no read, as BSD's do, and not only wake nobody for it
            self._from_tcp()
            self._await_part()

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
        self._content_bytes += got
        if self.wasteful:
            self._end("TLS records that hold nothing", MalformedZmtp("TLS records that hold next to nothing"))
            return
        if got and not self._forward(plain[:got]):
            return
        if ended:
            if not self._local_rest:  # else the bytes before the end go first, and the end is read again
                self._end("closed by the far end")
            return
        if self._out.pending and not self._tcp_rest:
            self._to_tcp()  # TLS's own answer to a key update

    def _forward(self, clear: memoryview) -> bool:
        """Check decrypted bytes and hand them to the ROUTER; False when the link ended."""
        if self._zmtp:
            try:
                self._far_checker.feed(clear)
                # libzmq gives its pipe up for good when a message comes before its own READY has left.
                if self._far_checker.message_begun and not self._own_checker.ready:
                    raise MalformedZmtp("a message before the handshake was done")
            except MalformedZmtp as error:
                self._end("malformed ZMTP", error)
                return False
        self._to_local(clear)
        return not self.closed

    def _to_local(self, clear: memoryview) -> None:
        """Hand checked bytes to the ROUTER; while it cannot take all of them, nothing more is read from TCP."""
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
        # `clear` lies in the buffer that the next link will use: the rest needs memory of its own.
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

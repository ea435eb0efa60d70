"""Moves one link's bytes:  TCP ► decrypt ► the local end (local_ends.py), and back.

Everything happens in callbacks of one event loop. A direction stops reading while its other end cannot take more, so
a link's memory is bounded: OpenSSL's two memory buffers, and one chunk that waits in each direction.

Chunks are large because each step costs the same for a byte as for a chunk: a callback, a system call. So TCP wakes
this end for what a large part of a message lacks, and not for each packet of it (docs/adr/0066). The buffers that move
chunks are empty between two callbacks, so all links of a mesh share them, and they stay in the processor's cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from p2pfl.mesh.zmtp import MalformedZmtp

CHUNK_BYTES: Final = 512 << 10
SENT_BYTES: Final = 256 << 10  # encrypted before TCP is given it: what is handed on is still in the processor's cache
# What TCP may hold of bytes that are not on their way yet: letters that are said now stand behind them. Of itself it
# takes 1 to 2 MiB, which last half a second where four links share 50 Mbit/s (docs/adr/0080).
UNSENT_BYTES: Final = 256 << 10
TURNS: Final = 2  # most chunks that one callback moves, so that every link gets its turn
RECORD_BYTES: Final = 16 << 10  # most content of one TLS record
FIRST_BYTES: Final = 4 * RECORD_BYTES  # decrypted before it is known whether a large body has begun, which has a place
LEAST_AWAITED: Final = 32 << 10  # bytes that a part lacks: for fewer, each packet may wake this end
MOST_AWAITED: Final = 128 << 10  # far below TCP's window: the far end must go on sending while this end wakes up
# The wire may carry WASTE_BYTES more than WASTE times the content. A record adds 22 bytes to its content, and the
# shortest records that p2pfl sends in number hold twice that. Key updates and records of one byte cost the loop as
# much as a hundred times their bytes.
WASTE: Final = 4
WASTE_BYTES: Final = 128 << 10

OnEnd = Callable[[str, Exception | None], None]  # the reason; an error when the far end broke ZMTP


class LocalEnd(Protocol):
    """Where decrypted bytes go, and where those come from that are to be encrypted."""

    @property
    def lacking(self) -> int:
        """Bytes that the part which has begun still lacks, and that its sender owes; 0 where that is not known."""

    @property
    def full(self) -> bool:
        """It holds bytes that it cannot hand on: it is given no more before it calls `Pump.room_again`."""

    def begin(self, pump: Pump) -> None:
        """Give bytes to `pump.send` from now on, except while that is stalled."""

    def take(self, clear: memoryview) -> None:
        """Decrypted bytes, in memory that the caller uses again. Raises MalformedZmtp."""

    @property
    def room(self) -> memoryview:
        """Where the next bytes belong, as far as that is known: they may be decrypted to there, and are not taken."""

    def placed(self, count: int) -> None:
        """So many bytes were written to the beginning of `room`."""

    def rest(self) -> None:
        """Nothing comes at the moment: hold no memory for what may."""

    def go_on(self) -> None:
        """The pump is stalled no longer."""

    def close(self) -> None:
        """The pump is closed."""


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
        self._counts = sock.family != socket.AF_UNIX  # TCP may wait for a number of bytes
        if self._counts:  # a connection that a relay carries begins in this process
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError, AttributeError):  # a system without it takes as much as it likes
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.dialed = context.protocol is ssl.PROTOCOL_TLS_CLIENT
        self.bytes_sent = 0
        self.bytes_received = 0
        self.last_heard = now()
        self.closed = False
        self.scratch = scratch or Scratch()
        self._now = now
        self._tcp = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._in, self._out, server_side=not self.dialed)
        self._early = bytearray()  # decrypted before the pump started, and not consumed yet
        self._loop = asyncio.get_running_loop()
        self._local: LocalEnd | None = None
        self._on_end: OnEnd | None = None
        self._content_bytes = 0  # decrypted so far
        self._tcp_rest = memoryview(b"")  # encrypted, waits for TCP
        self._tcp_full = self._local_full = False
        self._ended = False  # the far end has said that nothing follows
        self._awaited = 1  # bytes that TCP collects before it wakes this end

    def start(self, local: LocalEnd, on_end: OnEnd) -> None:
        """Carry bytes between the far end and `local` until one of them ends.

        `on_end` comes once, from the loop; its error is MalformedZmtp when the far end broke ZMTP.
        Raises OSError where the pump is closed already, or the system cannot watch one more socket.
        """
        if self.closed:
            raise ConnectionAbortedError("closed at this end")
        self._local, self._on_end = local, on_end
        self._loop.add_reader(self._tcp, self._from_tcp)
        local.begin(self)
        self._loop.call_soon(self._forward_early)

    def _forward_early(self) -> None:
        """Forward what followed the opening's last bytes: already decrypted, or whole records that wait in memory."""
        early, self._early = bytes(self._early), bytearray()
        if not self.closed and (not early or self._forward(memoryview(early), len(early))):
            self._decrypt()

    @property
    def wasteful(self) -> bool:
        """The far end sent many bytes around very little content."""
        return self.bytes_received - self._in.pending > WASTE_BYTES + WASTE * self._content_bytes

    def close(self) -> None:
        """Close both sides at once; safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._tcp)
        self._loop.remove_writer(self._tcp)
        if self._local is not None:
            self._local.close()
            if not self._tcp_rest:  # half a record is out: anything more would be noise
                with contextlib.suppress(OSError, ssl.SSLError):
                    self._ssl.unwrap()  # writes close_notify: the far end learns that this is no cut
                with contextlib.suppress(OSError):
                    self._tcp.send(self._out.read())
        self._tcp.close()

    def end(self, reason: str, error: Exception | None = None) -> None:
        """Close and report."""
        if not self.closed:
            self.close()
            if self._on_end is not None:
                self._on_end(reason, error)

    # ── from the local end to the far end ─────────────────────────────────────────────────────────────────────

    @property
    def stalled(self) -> bool:
        """TCP has to take what waits before more is given to it."""
        return self._tcp_full or self.closed

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Encrypt the pieces, and hand them to TCP. What that cannot take at once waits here."""
        if self.closed:
            return
        try:
            for piece in pieces:
                for at in range(0, len(piece), SENT_BYTES):
                    if at and not self.stalled:
                        self._to_tcp()
                    self._encrypt(memoryview(piece)[at : at + SENT_BYTES])
        except ssl.SSLError as error:
            self.end(f"TLS: {error.reason or error}")
            return
        if not self.stalled:
            self._to_tcp()

    def _encrypt(self, clear: memoryview) -> None:
        while clear:  # mostly once: OpenSSL cuts it into records, and a memory buffer is never full
            clear = clear[self._ssl.write(clear) :]

    def _to_tcp(self) -> None:
        """Hand encrypted bytes to TCP; while it cannot take all of them, the local end sends nothing more."""
        rest = self._tcp_rest or memoryview(self._out.read())
        try:
            count = self._tcp.send(rest)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self.end(f"connection lost: {error.strerror}")
            return
        self.bytes_sent += count
        self._tcp_rest = rest[count:] or memoryview(self._out.read())
        full = bool(self._tcp_rest)
        if full != self._tcp_full and self._local is not None:
            self._tcp_full = full
            if full:
                self._loop.add_writer(self._tcp, self._to_tcp)
            else:
                self._loop.remove_writer(self._tcp)
                self._local.go_on()

    # ── from the far end to the local end ─────────────────────────────────────────────────────────────────────

    def _from_tcp(self) -> None:
        for _ in range(TURNS):
            if self.closed or self._local_full or not self._one_from_tcp():
                return

    def _one_from_tcp(self) -> bool:
        cipher = self.scratch.cipher
        try:
            count = self._tcp.recv_into(cipher)
        except BlockingIOError:
            return False
        except OSError as error:
            self.end(f"connection lost: {error.strerror}")
            return False
        if not count:
            self.end("connection cut")
            return False
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
        if self.closed or self._local is None or not self._counts:
            return
        lacking = min(self._local.lacking - self._in.pending - RECORD_BYTES, MOST_AWAITED)
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
        elif self._local is not None:
            self._local.rest()

    def _decrypt(self) -> None:
        if self.closed or self._local is None:
            return
        more, few = True, FIRST_BYTES
        while more and not self._local_full:
            room, plain = self._local.room, self.scratch.plain
            direct = len(room) >= RECORD_BYTES
            got, more = self._records_into(room if direct else plain[:few])
            few = FIRST_BYTES if direct else len(plain)
            if got is None:
                return
            self._content_bytes += got
            if self.wasteful:
                self.end("TLS records that hold nothing", MalformedZmtp("TLS records that hold next to nothing"))
                return
            if got and not self._forward(None if direct else plain[:got], got):
                return
        if self._ended and not self._local_full:  # else the bytes before the end go first
            self.end("closed by the far end")
        elif self._out.pending and not self._tcp_rest:
            self._to_tcp()  # TLS's own answer to a key update

    def _records_into(self, room: memoryview) -> tuple[int | None, bool]:
        """Decrypt records one behind the other, while each has room: how many bytes, and whether more may follow.

        None when the link ended.
        """
        got, last, read = 0, len(room) - RECORD_BYTES, self._ssl.read
        try:
            while got <= last:
                count = int(read(RECORD_BYTES, room[got:]))
                if not count:
                    self._ended = True
                    return got, False
                got += count
            return got, True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self.end(f"TLS: {error.reason or error}")
            return None, False
        return got, False

    def _forward(self, clear: memoryview | None, count: int) -> bool:
        """Hand decrypted bytes to the local end, which has them already where `clear` is None.

        False when the link ended. While that end is full TCP is not read.
        """
        local = self._local
        if local is None:
            return False
        try:
            if clear is None:
                local.placed(count)
            else:
                local.take(clear)
        except MalformedZmtp as error:
            self.end("malformed ZMTP", error)
        if local.full and not self.closed and not self._local_full:
            self._local_full = True
            self._loop.remove_reader(self._tcp)
        return not self.closed

    def room_again(self) -> None:
        """The local end can take more: whole records may wait in memory, and TCP would not wake us for them."""
        if self._local_full and not self.closed:
            self._local_full = False
            self._loop.add_reader(self._tcp, self._from_tcp)
            self._decrypt()

"""What a pump's bytes come from and go to at this end: the ROUTER, in messages, or a socket of a call that is carried.

Both stop giving while TCP cannot take more, and are given nothing while they cannot hand on what they hold.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from p2pfl.mesh.pump import CHUNK_BYTES, RECORD_BYTES, TURNS, Pump
from p2pfl.mesh.router import Endpoint
from p2pfl.mesh.zmtp import GREETING, READY, Decoder, MalformedZmtp, encode_parts

TURN_BYTES: Final = TURNS * CHUNK_BYTES  # most bytes sent in one callback, so that every link gets its turn

OnForwarded = Callable[[int], None]  # bytes of bodies that are on their way to the far end; 0: TCP is full no longer


class RouterEnd:
    """One peer's messages, from and to the ROUTER, as ZMTP on the tunnel.

    What waits for the peer when the loop has its next turn leaves together: many small letters are one TLS record.
    """

    def __init__(self, endpoint: Endpoint, on_forwarded: OnForwarded) -> None:
        self._endpoint, self._on_forwarded = endpoint, on_forwarded
        self._decoder = Decoder()
        self._rest = memoryview(b"")  # has come, and waits for messages before it to be read
        self._send_due = False

    @property
    def lacking(self) -> int:
        """Bytes that the part which has begun still lacks, and that its sender owes; 0 where that is not known."""
        return self._decoder.lacking

    @property
    def full(self) -> bool:
        """The ROUTER has to be read before more may come."""
        return bool(self._rest or self._decoder.messages)

    def begin(self, pump: Pump) -> None:
        self._pump = pump
        self._endpoint.attach(self._send_soon, self._on_room)
        pump.send(GREETING + READY)
        self._send_soon()

    def take(self, clear: memoryview) -> None:
        """Decrypted bytes have come. Raises MalformedZmtp; then nothing counts that the ROUTER was not given before."""
        ready = self._decoder.ready
        taken = self._decoder.feed(clear)
        # `clear` lies in the buffer that the next link will use: the rest needs memory of its own.
        self._rest = memoryview(bytes(clear[taken:]))
        if not ready and self._decoder.ready:  # libzmq at the far end gives its pipe up on a message before
            self._send_soon()
        self._give()

    @property
    def room(self) -> memoryview:
        """Where the next bytes belong: memory for what the body that has begun lacks; may be none."""
        return self._decoder.room

    def placed(self, count: int) -> None:
        """So many of them were written there."""
        self._decoder.placed(count)
        self._give()

    def rest(self) -> None:
        """Nothing has come for a while."""
        self._decoder.rest()

    def go_on(self) -> None:
        """TCP can take more."""
        self._send_soon()
        self._on_forwarded(0)

    def close(self) -> None:
        self._endpoint.detach(self._send_soon)
        self._rest, self._decoder = memoryview(b""), Decoder()  # a part that has begun may have a mebibyte

    def _on_room(self) -> None:
        try:
            self._give()
        except MalformedZmtp as error:
            self._pump.end("malformed ZMTP", error)
            return
        if not self.full:
            self._pump.room_again()

    def _give(self) -> None:
        """Give messages until there are none or the ROUTER refuses one: it says when it has room."""
        messages = self._decoder.messages
        while True:
            while messages and self._endpoint.give(messages[0]):
                _, body = messages.popleft()
                if body is not None:
                    self._decoder.spare(body)
            if messages or not self._rest:
                return
            self._rest = self._rest[self._decoder.feed(self._rest) :]

    def _send_soon(self) -> None:
        # While TCP is full nothing is due: it says when it is not (go_on), and the loop has nothing to do until then.
        if not (self._send_due or self._pump.stalled) and self._decoder.ready and self._endpoint.waiting:
            self._send_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._send_due = False
        sent = bodies = 0
        small = bytearray()  # what is joined before it is encrypted
        while sent < TURN_BYTES and not self._pump.stalled and (message := self._endpoint.take()) is not None:
            header, body = message
            size = sum(map(len, body))
            small += encode_parts(header, size if body else None)
            for piece in body:
                # The first record of a long piece is filled with what stands before it; the rest is not copied.
                joined = len(piece) if len(piece) <= RECORD_BYTES else max(0, RECORD_BYTES - len(small))
                small += piece[:joined]
                if piece[joined:]:
                    self._pump.send(small, piece[joined:])
                    small = bytearray()
            bodies += size
            sent += len(header) + size
        if small:
            self._pump.send(small)
        self._on_forwarded(bodies)
        self._send_soon()


class SocketEnd:
    """Any bytes, from and to a local socket: those of a relayed call, which are another pair's TLS records."""

    lacking = 0
    room = memoryview(b"")  # the socket is given what lies in the pump's buffer

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._rest = memoryview(b"")  # waits for the socket

    @property
    def full(self) -> bool:
        """The socket has to be read before more may come."""
        return bool(self._rest)

    def begin(self, pump: Pump) -> None:
        self._pump = pump
        self._loop.add_reader(self._sock, self._readable)

    def take(self, clear: memoryview) -> None:
        """Decrypted bytes have come."""
        count = self._write(clear)
        # `clear` lies in the buffer that the next link will use: the rest needs memory of its own.
        self._rest = memoryview(bytes(clear[count:]))
        if self._rest and not self._pump.closed:
            self._loop.add_writer(self._sock, self._writable)

    def placed(self, count: int) -> None:
        """There is no room for any."""

    def rest(self) -> None:
        """It holds no memory."""

    def go_on(self) -> None:
        """TCP can take more."""
        self._loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def _write(self, clear: memoryview) -> int:
        try:
            return self._sock.send(clear)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._pump.end(f"local socket: {error.strerror}")
            return 0

    def _writable(self) -> None:
        self._rest = self._rest[self._write(self._rest) :]
        if not self._rest and not self._pump.closed:
            self._loop.remove_writer(self._sock)
            self._pump.room_again()

    def _readable(self) -> None:
        """Encrypt what the socket says; a few turns in a row cost less than a callback for each."""
        clear = self._pump.scratch.plain
        for _ in range(TURNS):
            try:
                count = self._sock.recv_into(clear, CHUNK_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                return self._pump.end(f"local socket: {error.strerror}")
            if not count:
                return self._pump.end("the local socket closed")
            self._pump.send(clear[:count])
            if self._pump.closed:
                return None
            if self._pump.stalled:
                self._loop.remove_reader(self._sock)
                return None

"""What a relay may do to the calls that it carries: listen, and each way to lie."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

from p2pfl.mesh import Mesh
from p2pfl.mesh.probe.doctor_port import DoctorPort

Change = Callable[[int, bytes], Iterator[bytes]]  # (bytes before it, chunk) to what is passed on


class Held(Exception):
    """The relay takes everything, and passes on nothing more."""


class Middle:
    """Sits in the middle of what `mesh` carries: records it, and passes on what `change` makes of it.

    A change that raises ConnectionError ends the call; after one that raises Held nothing more is passed on.
    """

    def __init__(self, mesh: Mesh | DoctorPort, change: Change | None = None) -> None:
        self.carried: list[bytearray] = []  # one for each direction of each call
        self._change = change
        self._tasks: set[asyncio.Task[None]] = set()
        mesh.relay_server._socketpair = self._socketpair  # type: ignore[method-assign, assignment]

    def _socketpair(self) -> tuple[socket.socket, socket.socket]:
        one, left = socket.socketpair()
        other, right = socket.socketpair()
        for end in (left, right):
            end.setblocking(False)
        for source, sink in ((left, right), (right, left)):
            task = asyncio.ensure_future(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return one, other

    async def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        loop, record = asyncio.get_running_loop(), bytearray()
        self.carried.append(record)
        try:
            while data := await loop.sock_recv(source, 1 << 16):
                before = len(record)
                record += data
                for part in self._change(before, data) if self._change else (data,):
                    await loop.sock_sendall(sink, part)
        except Held:
            while await loop.sock_recv(source, 1 << 16):
                pass
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def at(place: int, lie: Callable[[bytes, int], Iterator[bytes]]) -> Change:
    """`lie` is told about the chunk in which byte number `place` lies, and where in it."""

    def change(before: int, data: bytes) -> Iterator[bytes]:
        if before <= place < before + len(data):
            yield from lie(data, place - before)
        else:
            yield data

    return change


def flip(data: bytes, place: int) -> Iterator[bytes]:
    yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def repeat(data: bytes, place: int) -> Iterator[bytes]:
    yield data
    yield data


def leave_out(data: bytes, place: int) -> Iterator[bytes]:
    yield data[:place]


def hold(data: bytes, place: int) -> Iterator[bytes]:
    yield data[:place]
    raise Held


def cut(data: bytes, place: int) -> Iterator[bytes]:
    yield data[:place]
    raise ConnectionError


def records(stream: bytes | bytearray) -> list[int]:
    """The content types of the TLS records that `stream` is made of (RFC 8446 §5.1); fails where it is none."""
    types, place = [], 0
    while place + 5 <= len(stream):
        kind, version, size = stream[place], stream[place + 1 : place + 3], stream[place + 3 : place + 5]
        assert kind in (20, 21, 22, 23), f"byte {place} is {kind}"
        assert version in (b"\x03\x01", b"\x03\x03")
        types.append(kind)
        place += 5 + int.from_bytes(size, "big")
    return types

"""The one ZeroMQ socket of a mesh, and the unix sockets through which its tunnels reach it.

The ROUTER *connects*, once per peer, to a path on which this process listens, with the roster name as routing id: the
name that the far end claims is ignored, nobody can squat a name, and the named pipe survives a cut. When a tunnel
ends, its unix connection is closed; libzmq connects again within milliseconds, and that connection waits here for the
next tunnel. The paths lie in a fresh 0700 folder, and a connection from another process is closed unread.

Both ends of a unix connection get a large send buffer: with the kernel's default, ZeroMQ's thread and the loop's would
take turns every 200 kB. libzmq has no option for it, so its monitor reports which descriptor it has connected.

`on_message(peer, header, body)` is called from the loop for every message, `on_drained()` once the socket was read to
its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq

from p2pfl.mesh.framing import FRAME_BYTES, PAYLOAD_BYTES
from p2pfl.mesh.socket_folder import SocketFolder
from p2pfl.mesh.zmtp import HEADER_PART_BYTES

PIPE_OUT_MESSAGES: Final = 16  # libzmq counts messages; links count bytes, and hand over fewer than these would hold
PIPE_IN_MESSAGES: Final = 3  # one is read here while libzmq assembles the next
RECONNECT_MS: Final = 5
ZERO_COPY_BYTES: Final = 256 << 10  # below this size a copy costs less than tracking the caller's memory
BATCH: Final = 32  # messages read before other callbacks of the loop get their turn
SOCKET_BUFFER_BYTES: Final = 1 << 20
KEPT_BYTES: Final = PAYLOAD_BYTES  # largest freed block that the allocator keeps

_NOWAIT: Final = int(zmq.NOBLOCK)  # pyzmq's flags are slow to combine
_MORE: Final = int(zmq.SNDMORE)
_NOWAIT_MORE: Final = _NOWAIT | _MORE
_READABLE: Final = int(zmq.POLLIN)

OnMessage = Callable[[str, bytes, memoryview], None]
NOTHING: Final = memoryview(b"")


class Router:
    """Sends to and receives from peers by roster name. Used by one event loop."""

    def __init__(self, on_message: OnMessage, on_drained: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_drained = on_drained
        self._folder = SocketFolder()
        _keep_freed_memory()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(1)
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.SNDHWM, PIPE_OUT_MESSAGES),
            (zmq.RCVHWM, PIPE_IN_MESSAGES),
            (zmq.MAXMSGSIZE, FRAME_BYTES + HEADER_PART_BYTES),
            (zmq.HANDSHAKE_IVL, 0),  # it connects long before there is a tunnel to speak through
            (zmq.RECONNECT_IVL, RECONNECT_MS),
        ):
            self._socket.setsockopt(option, value)
        self._loop = asyncio.get_running_loop()
        self._endpoints: dict[str, UnixEndpoint] = {}
        self._check_due = False  # the socket will be checked in this turn of the loop
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_CONNECTED)
        self._loop.add_reader(self._monitor.fileno(), self._connected)
        self._connected()  # its descriptor is edge-triggered: it signals only after one read to the end

    def connect(self, peer: str) -> UnixEndpoint:
        """Connect to a new unix socket for `peer`, once: libzmq aborts the process when a routing id is used twice."""
        if peer in self._endpoints:
            raise ValueError(f"{peer} has a unix socket already")
        path = self._folder.path / str(len(self._endpoints))
        endpoint = self._endpoints[peer] = UnixEndpoint(path)
        self._connect(peer, path)
        return endpoint

    def _connect(self, peer: str, path: Path) -> None:
        self._socket.setsockopt(zmq.CONNECT_ROUTING_ID, peer.encode())
        self._socket.connect(f"ipc://{path}")

    def send(self, peer: str, header: bytes, body: memoryview | None = None) -> bool:
        """Queue one message; False when the peer's pipe is full: try again at `on_drained`."""
        try:
            self._socket.send(peer.encode(), _NOWAIT_MORE)  # the only part for which there may be no room
            self._socket.send(header, 0 if body is None else _MORE)
            if body is not None:
                self._socket.send(body, 0, len(body) < ZERO_COPY_BYTES)
        except zmq.Again:
            sent = False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            # libzmq gave up the pipe for good, as it does on bytes that it cannot read; the name is free again.
            self._connect(peer, self._endpoints[peer].path)
            sent = False
        else:
            sent = True
        # libzmq's descriptor is edge-triggered: a send may swallow the edge of a message that arrived.
        if not self._check_due:
            self._check_due = True
            self._loop.call_soon(self._check_readable)
        return sent

    def close(self) -> None:
        """Close everything and remove the folder."""
        self._loop.remove_reader(self._monitor.fileno())
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._loop.remove_reader(self._socket.fileno())
        for endpoint in self._endpoints.values():
            endpoint.close()
        self._socket.close(0)
        self._context.term()
        self._folder.close()

    def _check_readable(self) -> None:
        self._check_due = False
        if not self._socket.closed and int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE:
            self._readable()

    def _connected(self) -> None:
        """Enlarge the buffer of each connection that libzmq has made since the last call."""
        paths = {str(endpoint.path) for endpoint in self._endpoints.values()}
        with contextlib.suppress(zmq.Again):
            while True:
                (event, _) = self._monitor.recv_multipart(_NOWAIT)
                _, descriptor = struct.unpack("=HI", event)
                _enlarge(descriptor, paths)

    def _readable(self) -> None:
        for _ in range(BATCH):
            if self._socket.closed:
                return
            try:
                peer = self._socket.recv(_NOWAIT)
            except zmq.Again:
                break
            # A body stays in ZeroMQ's memory until its payload is whole: one copy, not two.
            header = self._socket.recv()
            body = self._socket.recv(copy=False).buffer if self._socket.getsockopt(zmq.RCVMORE) else NOTHING
            self._on_message(peer.decode(), header, body)
        else:
            self._loop.call_soon(self._readable)
        self._on_drained()


class UnixEndpoint:
    """The unix socket of one peer: hands out the ROUTER's latest connection to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._listener.setblocking(False)
        self._waiting: socket.socket | None = None
        self._use: Callable[[socket.socket], None] | None = None
        self._loop.add_reader(self._listener, self._accept)

    def when_connected(self, use: Callable[[socket.socket], None]) -> None:
        """Call `use` with the ROUTER's connection, now or once it has connected again; the last caller wins."""
        if self._waiting is not None:
            connection, self._waiting = self._waiting, None
            use(connection)
        else:
            self._use = use

    def cancel(self) -> None:
        """Nobody waits for a connection any more."""
        self._use = None

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._waiting is not None:
            self._waiting.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        if not _is_ours(connection):
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        if self._use is not None:
            use, self._use = self._use, None
            use(connection)
            return
        if self._waiting is not None:
            self._waiting.close()
        self._waiting = connection


def _keep_freed_memory() -> None:
    """Make the allocator reuse the memory of one frame for the next.

    glibc returns blocks above 128 KiB to the system and asks for zeroed pages again, until one block of that size has
    been freed; from then on it keeps them. For frames the difference is a fifth of a link's processor time.
    """
    bytes(KEPT_BYTES)  # never written, so no page of it ever exists


def _enlarge(descriptor: int, paths: set[str]) -> None:
    """Give the connection a large send buffer, if the descriptor is still a connection to one of our paths."""
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family == socket.AF_UNIX and connection.getpeername() in paths:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)


def _is_ours(connection: socket.socket) -> bool:
    """The other end is this process; where the system cannot tell, the folder's mode 0700 has to suffice."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return bool(pid == os.getpid())

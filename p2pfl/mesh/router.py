"""The one ZeroMQ socket of a mesh, and what its links hold of it: one socket per peer in the same context.

The ROUTER *connects*, once per peer, over `inproc` to a DEALER of this very process, with the roster name as routing
id: the name that the far end claims is ignored, nobody can squat a name, and what waits outlives no connection. Both
are used by the event loop alone, so a message goes from one to the other without a thread, without a descriptor that
somebody watches, and without a system call for its bytes; whoever sends says that something waits, and it is taken in
the loop's next turn. Bounds are counted here: libzmq's are of messages, and in steps (docs/adr/0074).

`on_message(peer, header, body)` is called from the loop for every message, `on_drained()` once the socket was read to
its end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import zmq

from p2pfl.errors.people import NothingLeft
from p2pfl.mesh.zmtp import Message

MOST_OUT: Final = 64  # messages to one peer that its tunnel has not taken; links count bytes
MOST_IN: Final = 32  # messages of one peer that were not read here, fewer than a link forgives of the one before …
MOST_IN_BYTES: Final = 2 << 20  # … and bytes of them, above which no other comes
BATCH: Final = 32  # messages read before other callbacks of the loop get their turn
KEPT_BYTES: Final = 31 << 20  # of the block that the allocator is shown: twice as much free memory stays with it

GONE_LOOKS: Final = 1000  # whether the system has taken a thread away that has ended: mostly it has by the second

_NOWAIT: Final = int(zmq.NOBLOCK)  # pyzmq's flags are slow to combine
_MORE: Final = int(zmq.SNDMORE)

OnMessage = Callable[[str, bytes, memoryview], None]
NOTHING: Final = memoryview(b"")


def check_thread() -> None:
    """Raise NothingLeft where the system has no thread for libzmq: without one for its sockets it ends the process.

    A thread is started here to find out. The system counts it for a moment after its end, and libzmq's would be one too
    many meanwhile: so this returns once the system lists it no more, where it lists threads at all.
    """
    tried = threading.Thread(target=lambda: None)
    try:
        tried.start()
    except RuntimeError as error:
        raise NothingLeft(what="threads", evidence=str(error)) from None
    tried.join()
    place = Path(f"/proc/self/task/{tried.native_id}")
    for _ in range(GONE_LOOKS):
        if not place.exists():
            return
        time.sleep(0.001)


class Router:
    """Sends to and receives from peers by roster name. Used by one event loop."""

    def __init__(self, on_message: OnMessage, on_drained: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_drained = on_drained
        check_thread()
        _keep_freed_memory()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(0)  # no thread for I/O: nothing leaves by it
        self._socket = _unbounded(self._context.socket(zmq.ROUTER))
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._loop = asyncio.get_running_loop()
        self._endpoints: dict[str, Endpoint] = {}
        self._read_due = False  # the socket will be read in this turn of the loop

    def connect(self, peer: str) -> Endpoint:
        """A new endpoint for `peer`, once: libzmq aborts the process when a routing id is used twice."""
        if peer in self._endpoints:
            raise ValueError(f"{peer} has an endpoint already")
        address = f"inproc://{len(self._endpoints)}"
        dealer = _unbounded(self._context.socket(zmq.DEALER))
        dealer.bind(address)
        self._socket.setsockopt(zmq.CONNECT_ROUTING_ID, peer.encode())
        self._socket.connect(address)
        endpoint = self._endpoints[peer] = Endpoint(dealer, self._read_soon)
        return endpoint

    def send(self, peer: str, header: bytes, *body: memoryview) -> bool:
        """Queue one message; False when enough waits for the peer: try again when the tunnel has taken some of it.

        body   its pieces, which the far end gets as one part; none: there is no such part
        """
        endpoint = self._endpoints[peer]
        if endpoint.waiting >= MOST_OUT:
            return False
        self._socket.send(peer.encode(), _MORE)
        self._socket.send(header, _MORE if body else 0)
        for left, piece in enumerate(body, 1 - len(body)):
            # Copied: to track the caller's memory pyzmq would wake a thread for each.
            self._socket.send(piece, _MORE if left else 0)
        endpoint.put(len(body))
        return True

    def close(self) -> None:
        """Close everything."""
        for endpoint in self._endpoints.values():
            endpoint.close()
        self._socket.close(0)
        self._context.term()

    def _read_soon(self) -> None:
        if not self._read_due:
            self._read_due = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._read_due = False
        for _ in range(BATCH):
            if self._socket.closed:
                return
            try:
                peer = self._socket.recv(_NOWAIT).decode()
            except zmq.Again:
                break
            # A body stays in ZeroMQ's memory until its payload is whole: one copy, not two.
            header, endpoint = self._socket.recv(), self._endpoints[peer]
            body = self._socket.recv(copy=False).buffer if endpoint.next_has_body() else NOTHING
            endpoint.was_read(len(body))
            self._on_message(peer, header, body)
        else:
            self._read_soon()
        if self._socket.closed:
            return
        for endpoint in self._endpoints.values():
            endpoint.tell_room()
        self._on_drained()


class Endpoint:
    """One peer's end of the ROUTER, for the tunnel that is its link at the moment: the last one that was attached."""

    def __init__(self, dealer: zmq.Socket[bytes], read_soon: Callable[[], None]) -> None:
        self.waiting = 0  # messages of the ROUTER that no tunnel has taken
        self._pieces: deque[int] = deque()  # of their bodies
        self._bodies: deque[bool] = deque()  # whether those have one that were given to the ROUTER, and not read
        self._dealer = dealer
        self._read_soon = read_soon
        self._unread_bytes = 0  # given to the ROUTER, and not read by its owner
        self._refused = False  # it had no room since it last told that it has
        self._on_waiting: Callable[[], None] | None = None
        self._on_room: Callable[[], None] | None = None

    def attach(self, on_waiting: Callable[[], None], on_room: Callable[[], None]) -> None:
        """A tunnel takes over. What waits was meant for the one before, and its link sends it again.

        on_waiting   the ROUTER has said something       on_room   `give` would not refuse any more
        """
        while self.take() is not None:
            pass
        self._on_waiting, self._on_room = on_waiting, on_room

    def detach(self, on_waiting: Callable[[], None]) -> None:
        """The tunnel that attached with this callback is over."""
        if self._on_waiting == on_waiting:
            self._on_waiting = self._on_room = None

    def put(self, pieces: int) -> None:
        """The ROUTER has said something, with a body of so many pieces."""
        self._pieces.append(pieces)
        self.waiting += 1
        if self._on_waiting is not None:
            self._on_waiting()

    def take(self) -> tuple[bytes, list[memoryview]] | None:
        """The next message of the ROUTER: its header, and the pieces of its body; None when there is none."""
        if not self.waiting:
            return None
        self.waiting -= 1
        header = self._dealer.recv(_NOWAIT)
        return header, [self._dealer.recv(copy=False).buffer for _ in range(self._pieces.popleft())]

    def give(self, message: Message) -> bool:
        """Say a message to the ROUTER, which copies it; False when its owner has to read first."""
        if len(self._bodies) >= MOST_IN or self._unread_bytes >= MOST_IN_BYTES:
            self._refused = True
            return False
        header, body = message
        self._dealer.send(header, 0 if body is None else _MORE)
        if body is not None:
            self._dealer.send(body)
            self._unread_bytes += len(body)
        self._bodies.append(body is not None)
        self._read_soon()
        return True

    def next_has_body(self) -> bool:
        """Whether the next message that the ROUTER hands out of this peer has a body: to ask libzmq takes longer."""
        return self._bodies[0]

    def was_read(self, body_bytes: int) -> None:
        """The ROUTER's owner has read a message of this peer."""
        self._bodies.popleft()
        self._unread_bytes -= body_bytes

    def tell_room(self) -> None:
        """Tell the tunnel that was refused to go on."""
        refused, self._refused = self._refused, False
        if refused and self._on_room is not None:
            self._on_room()

    def close(self) -> None:
        self._on_waiting = self._on_room = None
        self._dealer.close(0)


def _unbounded(socket: Any) -> Any:
    """Bounds are counted here, and nothing lingers."""
    for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
        socket.setsockopt(option, 0)
    return socket


def _keep_freed_memory() -> None:
    """Make the allocator reuse the memory of one frame for the next, and of one sum's frames for those of the next.

    glibc returns blocks above 128 KiB to the system and asks for zeroed pages again, until a larger one has been freed;
    from then on it keeps those, and twice that size of free memory. For frames the difference is a fifth of a link's
    processor time. It learns from no block of 32 MiB or more (docs/adr/0083).
    """
    bytes(KEPT_BYTES)  # never written, so no page of it ever exists

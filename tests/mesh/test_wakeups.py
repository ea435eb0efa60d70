"""Nothing that waits for room waits for a clock: two ROUTERs say all they have to each other, and no timer runs."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import deque
from collections.abc import Sequence

import pytest

from p2pfl.mesh.certificates import build_context, issue
from p2pfl.mesh.link import HANDED_BYTES
from p2pfl.mesh.local_ends import RouterEnd
from p2pfl.mesh.router import Router
from p2pfl.mesh.tunnel import Tunnel
from tests.mesh.sites import OVERALL_S, Sites
from tests.mesh.test_awaited import PATIENT

Said = tuple[bytes, bytes | None]
SIZES: dict[str, tuple[int, Sequence[int | None]]] = {  # how many messages, and the sizes of their bodies
    "tiny": (900, (None, 0, 1, 200)),
    "mixed": (100, (None, 0, 255, 256, 5000, 16_384, 16_385, 100_000)),
    "large": (8, (1 << 20, (1 << 20) - 1, 700_000)),
}


class Talker:
    """One end, which hands messages over while there is room, as a link does. `over` is set when all has come."""

    def __init__(self, tunnel: Tunnel, says: Sequence[Said], hears: Sequence[Said]) -> None:
        self.tunnel, self.left, self.expected, self.handed = tunnel, deque(says), len(hears), 0
        self.told: list[Said] = []
        self.ended: list[str] = []
        self.over = asyncio.Event()
        self.router = Router(self.hear, self.send)
        self.local = RouterEnd(self.router.connect("other"), self.forwarded)

    def start(self) -> None:
        self.tunnel.start(self.local, self.end)
        self.send()

    def end(self, reason: str, error: Exception | None) -> None:
        self.ended.append(f"{reason}: {error}")
        self.over.set()

    def hear(self, peer: str, header: bytes, body: memoryview) -> None:
        self.told.append((header, bytes(body)))
        if len(self.told) == self.expected:
            self.over.set()

    def forwarded(self, count: int) -> None:
        self.handed -= count
        self.send()

    def send(self) -> None:
        while self.left and self.handed < HANDED_BYTES:
            header, body = self.left[0]
            if not self.router.send("other", header, *([] if body is None else [memoryview(body)])):
                return
            self.left.popleft()
            self.handed += len(body or b"")

    def close(self) -> None:
        self.tunnel.close()
        self.router.close()


async def tunnels(buffer: int) -> tuple[Tunnel, Tunnel]:
    """Both ends of one, over TCP whose buffers hold about so many bytes; 0: as the system makes them."""
    sites, sockets = Sites("ada", "bob", "cyd"), (socket.socket(), socket.socket())
    listener, caller = sockets
    for sock in sockets if buffer else ():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        caller.connect(listener.getsockname())
        called, _ = listener.accept()
    made = []
    for name, sock, accepting in (("ada", called, True), ("bob", caller, False)):
        leaf = issue(sites.identities[name], name, time.time())
        context = build_context(leaf, sites.roster, accepting=accepting)
        made.append(Tunnel(sock, context, PATIENT, time.monotonic))
    near, far = made
    await asyncio.gather(near.handshake(), far.handshake())
    return near, far


@pytest.mark.parametrize("buffer", [2048, 65_536, 0])
@pytest.mark.parametrize(("near_says", "far_says"), [("tiny", "large"), ("mixed", "mixed"), ("large", "tiny")])
def test_all_is_said_in_order_whatever_was_full_in_between(buffer: int, near_says: str, far_says: str) -> None:
    drawn = random.Random(f"{buffer} {near_says} {far_says}")

    def drafted(kind: str) -> list[Said]:
        count, sizes = SIZES[kind]
        bodies = [drawn.choice(sizes) for _ in range(count)]
        return [(b"%d" % n, None if size is None else drawn.randbytes(size)) for n, size in enumerate(bodies)]

    async def scene() -> None:
        near, far = await tunnels(buffer)
        one, other = drafted(near_says), drafted(far_says)
        talkers = Talker(near, one, other), Talker(far, other, one)
        try:
            for talker in talkers:
                talker.start()
            async with asyncio.timeout(OVERALL_S):
                for talker in talkers:
                    await talker.over.wait()
            for talker, heard in zip(talkers, (other, one), strict=True):
                assert talker.ended == []
                assert talker.told == [(header, body or b"") for header, body in heard]
        finally:
            for talker in talkers:
                talker.close()

    asyncio.run(scene())

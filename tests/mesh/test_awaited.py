"""An end that waits for the rest of a large part: it is woken once for it, and can be asked to take what is there."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from dataclasses import replace

from p2pfl.keys import Identity
from p2pfl.mesh.certificates import build_context, issue
from p2pfl.mesh.local_ends import RouterEnd
from p2pfl.mesh.pump import LEAST_AWAITED, MOST_AWAITED, RECORD_BYTES
from p2pfl.mesh.router import Router
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.mesh.zmtp import BODY_PART_BYTES, GREETING, READY
from tests.mesh.sites import QUICK, Sites
from tests.mesh.test_zmtp import part

WAIT_S = 60.0  # a hang, not a speed
PATIENT = replace(QUICK, handshake_s=WAIT_S, opening_s=WAIT_S)  # this process may stand still for long
HEAD = part(30, more=True)
BODY = part(BODY_PART_BYTES)


class Ends:
    """A pumped tunnel (`near`) with a ROUTER behind it, and its far end. What the ROUTER is told is in `told`."""

    def __init__(self, near: Tunnel, far: Tunnel) -> None:
        self.near, self.far = near, far
        self.told: list[bytes] = []
        self.ended: list[str] = []
        self.router = Router(lambda peer, header, body: self.told.append(header + bytes(body)), lambda: None)
        self.local = RouterEnd(self.router.connect("bob"), lambda count: None)
        near.start(self.local, lambda reason, error: self.ended.append(f"{reason}: {error}"))
        self.sent_before = 0  # bytes on the wire before the first message
        self._passed = 0

    def readable(self) -> bool:
        return bool(select.select([self.near._tcp], [], [], 0)[0])

    async def come(self, count: int) -> None:
        """So many bytes wait in near's TCP."""
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    if len(self.near._tcp.recv(1 << 20, socket.MSG_PEEK)) >= count:
                        return
                except BlockingIOError:
                    pass
                await asyncio.sleep(0)

    async def passed(self, count: int, look: bool = False) -> None:
        """Near takes the next `count` bytes of content, of itself or when it looks, and no more."""
        self._passed += count
        async with asyncio.timeout(WAIT_S):
            while self.near._content_bytes < self._passed:
                if look:
                    self.near.look()
                await asyncio.sleep(0)
        assert self.near._content_bytes == self._passed

    async def whole(self, *messages: bytes) -> None:
        """The ROUTER was told these messages."""
        async with asyncio.timeout(WAIT_S):
            while len(self.told) < len(messages):
                await asyncio.sleep(0)
        assert self.told == list(messages)

    def close(self) -> None:
        self.near.close()
        self.far.close()
        self.router.close()


async def ends(*, ready: bool = True) -> Ends:
    """Both ends, once they have said to each other that they are ready; the far end only if it is."""
    sites, now = Sites("ada", "bob", "cyd"), time.monotonic

    def context(name: str, *, accepting: bool) -> object:
        identity: Identity = sites.identities[name]
        return build_context(issue(identity, name, time.time()), sites.roster, accepting=accepting)

    listener = socket.create_server(("127.0.0.1", 0))
    caller = socket.create_connection(listener.getsockname())
    called, _ = listener.accept()
    listener.close()
    near = Tunnel(called, context("ada", accepting=True), PATIENT, now)  # type: ignore[arg-type]
    far = Tunnel(caller, context("bob", accepting=False), PATIENT, now)  # type: ignore[arg-type]
    await asyncio.gather(near.handshake(), far.handshake())
    far.mark_authenticated(time.time() + WAIT_S)  # it may hear as much as it likes
    made = Ends(near, far)
    assert await far.read_exactly(len(GREETING + READY)) == GREETING + READY
    made.sent_before = near.bytes_sent
    if ready:
        await far.write(GREETING + READY)
        await made.passed(len(GREETING + READY))
    return made


def test_an_end_is_woken_for_what_a_large_part_lacks_and_not_before() -> None:
    async def scene() -> None:
        made = await ends()
        begun = HEAD + BODY[:9]
        await made.far.write(begun)
        await made.passed(len(begun))
        await made.far.write(BODY[9:100_000])  # of the 131 072 bytes that are waited for
        await made.come(100_000 - 9)
        assert not made.readable() and made.near._awaited == MOST_AWAITED
        await made.far.write(BODY[100_000:] + HEAD)
        await made.passed(len(BODY) - 9 + len(HEAD))
        assert made.near._awaited == 1  # how much will follow is not known
        await made.far.write(part(10))
        await made.passed(len(part(10)))
        await made.whole(bytes(30 + BODY_PART_BYTES), bytes(40))
        assert not made.ended
        made.close()

    asyncio.run(scene())


def test_an_end_that_is_asked_takes_what_is_there_so_that_a_slow_link_is_no_dead_one() -> None:
    async def scene() -> None:
        made = await ends()
        begun = HEAD + BODY[:9]
        await made.far.write(begun)
        await made.passed(len(begun))
        heard = made.near.last_heard
        await made.far.write(BODY[9:1009])
        await made.come(1000)
        assert not made.readable()
        made.near.look()
        assert made.near.last_heard > heard
        await made.passed(1000)
        made.far.close()  # an end wakes it, however little came before
        async with asyncio.timeout(WAIT_S):
            while not made.ended:
                await asyncio.sleep(0)
        made.close()

    asyncio.run(scene())


class BsdSocket:
    """A socket that reads nothing below its low-water mark, as BSD's soreceive; Linux only wakes nobody for it."""

    def __init__(self, held: socket.socket) -> None:
        self._held = held

    def __getattr__(self, name: str) -> object:
        return getattr(self._held, name)

    def recv_into(self, buffer: memoryview) -> int:
        come = len(self._held.recv(1 << 20, socket.MSG_PEEK))
        if come < self._held.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT):
            raise BlockingIOError
        return self._held.recv_into(buffer)


def test_who_looks_reads_what_is_there_also_where_no_read_goes_below_the_mark() -> None:
    async def scene() -> None:
        made = await ends()
        begun = HEAD + BODY[:9]
        await made.far.write(begun)
        await made.passed(len(begun))
        made.near._tcp = BsdSocket(made.near._tcp)  # type: ignore[assignment]
        await made.far.write(BODY[9:1009])
        await made.come(1000)
        assert made.near._awaited == MOST_AWAITED
        made.near.look()
        await made.passed(1000)
        assert made.near._awaited == MOST_AWAITED, "and it waits for the rest as before"
        made.close()

    asyncio.run(scene())


def test_a_small_rest_is_not_waited_for() -> None:
    async def scene() -> None:
        made = await ends()
        begun = HEAD + BODY[: len(BODY) - LEAST_AWAITED + 1]
        writing = asyncio.ensure_future(made.far.write(begun))
        await made.passed(len(begun), look=True)
        await writing
        assert made.near._awaited == 1
        made.close()

    asyncio.run(scene())


def test_what_came_of_a_record_that_is_not_whole_is_not_waited_for_again() -> None:
    """OpenSSL has taken it, and nobody looks: only what is still to come can wake this end."""

    async def scene() -> None:
        made, loop = await ends(), asyncio.get_running_loop()
        sealed = RECORD_BYTES + 22  # bytes of a whole record
        made.far._encrypt(memoryview(HEAD + BODY))
        wire = made.far._out.read()
        first = 60 * sealed + sealed - 6  # three whole records, 6 bytes and a short record are to come
        until = made.near.bytes_received + first
        sending = asyncio.ensure_future(loop.sock_sendall(made.far._tcp, wire[:first]))
        await made.passed(60 * RECORD_BYTES, look=True)
        await sending
        async with asyncio.timeout(WAIT_S):
            while made.near.bytes_received < until:
                made.near.look()
                await asyncio.sleep(0)
        assert LEAST_AWAITED < made.near._awaited <= len(wire) - first
        await loop.sock_sendall(made.far._tcp, wire[first:])
        await made.passed(len(HEAD + BODY) - 60 * RECORD_BYTES)
        await made.whole(bytes(30 + BODY_PART_BYTES))
        made.close()

    asyncio.run(scene())

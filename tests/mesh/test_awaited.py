"""An end that waits for the rest of a large part: it is woken once for it, and can be asked to take what is there."""

from __future__ import annotations

import asyncio
import select
import socket
import time

from p2pfl.keys import Identity
from p2pfl.mesh.certificates import build_context, issue
from p2pfl.mesh.pump import LEAST_AWAITED, MOST_AWAITED, RECORD_BYTES
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.mesh.zmtp import BODY_PART_BYTES
from tests.mesh.sites import QUICK, Sites
from tests.mesh.test_zmtp import GREETING, READY, part

WAIT_S = 60.0  # a hang, not a speed
HEAD = part(30, more=True)
BODY = part(BODY_PART_BYTES)


class Ends:
    """A pumped tunnel (`near`), its far end, and the socket where near's ROUTER would sit."""

    def __init__(self, near: Tunnel, far: Tunnel, router: socket.socket) -> None:
        self.near, self.far, self.router = near, far, router
        self.ended: list[str] = []

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

    async def passed(self, count: int) -> bytes:
        """The next `count` bytes that near gives to its ROUTER, of itself."""
        found = b""
        async with asyncio.timeout(WAIT_S):
            while len(found) < count:
                found += await asyncio.get_running_loop().sock_recv(self.router, count - len(found))
        return found

    async def looked_at(self, count: int) -> bytes:
        """The same, where near looks again and again."""
        passing = asyncio.ensure_future(self.passed(count))
        while not passing.done():
            self.near.look()
            await asyncio.sleep(0)
        return passing.result()


async def ends() -> Ends:
    sites, now = Sites("ada", "bob", "cyd"), time.monotonic

    def context(name: str, *, accepting: bool) -> object:
        identity: Identity = sites.identities[name]
        return build_context(issue(identity, name, time.time()), sites.roster, accepting=accepting)

    listener = socket.create_server(("127.0.0.1", 0))
    caller = socket.create_connection(listener.getsockname())
    called, _ = listener.accept()
    listener.close()
    near = Tunnel(called, context("ada", accepting=True), QUICK, now)  # type: ignore[arg-type]
    far = Tunnel(caller, context("bob", accepting=False), QUICK, now)  # type: ignore[arg-type]
    await asyncio.gather(near.handshake(), far.handshake())
    local, router = socket.socketpair()
    router.setblocking(False)
    made = Ends(near, far, router)
    near.start_zmtp(local, lambda reason, error: made.ended.append(f"{reason}: {error}"), lambda count: None)
    await asyncio.get_running_loop().sock_sendall(router, GREETING + READY)
    await far.write(GREETING + READY)
    assert await made.passed(len(GREETING + READY)) == GREETING + READY
    return made


def test_an_end_is_woken_for_what_a_large_part_lacks_and_not_before() -> None:
    async def scene() -> None:
        made = await ends()
        begun = HEAD + BODY[:9]
        await made.far.write(begun)
        assert await made.passed(len(begun)) == begun
        await made.far.write(BODY[9:100_000])  # of the 131 072 bytes that are waited for
        await made.come(100_000 - 9)
        assert not made.readable() and made.near._awaited == MOST_AWAITED
        await made.far.write(BODY[100_000:] + HEAD)
        assert await made.passed(len(BODY) - 9 + len(HEAD)) == BODY[9:] + HEAD
        assert made.near._awaited == 1  # how much will follow is not known
        await made.far.write(part(10))
        assert await made.passed(len(part(10))) == part(10)
        assert not made.ended
        made.near.close()
        made.far.close()

    asyncio.run(scene())


def test_an_end_that_is_asked_takes_what_is_there_so_that_a_slow_link_is_no_dead_one() -> None:
    async def scene() -> None:
        made = await ends()
        begun = HEAD + BODY[:9]
        await made.far.write(begun)
        assert await made.passed(len(begun)) == begun
        heard = made.near.last_heard
        await made.far.write(BODY[9:1009])
        await made.come(1000)
        assert not made.readable()
        made.near.look()
        assert made.near.last_heard > heard
        assert await made.passed(1000) == BODY[9:1009]
        made.far.close()  # an end wakes it, however little came before
        async with asyncio.timeout(WAIT_S):
            while not made.ended:
                await asyncio.sleep(0)

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
        assert await made.passed(len(begun)) == begun
        made.near._tcp = BsdSocket(made.near._tcp)  # type: ignore[assignment]
        await made.far.write(BODY[9:1009])
        await made.come(1000)
        assert made.near._awaited == MOST_AWAITED
        made.near.look()
        assert await made.passed(1000) == BODY[9:1009]
        assert made.near._awaited == MOST_AWAITED, "and it waits for the rest as before"
        made.near.close()
        made.far.close()

    asyncio.run(scene())


def test_a_small_rest_is_not_waited_for() -> None:
    async def scene() -> None:
        made = await ends()
        begun = HEAD + BODY[: len(BODY) - LEAST_AWAITED + 1]
        writing = asyncio.ensure_future(made.far.write(begun))
        assert await made.looked_at(len(begun)) == begun
        await writing
        assert made.near._awaited == 1
        made.near.close()
        made.far.close()

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
        begun = await made.looked_at(60 * RECORD_BYTES)
        await sending
        async with asyncio.timeout(WAIT_S):
            while made.near.bytes_received < until:
                made.near.look()
                await asyncio.sleep(0)
        assert LEAST_AWAITED < made.near._awaited <= len(wire) - first
        await loop.sock_sendall(made.far._tcp, wire[first:])
        assert begun + await made.passed(len(HEAD + BODY) - len(begun)) == HEAD + BODY
        made.near.close()
        made.far.close()

    asyncio.run(scene())

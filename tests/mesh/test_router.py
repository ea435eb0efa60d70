"""Both ends of a unix connection to the ROUTER hold a whole frame, so that neither side works a few pages at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat

from p2pfl.mesh.router import SOCKET_BUFFER_BYTES, Router, UnixEndpoint
from tests.mesh.sites import OVERALL_S


def buffers(path: str) -> list[int]:
    """The send buffer of every socket of this process that is connected to or accepted at `path`."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if path in (sock.getsockname(), sock.getpeername()):
                        found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
    return found


def test_both_ends_of_a_unix_connection_get_a_large_send_buffer() -> None:
    async def scene() -> None:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            wanted = plain.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)  # what this system allows
        router = Router(lambda peer, header, body: None, lambda: None)
        try:
            endpoint = router.connect("bob")
            taken = asyncio.get_running_loop().create_future()
            endpoint.when_connected(taken.set_result)
            async with asyncio.timeout(OVERALL_S):
                with await taken:
                    while buffers(str(endpoint.path)) != [wanted, wanted]:
                        await asyncio.sleep(0)
        finally:
            router.close()

    asyncio.run(scene())


def test_a_connection_that_libzmq_gave_up_comes_back_for_whoever_sends() -> None:
    """libzmq gives a connection up on bytes that it cannot read, and tells only a sender."""

    async def scene() -> None:
        router = Router(lambda peer, header, body: None, lambda: None)
        try:
            endpoint = router.connect("bob")
            first = await taken(endpoint)
            first.setblocking(True)
            with first:
                first.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
                first.sendall(b"\x04\x03\x05WRONG"[:1] + bytes(8))
                while await asyncio.to_thread(first.recv, 4096):
                    pass  # until libzmq closes
            again = asyncio.ensure_future(taken(endpoint))
            async with asyncio.timeout(OVERALL_S):
                while not again.done():
                    router.send("bob", b"header")
                    await asyncio.wait([again], timeout=0.01)
            again.result().close()
        finally:
            router.close()

    asyncio.run(scene())


async def taken(endpoint: UnixEndpoint) -> socket.socket:
    found: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
    endpoint.when_connected(found.set_result)
    return await found

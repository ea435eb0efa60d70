"""Both ends of a unix connection to the ROUTER hold a whole frame, so that neither side works a few pages at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat

from p2pfl.mesh.router import SOCKET_BUFFER_BYTES, Router


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
            door = router.connect("bob")
            taken = asyncio.get_running_loop().create_future()
            door.take(taken.set_result)
            async with asyncio.timeout(10.0):
                with await taken:
                    while buffers(str(door.path)) != [wanted, wanted]:
                        await asyncio.sleep(0)
        finally:
            router.close()

    asyncio.run(scene())

"""Ports of this machine on which nothing listens, for several sites that are started on it: a demo, examples."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from contextlib import ExitStack
from typing import Final

# Below those that systems hand out to connections: one of these could be a connection's before its site listens.
PORTS: Final = range(10_000, 15_000)
TRIES: Final = 100
_reserved: list[socket.socket] = []  # until this process ends


def free_ports(count: int) -> list[int]:
    """`count` ports of 127.0.0.1 on which nothing listens.

    On Linux no other process draws them as long as this one lives: they stay bound here, and whoever binds with
    SO_REUSEADDR, as a site does, may still listen on them.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            _bind(one)
        if sys.platform == "linux":
            for one in sockets:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.pop_all()
            _reserved.extend(sockets)
        return [int(one.getsockname()[1]) for one in sockets]


def _bind(one: socket.socket) -> None:
    """To some port of PORTS; to any where those are taken."""
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            one.bind(("127.0.0.1", PORTS[int.from_bytes(os.urandom(4)) % len(PORTS)]))
            return
    one.bind(("127.0.0.1", 0))

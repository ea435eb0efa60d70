"""The one port of a site: bound, or refused with its holder's name; callers that are not known yet are bounded."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import AddressUnusable, PortBusy
from p2pfl.mesh.events import Limits
from p2pfl.mesh.token_bucket import TokenBucket, caller_of
from p2pfl.roster import Address

BACKLOG: Final = 128
MOST_HOSTS: Final = 1024  # hosts whose connections are counted
AGAIN_S: Final = 0.1  # seconds before accepting again, after the process ran out of descriptors
_LISTEN: Final = "0A"  # TCP_LISTEN in /proc/net/tcp
_INODE: Final = re.compile(r"socket:\[(\d+)\]")

Serve = Callable[[socket.socket, Address], Coroutine[None, None, None]]


def bind(address: Address) -> socket.socket:
    """A listening socket on `address`. Raises PortBusy, which names the process where it can, or AddressUnusable."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # a system without IPv6
        raise _unusable(address, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _unusable(address, error) from error
    listener.setblocking(False)
    return listener


def _unusable(address: Address, error: OSError) -> P2PFLError:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(port=address.port, holder=holder_of(address.port), evidence=f"bind {address}: {error.strerror}")
    return AddressUnusable(address=address, evidence=f"bind: {error.strerror or error}")


def holder_of(port: int) -> str:
    """The process that listens on a TCP port of this machine, or "another program" where that cannot be seen."""
    inodes = _listening_inodes(port)
    for entry in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            found = _INODE.fullmatch(os.readlink(entry))
        except OSError:
            continue
        if found and found.group(1) in inodes:
            process = entry.parents[1]
            return f"process {process.name} ({_name_of(process)})"
    return "another program"


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "unknown"


class Listener:
    """Accepts connections and serves each in a task of its own.

    At most `limits.unauthenticated` callers at a time: the oldest gives way, so silent callers cannot keep others out.
    `mark_authenticated()` takes a task out of that count. A handshake costs more than a connection, so connections
    above a host's rate are closed unread.
    """

    def __init__(self, sock: socket.socket, serve: Serve, limits: Limits, now: Callable[[], float]) -> None:
        self._sock = sock
        self._serve = serve
        self._limits = limits
        self._now = now
        self._hosts: dict[str, TokenBucket] = {}  # oldest first
        self._unknown: dict[asyncio.Task[None], None] = {}  # oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock, self._accept)

    @property
    def unauthenticated(self) -> int:
        """Callers that have not shown yet that they are members."""
        return len(self._unknown)

    def mark_authenticated(self) -> None:
        """The caller served by the current task is a member."""
        task = asyncio.current_task()
        if task is not None:
            self._unknown.pop(task, None)

    async def close(self) -> None:
        """Stop listening, and end every connection that is still being served; may be called again."""
        if self._resuming is not None:
            self._resuming.cancel()
        if self._sock.fileno() != -1:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            caller, name = self._sock.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # out of descriptors: dropping the oldest unknown caller, if there is one, frees one
            self._drop_oldest()
            self._loop.remove_reader(self._sock)  # the connection still waits: the loop would spin on it
            self._resuming = self._loop.call_later(AGAIN_S, self._loop.add_reader, self._sock, self._accept)
            return
        if not self._may_connect(str(name[0])):
            caller.close()
            return
        task = self._loop.create_task(self._serve(caller, Address(str(name[0]), int(name[1]))))
        self._unknown[task] = None
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if len(self._unknown) > self._limits.unauthenticated:
            self._drop_oldest()

    def _may_connect(self, host: str) -> bool:
        host = caller_of(host)
        bucket = self._hosts.get(host)
        if bucket is None:
            if len(self._hosts) >= MOST_HOSTS:
                del self._hosts[next(iter(self._hosts))]
            limits = self._limits
            bucket = self._hosts[host] = TokenBucket(limits.caller_burst, limits.callers_per_s, self._now())
        return bucket.try_spend(self._now())

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._unknown), None)
        if oldest is not None:
            del self._unknown[oldest]
            oldest.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        # A fault of this program that a caller found ends its connection, and asyncio tells of it; it does not end the
        # process, as one in dialling does: anybody may call.
        self._unknown.pop(task, None)
        self._tasks.discard(task)

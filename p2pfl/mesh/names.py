"""Hosts' names to addresses, in a few threads of their own: a name service that does not answer holds up nothing else.

The system's lookup cannot be given up, and takes as long as it likes. In the threads that all steps of a process share,
a few names that nobody answers for would keep a disk or a signature waiting; here they keep other names waiting, and
of one name there is never more than one lookup, whoever asks for it and however often.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Final

MOST_THREADS: Final = 16  # they only sleep: of many names that nobody answers for, few others wait behind

Resolved = tuple[Any, ...]  # as getaddrinfo has it: family, kind, protocol, name, (host, port, …)
Place = tuple[str, int]  # host and port


class NameService:
    """Lookups, from any event loop. A thread lives while there is something to look up, and no process waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Place, Future[list[Resolved]]] = {}  # also those that wait for a thread
        self._waiting: deque[Place] = deque()
        self._threads = 0

    async def resolve(self, host: str, port: int) -> list[Resolved]:
        """What the name service says, at least one answer; an address at once. Raises OSError, UnicodeError."""
        if _is_address(host):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        found = asyncio.wrap_future(self._look_up((host, port)))
        found.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # also where nobody waits for it
        return await asyncio.shield(found)  # whoever waits no longer leaves the lookup to those who do

    def _look_up(self, place: Place) -> Future[list[Resolved]]:
        with self._lock:
            if (known := self._under_way.get(place)) is not None:
                return known
            found = self._under_way[place] = Future[list[Resolved]]()
            self._waiting.append(place)
            if self._threads < MOST_THREADS:
                self._begin(place)
        return found

    def _begin(self, place: Place) -> None:
        """One thread more. Raises OSError where the system has none and no other one would look that place up."""
        self._threads += 1
        try:
            threading.Thread(target=self._work, name="names", daemon=True).start()
        except RuntimeError:
            self._threads -= 1
            if self._threads:
                return
            self._waiting.remove(place)
            del self._under_way[place]
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                host, port = place = self._waiting.popleft()
            try:
                answer: list[Resolved] | BaseException = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except BaseException as error:  # whoever asked learns of it
                answer = error
            with self._lock:
                found = self._under_way.pop(place)
            if isinstance(answer, BaseException):
                found.set_exception(answer)
            else:
                found.set_result(answer)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

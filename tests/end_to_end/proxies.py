"""A TCP proxy in front of a site's port: records what passes, cuts links, and lets through only so many bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence

BLOCK = 1 << 14


class Proxy:
    """Listens on a port of its own and passes on to `target`. Every connection's bytes are kept, by direction."""

    def __init__(self, target: int, cuts: Sequence[int] = ()) -> None:
        """`cuts`: after how many bytes the first connections end, one after another; later ones live."""
        self._target = target
        self._cuts = list(cuts)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._open = True
        self.recorded: list[bytearray] = []  # one for each direction of each connection
        self.cut_off = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._open:
                    caller.close()
                    continue
                most = self._cuts.pop(0) if self._cuts else 0
            try:
                site = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                caller.close()
                continue
            pair = _Pair(self, caller, site, most)
            with self._lock:
                self._sockets |= {caller, site}
            for source, sink in ((caller, site), (site, caller)):
                record = bytearray()
                self.recorded.append(record)
                threading.Thread(target=pair.carry, args=(source, sink, record), daemon=True).start()

    def forget(self, *ended: socket.socket) -> None:
        """These connections are over."""
        with self._lock:
            self._sockets -= set(ended)

    def cut(self) -> None:
        """End all connections and refuse new ones, until `mend`."""
        with self._lock:
            self._open = False
            for one in self._sockets:
                _end(one)

    def mend(self) -> None:
        with self._lock:
            self._open = True

    def close(self) -> None:
        self.cut()
        _end(self._listener)


class _Pair:
    """Two sockets that become one connection, at most `most` bytes long when that is not 0."""

    def __init__(self, proxy: Proxy, caller: socket.socket, site: socket.socket, most: int) -> None:
        self._proxy, self._both, self._left = proxy, (caller, site), most or None
        self._lock = threading.Lock()

    def carry(self, source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        try:
            while data := source.recv(BLOCK):
                with self._lock:
                    if self._left is not None:
                        data = data[: self._left]
                        self._left -= len(data)
                sink.sendall(data)
                record += data
                if self._left == 0:
                    self._proxy.cut_off += 1
                    break
        except OSError:
            pass
        for one in self._both:
            _end(one)
        self._proxy.forget(*self._both)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()

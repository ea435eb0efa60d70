"""What is known of a pair's link over all its connections: bytes, times, speed, the last path and the last error."""

from __future__ import annotations

from p2pfl.errors import P2PFLError
from p2pfl.mesh.events import LinkStatus, Path, TlsFacts
from p2pfl.mesh.throughput import Throughput
from p2pfl.mesh.tunnel import Tunnel


class LinkRecord:
    """Every `now` is in seconds on the mesh's clock.

    path       of the current connection, or of the last one
    fruitful   that connection has brought something new, here or there
    """

    def __init__(self, now: float) -> None:
        self.path: Path | None = None
        self.fruitful = False
        self.last_error: P2PFLError | None = None
        self.throughput = Throughput()
        self.payload_sent = 0  # bytes that earlier incarnations of the peer acknowledged
        self._tunnel: Tunnel | None = None
        self._bytes_sent = self._bytes_received = 0  # by earlier connections
        self._facts: TlsFacts | None = None
        self._last_seen: float | None = None
        self._since = now

    def opened(self, tunnel: Tunnel, facts: TlsFacts, now: float) -> None:
        """`tunnel` is the link from now on."""
        self._tunnel, self._facts, self.path = tunnel, facts, tunnel.path
        self._last_seen = self._since = now
        self.fruitful, self.last_error = False, None

    def closed(self, now: float) -> None:
        """The link is down from now on."""
        tunnel, self._tunnel = self._tunnel, None
        self._since = now
        self.throughput.interrupted()
        if tunnel is not None:
            self._last_seen = tunnel.last_heard
            self._bytes_sent += tunnel.bytes_sent
            self._bytes_received += tunnel.bytes_received

    def status(self, *, payload_sent: int, queued: int) -> LinkStatus:
        """`payload_sent`: bytes that the peer's current incarnation acknowledged; `queued`: bytes it has not."""
        tunnel = self._tunnel
        return LinkStatus(
            state="up" if tunnel is not None else "down",
            last_seen=tunnel.last_heard if tunnel is not None else self._last_seen,
            bytes_sent=self._bytes_sent + (tunnel.bytes_sent if tunnel is not None else 0),
            bytes_received=self._bytes_received + (tunnel.bytes_received if tunnel is not None else 0),
            payload_sent=self.payload_sent + payload_sent,
            queued=queued,
            facts=self._facts,
            rtt_s=self.throughput.rtt_s,
            speed_bytes_per_s=self.throughput.bytes_per_s,
            last_error=self.last_error,
            path=tunnel.path if tunnel is not None else None,
            dialed=tunnel.dialed if tunnel is not None else None,
            since=self._since,
        )

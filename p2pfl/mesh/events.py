"""What the mesh reports to its owner, what it asks of it, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from p2pfl.errors import P2PFLError
from p2pfl.roster import Address


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a link's TLS session uses, e.g. TLSv1.3, TLS_AES_256_GCM_SHA384, X25519MLKEM768."""

    version: str
    cipher: str
    group: str


@dataclass(frozen=True, slots=True)
class Path:
    """How a connection runs. `kind`: direct, proxy (this site's), relay; `via`: the address, or the relaying member."""

    kind: str
    via: str

    def __str__(self) -> str:
        return {"direct": "", "proxy": "through this site's proxy", "relay": f"through {self.via}"}[self.kind]


DIRECT: Final = Path("direct", "")


@dataclass(frozen=True, slots=True)
class Delivered:
    """A payload from `peer`: once; letters in the order in which that incarnation sent them, and bulk in its order.

    A large one may be a read-only view of the memory in which it came.
    """

    peer: str
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A link is up: each end accepted the other's greeting.

    incarnation   16 bytes of the process at the far end; when it changes, everything queued for the earlier process
                  was dropped
    greeting      the words of the far end's owner, accepted by `Greeter.check_greeting`
    nonce         32 bytes to which each end contributed, the same at both; the greetings were made for it
    """

    peer: str
    incarnation: bytes
    greeting: bytes
    nonce: bytes
    facts: TlsFacts
    path: Path


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The link to `peer` ended. The mesh dials again by itself, and nothing queued is lost meanwhile.

    error     set when this end cut the link because the peer broke a rule
    """

    peer: str
    reason: str
    error: P2PFLError | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A connection did not become a link; reported once per reason, not once per attempt.

    peer      the member that was dialled or that called; None for an unknown caller
    known     the far end has shown that it holds the key of `peer`; otherwise anybody on the path may have caused
              the error
    """

    peer: str | None
    address: Address | None
    error: P2PFLError
    known: bool = False


MeshEvent = Delivered | LinkOpened | LinkClosed | Refused


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One link as `status` shows it. Bytes are those on the wire, TLS included, over all connections so far."""

    state: str  # "up" or "down"
    last_seen: float | None  # on the mesh's monotonic clock; None: never
    bytes_sent: int
    bytes_received: int
    payload_sent: int  # payload bytes that the peer acknowledged
    queued: int  # bytes that are not acknowledged yet
    facts: TlsFacts | None
    rtt_s: float | None
    speed_bytes_per_s: float | None  # acknowledged bytes per second while busy
    last_error: P2PFLError | None
    path: Path | None = None  # None: down
    dialed: bool | None = None  # this end dialled; None: down
    since: float = 0.0  # when the link came up or went down, on the mesh's clock


class Greeter(Protocol):
    """The owner's decision on who gets a link, and its part of each opening."""

    def admit(self, peer: str) -> None:
        """Raise a P2PFLError to refuse `peer` everything: a link, a probe, a relayed call.

        Called for an authenticated member before this site says anything to it.
        """
        ...

    def greeting(self, peer: str, nonce: bytes) -> bytes:
        """This site's words to `peer` on the link with this joint nonce; called anew for every connection."""
        ...

    async def check_greeting(self, peer: str, greeting: bytes, nonce: bytes) -> None:
        """Raise a P2PFLError to refuse the link; the far end is told its code and text. The links stand meanwhile."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes are per link, seconds on the mesh's clock. The defaults fit 50 kB/s to 10 Gbit/s."""

    window_bytes: int = 8 << 20  # sent and not acknowledged
    outgoing_bytes: int = 32 << 20  # queued and not acknowledged: above it `send` waits; a letter a quarter later
    undelivered_bytes: int = 16 << 20  # received and not taken by the owner: above it nothing is acknowledged
    payload_burst: int = 8192  # payloads received at once …
    payloads_per_s: float = 1000.0  # … and per second: beyond it nothing is acknowledged either
    empty_burst: int = 512  # frames that bring nothing (pings, repeated acknowledgements) at once …
    empty_per_s: float = 20.0  # … and per second: beyond it the link is cut
    opening_burst: int = 256  # connections that one member opens at once …
    openings_per_s: float = 2.0  # … and per second
    caller_burst: int = 256  # connections of one host that are served at once …
    callers_per_s: float = 50.0  # … and per second; the others are closed unread
    greeting_bytes: int = 16 << 20
    unauthenticated: int = 64  # connections whose caller is unknown; the oldest gives way
    unauthenticated_bytes: int = 64 << 10  # per connection
    handshake_s: float = 10.0
    opening_s: float = 15.0  # without any progress; and for each part of an opening, beside the time for its bytes …
    opening_bytes_per_s: float = 1000.0  # … at the slowest that a link may be
    resolve_s: float = 10.0
    connect_s: float = 5.0
    head_start_s: float = 0.25  # of an address over the next one
    dial_first_s: float = 0.05  # first pause between two rounds of dialling …
    dial_most_s: float = 2.0  # … and the longest
    heartbeat_s: float = 3.0
    silence_s: float = 20.0  # without one byte, before a link is cut
    probe_s: float = 3.0  # the same, after the peer dialled while its link still looks alive
    relay_after_s: float = 3.0  # without a link, where one of the two could dial the other; 0 where neither can
    relay_answer_s: float = 8.0  # for a relay to answer, and for the other end to reach it
    relay_idle_s: float = 60.0  # without one byte, before a relay ends a call
    relay_calls: int = 512  # calls that a relay carries at a time, at most two for a pair
    call_burst: int = 16  # calls of one member to another that a relay accepts at once …
    calls_per_s: float = 1.0  # … and per second; the others are declined
    called_burst: int = 192  # calls of all members to one, each an empty frame on its link, at once …
    called_per_s: float = 10.0  # … and per second
    retake_s: float = 10.0  # between two attempts at a direct link beside one through a relay
    flush_s: float = 2.0  # longest wait of `stop` for acknowledgements

"""Who takes part in one epoch: names, keys, addresses, and the quorums that follow from their number."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_ZONE: Final = re.compile(r"[A-Za-z0-9._-]{1,15}")
MOST_HOST: Final = 253
LEAST_PEERS: Final = 3
MOST_PEERS: Final = 200


@dataclass(frozen=True, slots=True)
class Quorums:
    """`n` peers and their q, c and a (docs/spec/sharing.md §1); building one proves that they fit together.

    q   smallest U, and the equal signatures that make a certificate     c   liars tolerated
    a   ABANDON ballots that make a certificate
    Raises ValueError unless n is 3 to 200 and every inequality holds.
    """

    n: int

    def __post_init__(self) -> None:
        if not LEAST_PEERS <= self.n <= MOST_PEERS:
            raise ValueError(f"n = {self.n}: a secure sum needs {LEAST_PEERS} to {MOST_PEERS} peers")
        n, q, c, a = self.n, self.q, self.c, self.a
        # Two certificates of one kind share an honest peer; SURVIVORS and ABANDON never both exist; an ABANDON
        # is reachable without the liars; a sum always covers two honest peers.
        if not (2 * q - n > c and q + a - n > c and q - c >= 2 and a <= n - c):
            raise ValueError(f"quorums do not fit: n={n} q={q} c={c} a={a}")

    @property
    def q(self) -> int:
        return 2 * self.n // 3 + 1

    @property
    def c(self) -> int:
        return max(1, (self.n - 1) // 3)

    @property
    def a(self) -> int:
        return self.n - self.q + self.c + 1


@dataclass(frozen=True, slots=True)
class Address:
    """host:port as written in a card."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`host:port` or `[v6]:port`. Raises ValueError with the reason."""
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            raise ValueError(f"{text!r} is not host:port")
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise ValueError(f"{port!r} is not a port from 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            _check_v6(host)
        elif ":" in host:
            raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port}")
        else:
            _check_host(host)
        return cls(host, int(port))

    @property
    def place(self) -> str:
        """One form for every spelling of this address: capitals, a trailing dot, the zeros of IPv6."""
        host = self.host.lower().removesuffix(".")
        with contextlib.suppress(ValueError):
            host = str(ipaddress.ip_address(host))
        return f"{host} {self.port}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _check_host(host: str) -> None:
    """A host name (RFC 1123 §2.1, and underscores) or four numbers with dots. Raises ValueError.

    A host stands in commands that people copy, in files and in a proxy's request: nothing else can be written there.
    What C libraries also read as an address (0, 127.1, 0x7f000001) is refused: it means one place to few readers.
    """
    if len(host) > MOST_HOST or not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host: letters, digits, hyphens and dots")
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        _check_ip(ipaddress.IPv4Address, host, "four numbers from 0 to 255 with dots")


def _check_v6(host: str) -> None:
    address, percent, zone = host.partition("%")
    _check_ip(ipaddress.IPv6Address, address, "an IPv6 address")
    if percent and not _ZONE.fullmatch(zone):
        raise ValueError(f"{zone!r} is not an interface")


def _check_ip(read: Callable[[str], object], text: str, wanted: str) -> None:
    try:
        read(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {wanted}") from None


@dataclass(frozen=True, slots=True)
class Member:
    """One site: its name, its 32-byte Ed25519 key, and the addresses at which others dial it (none: it dials out)."""

    name: str
    key: bytes
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True)
class Roster:
    """The members of one epoch, in the order of peers.yaml; the order counts.

    Raises ValueError for a name or a key that stands twice, and for a name of another form.
    """

    epoch: int
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        if len(set(names)) != len(names) or len({member.key for member in self.members}) != len(names):
            raise ValueError("two members share a name or a key")
        if not all(NAME.fullmatch(name) for name in names):
            raise ValueError("a name is not [a-z][a-z0-9-]{0,30}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)

    @cached_property
    def quorums(self) -> Quorums:
        return Quorums(len(self.members))

    @cached_property
    def _hash(self) -> int:
        return hash((self.epoch, self.members))

    def __hash__(self) -> int:
        return self._hash  # computed once: rosters key the caches of letters, thousands of times a second

    @cached_property
    def _places(self) -> dict[object, int]:
        return {name: place for place, name in enumerate(self.names)}

    def __getitem__(self, name: str) -> Member:
        return self.members[self._places[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def index(self, name: str) -> int:
        """The place of `name`, from 0. Raises KeyError."""
        return self._places[name]

    def name_of(self, key: bytes) -> str | None:
        """The member that holds `key`, or None."""
        return next((member.name for member in self.members if member.key == key), None)

"""The messages of a probe, which asks how a link would be without opening one.

    dialer                              acceptor
            ◄─────────────────────────── HELLO      says the opening's version, and that the dialer is admitted
      PROBE ───────────────────────────►            in place of a HELLO
            ◄─────────────────────────── FACTS      peers.yaml, software, how many bytes it grants
      PING, FILL, WANT, DIAL, FILE, MEET ►           in any order, each as often as the grant allows
            ◄─────────────────────────── PONG, FILL, DIALED, FILED, MET
      DUPLICATE ───────────────────────►            the end

Up to the first word inside TLS a probe is the same bytes as a link, so no firewall can treat the two differently. It
touches no link, no queue and no round. What must never be added here: a question whose answer is not this site's own
to give, or an address that the caller names.

Messages as in opening.py: kind u8, length u32, body.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pfl.errors.mesh import MalformedStream, OpeningVersion
from p2pfl.mesh.tls_errors import printable
from p2pfl.roster import Address

VERSION: Final = 1

FACTS: Final = 7
PING: Final = 8
PONG: Final = 9
FILL: Final = 10
WANT: Final = 11
DIAL: Final = 12
DIALED: Final = 13
FILE: Final = 14
FILED: Final = 15
MEET: Final = 16
MET: Final = 17

SOFTWARE_BYTES: Final = 64
FILL_BYTES: Final = 64 << 10
PIECES: Final = 256  # most FILLs that one WANT asks for
DIALED_BYTES: Final = 16 << 10
FILE_BYTES: Final = 256 << 10  # the largest peers.yaml
MOST_REQUESTS: Final = 64  # calls in one MEET or MET (rendezvous.py)
MEET_BYTES: Final = MOST_REQUESTS * (2 + 31)  # role, length, name
MET_BYTES: Final = MOST_REQUESTS * (2 + 16 + 31)  # role, ticket, length, name

LINKS: Final = 0  # a process that holds links: join, sum
DOCTOR: Final = 1

_FACTS: Final = struct.Struct("!HBI32s")
_PONG: Final = struct.Struct("!QQ")
_STAMP: Final = struct.Struct("!Q")
_WANT: Final = struct.Struct("!II")

# Longest body of each kind that the dialer may send.
QUESTIONS: Final = {PING: _STAMP.size, FILL: FILL_BYTES, WANT: _WANT.size, DIAL: 0, FILE: 0, MEET: MEET_BYTES}


@dataclass(frozen=True, slots=True)
class About:
    """What a site says of itself to members that ask: its release, the bytes of its peers.yaml, what runs there."""

    software: str = ""
    peers_file: bytes = b""
    role: int = LINKS


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """The answering site's own facts. `grant`: bytes of FILL that it takes and gives in this probe, together."""

    role: int
    grant: int
    federation_digest: bytes  # SHA-256 of its peers.yaml
    software: str

    @classmethod
    def of(cls, about: About, grant: int) -> PeerFacts:
        return cls(about.role, grant, hashlib.sha256(about.peers_file).digest(), about.software)

    def encode(self) -> bytes:
        software = self.software.encode()[:SOFTWARE_BYTES]
        return _FACTS.pack(VERSION, self.role, self.grant, self.federation_digest) + software

    @classmethod
    def decode(cls, peer: str, body: bytes) -> PeerFacts:
        """Raises MalformedStream, OpeningVersion."""
        if len(body) < _FACTS.size:
            raise MalformedStream(peer=peer, evidence=f"facts of {len(body)} bytes")
        version, role, grant, federation_digest = _FACTS.unpack(body[: _FACTS.size])
        if version != VERSION:
            evidence = f"its probe says version {version}"
            older = peer if version < VERSION else "this site"
            raise OpeningVersion(peer=peer, version=version, ours=VERSION, older=older, evidence=evidence)
        return cls(role, grant, federation_digest, printable(body[_FACTS.size :].decode("utf-8", "replace")))


FACTS_BYTES: Final = _FACTS.size + SOFTWARE_BYTES


def encode_ping(stamp: int) -> bytes:
    return _STAMP.pack(stamp)


def decode_ping(peer: str, body: bytes) -> int:
    """The dialer's stamp. Raises MalformedStream."""
    if len(body) != _STAMP.size:
        raise MalformedStream(peer=peer, evidence=f"a ping of {len(body)} bytes")
    return int(_STAMP.unpack(body)[0])


def encode_pong(stamp: int, wall: float) -> bytes:
    """The dialer's stamp, and this site's clock in µs since 1970."""
    return _PONG.pack(stamp, max(0, int(wall * 1e6)))


def decode_pong(peer: str, body: bytes) -> tuple[int, float]:
    """(the stamp, the far end's Unix time in seconds). Raises MalformedStream."""
    if len(body) != _PONG.size:
        raise MalformedStream(peer=peer, evidence=f"a pong of {len(body)} bytes")
    stamp, wall_us = _PONG.unpack(body)
    return stamp, wall_us / 1e6


PONG_BYTES: Final = _PONG.size


def encode_want(total: int, piece: int) -> bytes:
    """Ask for `total` bytes of FILL, in messages of `piece` bytes."""
    return _WANT.pack(total, piece)


def decode_want(peer: str, body: bytes) -> tuple[int, int]:
    """Raises MalformedStream."""
    total, piece = _WANT.unpack(body) if len(body) == _WANT.size else (0, 0)
    if not 0 < piece <= FILL_BYTES or not 0 < total <= piece * PIECES:
        raise MalformedStream(peer=peer, evidence=f"it wants {total} bytes in pieces of {piece}")
    return total, piece


@dataclass(frozen=True, slots=True)
class Dialed:
    """What a peer met when it dialled one of this site's addresses. No code: it was admitted, after `ms`."""

    address: str
    ms: int
    code: str = ""
    happened: str = ""
    evidence: str = ""


def encode_dialed(found: Sequence[Dialed]) -> bytes:
    """The answer to DIAL."""
    rows = [
        [one.address, one.ms, one.code, printable(one.happened, 300), printable(one.evidence, 300)] for one in found
    ]
    return json.dumps(rows, ensure_ascii=False).encode()[:DIALED_BYTES]


def decode_dialed(peer: str, body: bytes) -> list[Dialed]:
    """Raises MalformedStream."""
    try:
        return [  # an address and nothing else: its port stands in a command that people copy
            Dialed(str(Address.parse(str(address))), int(ms), *(printable(str(text), 300) for text in texts))
            for address, ms, *texts in json.loads(body)
        ]
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise MalformedStream(peer=peer, evidence="what it says of its own dialling is not of the form") from None

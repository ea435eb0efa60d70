"""Reads the key-exchange group from the bytes that a TLS 1.3 server sends in the clear (RFC 8446 §4.1.3).

Python's ssl reports version and cipher but not the group, and whether a link is post-quantum is worth recording.
"""

from __future__ import annotations

from typing import Final

_GROUPS: Final = {
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001D: "x25519",
    0x001E: "x448",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
    0x0200: "MLKEM512",
    0x0201: "MLKEM768",
    0x0202: "MLKEM1024",
}
_HANDSHAKE_RECORD: Final = 0x16
_SERVER_HELLO: Final = 2
_KEY_SHARE: Final = 0x0033
UNKNOWN: Final = "unknown"


def group_of(stream: bytes) -> str:
    """The group of the last ServerHello in `stream` (a retry request comes first, if there is one), or "unknown"."""
    handshake, at = bytearray(), 0
    while at + 5 <= len(stream):
        size = int.from_bytes(stream[at + 3 : at + 5], "big")
        if stream[at] == _HANDSHAKE_RECORD:
            handshake += stream[at + 5 : at + 5 + size]
        at += 5 + size
    found, at = UNKNOWN, 0
    while at + 4 <= len(handshake) and handshake[at] == _SERVER_HELLO:
        size = int.from_bytes(handshake[at + 1 : at + 4], "big")
        found = _key_share(bytes(handshake[at + 4 : at + 4 + size])) or found
        at += 4 + size
    return found


def _key_share(hello: bytes) -> str | None:
    at = 2 + 32  # legacy version, random
    if len(hello) <= at:
        return None
    at += 1 + hello[at] + 2 + 1 + 2  # session id, cipher, compression, length of the extensions
    while at + 4 <= len(hello):
        kind = int.from_bytes(hello[at : at + 2], "big")
        size = int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == _KEY_SHARE and size >= 2:
            group = int.from_bytes(hello[at + 4 : at + 6], "big")
            return _GROUPS.get(group, f"0x{group:04x}")
        at += 4 + size
    return None

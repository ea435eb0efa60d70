"""Lets through exactly the ZMTP that this program speaks, before libzmq sees a byte of it.

libzmq trusts its peer further than we do: it keeps parts with MORE set without end, far past ZMQ_MAXMSGSIZE. So the
tunnel feeds every decrypted byte through a `Checker` first: a 64-byte NULL greeting, one READY of a ROUTER, then
messages of one or two parts, a small header and at most one body of at most 1 MiB (RFC 23, ZMTP 3.x). Commands after
READY (heartbeats, subscriptions, errors) are refused: ours run above ZMTP. READY means ZMTP's command here and nowhere
else in the mesh. Pure; bodies are skipped, not copied.
"""

from __future__ import annotations

from typing import Final

GREETING_BYTES: Final = 64
HEADER_PART_BYTES: Final = 64
BODY_PART_BYTES: Final = 1 << 20

_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4
_MECHANISM: Final = b"NULL".ljust(20, b"\0")


class MalformedZmtp(ValueError):
    """The stream is not the ZMTP that this program speaks; the text is the evidence."""


class Checker:
    """Follows one direction of a ZMTP connection. `feed` returns while all bytes so far are in order, else raises."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._skip = 0  # bytes of the current part that have not arrived
        self._second = False  # the next part is the second of its message
        self._greeted = False
        self.ready = False  # READY has passed
        self.message_begun = False  # after READY

    @property
    def lacking(self) -> int:
        """Bytes of the current part that have yet to come; 0 where its size is not known."""
        return self._skip

    def feed(self, data: memoryview) -> None:
        """Check the next bytes of the stream. Raises MalformedZmtp; the stream is then over."""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                taken = min(self._skip, end - at)
                self._skip -= taken
                at += taken
                continue
            wanted = self._wanted() - len(self._held)
            self._held += data[at : at + wanted]
            at += min(wanted, end - at)
            if len(self._held) >= self._wanted():
                self._step()

    def _wanted(self) -> int:
        """Bytes that the greeting, command or part header at the start of `_held` needs, as far as is known."""
        if not self._greeted:
            return GREETING_BYTES
        if len(self._held) < 2:
            return 2
        if self.ready:
            return 9 if self._held[0] & _LONG else 2
        return 2 + self._held[1]

    def _step(self) -> None:
        held = bytes(self._held)
        if not self._greeted:
            _check_greeting(held)
            self._greeted = True
        elif not self.ready:
            if held[0] != _COMMAND:
                raise MalformedZmtp(f"flags 0x{held[0]:02x} where READY belongs")
            _check_ready(held[2:])
            self.ready = True
        else:
            self._part(held)
        self._held.clear()

    def _part(self, held: bytes) -> None:
        flags = held[0]
        self.message_begun = True
        if flags & ~(_MORE | _LONG):
            raise MalformedZmtp(f"flags 0x{flags:02x} after READY: only messages are spoken here")
        size = int.from_bytes(held[1:9], "big") if flags & _LONG else held[1]
        if flags & _LONG and size < 256:
            raise MalformedZmtp(f"a part of {size} bytes in the long form")
        limit = BODY_PART_BYTES if self._second else HEADER_PART_BYTES
        if size > limit:
            raise MalformedZmtp(f"a part of {size} bytes where at most {limit} are allowed")
        if self._second and flags & _MORE:
            raise MalformedZmtp("a third part in one message")
        self._second = bool(flags & _MORE)
        self._skip = size


def _check_greeting(held: bytes) -> None:
    if held[0] != 0xFF or held[9] != 0x7F:  # the eight bytes between them are free (RFC 23 §3.2)
        raise MalformedZmtp("no ZMTP signature")
    if held[10] != 3:
        raise MalformedZmtp(f"ZMTP version {held[10]}.{held[11]}, not 3")
    if held[12:32] != _MECHANISM:
        raise MalformedZmtp(f"mechanism {held[12:32].rstrip(bytes(1))!r}, not NULL")
    if any(held[32:]):
        raise MalformedZmtp("a greeting whose filler is not zero")


def _check_ready(body: bytes) -> None:
    """Require READY of a ROUTER that claims no name."""
    if body[:6] != b"\x05READY":
        raise MalformedZmtp("a command that is not READY")
    found: dict[bytes, bytes] = {}
    at = 6
    while at < len(body):
        name_end = at + 1 + body[at]
        name = body[at + 1 : name_end].lower()
        value_end = name_end + 4 + int.from_bytes(body[name_end : name_end + 4], "big")
        if name_end + 4 > len(body) or value_end > len(body) or name in found:
            raise MalformedZmtp("READY whose properties do not add up")
        found[name] = body[name_end + 4 : value_end]
        at = value_end
    if found.get(b"socket-type") != b"ROUTER" or found.keys() - {b"socket-type", b"identity"} or found.get(b"identity"):
        raise MalformedZmtp(f"READY of {found.get(b'socket-type')!r} with {len(found)} properties")

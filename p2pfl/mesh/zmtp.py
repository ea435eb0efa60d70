"""The ZMTP that this program speaks, in bytes: one message after another out of what the far end sends, or a refusal.

Exactly this passes: a 64-byte NULL greeting, one READY of a ROUTER, then messages of one or two parts, a small header
and at most one body of at most 1 MiB (RFC 23, ZMTP 3.x). Commands after READY (heartbeats, subscriptions, errors) are
refused: ours run above ZMTP. READY means ZMTP's command here and nowhere else in the mesh. libzmq, which trusts its
peer further than we do, sees messages and no byte of a stream. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

MECHANISM: Final = b"NULL".ljust(20, b"\0")
GREETING: Final = b"\xff" + bytes(7) + b"\x01\x7f" + b"\x03\x01" + MECHANISM + bytes(32)  # as libzmq says it
READY: Final = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0"
HEADER_PART_BYTES: Final = 64
BODY_PART_BYTES: Final = 1 << 20
MOST_HELD: Final = 32  # whole messages that nobody has taken: a message may have two bytes, a piece of a stream 500 000

SHORT_PREFIX: Final = 2  # bytes before a part: its flags, and its size in one byte …
LONG_PREFIX: Final = 9  # … or in eight

_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4

LEAST_SPARED: Final = 64 << 10  # bytes of a body whose memory serves another one

Message = tuple[bytes, memoryview | None]  # the header; the body, if it has one


class MalformedZmtp(ValueError):
    """The stream is not the ZMTP that this program speaks; the text is the evidence."""


def encode_parts(header: bytes, body_bytes: int | None) -> bytes:
    """All of a message but its body, which has so many bytes and follows; None: it has none."""
    if body_bytes is None:
        return bytes((0, len(header))) + header
    long = body_bytes > 255
    size = bytes((_LONG,)) + body_bytes.to_bytes(8, "big") if long else bytes((0, body_bytes))
    return bytes((_MORE, len(header))) + header + size


class Decoder:
    """Follows what the far end of a ZMTP connection says. `messages` are those that are whole, oldest first.

    The caller takes them from there. While MOST_HELD are left no more is read, so that a crowd of tiny ones neither
    holds the loop for long nor takes a hundred times the memory that came.
    """

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.ready = False  # READY has passed
        self._held = bytearray()
        self._header = bytearray()
        self._body: memoryview | None = None
        self._spare: bytearray | None = None  # memory of a large body that was taken
        self._room = memoryview(b"")  # what the current part lacks
        self._more = self._second = False  # of the current part: another follows, it is the second of its message
        self._greeted = False

    @property
    def lacking(self) -> int:
        """Bytes of the current part that have yet to come; 0 where its size is not known."""
        return len(self._room)

    @property
    def room(self) -> memoryview:
        """Memory for what the current part lacks: whoever writes there says so by `placed`, and feeds none of it."""
        return self._room

    def placed(self, count: int) -> None:
        """So many bytes, and no more than there was room for, were written to the beginning of `room`."""
        self._room = self._room[count:]
        if count and not self._room:
            self._end_part()

    def spare(self, body: memoryview) -> None:
        """Nobody looks at this body any more: a later one may lie there."""
        if isinstance(body.obj, bytearray) and len(body.obj) >= LEAST_SPARED:
            self._spare = body.obj

    def rest(self) -> None:
        """Hold no memory but that of what has begun."""
        self._spare = None

    def feed(self, data: memoryview) -> int:
        """Take the next bytes of the stream, and return how many: fewer than all, up to the end of a message, where
        MOST_HELD are held. Raises MalformedZmtp; the stream is then over.
        """
        at, end = 0, len(data)
        while at < end and len(self.messages) < MOST_HELD:
            if self._room:
                taken = min(len(self._room), end - at)
                self._room[:taken] = data[at : at + taken]
                self.placed(taken)
                at += taken
                continue
            if self.ready and not self._held and end - at >= LONG_PREFIX:  # mostly: nothing is put together
                wanted = LONG_PREFIX if data[at] & _LONG else SHORT_PREFIX
                self._begin_part(bytes(data[at : at + wanted]))
                at += wanted
                continue
            wanted = self._wanted() - len(self._held)
            self._held += data[at : at + wanted]
            at += min(wanted, end - at)
            if len(self._held) >= self._wanted():
                self._step()
        return at

    def _wanted(self) -> int:
        """Bytes that the greeting, command or part header at the start of `_held` needs, as far as is known."""
        if not self._greeted:
            return len(GREETING)
        if len(self._held) < 2:
            return 2
        if self.ready:
            return LONG_PREFIX if self._held[0] & _LONG else SHORT_PREFIX
        return 2 + self._held[1]

    def _step(self) -> None:
        held = bytes(self._held)
        self._held.clear()
        if not self._greeted:
            _check_greeting(held)
            self._greeted = True
        elif not self.ready:
            if held[0] != _COMMAND:
                raise MalformedZmtp(f"flags 0x{held[0]:02x} where READY belongs")
            _check_ready(held[2:])
            self.ready = True
        else:
            self._begin_part(held)

    def _begin_part(self, held: bytes) -> None:
        flags = held[0]
        if flags & ~(_MORE | _LONG):
            raise MalformedZmtp(f"flags 0x{flags:02x} after READY: only messages are spoken here")
        size = int.from_bytes(held[1:9], "big") if flags & _LONG else held[1]
        if flags & _LONG and size < 256:
            raise MalformedZmtp(f"a part of {size} bytes in the long form")
        limit = BODY_PART_BYTES if self._second else HEADER_PART_BYTES
        if size > limit:
            raise MalformedZmtp(f"a part of {size} bytes where at most {limit} are allowed")
        self._more = bool(flags & _MORE)
        if self._second and self._more:
            raise MalformedZmtp("a third part in one message")
        if self._second:
            self._room = self._body = self._memory(size)
        else:
            self._header = bytearray(size)
            self._room = memoryview(self._header)
        if not size:
            self._end_part()

    def _memory(self, size: int) -> memoryview:
        """For a body: that of one before, which is not cleared, where it is large enough."""
        if size < LEAST_SPARED or self._spare is None or len(self._spare) < size:
            return memoryview(bytearray(size))
        memory, self._spare = self._spare, None
        return memoryview(memory)[:size]

    def _end_part(self) -> None:
        self._room = memoryview(b"")
        if self._more:
            self._second = True
            return
        self.messages.append((bytes(self._header), self._body))
        self._body, self._second = None, False


def _check_greeting(held: bytes) -> None:
    if held[0] != 0xFF or held[9] != 0x7F:  # the eight bytes between them are free (RFC 23 §3.2)
        raise MalformedZmtp("no ZMTP signature")
    if held[10] != 3:
        raise MalformedZmtp(f"ZMTP version {held[10]}.{held[11]}, not 3")
    if held[12:32] != MECHANISM:
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

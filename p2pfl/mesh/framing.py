"""Exactly once, in order, between one pair of incarnations, over links that are cut. Pure, like h11.

A payload is cut into frames, and frames are numbered from 0 per *pair of incarnations* (a process draws one). The
receiver tells which number it expects next; what is below it is dropped by the sender, and what is not is sent again
on the next link, which begins where the receiver's hello says. Inside one link nothing is lost or reordered (TLS over
TCP), so a gap is a fault of the far end, never a reason to wait.

Every frame carries its link's 8-byte tag. ZeroMQ may still hold frames of the link before; they have the old tag and
are dropped, since all that is unacknowledged is sent again anyway.

    header  kind u8 · flags u8 · tag 8 · number u64 · acknowledged u64 · total u32      (30 bytes, big-endian)
    DATA    number of the frame; FIRST carries the payload's length in total; LAST ends it; body in the second part
    ACK     number 0          PING, PONG  number = the pinger's stamp in µs
    GOODBYE number 0; the sender stops, and all that it acknowledges is said
    CALL, COME, DECLINED  number 0; words with a relay, beside the stream (relay_client.py); body in the second part
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

HEADER: Final = struct.Struct("!BB8sQQI")
TAG_BYTES: Final = 8
PAYLOAD_BYTES: Final = 16 << 20
FRAME_BYTES: Final = 1 << 20  # the most that a body may hold
CUT_BYTES: Final = 1 << 20  # the size that we cut
LEAST_CUT_BYTES: Final = 64 << 10  # a frame that is not the last of its payload holds at least this
GROWN_BYTES: Final = 8 << 20  # a payload up to this size gets its memory as its frames come
FRAME_COST: Final = 256  # what a frame costs beside its body, so that empty payloads are bounded too

DATA: Final = 1
ACK: Final = 2
PING: Final = 3
PONG: Final = 4
GOODBYE: Final = 5
CALL: Final = 6
COME: Final = 7
DECLINED: Final = 8
FIRST: Final = 1
LAST: Final = 2


class MalformedFrame(ValueError):
    """What in a frame breaks the rules above; the text is the evidence."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first part of every message on a link."""

    kind: int
    flags: int
    tag: bytes
    number: int
    acknowledged: int
    total: int

    def encode(self) -> bytes:
        return HEADER.pack(self.kind, self.flags, self.tag, self.number, self.acknowledged, self.total)

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Raises MalformedFrame for a wrong length, an unknown kind, or fields that the kind does not have."""
        if len(data) != HEADER.size:
            raise MalformedFrame(f"a header of {len(data)} bytes, not {HEADER.size}")
        found = cls(*HEADER.unpack(data))
        if not DATA <= found.kind <= DECLINED or found.flags > (FIRST | LAST if found.kind == DATA else 0):
            raise MalformedFrame(f"kind {found.kind} with flags {found.flags}")
        if found.total > (PAYLOAD_BYTES if found.flags & FIRST else 0):
            raise MalformedFrame(f"a total of {found.total} bytes")
        return found


Payload = bytes | memoryview | Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Frame:
    """One numbered frame that waits to be sent or acknowledged; the pieces are views of the caller's payload."""

    number: int
    flags: int
    total: int
    pieces: tuple[memoryview, ...]
    size: int

    @property
    def body(self) -> memoryview:
        """The pieces in a row: a view where there is one, a copy for the moment where there are several."""
        return self.pieces[0] if len(self.pieces) == 1 else memoryview(b"".join(self.pieces))

    @property
    def cost(self) -> int:
        return self.size + FRAME_COST


def parts_of(payload: Payload) -> list[memoryview]:
    """The parts of a payload that is given in one or in several, as views of bytes."""
    given = (payload,) if isinstance(payload, bytes | bytearray | memoryview) else payload
    return [memoryview(part).cast("B") for part in given]


def cut(parts: Iterable[memoryview], size: int) -> Iterator[tuple[memoryview, ...]]:
    """The parts in a row, cut every `size` bytes; nothing is copied. At least one cut, which may be empty."""
    pieces: list[memoryview] = []
    room, any_cut = size, False
    for part in parts:
        rest = part
        while rest:
            pieces.append(rest[:room])
            rest = rest[room:]
            room -= len(pieces[-1])
            if not room:
                yield tuple(pieces)
                pieces, room, any_cut = [], size, True
    if pieces or not any_cut:
        yield tuple(pieces)


class Outgoing:
    """What one peer's current incarnation has not acknowledged yet. Bounded by `window` bytes in flight."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._next_number = 0
        self._reached = 0  # every number below it was sent once, on some link
        self._sent: deque[Frame] = deque()
        self._unsent: deque[Frame] = deque()
        self.in_flight = 0  # bytes sent and not acknowledged
        self.waiting = 0  # bytes not sent yet
        self.confirmed = 0  # payload bytes acknowledged so far

    @property
    def queued(self) -> int:
        """Bytes that are not acknowledged, sent or not."""
        return self.in_flight + self.waiting

    @property
    def begun(self) -> bool:
        """Some frame was acknowledged."""
        waiting = self._sent or self._unsent
        return (waiting[0].number if waiting else self._next_number) > 0

    def offer(self, payload: Payload) -> None:
        """Queue a payload. Raises ValueError above 16 MiB."""
        parts = parts_of(payload)
        total = sum(map(len, parts))
        if total > PAYLOAD_BYTES:
            raise ValueError(f"a payload of {total} bytes; at most {PAYLOAD_BYTES}")
        done = 0
        for pieces in cut(parts, CUT_BYTES):
            size = sum(map(len, pieces))
            flags = FIRST * (done == 0) | LAST * (done + size == total)
            frame = Frame(self._next_number, flags, total if done == 0 else 0, pieces, size)
            done += size
            self._next_number += 1
            self._unsent.append(frame)
            self.waiting += frame.cost

    def peek(self) -> Frame | None:
        """The next frame to send, or None when nothing waits or the window is full."""
        if not self._unsent or (self._sent and self.in_flight + self._unsent[0].cost > self._window):
            return None
        return self._unsent[0]

    def sent(self) -> None:
        """The frame that `peek` showed has been handed on."""
        frame = self._unsent.popleft()
        self._sent.append(frame)
        self._reached = max(self._reached, frame.number + 1)
        self.waiting -= frame.cost
        self.in_flight += frame.cost

    def acknowledge(self, expected: int) -> int:
        """Forget all below `expected`; returns how many frames that confirms (`confirmed` counts their bytes).

        Raises MalformedFrame when the peer acknowledges a frame that it was never sent.
        """
        if expected > self._reached:
            raise MalformedFrame(f"frame {expected - 1} is acknowledged and was never sent")
        frames = 0
        while self._sent and self._sent[0].number < expected:
            frame = self._sent.popleft()
            self.in_flight -= frame.cost
            self.confirmed += frame.size
            frames += 1
        # Sent on an earlier link and about to be sent again; the peer has had it all along.
        while self._unsent and self._unsent[0].number < expected:
            frame = self._unsent.popleft()
            self.waiting -= frame.cost
            self.confirmed += frame.size
            frames += 1
        return frames

    def resume(self, expected: int) -> None:
        """A new link to the same incarnation: what it holds is forgotten, all else is unsent again.

        `expected` may be older than an acknowledgement that came on the link before, since both were in flight.
        Raises MalformedFrame when it is a number that was never sent.
        """
        self.acknowledge(expected)
        while self._sent:
            frame = self._sent.pop()
            self._unsent.appendleft(frame)
            self.in_flight -= frame.cost
            self.waiting += frame.cost


class Incoming:
    """What has arrived from one incarnation of a peer. `window` is the most that it may send unacknowledged."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._payload: BytesIO | None = None  # the payload of which some frames have come
        self._total = 0
        self.unacknowledged = 0  # bytes that the peer was not told of
        self.expected = 0  # the number of the next frame
        self._told = 0  # the last `expected` that the peer was told

    @property
    def owes(self) -> bool:
        """Frames arrived that the peer has not been told of."""
        return self._told != self.expected

    def told(self) -> int:
        """The number to put into an acknowledgement that leaves now."""
        self._told = self.expected
        self.unacknowledged = 0
        return self.expected

    @property
    def last_told(self) -> int:
        """The number for a frame that must not acknowledge anything new (the reader is behind)."""
        return self._told

    def receive(self, header: Header, body: memoryview) -> bytes | None:
        """Take a DATA frame; returns the payload that it completes, or None. A frame already taken changes nothing.

        Raises MalformedFrame for a gap, a cut that does not add up, or more bytes than the window.
        """
        if header.number < self.expected:
            return None
        if header.number > self.expected:
            raise MalformedFrame(f"frame {header.number} where {self.expected} belongs")
        if bool(header.flags & FIRST) == (self._payload is not None):
            raise MalformedFrame(f"frame {header.number}: one payload begins before another ends, or none has begun")
        if not header.flags & LAST and not LEAST_CUT_BYTES <= len(body) <= FRAME_BYTES:
            raise MalformedFrame(f"frame {header.number}: {len(body)} bytes in the middle of a payload")
        total = header.total if header.flags & FIRST else self._total
        held = len(body) + (self._payload.tell() if self._payload is not None else 0)
        if held > total or (header.flags & LAST and held != total):
            raise MalformedFrame(f"frame {header.number}: {held} bytes of a payload of {total}")
        self.unacknowledged += len(body) + FRAME_COST
        if self.unacknowledged > self._window + FRAME_BYTES + FRAME_COST:
            raise MalformedFrame(f"{self.unacknowledged} bytes sent without waiting; the window is {self._window}")
        self.expected += 1
        return self._keep(header, body, total)

    def _keep(self, header: Header, body: memoryview, total: int) -> bytes | None:
        if header.flags == FIRST | LAST:
            return bytes(body)
        if self._payload is None:
            # Each body is copied to its place at once, and ZeroMQ has its memory back: no payload is held twice. It
            # grows with what comes, mostly without being moved; memory of its whole length would be filled with zeros
            # first. Only near the size from which on the allocator maps pages anew each time, zeros cost less.
            self._payload, self._total = BytesIO(bytes(total if total > GROWN_BYTES else 0)), total
        self._payload.write(body)
        if not header.flags & LAST:
            return None
        payload, self._payload = self._payload.getvalue(), None  # BytesIO hands out its own bytes, not a copy
        return payload

    def resume(self) -> None:
        """A new link: the peer learns `expected` from the hello, so nothing is owed."""
        self.told()

"""Exactly once, in order, in one session of two processes, over links that are cut. Pure, like h11.

A payload is cut into frames, numbered from 0 in each *session* (link.py). The receiver says
which number it expects next. The sender drops the frames below it, and sends the others again on the next link, which
begins where the receiver's hello says. Inside one link nothing is lost or reordered (TLS over TCP), so a gap is a
fault of the far end, never a reason to wait.

Every frame carries its link's 8-byte tag. ZeroMQ may still hold frames of the link before; they carry the old tag and
are dropped, since everything unacknowledged is sent again anyway.

    header  kind u8 · flags u8 · tag 8 · number u64 · acknowledged u64 · total u32      (30 bytes, big-endian)
    DATA    number of the frame; FIRST carries the payload's length in total; LAST ends it; body in the second part
    ACK     number 0          PING, PONG  number = the pinger's stamp in µs
    GOODBYE number 0; the sender stops, and acknowledges nothing more
    CALL, COME, DECLINED  number 0; to and from a relay, beside the stream (relay_client.py); body in the second part
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
FRAME_BYTES: Final = 1 << 20  # largest body
CUT_BYTES: Final = 1 << 20  # size of the frames that this end cuts
LEAST_CUT_BYTES: Final = 64 << 10  # smallest frame that is not the last of its payload
GROWN_BYTES: Final = 8 << 20  # largest payload whose memory grows with its frames
LEAST_VIEWED_BYTES: Final = 64 << 10  # smallest payload that is handed on where it lies: a chunk of words, mostly
MOST_PARTS: Final = 2  # pieces of a frame that are handed on apart
FRAME_COST: Final = 256  # bytes that a frame costs beside its body, so that empty payloads are bounded too
RESERVED_BYTES: Final = 512 << 10  # of the window, which bulk leaves to letters
MOST_OVERTAKING: Final = 1 << 20  # bytes of letters, after which the bulk that they have overtaken comes first
UNNUMBERED: Final = -1

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
    """A frame breaks the rules above; the text is the evidence."""


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
    """One numbered frame that waits to be sent or acknowledged. Its pieces are views of the caller's payload."""

    number: int
    flags: int
    total: int
    pieces: tuple[memoryview, ...]
    size: int

    @property
    def body(self) -> memoryview:
        """The pieces in a row: a view of a single piece, else a copy that lives for the moment."""
        return self.pieces[0] if len(self.pieces) == 1 else memoryview(b"".join(self.pieces))

    @property
    def parts(self) -> tuple[memoryview, ...]:
        """The pieces, or their copy in a row where they are many: a head and its words stay two."""
        return self.pieces if 0 < len(self.pieces) <= MOST_PARTS else (self.body,)

    @property
    def cost(self) -> int:
        return self.size + FRAME_COST


def parts_of(payload: Payload) -> list[memoryview]:
    """The parts of a payload, which may be one or several, as views of bytes."""
    given = (payload,) if isinstance(payload, bytes | bytearray | memoryview) else payload
    return [memoryview(part).cast("B") for part in given]


def cut(parts: Iterable[memoryview], size: int) -> Iterator[tuple[memoryview, ...]]:
    """The parts in a row, cut every `size` bytes; nothing is copied. Yields at least one cut, which may be empty."""
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


@dataclass(slots=True)
class Queued:
    """What is left to send of a payload; `place`: how many were queued before it."""

    place: int
    bulk: bool
    frames: deque[Frame]


class Outgoing:
    """Frames of one session that the peer has not acknowledged. At most `window` bytes are in flight.

    Payloads are letters or bulk, each in their order. A letter overtakes all bulk of which nothing was sent, but no
    more than MOST_OVERTAKING bytes of them in a row do: then they wait for that bulk, also for its room in the window,
    of which it leaves them some. No bulk overtakes a letter that was queued before it. A frame gets its number as it is
    sent for the first time, so what is sent again keeps its place.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._number = 0  # of the next frame that was never sent, on any link
        self._place = 0  # of the next payload
        self._sent: deque[Frame] = deque()
        self._again: deque[Frame] = deque()  # was sent on an earlier link
        self._begun: Queued | None = None  # nothing may come between its frames
        self._shown: tuple[Queued, Frame] | None = None  # what `next_frame` showed last, and whose next frame it is
        self._letters: deque[Queued] = deque()
        self._bulk: deque[Queued] = deque()
        self._overtaking = 0  # bytes of letters that have overtaken the next bulk since bulk was sent
        self.in_flight = 0  # bytes sent and not acknowledged
        self.waiting = 0  # bytes not sent yet
        self.confirmed = 0  # payload bytes acknowledged so far

    @property
    def queued(self) -> int:
        """Bytes that are not acknowledged, whether sent or not."""
        return self.in_flight + self.waiting

    @property
    def end(self) -> int:
        """The place of the next payload that is queued."""
        return self._place

    def since(self, place: int) -> Outgoing:
        """What was queued from `place` on, none of which was sent, numbered from 0: for another session."""
        found = Outgoing(self._window)
        found._place = self._place
        for queue, into in ((self._letters, found._letters), (self._bulk, found._bulk)):
            into.extend(queued for queued in queue if queued.place >= place)
            found.waiting += sum(frame.cost for queued in into for frame in queued.frames)
        return found

    def queue_payload(self, payload: Payload, *, bulk: bool = False) -> None:
        """Queue a payload. Raises ValueError above 16 MiB."""
        parts = parts_of(payload)
        total = sum(map(len, parts))
        if total > PAYLOAD_BYTES:
            raise ValueError(f"a payload of {total} bytes; at most {PAYLOAD_BYTES}")
        done, frames = 0, deque[Frame]()
        for pieces in cut(parts, CUT_BYTES):
            size = sum(map(len, pieces))
            flags = FIRST * (done == 0) | LAST * (done + size == total)
            frames.append(Frame(UNNUMBERED, flags, total if done == 0 else 0, pieces, size))
            done += size
            self.waiting += frames[-1].cost
        (self._bulk if bulk else self._letters).append(Queued(self._place, bulk, frames))
        self._place += 1

    def next_frame(self, *, bulk: bool = True) -> Frame | None:
        """The next frame to send; None when nothing may be. `bulk` False: none of bulk, nor before bulk that is due."""
        if self._again:
            return self._again[0] if self._fits(self._again[0], self._window) else None
        for queued in self._choices(bulk):
            frame, window = queued.frames[0], self._window - (RESERVED_BYTES if queued.bulk else 0)
            if self._fits(frame, window):
                shown = Frame(self._number, frame.flags, frame.total, frame.pieces, frame.size)
                self._shown = queued, shown
                return shown
        return None

    def _choices(self, bulk: bool) -> list[Queued]:
        """What may be sent next, best first."""
        if self._begun is not None:
            found = [self._begun]
        elif self._bulk_is_due:
            found = [self._bulk[0]]
        else:
            found = [queue[0] for queue in (self._letters, self._bulk) if queue]
            if len(found) > 1 and found[0].place < found[1].place:
                found.pop()  # it would pass a letter that has no room in the window yet
        return [queued for queued in found if bulk or not queued.bulk]

    @property
    def _bulk_is_due(self) -> bool:
        """Letters have overtaken the next bulk for long enough, and those that were queued before it are sent."""
        due = bool(self._bulk) and self._overtaking >= MOST_OVERTAKING
        return due and not (self._letters and self._letters[0].place < self._bulk[0].place)

    def _fits(self, frame: Frame, window: int) -> bool:
        return not self._sent or self.in_flight + frame.cost <= window

    def mark_sent(self) -> None:
        """The frame that `next_frame` showed has been handed on."""
        frame = self._again.popleft() if self._again else self._take(self._shown)
        self._sent.append(frame)
        self.waiting -= frame.cost
        self.in_flight += frame.cost

    def _take(self, shown: tuple[Queued, Frame] | None) -> Frame:
        if shown is None:
            raise ValueError("no frame was shown")
        queued, frame = shown
        queued.frames.popleft()
        self._number += 1
        if self._begun is None:
            (self._bulk if queued.bulk else self._letters).popleft()
        self._begun = queued if queued.frames else None
        if queued.bulk or not self._bulk:
            self._overtaking = 0
        elif queued.place > self._bulk[0].place:
            self._overtaking += frame.cost
        self._shown = None
        return frame

    def acknowledge(self, expected: int) -> int:
        """Drop every frame below `expected`; return how many that confirms (`confirmed` counts their bytes).

        Raises MalformedFrame when the peer acknowledges a frame that was never sent.
        """
        if expected > self._number:
            raise MalformedFrame(f"frame {expected - 1} is acknowledged and was never sent")
        frames = 0
        while self._sent and self._sent[0].number < expected:
            frame = self._sent.popleft()
            self.in_flight -= frame.cost
            self.confirmed += frame.size
            frames += 1
        # Frames that wait to be sent again, although the peer has had them since an earlier link.
        while self._again and self._again[0].number < expected:
            frame = self._again.popleft()
            self.waiting -= frame.cost
            self.confirmed += frame.size
            frames += 1
        return frames

    def resume(self, expected: int) -> None:
        """A new link in the same session: drop the frames that it holds; all others are sent again.

        `expected` may be older than an acknowledgement on the link before: both were in flight.
        Raises MalformedFrame when it is a number that was never sent.
        """
        self.acknowledge(expected)
        while self._sent:
            frame = self._sent.pop()
            self._again.appendleft(frame)
            self.in_flight -= frame.cost
            self.waiting += frame.cost


class Incoming:
    """Frames of one session from a peer, which may send at most `window` bytes unacknowledged."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._payload: BytesIO | None = None  # the payload that is being assembled
        self._total = 0
        self.unacknowledged = 0  # bytes received and not acknowledged
        self.expected = 0  # the number of the next frame
        self._last_acknowledged = 0  # the last `expected` that the peer was sent

    @property
    def owes_acknowledgement(self) -> bool:
        """Frames arrived that the peer has no acknowledgement for."""
        return self._last_acknowledged != self.expected

    def mark_acknowledged(self) -> None:
        """A frame that acknowledges everything received has left."""
        self._last_acknowledged = self.expected
        self.unacknowledged = 0

    @property
    def last_acknowledged(self) -> int:
        """The number for a frame that must not acknowledge anything new."""
        return self._last_acknowledged

    def receive(self, header: Header, body: memoryview) -> bytes | memoryview | None:
        """Accept a DATA frame; return the payload that it completes, or None. A repeated frame changes nothing.

        A large payload in one frame is a view of the body, whose memory lives as long as that is held.

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
        return self._assemble(header, body, total)

    def _assemble(self, header: Header, body: memoryview, total: int) -> bytes | memoryview | None:
        if header.flags == FIRST | LAST:
            return bytes(body) if len(body) < LEAST_VIEWED_BYTES else body.toreadonly()
        if self._payload is None:
            # Each body is copied to its place at once and ZeroMQ gets its memory back, so no payload is held twice.
            # The buffer grows with the frames, mostly without being moved; allocating the whole length would fill it
            # with zeros first. Only near the size from which the allocator maps pages anew each time, zeros cost less.
            self._payload, self._total = BytesIO(bytes(total if total > GROWN_BYTES else 0)), total
        self._payload.write(body)
        if not header.flags & LAST:
            return None
        payload, self._payload = self._payload.getvalue(), None  # BytesIO hands out its own bytes, not a copy
        return payload

    def resume(self) -> None:
        """A new link: the hello has told the peer `expected`, so no acknowledgement is owed."""
        self.mark_acknowledged()

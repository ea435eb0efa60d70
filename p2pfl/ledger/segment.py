"""One segment: its bytes on the disk, and how they are read. Pure: bytes and a key in, frames and damage out.

    segment    MAGIC (16) ‖ salt (32) ‖ frame ‖ frame ‖ …
    frame      MARK (4) ‖ number (4) ‖ length of the sealed part (4) ‖ sealed part
    sealed     AES-256-GCM under the segment's key; nonce = 0 (8) ‖ number (4); associated = MAGIC ‖ salt ‖ frame's head
    opened     kind (1) ‖ index (8) ‖ settled (4) ‖ previous (32) ‖ length of the record (4) ‖ record ‖ signatures
    signature  length of the name (1) ‖ name ‖ 64 bytes

The number counts frames from 0, so a frame that is moved, repeated or left out does not open. `settled` is how many
frames of this segment were on the medium before this one was written: a crash can spoil only what came after the last
sync, so an authentic frame that says more proves that damage before it is no crash. docs/spec/ledger.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from p2pfl.home.disk import has_hole
from p2pfl.keys import SIGNATURE_BYTES, Secret

MAGIC: Final = b"p2pfl/1/segment\0"
SALT_BYTES: Final = 32
HEADER_BYTES: Final = len(MAGIC) + SALT_BYTES
MARK: Final = b"\xf7P2\xa4"
HEAD: Final = struct.Struct(">4sII")
BODY: Final = struct.Struct(">BQI32sI")
TAG_BYTES: Final = 16
MOST_SEALED: Final = 2 << 20  # bytes: a record of 1 MiB and 200 signatures are far below it
MOST_FRAMES: Final = (1 << 32) - 1
MOST_WORK: Final = 4  # most bytes decrypted to explain damage, in sizes of the segment

ENTRY: Final = 1  # a record with the signatures that were there when it was written
LATE: Final = 2  # later signatures of the entry `index`; not an entry


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One opened frame. `end` is the offset behind it."""

    kind: int
    index: int
    settled: int
    previous: bytes
    record: bytes
    signatures: Mapping[str, bytes]
    end: int = 0


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a segment stops making sense. torn: it looks like an interrupted write, and nothing disproves that."""

    offset: int
    frame: int
    why: str
    torn: bool


def header(salt: bytes) -> bytes:
    """The first bytes of a segment."""
    return MAGIC + salt


class Sealer:
    """Seals the frames of one new segment, each under the next number."""

    def __init__(self, key: Secret, salt: bytes) -> None:
        self._cipher, self._header, self.frames = AESGCM(key.reveal()), header(salt), 0

    def seal(self, frame: SegmentFrame) -> bytes:
        """The next frame's bytes. Raises ValueError when it is too large."""
        signed = b"".join(
            bytes((len(name),)) + name.encode("ascii") + frame.signatures[name] for name in sorted(frame.signatures)
        )
        body = BODY.pack(frame.kind, frame.index, frame.settled, frame.previous, len(frame.record))
        opened = body + frame.record + signed
        if len(opened) + TAG_BYTES > MOST_SEALED or self.frames == MOST_FRAMES:
            raise ValueError(f"a frame of {len(opened)} bytes, or more than {MOST_FRAMES} of them")
        head = HEAD.pack(MARK, self.frames, len(opened) + TAG_BYTES)
        sealed = self._cipher.encrypt(_nonce(self.frames), opened, self._header + head)
        self.frames += 1
        return head + sealed


def _nonce(number: int) -> bytes:
    return bytes(8) + number.to_bytes(4, "big")


def _open(opened: bytes, end: int) -> SegmentFrame:
    kind, index, settled, previous, length = BODY.unpack_from(opened)
    at = BODY.size + length
    record, signatures = opened[BODY.size : at], {}
    while at < len(opened):
        signed = at + 1 + opened[at]
        signatures[opened[at + 1 : signed].decode("ascii")] = opened[signed : signed + SIGNATURE_BYTES]
        at = signed + SIGNATURE_BYTES
    if len(record) != length or at != len(opened) or kind not in (ENTRY, LATE):
        raise ValueError("an authentic frame that this version cannot read")
    return SegmentFrame(kind, index, settled, previous, record, signatures, end)


class SegmentReader:
    """Reads one segment. Iterate over its frames; after that `damage` says what is wrong, if anything."""

    def __init__(self, data: bytes, key_of: Callable[[bytes], Secret]) -> None:
        self._data, self._key_of = data, key_of
        self.damage: Damage | None = None
        self.good_bytes = 0

    def __iter__(self) -> Iterator[SegmentFrame]:
        data, number = self._data, 0
        if len(data) < HEADER_BYTES:
            torn = (MAGIC.startswith(data[: len(MAGIC)]) and len(data) < HEADER_BYTES) or not any(data)
            self.damage = Damage(0, 0, f"it has {len(data)} bytes, fewer than its header", torn)
            return
        if not data.startswith(MAGIC):
            self.damage = Damage(0, 0, "it does not begin as a segment of this version", not any(data))
            return
        self._cipher = AESGCM(self._key_of(data[len(MAGIC) : HEADER_BYTES]).reveal())
        self._header = data[:HEADER_BYTES]
        at = self.good_bytes = HEADER_BYTES
        while at < len(data):
            try:
                frame = self._frame(at, number)
            except EOFError as error:
                self._spoilt(at, number, str(error), torn=True)
                return
            except (ValueError, InvalidTag) as error:
                self._spoilt(at, number, str(error) or "it does not authenticate", torn=has_hole(data, at))
                return
            yield frame
            at = self.good_bytes = frame.end
            number += 1

    def _frame(self, at: int, number: int | None) -> SegmentFrame:
        """The frame at `at`. Raises EOFError when the data end inside it, InvalidTag or ValueError when it is wrong."""
        head = self._data[at : at + HEAD.size]
        if len(head) < HEAD.size:
            raise EOFError(f"{len(head)} bytes of a frame's head, and then nothing")
        mark, stated, length = HEAD.unpack(head)
        fits = BODY.size + TAG_BYTES <= length <= MOST_SEALED
        if mark != MARK or number not in (None, stated) or not fits:
            raise ValueError("its head is not that of the next frame")
        end = at + HEAD.size + length
        if end > len(self._data):
            if self._whole_but_for_its_length(at, stated):
                raise ValueError("its length was changed")
            raise EOFError(f"{len(self._data) - at} of {end - at} bytes of a frame, and then nothing")
        sealed = self._data[at + HEAD.size : end]
        return _open(self._cipher.decrypt(_nonce(stated), sealed, self._header + head), end)

    def _claimed(self, at: int) -> int:
        """Bytes that opening the frame at `at` would decrypt, as its own head claims."""
        head = self._data[at : at + HEAD.size]
        return min(HEAD.unpack(head)[2], MOST_SEALED, len(self._data) - at) if len(head) == HEAD.size else 0

    def _whole_but_for_its_length(self, at: int, number: int) -> bool:
        """True when the rest of the data is an authentic frame under its true length: no write was interrupted here."""
        sealed = self._data[at + HEAD.size :]
        try:
            self._cipher.decrypt(_nonce(number), sealed, self._header + HEAD.pack(MARK, number, len(sealed)))
        except InvalidTag:
            return False
        return True

    def _spoilt(self, at: int, number: int, why: str, *, torn: bool) -> None:
        """Note the damage at `at`; an authentic frame behind it, written after a later sync, disproves a crash."""
        behind, work = at, MOST_WORK * len(self._data) + MOST_SEALED
        while torn and (behind := self._data.find(MARK, behind + 1)) >= 0:
            # The data say how much is decrypted: marks that each claim all that follows must not cost time squared.
            work -= self._claimed(behind)
            if work < 0:
                why, torn = f"{why}; and marks lie behind it that no interrupted write leaves", False
                break
            try:
                later = self._frame(behind, None)
            except (EOFError, ValueError, InvalidTag):
                continue
            if later.settled > number:
                why, torn = f"{why}; yet frames behind it were written after it was safe on the disk", False
        self.damage = Damage(at, number, why, torn)

"""Seed ► uniform field words, seekable by position.

Theory of operation (docs/spec/sharing.md §1.2; vectors/prg-*.json). A stream key is
HKDF-SHA256(seed, info = p2pfl/1/<label>\\0‖context); context = run‖epoch‖round‖attempt‖edge‖segment, see `context`.
Under that key, stream t = 1, 2, 3, … is the AES-256-CTR keystream whose first counter block is t‖0, both 64 bits,
big-endian. Word k of a stream is bytes [k·w, (k+1)·w), little-endian, its bits above bit_length(p) cleared.
Word k of the PRG is word k of stream 1 if that is < p, else word k of stream 2, else of stream 3, …: exactly uniform
mod p (SP 800-90A would call it simple discard), and no word depends on another, so any slice can be made alone.

The keystream is the encryption of zeros, straight into the caller's array: no copies, one key schedule per key.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from p2pfl.keys import SEED_BYTES, Secret, derive
from p2pfl.sharing.field import BLOCK_BYTES, Field, Words, blocks

EDGE: Final = "prg/edge"
SELF: Final = "prg/self"
RUN_BYTES: Final = 32
AES_BLOCK_BYTES: Final = 16
FIRST_STREAM: Final = 1

_CONTEXT: Final = struct.Struct(">32sQQQHHH")
_COUNTER: Final = struct.Struct(">QQ")
_ZEROS: Final = memoryview(bytes(BLOCK_BYTES))


def context(run: bytes, epoch: int, round: int, attempt: int, edge: tuple[int, int], segment: int) -> bytes:
    """62 bytes that name one use of a seed: run (32), epoch, round, attempt (8 each), i, j, segment (2 each), all BE.

    A self-mask of peer i has edge (i, i). Raises ValueError when a part does not fit its place.
    """
    if len(run) != RUN_BYTES:
        raise ValueError(f"a run is {RUN_BYTES} bytes, not {len(run)}")
    try:
        return _CONTEXT.pack(run, epoch, round, attempt, edge[0], edge[1], segment)
    except struct.error as fault:
        raise ValueError(f"epoch {epoch} round {round} attempt {attempt} edge {edge} segment {segment}") from fault


def stream_key(seed: Secret | bytes, label: str, context: bytes) -> Secret:
    """The 32-byte key of one stream: HKDF-SHA256 of `seed` under `label` ("prg/edge" or "prg/self") and `context`."""
    if label not in (EDGE, SELF):
        raise ValueError(f"{label!r} is not a label of the PRG")
    return Secret(derive(revealed(seed), label, context), label)


def expand(key: Secret | bytes, field: Field, start: int, count: int, out: Words | None = None) -> Words:
    """Words start … start+count−1 of the PRG under `key`: (count,) uniform words < p, written to `out` if given.

    A slice of a longer expansion is the expansion of the slice. Time O(count), memory: the result.
    """
    words = np.empty(count, field.dtype) if out is None else out
    if words.shape != (count,) or words.dtype != field.dtype or not words.flags.c_contiguous:
        raise ValueError(f"out is {words.shape} {words.dtype}, wanted a contiguous ({count},) {field.dtype}")
    stream = Stream(key, field, start)
    for block in blocks(count, field.word_bytes):
        stream.fill(words[block])
    return words


class Keystream:
    """AES-256-CTR keystream of one `stream` under one key, from byte `start` on: straight into the caller's array."""

    def __init__(self, key: Secret | bytes, stream: int, start: int = 0) -> None:
        block, skipped = divmod(start, AES_BLOCK_BYTES)
        counter = _COUNTER.pack(stream, block)
        self._cipher = Cipher(algorithms.AES(revealed(key)), modes.CTR(counter)).encryptor()
        self._cipher.update(_ZEROS[:skipped])

    def fill(self, out: npt.NDArray[Any]) -> None:
        """Overwrite all of contiguous `out` with the next bytes."""
        target = out.view(np.uint8).data
        for block in blocks(out.nbytes, 1):
            part = target[block]
            self._cipher.update_into(_ZEROS[: part.nbytes], part)


class Stream:
    """The PRG under one key from word `start` on: each `fill` writes the next words. Holds two cipher contexts.

    `marks` is scratch of BLOCK_BYTES // word_bytes bytes; streams that take turns may share one, and stay in cache.
    """

    def __init__(self, key: Secret | bytes, field: Field, start: int = 0, marks: bytearray | None = None) -> None:
        raw = revealed(key)
        if len(raw) != SEED_BYTES or start < 0:
            raise ValueError(f"a stream wants a key of {SEED_BYTES} bytes and a start ≥ 0, got {len(raw)} and {start}")
        self._field = field
        self._position = start
        self._key = raw
        self._blocks: CipherContext | None = None
        self._keystream = Keystream(raw, FIRST_STREAM, start * field.word_bytes)
        self._top = None if field.bits == field.word_bits else field.dtype.type((1 << field.bits) - 1)
        self._p = field.dtype.type(field.p)
        self._marks = bytearray(BLOCK_BYTES // field.word_bytes) if marks is None else marks
        self._refused = np.frombuffer(self._marks, np.bool_)

    def fill(self, out: Words) -> None:
        """Write the next out.size words, at most one block of BLOCK_BYTES; `out` is contiguous."""
        self._keystream.fill(out)
        if self._top is not None:
            np.bitwise_and(out, self._top, out=out)
        np.greater_equal(out, self._p, out=self._refused[: out.size])
        refused = self._places(out.size)
        if refused:
            self._replace(out, np.array(refused))
        self._position += out.size

    def _places(self, count: int) -> list[int]:
        """Where the last comparison set a mark. They are few, and `find` is faster at that than numpy."""
        places = []
        place = self._marks.find(1, 0, count)
        while place >= 0:
            places.append(place)
            place = self._marks.find(1, place + 1, count)
        return places

    def _replace(self, out: Words, where: npt.NDArray[np.intp]) -> None:
        """Give each refused place the first word < p of streams 2, 3, … at its position."""
        stream = FIRST_STREAM
        while where.size:
            stream += 1
            words = self._words_at(stream, where.astype(np.uint64) + np.uint64(self._position))
            out[where] = words
            where = where[words >= self._p]

    def _words_at(self, stream: int, positions: npt.NDArray[np.uint64]) -> Words:
        """(k,) words of `stream` at the given positions, top bits cleared: may be ≥ p."""
        counters = np.empty((positions.size, 2), ">u8")
        byte = positions * np.uint64(self._field.word_bytes)
        counters[:, 0] = stream
        counters[:, 1] = byte // np.uint64(AES_BLOCK_BYTES)
        if self._blocks is None:
            # CTR keystream is the bare block cipher on counter blocks; here the counters are scattered. Nothing
            # else is ever encrypted this way, so ECB's weakness (equal blocks show) has nothing to show.
            self._blocks = Cipher(algorithms.AES(self._key), modes.ECB()).encryptor()
        keystream = np.frombuffer(self._blocks.update(counters.tobytes()), self._field.dtype)
        per_block = AES_BLOCK_BYTES // self._field.word_bytes
        place = np.arange(positions.size) * per_block + (positions % np.uint64(per_block)).astype(np.int64)
        words: npt.NDArray[np.unsignedinteger[Any]] = keystream[place]
        return words if self._top is None else words & self._top


def revealed(secret: Secret | bytes) -> bytes:
    """The bytes of a key, which ciphers want bare."""
    return secret.reveal() if isinstance(secret, Secret) else secret

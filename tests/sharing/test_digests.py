"""What binds words: the bytes of docs/spec/sharing.md §5, §6 and §9, put together by hand."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from p2pfl.sharing.digests import bulk_digest, chunk_leaf, sum_digest, total_digest
from p2pfl.sharing.events import Vector
from p2pfl.sharing.field import bytes_of

D = bytes(range(32))
# Of the vectors that BLAKE3's authors publish: an input of n bytes counts 0, 1, …, 250, 0, 1, …
KNOWN = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
}


def written(kind: str, *parts: bytes) -> bytes:
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hashlib.sha256(b"p2pfl/1/" + kind.encode() + b"\0" + framed).digest()


@pytest.mark.parametrize("size", KNOWN)
def test_words_are_hashed_as_blake3_is_published(size: int) -> None:
    data = bytes(k % 251 for k in range(size))
    assert bulk_digest(data).hex() == KNOWN[size]
    assert bulk_digest(memoryview(b"x" + data)[1:]) == bulk_digest(data)  # where a letter's words may lie


def test_each_digest_of_words_is_over_their_hash_and_their_place() -> None:
    words = np.array([1, 2, 2**31 - 2], np.uint32)
    hashed = bulk_digest(words.astype("<u4").tobytes())
    place = (7).to_bytes(8, "big")
    assert chunk_leaf(D, 7, bytes_of(words)) == written("chunk", D, place, hashed)
    assert sum_digest(D, 7, words) == written("sum", D, place, hashed)
    wide = np.array([5], np.uint64)
    total = total_digest((Vector(31, words), Vector(61, wide)))
    assert total == written("total", bytes([31]), hashed, bytes([61]), bulk_digest(wide.astype("<u8").tobytes()))
    assert len({chunk_leaf(D, 7, b""), chunk_leaf(D, 8, b""), chunk_leaf(D[::-1], 7, b"")}) == 3

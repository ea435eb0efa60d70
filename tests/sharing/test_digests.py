"""What binds words: the bytes of docs/spec/sharing.md §5, §6 and §9, put together by hand; and how often it is made."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from p2pfl.codec import Buffer
from p2pfl.keys import digest
from p2pfl.sharing import digests
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import bulk_digest, chunk_leaf, sum_digest, total_digest
from p2pfl.sharing.events import Vector
from p2pfl.sharing.field import FIELDS, bytes_of
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer

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


@pytest.mark.parametrize(("peers", "bits", "length"), [(3, 61, 10), (5, 31, 1_000_000), (5, 16, 1_000_001)])
def test_each_peer_hashes_each_word_that_it_sends_or_takes_once(
    peers: int, bits: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own masked vector, what it is sent of others', the sums that it makes and those that come, and the total."""
    hashed: Counter[str] = Counter()

    def counted(data: Buffer) -> bytes:
        hashed[sys._getframe(1).f_code.co_name] += len(data)
        return bulk_digest(data)

    monkeypatch.setattr(digests, "bulk_digest", counted)
    federation = SimulatedFederation(peers, length=length, bits=bits)
    for peer in federation.peers.values():
        monkeypatch.setattr(peer, "_apply", applied(peer))
    federation.run()
    size = length * FIELDS[bits].word_bytes
    assert hashed == {
        "chunk_leaf": peers * size + (peers - 1) * size,  # by authors, and by owners of what they are sent
        "sum_digest": size + (peers - 1) * size,  # by owners, and by all others
        "total_digest": peers * size,
    }


def applied(peer: SimulatedPeer) -> Callable[[e.Apply], None]:
    """A model that is not made of the sum: what is hashed is the round's own."""
    return lambda effect: peer._next.append(e.Applied(peer.world.now, effect.round, digest("model"), {}))

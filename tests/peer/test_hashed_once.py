"""A large sum of three sites in this process: what it gives to the hashes, and how much keystream it makes."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pytest

from p2pfl.federation import draft
from p2pfl.node.runs.sums import SALT_WORDS
from p2pfl.peer.blocking import BlockingPeer
from p2pfl.sharing import kernel, masking, quantiser
from p2pfl.sharing.prg import Keystream, Stream
from tests.peer.sites import NAMES, Sites

LENGTH = 1_000_000  # floats, of 31 bits: nine chunks
SMALL = 8192  # bytes, more than any letter of such a round has beside words


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Bytes given to each, of all sites together; of SHA-256 those that came in large pieces."""
    found: Counter[str] = Counter()
    lock = threading.Lock()

    def count(what: str, data: Any) -> None:
        with lock:
            found[what] += memoryview(data).nbytes

    class Counted:
        def __init__(self, data: Any = b"") -> None:
            self.state = sha256()
            self.update(data)

        def update(self, data: Any) -> None:
            if memoryview(data).nbytes > SMALL:
                count("SHA-256", data)
            self.state.update(data)

        def digest(self) -> bytes:
            return self.state.digest()

        def hexdigest(self) -> str:
            return self.state.hexdigest()

    def blake3_of(data: Any) -> Any:
        count("BLAKE3", data)
        return plain(data)

    class Masks(Stream):
        def fill(self, out: Any) -> None:
            count("masks", out)
            super().fill(out)

    class Draws(Keystream):
        def fill(self, out: Any) -> None:
            count("rounding", out)
            super().fill(out)

    sha256, plain = hashlib.sha256, blake3.blake3
    monkeypatch.setattr(hashlib, "sha256", Counted)
    monkeypatch.setattr(blake3, "blake3", blake3_of)
    monkeypatch.setattr(masking, "Stream", Masks)
    monkeypatch.setattr(quantiser, "Keystream", Draws)
    monkeypatch.setattr(kernel, "COMPILED", None)  # its keystream is made out of sight
    return found


def test_a_sum_hashes_each_word_once_where_it_is_and_makes_no_mask_twice(tmp_path: Path, spent: Counter[str]) -> None:
    """Of x its floats, as the site's own call of it is named; then what it sends and takes (docs/adr/0067)."""
    begins = threading.Barrier(len(NAMES), action=spent.clear)
    told: list[Counter[str]] = []
    ends = threading.Barrier(len(NAMES), action=lambda: told.append(Counter(spent)))

    def work(peer: BlockingPeer) -> None:
        vector = np.full(LENGTH, 0.25 * (1 + NAMES.index(peer.peer.name)), np.float32)
        peer.sum(vector[:10], limit=1.0, name="first")
        begins.wait()
        total = peer.sum(vector, limit=1.0, name="second").total
        ends.wait()
        assert float(np.abs(total - 1.5).max()) < 1e-6

    found = Sites(tmp_path, draft.python_lines("own"), "privacy=none").all(dict.fromkeys(NAMES, work))
    assert list(found.values()) == [None] * len(NAMES), found
    n, floats = len(NAMES), 4 * LENGTH
    size = floats + 8 * SALT_WORDS
    assert told == [
        {
            "BLAKE3": n * floats + (n + (n - 1) + 1 + (n - 1) + n) * size,
            "masks": n * (n + n) * size,  # of n − 1 edges and its own; and the n that are taken out of the sum
            "rounding": n * 8 * LENGTH,
        }
    ]

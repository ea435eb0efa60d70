"""Large sums of three sites, one after another: results stay what they are, wherever the next sum's memory is from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.federation import draft
from p2pfl.peer.blocking import BlockingPeer
from p2pfl.sharing.room import POOL, Room
from tests.peer.sites import NAMES, Sites

LENGTH = 300_001  # floats: their rooms are blocks


def vector_of(name: str, turn: int) -> Any:
    drawn = np.random.default_rng((NAMES.index(name), turn)).uniform(-1, 1, LENGTH)
    return drawn.astype(np.float32)


def test_a_result_that_its_caller_holds_is_not_written_to_by_the_next_sum(tmp_path: Path, monkeypatch: Any) -> None:
    given: list[bool] = []  # of each vector of floats: its numbers took the place of its words
    numbers = Room.numbers

    def seen(room: Room) -> Any:
        out = numbers(room)
        given.append(out is not None)
        return out

    monkeypatch.setattr(Room, "numbers", seen)
    before = POOL.taken

    def loop(peer: BlockingPeer) -> list[Any]:
        first = peer.sum(vector_of(peer.peer.name, 0), limit=1.0, name="first").total
        copied = np.array(first)
        second = peer.sum(vector_of(peer.peer.name, 1), limit=1.0, name="second").total
        assert np.array_equal(first, copied)
        del first
        third = peer.sum(vector_of(peer.peer.name, 2), limit=1.0, name="third").total
        return [copied, second, third]

    found = Sites(tmp_path, draft.python_lines("own"), "privacy=none").all(dict.fromkeys(NAMES, loop))
    for turn in range(3):
        totals = [found[name][turn] for name in NAMES]  # type: ignore[index]
        assert all(np.array_equal(totals[0], other) for other in totals[1:])
        expected = sum(vector_of(name, turn).astype(np.float64) for name in NAMES)
        assert float(np.abs(totals[0] - expected).max()) < 1e-6
    assert POOL.taken > before
    assert len(given) == 9
    del found, totals
    assert POOL.kept_bytes == 0, "the sites are closed: no sum follows"

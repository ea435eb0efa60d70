"""Masks that are expanded before the words are there, and a machine that has no memory for them."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import numpy as np
import pytest

from p2pfl.federation import draft
from p2pfl.sharing.phases import mask
from p2pfl.sharing.room import Room
from tests.peer.sites import NAMES, Sites


def test_masks_that_find_no_memory_cost_time_and_neither_the_sum_nor_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The words are masked from the seeds, piece by piece."""
    asked = []

    def none(segments: tuple[tuple[int, int], ...], rooms: tuple[Room, ...]) -> None:
        asked.append(segments)
        raise MemoryError

    ahead = mask.Ahead
    monkeypatch.setattr(mask, "Ahead", lambda number, attempt, bundles, _: ahead(number, attempt, bundles, none))
    sites = Sites(tmp_path, draft.python_lines("own"))
    with caplog.at_level(logging.ERROR, "asyncio"):
        found = sites.all({one: lambda peer: peer.sum(np.ones(10), limit=1.0, name="few") for one in NAMES})
        gc.collect()  # a task whose error nobody asked for says so when it goes
    assert all(np.allclose(one.total, 3.0) for one in found.values()), found
    assert asked
    assert not caplog.records

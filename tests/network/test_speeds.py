"""Links of a declared speed: a sum completes on each, and a slow link lives as long as it makes progress."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.network.places import ended_well, placed

Played = Callable[[Callable[[Path], None]], None]


def a_sum(place: Path, speed: str, words: int) -> None:
    """Each site sends its update once over, through a link of that speed; no link may end before the sum is there."""
    with placed(place, 3) as (net, sites):
        for number in range(3):
            net.limit(number, speed)
        order = {"sum": [0.25], "times": words, "brief": True, "limit": 1.0, "name": "update"}
        running = [sites.site(name, [order]) for name in sites.names]
        given = [process.event("given")["given"] for process in running]
        for process in running:
            before = process.said[: next(k for k, line in enumerate(process.said) if '"given"' in line)]
            assert not [line for line in before if '"abandoned"' in line], process.tail
            assert not [line for line in before if "nothing arrived" in line or "connection lost" in line], process.tail
        ended_well(sites)
        assert given[0] == given[1] == given[2]
        assert given[0]["survivors"] == sites.names
        assert all(abs(float(one) - 0.75) < 1e-6 for one in given[0]["total"])  # each word is rounded on its own


@pytest.mark.parametrize("scene", [
    partial(a_sum, speed="10mbit", words=5_000_000),  # each sends 27 MB, for longer than a silent link would live
    partial(a_sum, speed="1gbit", words=1_000_000),
], ids=["10 Mbit/s", "1 Gbit/s"])  # fmt: skip
def test_a_realistic_vector_is_summed_at_any_speed_and_no_link_that_makes_progress_ends(
    scene: Any, played: Played
) -> None:
    played(scene)

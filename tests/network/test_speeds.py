"""Links of a declared speed: a sum completes on each, and a slow link lives as long as it makes progress."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.network.namespaces import ended_well, placed

Played = Callable[[Callable[[Path], None]], None]


def sums(place: Path, speed: str, words: int) -> None:
    """Two sums: after the first the links' speed is known, and the second's deadlines come from it.

    Each site sends its update once over. No link may end, and no attempt be given up, before a site has the sums in
    its ledger. It says so to the others behind that, and they may end while it still makes numbers of the words.
    """
    with placed(place, 3) as (net, sites):
        for number in range(3):
            net.limit(number, speed)
        order = {"sum": [0.25], "brief": True, "limit": 1.0}
        do = [{**order, "times": words // 10, "name": "first"}, {**order, "times": words, "name": "second"}]
        running = [sites.site(name, do) for name in sites.names]
        given = [[process.event("given")["given"] for _ in do] for process in running]
        for process in running:
            last = max(number for number, line in enumerate(process.said) if line.startswith('{"event": "round"'))
            told = [json.loads(line) for line in process.said[:last] if line.startswith('{"event"')]
            assert not [one for one in told if one["event"] == "abandoned"], process.tail
            assert not [one for one in told if one["event"] == "link_down" and "replaced" not in one["reason"]]
        ended_well(sites)
        assert given[0] == given[1] == given[2]
        for one in given[0]:
            assert one["survivors"] == sites.names
            assert all(abs(float(word) - 0.75) < 1e-6 for word in one["total"])  # each word is rounded on its own


@pytest.mark.parametrize(
    "scene",
    [
        partial(sums, speed="512kbit", words=300_000),  # each sends 1.6 MB, for longer than a silent link would live
        partial(sums, speed="10mbit", words=5_000_000),  # … 27 MB, as long
        partial(sums, speed="1gbit", words=1_000_000),
    ],
    ids=["512 kbit/s", "10 Mbit/s", "1 Gbit/s"],
)
def test_a_realistic_vector_is_summed_at_any_speed(scene: Any, played: Played) -> None:
    """No link that makes progress ends."""
    played(scene)

"""Real sites of which some have the compiled loops and some have not: what each makes, the others take as their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pfl.sharing import kernel
from tests.end_to_end.checks import entries
from tests.end_to_end.conftest import MakeSites

LENGTH = 300_000  # floats: three chunks, one of which each site owns
FLOATS = [0.25, -0.5, 0.125, 1.0, -1.0, 0.3]
ORDERS = [
    {"sum": FLOATS, "times": LENGTH // len(FLOATS), "limit": 1.0, "brief": 1, "name": "floats"},
    {"sum": [7, -8, 2**40], "times": 50_000, "brief": 1, "name": "integers"},
]


@pytest.mark.skipif(kernel.COMPILED is None, reason="the compiled loops are not built here, or not for this processor")
@pytest.mark.parametrize(
    "by_numpy",
    [lambda name: name == "ben", lambda name: name != "ben", lambda name: True],
    ids=["one", "two", "all"],
)
def test_sites_by_numpy_and_sites_with_compiled_loops_sum_the_same(
    make: MakeSites, by_numpy: Callable[[str], bool]
) -> None:
    """Each site owns a chunk, hashes and tags what the others made, and signs one record with them."""
    sites = make(3)
    started = {name: sites.site(name, ORDERS, numpy=by_numpy(name)) for name in sites.names}
    ended = {name: process.end() for name, process in started.items()}
    assert [one.status for one in ended.values()] == [0, 0, 0], ended["ada"].text
    ran_on = {name: one.facts["loops"] for name, one in ended.items()}
    assert ran_on == {name: "numpy" if by_numpy(name) else kernel.in_use() for name in sites.names}
    floats, integers = ended["ada"].facts["given"]
    assert all(one.facts["given"] == [floats, integers] for one in ended.values())
    assert floats["survivors"] == integers["survivors"] == sites.names
    assert [int(one) for one in integers["total"]] == sorted(3 * value for value in (7, -8, 2**40))
    assert {round(float(one), 5) for one in floats["total"]} == {round(3 * value, 5) for value in FLOATS}
    assert len(sites.roots()) == 1
    rounds = [one for one in entries(sites["ada"], "federation") if one["kind"] == "round"]
    assert [one["survivors"] for one in rounds] == [sites.names] * 2

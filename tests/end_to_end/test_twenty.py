"""Twenty real sites on this machine; how fast they are is what benchmarks/mesh_forms.py measures."""

from __future__ import annotations

from benchmarks._links import loopback
from benchmarks.mesh_forms import run
from p2pfl.roster import Quorums


def test_twenty_sites_have_a_link_with_each_other_and_sum_a_vector() -> None:
    _, told = run(loopback(20), 1_000)  # each has waited for its 19 links, and checked the sum over its survivors
    survivors = [one["sums"][0]["survivors"] for one in told]
    assert len(survivors) == 20
    assert min(survivors) == max(survivors) >= Quorums(20).q

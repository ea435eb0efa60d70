"""The benchmarks of links run at a small size, so that they cannot rot."""

from __future__ import annotations

import pytest

from benchmarks._all_links import run as send_all
from benchmarks._links import LinksUnavailable, network
from benchmarks._one_link import SIZES, measure
from benchmarks.mesh_bandwidth import measure_sums


def test_the_bandwidth_benchmark_measures_both_sides() -> None:
    found = {finding.name: finding.median for finding in measure(8, 1)}
    assert found["one link"] > 0
    assert found["a bare SSLSocket"] > 0
    assert all(found[f"overhead of {size} payload bytes"] > 0 for size in SIZES)


def test_an_interface_is_counted_from_outside() -> None:
    """What leaves it is more than the payload."""
    try:
        with network(3) as net:
            seen = send_all(net.places, [[0, 2, 1], [1, 0, 1], [1, 1, 0]])
    except LinksUnavailable as reason:
        pytest.skip(f"network namespaces cannot be made here: {reason}")
    assert [one.payload >> 20 for one in seen] == [3, 2, 2]
    assert all(one.interface > one.payload for one in seen)


def test_the_bytes_of_a_secure_sum_are_counted_by_its_sites_and_from_outside() -> None:
    try:
        found = {finding.name: finding.median for finding in measure_sums([3], 100_000, 1)}
    except LinksUnavailable as reason:
        pytest.skip(f"network namespaces cannot be made here: {reason}")
    outside, inside = (value for name, value in found.items() if name.startswith("secure sum"))
    assert outside > inside > 1.0

"""The benchmark runs at a small size, so that it cannot rot."""

from __future__ import annotations

from benchmarks.mesh_bandwidth import SIZES, measure


def test_the_bandwidth_benchmark_measures_both_sides() -> None:
    found = {finding.name: finding.median for finding in measure(8, 1)}
    assert found["one link"] > 0
    assert found["a bare SSLSocket"] > 0
    assert all(found[f"overhead of {size} payload bytes"] > 0 for size in SIZES)

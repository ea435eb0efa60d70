"""The benchmark of a secure sum at a small size, as those of Flower's and TenSEAL's sums call it too."""

from __future__ import annotations

import pytest

from benchmarks._links import loopback
from benchmarks.secure_sum import alike, cold
from p2pfl.sharing import kernel


def test_the_benchmark_of_a_sum_measures_each_width_from_the_call_on() -> None:
    """Its own two callers need a program of others, without which nobody saw that they no longer reached it."""
    found = cold(loopback(3), 1000, [31], 1)
    assert list(found) == [31]
    (spent,) = found[31]
    assert spent["s"] > 0 and spent["cpu_s"] > 0
    assert spent["bytes"] >= 2 * (3 - 1) * 1000 * 4  # of all three: words to their owners, and the sums of them back


def test_what_the_report_says_of_the_inner_loops_is_true_of_every_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "COMPILED", None)
    alike([{"inner loops": "numpy"}] * 3)
    with pytest.raises(SystemExit, match=r"numpy here, of the peers .*VAES"):
        alike([{"inner loops": "numpy"}, {"inner loops": "VAES"}])

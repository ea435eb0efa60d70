"""The kernel's benchmark runs at a small size, so that it cannot rot; its figures are not judged here."""

from __future__ import annotations

import json

import pytest

from benchmarks import _report, kernel


def test_the_kernel_benchmark_measures_every_field(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside the bare keystream and memcpy."""
    findings = kernel.measure(megabytes=0.3, rounds=2)
    _report.show("kernel", findings, _report.machine("numpy", "cryptography"), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    names = [finding["name"] for finding in printed["findings"]]
    for bits in (16, 31, 61):
        promised = printed["findings"][names.index(f"{bits}-bit PRG + mask + add")]
        assert (promised["at_least"], promised["rounds"]) == (1.5, 2)
        assert 0 < promised["least"] <= promised["median"] <= promised["most"]
        assert f"{bits}-bit … / bare AES-256-CTR keystream" in names
        assert f"{bits}-bit … / memcpy" in names
        assert {f"{bits}-bit tag", f"{bits}-bit time of two tags / of PRG + mask + add"} <= set(names)
    assert {"processor", "numpy", "cryptography"} <= printed["machine"].keys()


def test_a_promise_is_held_by_the_median_and_a_broken_one_is_said_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    held = _report.Finding("a", (1.0, 2.0, 9.0), at_least=2.0, at_most=3.0)
    broken = _report.Finding("b", (1.0, 2.0, 9.0), "GB/s", at_least=2.5)
    plain = _report.Finding("c", (1.0,))
    assert (held.holds, broken.holds, plain.holds, plain.promise) == (True, False, True, "")
    assert _report.show("t", [held, plain], {}, as_json=False) == 0
    assert _report.show("t", [held, broken], {}, as_json=False) == 1
    assert "promised ≥ 2.5: NOT HELD" in capsys.readouterr().out


def test_ratios_pair_the_rounds_that_ran_next_to_each_other() -> None:
    turns: list[str] = []
    seconds = _report.interleave({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 2, "b": 2}
    assert _report.ratios((6.0, 8.0), (3.0, 2.0)) == (2.0, 4.0)

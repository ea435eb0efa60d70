"""benchmarks/growth.py runs, at a small size, so that it cannot rot; its figures are for a quiet machine."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import growth


def test_growth_tells_real_processes_and_the_simulator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--real", "3", "--real-words", "1000", "--sums", "1", "--peers", "3,4", "--words", "100"]
    monkeypatch.setattr(sys, "argv", ["growth", *small, "--lengths", "100,200", "--large", "3", "--json"])
    monkeypatch.setattr(growth, "LARGE", 100)
    assert growth.main() in (0, 1)
    found = {one["name"]: one["median"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["3 processes, 1,000 words: processor per site"] > 0
    assert found["3 processes, 1,000 words: bytes per site / optimum"] > 1
    assert found["4 sites, 100 words: messages per peer"] > 3 * 10

"""The ledger's benchmark runs, at a small size, so that it cannot rot; its thresholds are for a quiet machine."""

from __future__ import annotations

import json

import pytest

from benchmarks import ledger


def test_the_benchmark_prints_every_promise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ledger", "--json", "--entries", "200", "--rounds", "1"])
    assert ledger.main() in (0, 1)
    found = json.loads(capsys.readouterr().out)["findings"]
    assert sum(finding["at_least"] is not None for finding in found) == 3
    assert all(finding["median"] > 0 for finding in found)

"""`make bench` ends with one table of what was promised and what was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks._report import PROMISES_FILE, Finding, show
from benchmarks._table import lines


def test_the_table_holds_each_promise_of_every_benchmark_and_says_which_are_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "promises"
    monkeypatch.setenv(PROMISES_FILE, str(kept))
    assert (
        show(
            "sums", [Finding("ratio", (1.0, 3.0, 2.0), at_most=1.5), Finding("seconds", (4.0,), "s")], {}, as_json=True
        )
        == 1
    )
    assert show("links", [Finding("speed", (9.0,), "GB/s", at_least=8.0)], {}, as_json=False) == 0
    capsys.readouterr()
    found = lines([json.loads(line) for line in kept.read_text().splitlines()])
    assert [line.split() for line in found] == [
        ["sums"],
        ["ratio", "2", "(1", "to", "3)", "promised", "≤", "1.5:", "NOT", "HELD"],
        ["links"],
        ["speed", "9", "GB/s", "(9", "to", "9)", "promised", "≥", "8:", "held"],
        ["1", "of", "2", "promises", "are", "held"],
    ]


def test_without_a_file_to_keep_them_in_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROMISES_FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert show("links", [Finding("speed", (9.0,), at_least=8.0)], {}, as_json=True) == 0
    assert list(tmp_path.iterdir()) == []

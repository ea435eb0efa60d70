"""`make bench`: sections that hold every script, findings that a machine reads, and what they are compared with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _bench, _report, _results, _sections, secure_sum
from benchmarks._report import FINDINGS_FILE, Finding, show
from p2pfl.sharing import kernel, loops
from p2pfl.simulate.forecast import VECTORS

ON = {"processor": "a processor", "cores": 2, "inner loops": "numpy"}
QUICK = """
import sys
from benchmarks._report import Finding, machine, show
values = tuple(float(word) for word in sys.argv[1:]) or (2.0,)
sys.exit(show("quick", [Finding("ratio", values, at_most=2.5), Finding("took", (9.0,), "s")], machine(), as_json=True))
"""


def lines(*medians: float, command: str = "python -m benchmarks.sums", **more: Any) -> list[_results.Line]:
    told = {"benchmark": "sums", "machine": ON, "promise": "", **Finding("ratio", medians).as_json(), **more}
    return [_results.line_of(told, run="then", commit="abc", section="sum", command=command, seconds=1.0)]


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `benchmarks` with one more script, run as the others are; the file that keeps what it finds."""
    package = tmp_path / "root" / "benchmarks"
    package.mkdir(parents=True)
    for path in _sections.HERE.glob("*.py"):
        (package / path.name).symlink_to(path)
    (package / "quick.py").write_text(QUICK)
    (package / "stuck.py").write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.setattr(_bench, "ROOT", package.parent)
    monkeypatch.setattr(_sections, "HERE", package)
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}:{_sections.Path(_bench.__file__).parents[1]}")
    return tmp_path / "bench.jsonl"


def test_every_script_is_in_one_section_a_new_one_in_that_of_its_name() -> None:
    held = [name for scripts in _sections.sections().values() for name in scripts]
    assert sorted(held) == _sections.scripts()
    assert set(_sections.ARGUMENTS) <= set(held)
    assert _sections.sections()["simulator"] == ("simulator",)
    assert _sections.chosen(["sum", "ledger"]).keys() == {"sum", "ledger"}
    assert _sections.chosen(["kernel"]) == {"kernel": ("kernel",)}
    assert _sections.chosen([]) == _sections.sections()


def test_the_table_holds_each_promise_of_every_benchmark_and_says_which_are_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "findings"
    monkeypatch.setenv(FINDINGS_FILE, str(kept))
    sums = [Finding("ratio", (1.0, 3.0, 2.0), at_most=1.5), Finding("seconds", (4.0,), "s")]
    assert show("sums", sums, {}, as_json=True) == 1
    assert show("links", [Finding("speed", (9.0,), "GB/s", at_least=8.0)], {}, as_json=False) == 0
    capsys.readouterr()
    found = _results.promised(_results.told(kept))
    assert [line.split() for line in found] == [
        ["sums"],
        ["ratio", "2", "(1", "to", "3)", "promised", "≤", "1.5:", "NOT", "HELD"],
        ["links"],
        ["speed", "9", "GB/s", "(9", "to", "9)", "promised", "≥", "8:", "held"],
        ["1", "of", "2", "promises", "are", "held"],
    ]


def test_without_a_file_to_keep_them_in_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FINDINGS_FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert show("links", [Finding("speed", (9.0,), at_least=8.0)], {}, as_json=True) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_its_findings_and_the_next_run_is_shown_beside_them(
    quick: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = ["--only", "quick", "--results", str(quick)]
    assert _bench.main(call) == 0
    assert "nothing of this was measured before" in capfd.readouterr().out
    ratio, took, whole = (json.loads(text) for text in quick.read_text().splitlines())
    assert (ratio["section"], ratio["command"]) == ("quick", "python -m benchmarks.quick")
    assert (ratio["ratio"], ratio["promise"], ratio["holds"]) == (2.0, "promised ≤ 2.5: held", True)
    assert (took["ratio"], took["median"], took["unit"]) == (None, 9.0, "s")
    assert whole["name"] == "the whole script" and whole["median"] > 0 and whole["status"] == 0
    for one in (ratio, took, whole):
        assert one["commit"] and one["run"].endswith("Z") and one["seconds"] > 0 and one["machine"]["cores"]
    assert _bench.main([*call, "--", "3.0"]) == 1  # a promise that is not held; another command is not compared
    out, err = capfd.readouterr()
    assert "NOT HELD" in out and "quick ended with 1" in err
    assert _bench.main(call) == 0
    told = capfd.readouterr().out
    assert f"quick, beside {ratio['commit']} of {ratio['run']}" in told
    assert [line.split() for line in told.splitlines() if line.startswith("  ratio")][-1] == [
        "ratio",
        "2",
        "/",
        "2",
        "1",
        "×",
    ]


def test_a_section_that_takes_its_time_is_stopped_and_named(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_sections, "LIMIT_S", 0.0)
    assert _bench.main(["--only", "stuck", "--results", str(quick)]) == 1
    assert "stuck was stopped" in capfd.readouterr().err
    assert json.loads(quick.read_text())["status"] is None


def test_a_section_that_is_none_and_a_file_that_holds_other_lines_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "bench.jsonl"
    assert _bench.main(["--only", "suum", "--results", str(kept)]) == 2
    assert "no section or script is called suum" in capfd.readouterr().err
    _results.append(kept, [{"name": "ratio"}])
    assert _bench.main(["--only", "kernel", "--results", str(kept)]) == 2
    assert f"{kept}, line 1, is no finding" in capfd.readouterr().err


def test_only_the_same_thing_on_the_same_machine_is_compared() -> None:
    old = lines(2.0, 2.1, 2.2)
    assert _results.compared(lines(1.0, 1.1, 1.2), old)[1].split() == [
        "ratio",
        "1.1",
        "/",
        "2.1",
        "0.524",
        "×",
        "apart",
    ]
    assert _results.compared(lines(2.0, 3.0), old)[1].endswith("×")
    other = {**ON, "processor": "another"}
    for unlike in (lines(2.0, machine=other), lines(2.0, command="python -m benchmarks.sums --rounds 1")):
        assert _results.compared(unlike, old) == ["nothing of this was measured before on this machine"]
    newest = _results.compared(lines(1.0), [*old, *lines(4.0)])
    assert newest[1].split() == ["ratio", "1", "/", "4", "0.25", "×", "apart"]


def test_each_benchmark_says_what_the_inner_loops_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _report.machine()["inner loops"] == kernel.in_use() == loops.built()
    monkeypatch.setattr(kernel, "COMPILED", None)
    assert _report.machine()["inner loops"] == "numpy"


def test_the_numbers_say_how_many_of_their_promises_hold() -> None:
    text = (Path(__file__).parents[1] / "docs/benchmarks.md").read_text()
    met = [cells[-3].strip(" *") for cells in (line.split("|") for line in text.splitlines()) if len(cells) == 7]
    judged = [one for one in met if one in ("yes", "no", "not always")]
    assert f"Of these {len(judged)} promises {judged.count('yes')} hold." in text


def test_the_table_of_a_secure_sum_promises_what_its_script_does() -> None:
    """Limits, with the aims beside them: of which a finding may fall short and keep its promise."""
    text = (Path(__file__).parents[1] / "docs/benchmarks.md").read_text()
    rows = re.findall(r"^\| time ratio, (\w+ ?[\w/]*?)(?: links)?, 31 bits.*\n\| the same, 16 bits.*", text, re.M)
    assert len(rows) == len(secure_sum.PROMISED)
    for link, widths in secure_sum.PROMISED.items():
        named = link.replace("gbit", " Gbit/s").replace("mbit", " Mbit/s")
        found = re.search(rf"^\| time ratio, {named}.*\n\| the same, 16 bits.*", text, re.M)
        assert found is not None
        for line, (most, aim) in zip(found[0].splitlines(), widths.values(), strict=True):
            said, met = (cell.strip(" *") for cell in line.split("|")[-4:-2])
            assert [float(one) for one in re.findall(r"[\d.]+", said)] == [
                one for one in (most, aim) if one is not None
            ]
            assert said.startswith("≤ ") and (" (aim " in said) == (aim is not None)
            median = float(line.split("|")[2].split()[0])
            assert met == ("yes" if median <= most else "no"), line


@pytest.mark.parametrize(
    ("found", "said", "holds"),
    [
        (8.5, "promised ≤ 8 (aim 6): NOT HELD", False),
        (7.0, "promised ≤ 8 (aim 6): held, short of its aim", True),
        (6.0, "promised ≤ 8 (aim 6): held", True),
    ],
)
def test_a_limit_is_what_was_promised_and_an_aim_is_not(found: float, said: str, holds: bool) -> None:
    finding = Finding("ratio", (found,), at_most=8.0, aim=6.0)
    assert (finding.promise, finding.holds, finding.as_json()["aim"]) == (said, holds, 6.0)


def test_a_forecast_reckons_with_the_memory_that_was_measured() -> None:
    text = (Path(__file__).parents[1] / "docs/benchmarks.md").read_text()
    found = re.search(
        r"^\| most memory / the fp32 vector, 31 bits.*?\| ([\d.]+),.*\n\| the same, 16 bits.*?\| ([\d.]+),", text, re.M
    )
    assert found is not None
    wide, narrow = map(float, found.groups())
    assert {16: narrow, 31: wide, 61: 2 * wide} == VECTORS

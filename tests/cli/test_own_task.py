"""A task in Python: written from the template, tried on one's own records, read and approved before it runs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl.cli.main import run
from p2pfl.cli.task.check import TRIED_S, read_records
from p2pfl.errors.task_process import TaskNotPython
from p2pfl.errors.training import TaskUnusable
from p2pfl.home import Home
from p2pfl.node.approvals import MOST_KEPT, approve, approved
from p2pfl.training.registry import run_task
from p2pfl.training.tasks import template

CHECK = ["task", "check", "pneumonia.py:Pneumonia", "--data", "records.csv"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a CSV of four numbers and a label, a home, and the template's task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("P2PFL_HOME", raising=False)
    draws = np.random.default_rng(1)
    rows = draws.normal(size=(200, template.COLUMNS))
    labels = rows[:, 0] > 0
    lines = [",".join([*(f"{x:.3f}" for x in row), str(int(y))]) for row, y in zip(rows, labels, strict=True)]
    Path("records.csv").write_text("\n".join(["a,b,c,d,ill", *lines]) + "\n")
    assert run(["init", "--name", "ada", "--listen", "127.0.0.1:7001", "--home", "ada"]) == 0
    assert run(["task", "new", "Pneumonia"]) == 0
    return tmp_path


def changed(before: str, after: str) -> None:
    """Change the task's file."""
    path = Path("pneumonia.py")
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_the_template_trains_as_it_is(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    assert run([*CHECK, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["task"], told["records"], told["input"], told["parameters"]) == ("pneumonia", 200, [4], 5)
    assert told["dense_bytes_per_round"] == round(2 * 4 / 5 * 4 * 5)
    assert told["round_s"] >= told["step_s"] > 0
    assert 0.0 <= told["figures"]["auc"] <= 1.0 and told["records_not_read"] == 0
    monkeypatch.setattr("p2pfl.cli.task.check.TRIED_AT_FIRST", 150)
    monkeypatch.setattr("p2pfl.cli.task.check.TRIED_S", 0.0)
    assert run(CHECK) == 0
    shown = capsys.readouterr().out
    assert "pneumonia: it trains privately here" in shown
    assert "the last 50 records were not read: --all" in shown


class Counting:
    """In a trainer's place: each record takes as long, by a clock that goes by records alone."""

    def __init__(self, records: int, each_s: float) -> None:
        self.records, self.each_s, self.now, self.asked = records, each_s, 0.0, list[int]()

    def perf_counter(self) -> float:
        return self.now

    def try_records(self, first: int, count: int) -> int:
        self.asked.append(min(count, self.records - first))
        self.now += self.each_s * self.asked[-1]
        return max(0, self.records - first - count)


@pytest.mark.parametrize(("each_s", "longest"), [(0.5, 1.3), (0.01, 1.05), (1e-6, 1.0)])
def test_reading_records_ends_near_its_minute_however_slow_they_are(
    each_s: float, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer: Any = Counting(100_000, each_s)
    monkeypatch.setattr("p2pfl.cli.task.check.time", trainer)
    left = read_records(trainer, every=False)
    assert trainer.now <= longest * TRIED_S
    assert left == trainer.records - sum(trainer.asked)
    assert read_records(trainer, every=True) == 0


def test_a_task_is_not_written_over_and_has_the_name_of_a_class(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["task", "new", "Pneumonia"]) == 2
    assert run(["task", "new", "pneumonia x"]) == 2
    assert "is no name of a class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ('reduction="none")', 'reduction="mean")', "P2P-TRAIN-024"),
        (
            "return nn.Linear(COLUMNS, 1)",
            "return nn.Sequential(nn.Linear(COLUMNS, 3), nn.Softmax(0), nn.Linear(3, 1))",
            "P2P-TRAIN-023",
        ),
        ("return nn.Linear(COLUMNS, 1)", "return nn.Linear(COLUMNS + 1, 1)", "P2P-TRAIN-023"),
        ("return (Binary(),)", "return (Binary(), Binary())", "P2P-TRAIN-051"),
        ("rows[:, :-1], rows[:, -1])", "rows[:, :-1] / 0.0, rows[:, -1])", "P2P-TRAIN-050"),
        (
            "rows[:, :-1], rows[:, -1])",
            "np.where(rows == rows[99], np.inf, rows)[:, :-1], rows[:, -1])",
            "P2P-TRAIN-050",
        ),
        ("api = 1", "api = 2", "P2P-TRAIN-022"),
        ("class Pneumonia", "class Influenza", "P2P-TRAIN-022"),
        ("import numpy as np", "import numpy as np,", "P2P-TRAIN-173"),
        ('targets.float(), reduction="none")', 'targets.float(), reduction="none") * float("nan")', "P2P-TRAIN-174"),
        ("return True", "return False", "P2P-TRAIN-023"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_would_fail_in_a_federation_is_told_by_the_check(
    here: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, code: str
) -> None:
    changed(before, after)
    assert run(CHECK) == 2
    assert code in capsys.readouterr().err


def test_what_a_task_prints_is_shown_by_the_check(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its process is killed in the end: what it had not written out by then was lost."""
    changed('targets.float(), reduction="none")', 'targets.float(), reduction="none") + (print("in the loss") or 0)')
    assert run(CHECK) == 0
    assert "the task prints: in the loss" in capsys.readouterr().err


def test_what_a_record_is_stands_beside_what_a_model_says_of_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed("return nn.Linear(COLUMNS, 1)", "return nn.Linear(COLUMNS + 1, 1)")
    assert run(CHECK) == 2
    assert "a record is float32 of 4, its label one int64" in capsys.readouterr().err


NET = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(COLUMNS, 1)

    def forward(self, x):
        return self.layer(x)


class Pneumonia("""


def test_an_own_module_class_trains(here: Path) -> None:
    changed("class Pneumonia(", NET)
    changed("        return nn.Linear(COLUMNS, 1)", "        return Net()")
    assert run(CHECK) == 0


@pytest.mark.claim("FED-6")
def test_a_task_is_shown_whole_then_as_a_difference_and_says_what_it_reaches_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review, home = ["task", "review", "pneumonia.py"], ["--home", "ada"]
    assert run([*review, *home]) == 0
    told = capsys.readouterr().out
    assert "not approved here" in told and "def loss" in told and "It imports nothing but what trains." in told
    assert run(["task", "approve", "pneumonia.py", *home]) == 0
    assert run([*review, *home, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["approved"] is True
    changed("import torch\n", "import socket\n\nimport torch\n")
    changed("return True", 'open("/etc/passwd")\n        return True')
    assert run([*review, *home]) == 0
    told = capsys.readouterr().out
    assert "+import socket" in told and "def loss" not in told
    assert "It reaches for: socket (line" in told and "open (line" in told


HIDDEN = "# -*- coding: utf-7 -*-\nx = 1\n#+AAo-import os\n"


@pytest.mark.claim("FED-6")
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (HIDDEN.encode(), "it names the encoding utf-7"),
        (("\n" + HIDDEN).encode(), "it names the encoding utf-7"),
        (b"# coding: latin-1\nname = '\xe5'\n", "it names the encoding iso-8859-1"),
        (b"# coding: no-such-thing\n", "name an encoding that is none"),
        (b"x = 1\n\n\nname = '\xe5'\n", "line 4: a byte that is no UTF-8"),
        (b"(" * 5000 + b"1" + b")" * 5000, "too many nested parentheses"),
        (b"-" * 100_000 + b"1\n", "nested too deep"),
    ],
)
def test_a_task_whose_text_is_not_what_would_run_is_not_reviewed_approved_or_run(
    here: Path, content: bytes, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In utf-7 a comment holds a line of code, and who read the file as UTF-8 approved it."""
    Path("task.py").write_bytes(content)
    for verb in ("review", "approve"):
        assert run(["task", verb, "task.py", "--home", "ada"]) == 2
        told = capsys.readouterr().err
        assert "P2P-TRAIN-173" in told and what in told
    with Home.open(Path("ada"), write=False) as home:
        assert approved(home) == {}
    with pytest.raises((TaskNotPython, TaskUnusable)):
        run_task("Pneumonia", Path("task.py"), content)


def test_python_itself_would_run_what_a_comment_hides() -> None:
    read = [[type(one) for one in ast.parse(source).body] for source in (HIDDEN, HIDDEN.encode())]
    assert read == [[ast.Assign], [ast.Assign, ast.Import]]


def test_an_encoding_that_only_python_would_see_is_not_followed(here: Path) -> None:
    """Behind a lone carriage return Python finds a second line, and tools that read by line feeds none."""
    hidden = b"\r# coding: utf-7\nran = []\n#+AAo-ran.append(1)\n"
    hidden += b"class Pneumonia:\n    def __init__(self): raise ValueError(len(ran))\n"
    with pytest.raises((TaskNotPython, TaskUnusable)) as refused:
        run_task("Pneumonia", Path("task.py"), hidden)
    assert "ValueError: 1" not in refused.value.evidence


def test_a_task_is_shown_in_the_lines_that_python_sees(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands behind a form feed in a comment is no line of code, and was shown as one."""
    Path("task.py").write_text('# a comment\f"""\nimport os\n')
    assert run(["task", "review", "task.py", "--home", "ada"]) == 0
    assert '# a comment\ufffd"""\nimport os\n' in capsys.readouterr().out


def test_the_texts_of_the_last_approvals_are_kept(here: Path) -> None:
    with Home.open(Path("ada"), write=False) as home:
        for number in range(MOST_KEPT + 2):
            approve(home, bytes([number]) * 32, b"text %d" % number)
        approve(home, bytes([5]) * 32, b"text 5")
        held = approved(home)
    assert len(held) == MOST_KEPT
    assert list(held)[-1] == bytes([5]) * 32 and bytes(32) not in held

"""`p2pfl task draft`: from a CSV to a description that `peers create` takes, once people have filled it in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from p2pfl.cli.main import run
from p2pfl.cli.task import check
from p2pfl.errors.training import MissingColumn
from p2pfl.federation import Federation
from p2pfl.node.runs import sizes
from p2pfl.training.records.table_draft import NUMBER
from tests.test_json_keys import documented, keys, row

RAW = b"age;sex;ill\n4711;m;no\n4712;w;yes\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a CSV and three cards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("P2PFL_HOME", raising=False)
    Path("records.csv").write_bytes(RAW)
    for index, name in enumerate(("ada", "bob", "cyd")):
        assert run(["init", "--name", name, "--listen", f"127.0.0.1:{7001 + index}", "--home", name]) == 0
    return tmp_path


CREATE = ["peers", "create", "ada/ada.card", "bob/bob.card", "cyd/cyd.card", "-o", "peers.yaml", "--task", "task.yaml"]


def test_from_a_csv_to_the_file_that_all_agree_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["task", "draft", "records.csv", "-o", "task.yaml", "--label", "ill"]) == 0
    assert "task.yaml: 3 columns, 1 of numbers and 2 of words; 10 places to fill in" in capsys.readouterr().out
    assert run(CREATE) == 2
    told = capsys.readouterr().err
    assert "error P2P-FED-027: task.yaml:" in told
    assert not Path("peers.yaml").exists()
    text = Path("task.yaml").read_text()
    for left, filled in (
        (NUMBER, "{number: years, low: 0, high: 120, centre: 55, scale: 10}"),
        ("sex: {code: [TODO, TODO]}", "sex: {code: [w, m]}"),
        ("binary: [TODO, TODO], positive: [TODO]", 'binary: ["no", "yes"], positive: ["yes"]'),
    ):  # fmt: skip
        assert text.count(left) == 1
        text = text.replace(left, filled)
    Path("task.yaml").write_text(text)
    assert run(CREATE) == 0
    table = Federation.load("peers.yaml").task.table
    assert table is not None
    assert table.names == ("age", "sex", "ill")
    assert run(["peers", "show"]) == 0
    assert "task         a table: 2 columns, a linear model of ill (yes or no); 8 rounds" in capsys.readouterr().out


@pytest.mark.claim("CLI-6")
def test_no_cell_of_a_record_is_in_the_draft_or_in_what_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = ("4711", "Klinefelter", "4712", "Turner", "rare-outcome", "other-outcome")
    Path("rare.csv").write_text("age;syndrome;ill\n4711;Klinefelter;rare-outcome\n4712;Turner;other-outcome\n")
    assert run(["task", "draft", "rare.csv", "-o", "task.yaml", "--label", "ill"]) == 0
    said = capsys.readouterr()
    for text in (Path("task.yaml").read_text(), said.out, said.err):
        assert not [cell for cell in cells if cell in text]


@pytest.mark.claim("CLI-5")
def test_a_draft_overwrites_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("task.yaml").write_text("mine\n")
    assert run(["task", "draft", "records.csv", "-o", "task.yaml"]) == 2
    assert "P2P-FED-018" in capsys.readouterr().err
    assert Path("task.yaml").read_text() == "mine\n"


def test_a_column_map_beside_the_csv_is_used_as_join_uses_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("records.columns.yaml").write_text("columns: {sex: Geschlecht}\n")
    assert run(["task", "draft", "records.csv", "-o", "task.yaml"]) == 0
    assert "  Geschlecht: {code: [TODO, TODO]}\n" in Path("task.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["task", "draft", "absent.csv", "-o", "x.yaml"], "P2P-TRAIN-001"),
        (["task", "draft", "records.csv"], "P2P-USE-001"),
        (["task", "draft", "records.csv", "-o", "x.yaml", "--label", "outcome"], "P2P-TRAIN-007"),
        (["task", "draft", "headless.csv", "-o", "x.yaml"], "P2P-TRAIN-018"),
        (["task", "draft", "records.csv", "-o", "x.yaml", "--label", "age", "--event", "died"], "P2P-TRAIN-007"),
        (["task", "draft", "records.csv", "-o", "x.yaml", "--event", "ill", "--kind", "class"], "P2P-USE-001"),
        (["task", "draft", "records.csv", "-o", "x.yaml", "--event", "ill", "--label", "ill"], "P2P-USE-001"),
        (["task", "draft", "records.csv", "-o", "x.yaml", "--kind", "cox"], "P2P-USE-001"),
        (["task", "daft"], "P2P-USE-002"),
    ],
)
def test_what_cannot_be_drafted_is_said(
    here: Path, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("headless.csv").write_bytes(RAW.partition(b"\n")[2])
    assert run(arguments) == 2
    assert f"error {code}: " in capsys.readouterr().err
    assert not Path("x.yaml").exists()


def test_every_key_that_a_draft_prints_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["task", "draft", "records.csv", "-o", "task.yaml", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(keys(facts)) == documented(row("Others", "task draft").partition(" | ")[2])


def test_what_a_model_of_classes_predicts_is_a_csv_whatever_its_levels_are_called(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2pfl.training.model import checkpoint
    from p2pfl.training.models import build
    from p2pfl.training.tasks.table import TableTask
    from tests.training.tables import described

    rows, label = (
        "age: {number: years, low: 0, high: 9999, centre: 55, scale: 10}",
        'ill: {class: ["no", "yes, \\"late\\""]}',
    )
    text = f"columns:\n  {rows}\nlabel:\n  {label}\nmodel: linear\nlearning_rate: 0.01\nexpected_batch: 2.0\n"
    Path("task.yaml").write_text(text)
    assert run(CREATE) == 0
    layout = build(TableTask(described(rows, label=label))).layout
    Path("model").write_bytes(checkpoint.to_bytes(np.zeros(layout.parameters, np.float32), layout))
    capsys.readouterr()
    assert run(["predict", "--data", "records.csv", "--model", "model", "--csv", "said.csv"]) == 0
    told = list(csv.reader(Path("said.csv").read_text().splitlines()))
    assert told == [["record", "no", 'yes, "late"'], ["1", "0.5000", "0.5000"], ["2", "0.5000", "0.5000"]]


def test_a_draft_has_what_is_to_be_asked_and_not_learned_apart(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["task", "draft", "records.csv", "-o", "task.yaml", "--label", "ill", "--asked", "age"]) == 0
    learned, _, asked = Path("task.yaml").read_text().partition("asked:")
    assert "  age: {number: TODO, low: TODO, high: TODO}\n" in asked and "\n  age:" not in learned
    for name, code in (("ill", "P2P-USE-001"), ("months", "P2P-TRAIN-005")):
        capsys.readouterr()
        assert run(["task", "draft", "records.csv", "-o", "other.yaml", "--label", "ill", "--asked", name]) == 2
        assert code in capsys.readouterr().err and not Path("other.yaml").exists()


DESCRIBED = """label:
  ill: {binary: ["no", "yes"], positive: ["yes"]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
columns:
  age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
  sex: {code: [w, m]}
"""


def test_who_got_the_peers_file_tries_its_task_on_own_records(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is only asked is read too: a level that is not known there is told before anybody asks."""
    Path("task.yaml").write_text(f"{DESCRIBED}asked:\n  ward: {{code: [north, south]}}\n")
    rows = [f"{30 + number % 50};{'wm'[number % 2]};{('no', 'yes')[number % 3 > 0]};north" for number in range(80)]
    Path("records.csv").write_text("\n".join(["age;sex;ill;ward", *rows, ""]))
    assert run(CREATE) == 0
    assert run(["peers", "show", "peers.yaml"]) == 0
    assert "of ill (yes or no); asked, not learned: ward; " in capsys.readouterr().out
    facts = []
    for given in ([], ["task.yaml", "--peers", "peers.yaml"]):
        capsys.readouterr()
        assert run(["task", "check", *given, "--data", "records.csv", "--json"]) == 0
        facts.append(json.loads(capsys.readouterr().out))
    assert [one["parameters"] for one in facts] == [3, 3]
    assert facts[0]["records"] == facts[1]["records"] == 80
    assert facts[0]["asked"] == facts[1]["asked"] == ["ward"]
    Path("records.csv").write_text(Path("records.csv").read_text().replace("north", "east", 1))
    assert run(["task", "check", "--data", "records.csv"]) == 2
    assert "column ward: this code is not known" in capsys.readouterr().err


@pytest.mark.parametrize(("absent", "told"), [("", ["ward: no record here has a value"]), ("absent: [ward]", [])])
def test_a_column_in_which_nothing_was_exported_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], absent: str, told: list[str]
) -> None:
    """Whoever wrote that the hospital lacks it knows that."""
    Path("task.yaml").write_text(f"{DESCRIBED}asked:\n  ward: {{code: [north, south]}}\n")
    rows = [f"{30 + number % 50};{'wm'[number % 2]};{('no', 'yes')[number % 3 > 0]};" for number in range(80)]
    Path("records.csv").write_text("\n".join(["age;sex;ill;ward", *rows, ""]))
    Path("records.columns.yaml").write_text(absent or "absent: []")
    capsys.readouterr()
    assert run(["task", "check", "task.yaml", "--data", "records.csv", "--json"]) == 0
    notices = json.loads(capsys.readouterr().out)["notices"]
    assert [one for one in notices if "no record" in one] == told


def test_a_task_is_tried_with_noise_of_which_each_site_adds_a_part(here: Path) -> None:
    """Its charge was for another pass than the trial's: a bug of p2pfl, it said."""
    Path("task.yaml").write_text(DESCRIBED)
    rows = [f"{30 + number % 50};{'wm'[number % 2]};{('no', 'yes')[number % 3 > 0]}" for number in range(80)]
    Path("records.csv").write_text("\n".join(["age;sex;ill", *rows, ""]))
    parts = ("privacy.noise=distributed", "privacy.steps_per_round=1", "local.optimiser=sgd", "local.learning_rate=0.5")
    assert run([*CREATE, *(word for one in parts for word in ("--set", one))]) == 0
    assert run(["task", "check", "--data", "records.csv"]) == 0


def test_a_leaders_positions_that_do_not_fit_are_refused_with_the_peers_file(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused at each site, when it began. Of a file that is there already `task check` says so."""
    Path("task.yaml").write_text(DESCRIBED)
    Path("records.csv").write_text("\n".join(["age;sex;ill", *(f"{30 + at};w;no" for at in range(40)), ""]))
    leader = [*CREATE, "--set", "compression.method=leader"]
    with monkeypatch.context() as cramped:
        cramped.setattr(sizes, "most_support", lambda n: 4)
        assert run(leader) == 2
        assert "P2P-ROUND-043" in capsys.readouterr().err and not Path("peers.yaml").exists()
    assert run(leader) == 0
    monkeypatch.setattr(sizes, "most_support", lambda n: 4)
    assert run(["task", "check", "--data", "records.csv"]) == 2
    assert "P2P-ROUND-043" in capsys.readouterr().err


def test_records_that_can_be_read_once_are_left_to_the_task(here: Path) -> None:
    given = check.GivenTask("task.yaml", "", f"{DESCRIBED}asked:\n  ward: {{code: [north, south]}}\n".encode())
    assert check._asked(given, None, Path("/dev/null"), None) == []
    with pytest.raises(MissingColumn, match="ward"):
        check._asked(given, None, Path("records.csv"), None)


@pytest.mark.parametrize("agreed", [True, False])
def test_a_batch_that_does_not_fit_is_told_with_the_rate_that_it_was_taken_at(agreed: bool) -> None:
    facts = {"expected_batch": 32.0, "batch_here": 4.0, "unit": "record", "sample_rate": 0.02}
    (told,) = check._batch(facts, agreed=agreed)
    assert "privacy.sample_rate 0.02" in told
    assert ("the default" in told) is not agreed
    assert not check._batch(facts | {"batch_here": 30.0}, agreed=agreed)


def test_a_task_that_the_peers_file_only_names_has_to_be_given(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*CREATE[:-1], "python:ill"]) == 0
    assert run(["task", "check", "--data", "records.csv"]) == 2
    assert "P2P-TRAIN-090" in capsys.readouterr().err

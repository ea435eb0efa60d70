"""Verbs on a model's file alone, as at a hospital that took no part: no home, no peers.yaml, no code."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.cli import options
from p2pfl.cli.main import run
from p2pfl.cli.model.describe import page
from p2pfl.cli.model.export import _write
from p2pfl.cli.options import Unlock
from p2pfl.cli.predict import _read
from p2pfl.errors.people import NotWritten
from p2pfl.errors.personal import NoOwnLayers
from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.federation.table_schema import TableSchema
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.home import Home, notes
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import digest
from p2pfl.training.model import checkpoint
from p2pfl.training.model.card import ModelCard
from p2pfl.training.model.file import model_file
from p2pfl.training.model.personal import PersonalState
from p2pfl.training.model.state import name_of
from p2pfl.training.update import TensorLayout
from tests.federation.sample import LABELLED, TABLE
from tests.test_json_keys import documented, keys, row
from tests.training.cards import HEX, card_facts, layout_of, made

NEW = "patient,age,sex\nanna,62,female\nbo,,male\n=cmd,40,female\n"
EVIL = TABLE.replace(b"[female, male]", b'[female, male, "=HYPERLINK(0)"]').replace(
    b'ill: {binary: ["no", "yes"], positive: ["yes"]}', b'ill: {class: ["=1+1", "no"]}'
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("P2PFL_HOME", raising=False)
    Path("model.safetensors").write_bytes(
        made(TableSchema.parse(TABLE, "task.yaml"), threshold="0.5", licence="CC-BY-4.0")
    )
    Path("new.csv").write_text(NEW)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def page_with(**private: Any) -> str:
    """A card's page, which says `private` of its privacy."""
    schema = TableSchema.parse(TABLE, "task.yaml")
    layout = layout_of(schema)
    facts = card_facts(TaskChoice(table=schema), layout, np.zeros(layout.parameters, np.float32))
    facts["privacy"] |= private
    return page(ModelCard.of(facts))


PREDICT = ["predict", "--model", "model.safetensors", "--data", "new.csv"]


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_a_card_tells_of_what_is_protected_by_the_unit_that_was_agreed(unit: str) -> None:
    """Where patients were, it said that one with several records was protected less."""
    text = page_with(unit=unit)
    assert ("a patient with several records" in text) is (unit == "record")
    assert f"each {unit}'s gradient clipped" in text and f"{unit}s drawn with chance" in text


@pytest.mark.claim("NOISE-3")
def test_a_card_says_against_whom_noise_in_parts_holds() -> None:
    assert "holds against anybody who has this file" in page_with()
    text = page_with(parts=2, epsilon_alone="7.25")
    assert "holds against anybody outside of these sites who has this file" in text
    assert "the ε of its records is 7.25" in text


def test_a_model_of_scans_without_its_peers_file_names_the_option_that_is_lacking(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was taken for a task in Python, with an advice for those who train."""
    layout = TensorLayout((("fc.weight", (2, 4)),))
    vector, choice = np.zeros(8, np.float32), TaskChoice(python="images")
    facts = card_facts(choice, layout, vector)
    facts["task"] = {"own": "images"}
    facts["task_digest"] = digest("task", codec.facts(facts["task"])).hex()
    Path("model.safetensors").write_bytes(model_file(layout, vector, ModelCard.of(facts)))
    assert run(PREDICT) == 2
    said = capsys.readouterr().err
    assert "P2P-TRAIN-172" in said and "p2pfl predict --model model.safetensors --peers peers.yaml" in said


def test_a_hospital_that_took_no_part_predicts_from_the_file_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*PREDICT, "--id", "patient", "--csv", "said.csv"]) == 0
    out, err = capsys.readouterr()
    head, first, *_ = out.splitlines()
    assert head.split("  ") == ["patient", "ill: yes", "predicted (from 0.5)"]
    assert first.split()[0] == "anna"
    assert "trial, 2 columns, a linear model of ill (yes or no); 3 sites, ε 1.64 at δ 1e-05" in err
    written = list(csv.reader(Path("said.csv").read_text().splitlines()))
    assert written[0] == ["patient", "ill: yes", "predicted (from 0.5)"]
    assert [one[0] for one in written[1:]] == ["anna", "bo", "=cmd"], "their own words stay as they are"
    assert all(one[2] == ("yes" if float(one[1]) >= 0.5 else "no") for one in written[1:])
    assert run([*PREDICT, "--json"]) == 0
    assert [f"{value:.4f}" for value in told(capsys)["probabilities"]] == [one[1] for one in written[1:]]


def test_what_is_said_of_patients_is_this_users_alone_and_its_place_is_checked_first(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*PREDICT, "--csv", "said.csv"]) == 0
    assert Path("said.csv").stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    Path("new.csv").write_text("nothing that fits\n")
    assert run([*PREDICT, "--csv", "said.csv"]) == 2
    assert "lie there" in capsys.readouterr().err, "before the records are read"
    assert run([*PREDICT, "--csv", "new-said.csv"]) == 2
    assert not Path("new-said.csv").exists()


CARD = "m" + ".md"  # in parts: it is no document of this repository


@pytest.mark.parametrize("named", [(CARD,), ("m.bin", "--onnx", "m.bin"), ("m.bin", "--onnx", CARD)])
def test_model_card_and_onnx_are_never_one_file(
    here: Path, named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them was written, the other was not, and all was said to be well."""
    assert run(["model", "export", "-o", *named]) == 2
    assert "each is a file of its own" in capsys.readouterr().err
    assert not list(Path().glob("m.*"))


def test_an_export_that_cannot_be_written_whole_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        if path.suffix == ".md":
            raise NotWritten(evidence="No space left on device", path=path)
        path.write_bytes(data)

    monkeypatch.setattr(options, "write_over", refuse)
    with pytest.raises(NotWritten):
        _write({Path("m.safetensors"): b"model", Path(CARD): b"card"})
    assert not list(Path().glob("m.*"))


def test_a_home_predicts_with_its_own_layers_and_notes_the_model_that_all_share(tmp_path: Path) -> None:
    body, head = TensorLayout((("body", (2,)),)), TensorLayout((("head", (1,)),))
    shared, own = np.array([1.0, 2.0], np.float32), np.array([3.0], np.float32)
    with Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "key")]) as home:
        home.replace("checkpoints/model", checkpoint.to_bytes(shared, body, {}))
    where = (None, tmp_path / "home", Unlock(tmp_path / "key"), None)
    with pytest.raises(NoOwnLayers, match="head"):
        _read(*where, ("head",))
    with Home.open(tmp_path / "home", unlock=[KeyFile(tmp_path / "key")]) as home:
        home.replace(PERSONAL, b"".join(PersonalState(head, bytes(32), 1, 0 * own, own).to_file()))
    used = _read(*where, ("head",))
    assert used.layout == TensorLayout((*body.tensors, *head.tensors)) and used.vector.tolist() == [1.0, 2.0, 3.0]
    with Home.open(tmp_path / "home", unlock=[KeyFile(tmp_path / "key")], write=False) as home:
        assert [one.options["model"] for one in notes.pending(home)] == [name_of(shared, body).hex()]


def test_without_a_threshold_nobody_is_told_yes_or_no(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.safetensors").write_bytes(made(TableSchema.parse(TABLE, "task.yaml")))
    assert run(PREDICT) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split("  ") == ["record", "ill: yes"]
    assert [line.split()[0] for line in out[1:]] == ["1", "2", "3"]


@pytest.mark.claim("MODEL-2")
def test_a_level_of_a_strangers_model_is_no_formula_in_a_spreadsheet(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.safetensors").write_bytes(made(TableSchema.parse(EVIL, "task.yaml")))
    assert run([*PREDICT, "--csv", "said.csv"]) == 0
    assert run(["model", "weights", "model.safetensors", "--csv", "weights.csv"]) == 0
    texts = [Path(file).read_text() for file in ("said.csv", "weights.csv")]
    cells = [cell for text in texts for one in csv.reader(text.splitlines()) for cell in one]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]


@pytest.mark.claim("MODEL-2")
def test_a_models_file_never_chooses_code_that_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names a file that lies here, with its very digest; nobody named that file with --task."""
    code = b"import pathlib\npathlib.Path('ran').touch()\n"
    Path("evil.py").write_bytes(code)
    layout, vector = TensorLayout((("weight", (1,)),)), np.zeros(1, np.float32)
    choice = TaskChoice(file="evil.py", cls="Evil", sha256=hashlib.sha256(code).digest())
    Path("model.safetensors").write_bytes(model_file(layout, vector, ModelCard.of(card_facts(choice, layout, vector))))
    assert run(PREDICT) == 2
    assert "P2P-TRAIN-128" in capsys.readouterr().err
    assert run(["model", "show", "model.safetensors"]) == 0
    assert run(["model", "weights", "model.safetensors"]) == 2
    assert not Path("ran").exists()


def test_what_does_not_fit_is_told_by_line_and_column(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.csv").write_text("age,sex\n62,female\n40,other\n")
    assert run(PREDICT) == 2
    err = capsys.readouterr().err
    assert "P2P-TRAIN-010" in err and "line 3, column sex" in err and "other" not in err
    Path("new.csv").write_text(NEW)
    assert run([*PREDICT, "--id", "name"]) == 2
    assert "P2P-TRAIN-005" in capsys.readouterr().err


def test_a_model_without_a_card_wants_a_peers_yaml(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = TensorLayout((("weight", (1, 3)), ("bias", (1,))))
    Path("model.safetensors").write_bytes(checkpoint.to_bytes(np.zeros(4, np.float32), layout))
    assert run(PREDICT) == 2
    assert "P2P-TRAIN-122" in capsys.readouterr().err
    assert run(["model", "show", "model.safetensors"]) == 0
    assert "it does not say what it is of" in capsys.readouterr().out


@pytest.mark.parametrize("raw", [TABLE, *LABELLED], ids=["binary", "class", "number", "time"])
def test_the_card_says_what_goes_in_and_what_comes_out(
    here: Path, capsys: pytest.CaptureFixture[str], raw: bytes
) -> None:
    schema = TableSchema.parse(raw, "task.yaml")
    Path("model.safetensors").write_bytes(made(schema))
    assert run(["model", "show", "model.safetensors"]) == 0
    page = capsys.readouterr().out
    for line in (
        "| 1 | age | number, years | 0 to 120 | 50 | 30 | adds nothing |",
        "| 2 | sex | a code | female, male |  |  | adds nothing |",
        "| AUC | 0.871 |",
        "| st-olav | 2 of 3 |",
        "Mitchell et al. 2019",
        "ε = 1.64 at δ = 1e-05, for one record",
        f"have the root `{HEX}`",
    ):
        assert line in page, page
    assert all(name in page for name in ("ill", "grade", "HbA1c", "died") if name in raw.decode())


def test_a_page_holds_no_markup_of_a_strangers_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = TableSchema.parse(TABLE.replace(b"[female, male]", b'["<b>", "[a](http://x)", "a|b"]'), "task.yaml")
    Path("model.safetensors").write_bytes(made(schema))
    assert run(["model", "show", "model.safetensors"]) == 0
    assert r"\<b\>, \[a\]\(http://x\), a\|b" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["show", "weights"])
def test_every_key_of_a_verb_on_a_models_file_is_listed(
    here: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert run(["model", verb, "model.safetensors", "--json"]) == 0
    facts = told(capsys)
    facts.pop("card", None)
    assert {*keys(facts), *(["card"] if verb == "show" else [])} == documented(
        row("Others", f"model {verb}").partition(" | ")[2]
    )


def test_every_key_that_predict_prints_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But for `masks`, which is of volumes (test_scans.py)."""
    assert run([*PREDICT, "--id", "patient", "--csv", "said.csv", "--json"]) == 0
    assert {*keys(told(capsys)), "masks"} == documented(row("Others", "predict").partition(" | ")[2])

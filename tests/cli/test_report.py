"""`p2pfl report`: verified first, written once, the same facts as JSON, and a missing extra told by its name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.main import run
from p2pfl.cli.report import task_line
from p2pfl.federation import Federation, draft
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from tests.federation.sample import CARDS
from tests.federation.test_scan_schema import IMAGES
from tests.report.sample import Sample
from tests.test_json_keys import documented, section

BY_NAME = {"epsilon", "figures", "epochs", "kinds", "witnesses", "agreed", "evidence", "card"}  # keys are names


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from keys(one)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            for one in inner.values() if key == "figures" else (inner,) if key not in BY_NAME else ():
                yield from keys(one)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Sample(questions=("mean age",)).write_into(tmp_path).close()
    return tmp_path / "charite"


def report(place: Path, *more: str) -> int:
    return run(["report", "--home", str(place), "--key-file", str(place.parent / "charite.key"), *more])


def spoil(place: Path) -> None:
    segment = sorted((place / "ledger/federation").glob("*.segment"))[-1]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(bytes(data))


def test_the_page_is_written_and_never_over_another(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [report]")
    assert report(place) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "charite: ledger verified"
    assert said[-1].startswith("report.html: ")
    page = Path("report.html").read_text()
    assert "The ledger verifies." in page
    assert "mean age" in page
    assert report(place) == 2
    assert "P2P-FED-" in capsys.readouterr().err
    assert Path("report.html").read_text() == page


@pytest.mark.claim("REPORT-2")
def test_a_ledger_that_does_not_verify_is_said_first_and_ends_with_5(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [report]")
    spoil(place)
    assert report(place) == 5
    assert capsys.readouterr().out.splitlines()[0].startswith("charite: THE LEDGER DOES NOT VERIFY, ")
    page = Path("report.html").read_text()
    assert "<title>NOT VERIFIED: " in page
    body = page.partition("<body>")[2].lstrip()
    assert body.startswith('<div class="verdict bad" role="alert">')
    assert "nobody should sign this page" in page
    assert "The ledger verifies" not in page
    assert report(place, "--json") == 5
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert next(iter(facts.items())) == ("verified", False)
    assert facts["findings"]


def test_every_key_of_its_json_is_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(place, "--json", "--audit") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["path"] is None
    listed = documented(section("`p2pfl report --json`"))
    assert set(keys(facts)) <= listed
    unseen = {
        "round",
        "sent",
        "payload",
        "least",
        "looks",  # of a study with noise on its figures
        "taken_up",  # of a round that a process before had begun
        "epsilon_alone",
        "model",
        "roc",
        "calibration",
        "log",
        "entry",
        "segment",
        "what",
        "fault",
    }
    assert listed - set(keys(facts)) <= unseen
    assert facts["dense_bytes_per_round"] == round(2 * 2 / 3 * 4 * 5000)
    assert [one["name"] for one in facts["rounds"] if one["purpose"] == "sum"] == ["mean age"]


def test_json_needs_no_extra_and_the_page_names_the_one_that_it_needs(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.startswith(("p2pfl.report.page", "p2pfl.report.drawings"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report(place, "--json") == 0
    assert report(place, "-o", "other.html") == 1
    said = capsys.readouterr().err
    assert "P2P-REPORT-001" in said
    assert "pip install '.[report]'" in said
    assert not Path("other.html").exists()


def test_what_lies_beside_the_ledger_and_is_damaged_costs_no_report(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heads of others, traffic, curves, peers.yaml, the model: each is torn, as a power cut may leave it."""
    for item in ("state/heads", "state/traffic", "state/curves", "state/federation", "checkpoints/model"):
        (place / item).write_bytes(b"torn")
    assert report(place, "--json") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts["verified"], facts["witnesses"], facts["sent"], facts["curves"]) == (True, {}, [], None)
    assert facts["card"] is None


def test_it_reads_beside_a_process_that_works_in_the_home(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file() and file.name != "lock"}
    with Home.open(place, unlock=[KeyFile(place.parent / "charite.key")]):
        assert report(place, "--json") == 0
    assert {file: file.read_bytes() for file in before} == before


def test_a_home_that_never_began_a_study_has_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [report]")
    monkeypatch.chdir(tmp_path)
    Home.create(tmp_path / "charite", "charite", [KeyFile(tmp_path / "charite.key")]).close()
    assert report(tmp_path / "charite", "-o", "empty.html") == 0
    assert "no study has begun" in capsys.readouterr().out
    assert "No study has begun" in Path("empty.html").read_text()


def test_a_study_of_scans_says_what_of() -> None:
    """An ethics board reads more than `images`."""
    members, lines = [card.member for card in CARDS], draft.description_lines(IMAGES.encode(), "t")
    told = task_line(Federation.parse(draft.peers_file("trial", members, lines)))
    assert told.startswith("images of 224×224, a resnet50 of normal, pneumonia")

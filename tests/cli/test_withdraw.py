"""p2pfl withdraw: what a person types, what is said of what stays, and that a task's process names the records."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.main import run
from p2pfl.cli.withdraw import MOST_STDIN
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.node.runs.accounts import StudyAccounts
from p2pfl.node.withdrawals import read_withdrawn
from p2pfl.training.privacy.accounts import marks_of
from p2pfl.training.records.column_map import MapFile
from p2pfl.training.records.records import Records
from p2pfl.training.records.withdrawn import patient_name
from p2pfl.training.registry import described_task
from tests.cli.sites import Sites
from tests.federation.sample import TABLE

TABLE_OF_PATIENTS = TABLE + b"patient: who\n"
ROWS = b"61,male,no,ada\n,female,no,bob\n48,female,yes,\n"


def opened(sites: Sites) -> Home:
    return Home.open(sites.folder / "a" / "home", unlock=[KeyFile(sites.folder / "a" / "site.key")], write=False)


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    (tmp_path / "task.yaml").write_bytes(TABLE_OF_PATIENTS)
    files = dict.fromkeys(("a", "b", "c"), b"age,sex,ill,who\n" + ROWS)
    return Sites(tmp_path, files=files, task=str(tmp_path / "task.yaml"))


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["withdraw", *arguments, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_patients_are_named_in_a_file_or_on_stdin_and_never_in_an_argument(
    sites: Sites, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ["--home", str(sites.folder / "a" / "home")]
    names = sites.folder / "names.txt"
    names.write_bytes(b"\xef\xbb\xbfada\r\n\r\n  bob \n")
    assert told(capsys, "--patients", str(names), *home) == {"given": 2, "new": 2, "used": 0}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"bob\ncy\n")))
    assert run(["withdraw", "--patients", "-", *home]) == 0
    said = capsys.readouterr()
    assert "2 names given, 1 of them new" in said.out and "none of them is known here" in said.out
    assert "nobody can take a record out of a model" in said.out
    assert not any(who in said.out + said.err for who in ("ada", "bob", "cy\n"))
    with opened(sites) as mine:
        assert read_withdrawn(mine).among([patient_name(b"ada"), patient_name(b"eve")]).tolist() == [True, False]
    names.write_bytes(b"\n")
    assert told(capsys, "--patients", str(names), *home, status=2)["error"]["code"] == "P2P-USE-015"
    for wrong in ([], ["--data", "x.csv"], ["--patients", str(names), "--data", "x.csv", "--peers", str(sites.peers)]):
        assert told(capsys, *wrong, *home, status=2)["error"]["code"] == "P2P-USE-001"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le"])
def test_names_in_another_encoding_than_the_records_are_refused(
    sites: Sites, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    """They were taken for other names: nobody was left out, and the marks could not be taken back."""
    names = sites.folder / "names.txt"
    names.write_bytes("Müller\nada\n".encode(encoding))
    home = ["--home", str(sites.folder / "a" / "home")]
    assert told(capsys, "--patients", str(names), *home, status=2)["error"]["code"] == "P2P-TRAIN-003"
    with opened(sites) as mine:
        assert not read_withdrawn(mine).marks.size


def test_names_that_are_known_to_nobody_are_counted_where_others_are_known(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(sites) as mine:
        marks, privacy = marks_of(mine.records_key(), [patient_name(b"ada")]), Federation.load(sites.peers).privacy
        StudyAccounts(mine, bytes(32), "trial", privacy, marks).admit()
    names = sites.folder / "names.txt"
    names.write_bytes("ada\n\u00a0cy\u00a0\nbbo\n".encode())
    assert run(["withdraw", "--patients", str(names), "--home", str(sites.folder / "a" / "home")]) == 0
    assert "2 of 3 are not known to this home's accounts" in capsys.readouterr().out
    with opened(sites) as mine:
        assert read_withdrawn(mine).among([patient_name(b"cy")]).all()


def test_names_that_do_not_fit_into_what_is_read_of_stdin_are_refused_and_not_cut(
    sites: Sites, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = b"ada\n" * (MOST_STDIN // 4) + b"bob\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(many)))
    home = str(sites.folder / "a" / "home")
    assert told(capsys, "--patients", "-", "--home", home, status=2)["error"]["code"] == "P2P-USE-015"
    with opened(sites) as mine:
        assert not read_withdrawn(mine).marks.size


def test_records_are_given_as_a_file_of_them_and_their_patients_go_with_them(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = sites.folder / "gone.csv"
    gone.write_bytes(b"PatNr,age,sex,ill\nada,61,male,no\n,48,female,yes\n")
    gone.with_suffix(".columns.yaml").write_bytes(mapped := b"columns: {PatNr: who}\n")
    found = told(capsys, "--data", str(gone), *sites.common("a"))
    assert found == {"given": 6, "new": 6, "used": 0}, (
        "of two records: how trainings and questions name it, and whose it is"
    )
    task = described_task(Federation.load(sites.peers).task.table)
    records = Records(task.dataset(str(gone), MapFile.of(mapped, "map")))
    with opened(sites) as mine:
        assert read_withdrawn(mine).among(records.names(), 2).tolist() == [True, True]
        others = Records(task.dataset(str(sites.folder / "a" / "records.csv")))
        assert read_withdrawn(mine).among(others.names(), 2).tolist() == [True, False, True]

"""`p2pfl simulate`: sites that are files, one file that is dealt, a budget, and what a person is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from p2pfl.cli.main import run
from p2pfl.simulate import traffic
from p2pfl.simulate.deal import deal
from p2pfl.training.given import records_of
from p2pfl.training.records.records import Records
from tests.federation.sample import TABLE, peers_yaml
from tests.test_json_keys import documented, keys, row
from tests.training.settings import Small, arrays

QUICK = ["--set", "privacy.steps_per_round=4", "--set", "privacy.sample_rate=0.1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task and the files of three sites, in the folder in which the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.yaml").write_bytes(TABLE.replace(b"learning_rate: 0.01", b"learning_rate: 0.3"))
    for place, name in enumerate(("ada", "ben", "cyd")):
        ages = np.random.default_rng(place).integers(20, 90, 60)
        rows = [
            f"{age}.{row:02},{'male' if age % 2 else 'female'},{'yes' if age > 55 else 'no'}"
            for row, age in enumerate(ages)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["age,sex,ill", *rows]) + "\n")
    return tmp_path


def test_three_files_are_three_sites_and_all_of_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "north=ada.csv", "--data", "ben.csv", "--data", "cyd.csv"]
    line = ["simulate", "--task", "task.yaml", *data, "--rounds", "2", "--seeds", "2", "--epsilon", "0.3", *QUICK]
    assert run([*line, "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out.splitlines()[-1])
    names = facts.pop("records_per_site")
    assert names == {"north": 60, "ben": 60, "cyd": 60}
    assert {*keys(facts), "records_per_site"} == documented(row("Others", "simulate").partition(" | ")[2])
    assert (facts["rounds"], facts["seeds"], len(facts["by_round"])) == (2, 2, 3)
    assert 0.29 < facts["epsilon"] <= 0.3 and facts["noise_multiplier"] > 1.1
    assert facts["mean"] > facts["by_round"][0] == 0.5 and facts["sd_by_round"][0] == 0.0
    assert [text for text in err.splitlines() if "round 2" in text] == [
        one for one in err.splitlines() if one.startswith(("seed 1 of 2  round 2  auc", "seed 2 of 2  round 2  auc"))
    ]
    assert run(line) == 0
    shown = capsys.readouterr().out
    assert f"    2  {facts['mean']:.3f} ± {facts['sd']:.3f}" in shown.splitlines()
    assert f"ε {facts['epsilon']:.2f} at δ = 1e-05" in shown


@pytest.mark.claim("PLAIN-1")
def test_without_privacy_it_says_so_and_no_budget_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "ada.csv", "--data", "ben.csv", "--data", "cyd.csv"]
    line = ["simulate", "--task", "task.yaml", *data, "--rounds", "1", "--set", "privacy=none"]
    assert run([*line, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts["epsilon"], facts["max_grad_norm"], facts["noise_multiplier"]) == (None, None, 0.0)
    assert facts["mean"] > 0.9
    assert run(line) == 0
    assert "NONE: trained without differential privacy" in capsys.readouterr().out
    assert run([*line, "--epsilon", "1"]) == 2
    assert "P2P-TRAIN-052" in capsys.readouterr().err


def test_settings_and_task_may_come_from_a_peers_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("rounds=1", "privacy.steps_per_round=2", "privacy.noise_multiplier=4.0", "sharing.clip=7")
    (folder / "peers.yaml").write_bytes(peers_yaml(*few))
    line = ["simulate", "--peers", "peers.yaml", "--data", "ada.csv", "--split", "3", "--json"]
    assert run(line) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts["rounds"], facts["noise_multiplier"], facts["clip"]) == (1, 4.0, 7.0)
    assert facts["records_per_site"] == {"site-1": 20, "site-2": 20, "site-3": 20}


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--data", "ada.csv", "--data", "ben.csv"], "P2P-TRAIN-052", "2 sites"),
        (["--data", "ada.csv", "--data", "ada.csv"], "P2P-USE-001", "two sites are called ada"),
        (["--data", "ada.csv", "--data", "ben.csv", "--split", "3"], "P2P-USE-001", "2 are given"),
        (["--data", "ada.csv", "--split", "3", "--device", "cuda:77"], "P2P-TRAIN-027", "there is cpu"),
        (["--data", "ada.csv", "--split", "4"], "P2P-TRAIN-052", "60 records for 4 sites"),
        (["--data", "none.csv", "--split", "3"], "P2P-TRAIN-001", "No such file"),
        (["--data", "ada.csv", "--split", "3", "--set", "rounds=0"], "P2P-FED-", "rounds"),
    ],
    ids=["two sites", "one twice", "two are dealt", "too few", "no device", "no file", "no rounds"],
)
def test_wrong_use_is_told(more: list[str], code: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--task", "task.yaml", *more]) == 2
    shown = capsys.readouterr().err
    assert code in shown and told in shown


@pytest.fixture
def quick_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forecast of small real rounds."""
    monkeypatch.setattr(traffic, "FITTED_AT", (3, 4, 5, 6))
    monkeypatch.setattr(traffic, "CHECKED_AT", 7)


@pytest.mark.usefixtures("quick_fit")
def test_a_forecast_is_a_table_a_picture_and_keys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "simulate",
        "--sites",
        "3,5,1000",
        "--density",
        "1,0.01",
        "--noise",
        "1,2",
        "--rounds",
        "8,40",
        "--real",
        "3",
    ]
    assert run([*line, "--parameters", "10000", "--plot", "sizes.svg", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out.splitlines()[-1])
    assert {*keys(facts)} == documented(row("Others", "simulate --sites").partition(" | ")[2])
    assert [(one["sites"], one["density"]) for one in facts["sizes"]][:3] == [(3, 1.0), (3, 0.01), (5, 1.0)]
    assert [one["how"] for one in facts["sizes"]][::2] == ["real", "fitted", "fitted, beyond p2pfl's 200 sites"]
    assert abs(facts["off"]["letters"]) < 0.01 and abs(facts["off"]["beyond_words"]) < 0.01
    assert [(one["noise_multiplier"], one["rounds"]) for one in facts["spent"]] == [
        (1.0, 8),
        (1.0, 40),
        (2.0, 8),
        (2.0, 40),
    ]
    assert "real rounds of 7 sites" in err
    assert b"1000 sites at density 0.01" in (folder / "sizes.svg").read_bytes()
    assert run(line) == 0
    shown = capsys.readouterr().out
    assert "Not in it: TLS, disks, the pass over the records, counts for the metric, positions" in shown
    assert "667 of 1000" in shown and "The fit is off in a real round of 7 sites" in shown
    assert "1000 sites: up to 665 that collude learn the sum over the others" in shown


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        ([], "P2P-USE-001", "either --data, to train, or --sites, to forecast"),
        (["--sites", "5", "--data", "ada.csv"], "P2P-USE-001", "one of them"),
        (["--data", "ada.csv", "--split", "3", "--away", "0.1"], "P2P-USE-001", "--away is of a forecast"),
        (["--data", "ada.csv", "--split", "3", "--rounds", "1,2"], "P2P-USE-001", "--rounds of a training is one"),
        (["--sites", "5", "--epsilon", "1"], "P2P-USE-001", "are of a training"),
        (["--sites", "2"], "P2P-TRAIN-163", "sites 2"),
        (["--sites", "5,1001"], "P2P-TRAIN-163", "sites 1001"),
        (["--sites", "five"], "P2P-USE-001", "'five' is no list of numbers"),
        (["--sites", "5", "--density", "0.1,nan"], "P2P-USE-001", "what is no number"),
        (["--sites", "5", "--away", "2"], "P2P-TRAIN-163", "away 2"),
        (["--sites", "5", "--set", "sharing.field=17"], "P2P-FED-", "field"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_what_is_no_forecast_is_told(
    given: list[str], code: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *given]) == 2
    shown = capsys.readouterr().err
    assert code in shown and told in shown


def test_peers_and_set_contradict_and_a_pinned_file_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "peers.yaml").write_bytes(peers_yaml())
    line = ["simulate", "--peers", "peers.yaml", "--data", "ada.csv", "--split", "3"]
    assert run([*line, "--set", "rounds=2"]) == 2
    assert "--peers holds every setting" in capsys.readouterr().err
    table = peers_yaml().decode()
    begin, end = table.index("  table:"), table.index("\nrounds")
    pinned = f'  file: own.py\n  class: Own\n  sha256: "{"0" * 64}"\n'
    (folder / "peers.yaml").write_text(table[:begin] + pinned + table[end:])
    assert run(line) == 2
    assert "name your copy: --task own.py:Own" in capsys.readouterr().err


def test_one_file_is_dealt_by_patient_and_alike_each_time() -> None:
    class Patients:
        def __len__(self) -> int:
            return 120

        def __getitem__(self, row: int) -> tuple[float, int]:
            return float(row), row % 2

        def patient(self, row: int) -> bytes:
            return bytes([row // 3])

    records = records_of(Small(), Patients())
    dealt, again = deal(records, 4), deal(Records(Patients()), 4)
    held = [{one.patient(row) for row in range(len(one))} for one in dealt.values()]
    assert [len(one) for one in dealt.values()] == [30] * 4
    assert set.union(*held) == {bytes([place]) for place in range(40)} and sum(map(len, held)) == 40
    assert [one.digest() for one in dealt.values()] == [one.digest() for one in again.values()]
    assert [*deal(Records(arrays(60, (4,))), 3)] == ["site-1", "site-2", "site-3"]

"""`p2pfl privacy plan`: what it prints can be agreed on as it stands, and spends no more than was asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.main import run
from p2pfl.simulate import planning
from p2pfl.simulate.training import federation_of
from p2pfl.training.privacy.account import Account, Mechanism

TEMPLATE = Path(__file__).parents[2] / "p2pfl/training/tasks/template.py"
PLAN = ["privacy", "plan", "--epsilon", "3", "--records", "60", "--rounds", "4", "--steps", "20"]


def planned(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert run([*PLAN, *more, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_its_settings_are_those_of_a_peers_yaml_that_stays_within_the_budget(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = planned(capsys)
    federation = federation_of(("a", "b", "c"), found["settings"])
    private = federation.privacy
    steps = private.steps_per_round * federation.rounds
    spent = Account([Mechanism(private.noise_multiplier, private.sample_rate, steps)]).epsilon(private.delta)
    assert (federation.rounds, private.steps_per_round, private.max_epsilon) == (4, 20, 3.0)
    assert 2.8 < spent <= private.max_epsilon


def test_its_text_says_which_batch_is_worth_it_and_what_to_agree_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(PLAN) == 0
    told = capsys.readouterr().out
    assert "4 rounds of 20 steps within ε 3 at δ 1e-05: no conclusion about one patient" in told
    marked = next(line for line in told.splitlines() if line.startswith("►"))
    assert f"expected_batch: {marked.split()[1]}" in told
    assert f"at its learning rate × E / {marked.split()[1]}: steps are as long." in told
    assert "--set privacy.max_epsilon=3" in told


def test_a_budget_that_drowns_the_records_is_called_so_and_another_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """The table alone looks like a plan; who reads it has seen no other."""
    drowned = ["privacy", "plan", "--epsilon", "0.05", "--records", "20", "--rounds", "4", "--steps", "20"]
    assert run(drowned) == 0
    assert "such a model learns nothing" in capsys.readouterr().out
    assert run(PLAN) == 0
    assert "learns nothing" not in capsys.readouterr().out


def test_of_noise_in_parts_it_says_both_epsilons_and_its_settings_can_be_agreed_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = ["privacy", "plan", "--epsilon", "1", "--records", "20", "--rounds", "10", "--noise", "distributed"]
    assert run([*parts, "--colluders", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    federation = federation_of([f"s{place}" for place in range(5)], [*found["settings"], "local.learning_rate=0.1"])
    private, best = federation.privacy, found["best"]
    mechanism = Mechanism.of_pass(private)
    assert (private.parts, private.steps_per_round, mechanism.parts) == (3, 1, best["parts"])
    whole = Mechanism(mechanism.noise_multiplier, mechanism.sample_rate, 10, 3)
    assert Account([whole]).epsilon(private.delta) == best["epsilon"] <= private.max_epsilon == 1.0
    assert Account([whole.alone]).epsilon(private.delta) == best["alone"] > 1.0
    assert run(parts) == 0
    told = capsys.readouterr().out
    assert "10 rounds of 1 step within ε 1" in told
    marked = next(line for line in told.splitlines() if line.startswith("►")).split()
    assert (
        f"ε {marked[4]} against outsiders and q − 2 colluding sites, whom the noise of 2 sites holds; {marked[5]} "
        "against all other sites together" in told
    )
    both = f"{marked[4]} against outsiders and q − 2 colluding sites, {marked[5]} against all other sites together"
    assert re.search(f"ε of a record +{both}", told)
    assert "--set local.learning_rate=…" in told


@pytest.mark.parametrize(
    "more",
    [["--steps", "2", "--noise", "distributed"], ["--colluders", "3", "--noise", "distributed"], ["--colluders", "1"]],
)
def test_noise_in_parts_is_not_planned_where_it_does_not_hold(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["privacy", "plan", "--epsilon", "1", "--records", "20", *more]) == 2
    assert "error P2P-TRAIN-160" in capsys.readouterr().err


def test_it_says_what_each_site_gives_and_what_it_sees(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes, steps, draws, both ε and looks: in the text as in the object for machines."""
    asked = [*PLAN, "--sites", "4", "--parameters", "1000"]
    assert run([*asked, "--json"]) == 0
    one = json.loads(capsys.readouterr().out)["each_site"]
    assert (one["round_bytes"], one["bytes"]) == (2 * 3 / 4 * 1000 * 4, 4 * 6000)
    assert (one["steps"], one["drawn"]) == (80, one["batch"] * 80)
    assert one["uses"] == pytest.approx(one["drawn"] / 60, rel=1e-4)
    assert one["epsilon"] == one["alone"] <= 3.0, "noise of each site's own holds against everybody alike"
    assert (one["quorum"], one["looks"], one["look_epsilon"]) == (3, 5, None)
    assert run(asked) == 0
    told = capsys.readouterr().out
    block = told[told.index("Each of 4 sites:") :]
    assert re.search(r"sends +6\.0 kB a round and 24\.0 kB in all, in words of 31 bits", block)
    assert re.search(r"trains +80 steps, 20 a round", block)
    assert re.search(
        rf"draws +{one['batch']} records a step and {one['drawn']:g} in all: each {one['uses']:.3g}", block
    )
    both = f"{one['epsilon']:.2f} against outsiders, {one['alone']:.2f} against all other sites together"
    assert both in block
    assert re.search(r"looks +5, by exact counts over all sites or none: no ε bounds what they tell", block)
    assert "sums over 3 sites or more, and the models; no other site's numbers" in block


def test_a_delta_that_would_let_a_record_be_published_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PLAN, "--delta", "0.02"]) == 2
    assert "0.02 is not below 1 / 60 records" in capsys.readouterr().err


def test_it_prints_the_keys_that_the_reference_lists(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/reference/json.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| `privacy plan`"))
    found = planned(capsys)
    told = {*found, *found["best"], *found["looks"][0], *found["each_site"]}
    told |= {"learning_rate", "mean", "sd", "seeds", "batch"}
    assert told == set(re.findall(r"`(\w+)`", row.split(" | ")[1]))


def test_what_it_simulates_on_must_be_there_and_be_of_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(TEMPLATE.read_text(encoding="utf-8"))
    own = f"{tmp_path / 'own.py'}:Template"
    for more, code in (
        (["--task", own], "P2P-USE-001"),
        (["--simulate", str(tmp_path / "none.csv")], "P2P-TRAIN-001"),
        (["--simulate", "made-up", "--task", own], "P2P-TRAIN-146"),
    ):
        assert run([*PLAN, *more]) == 2
        assert f"error {code}" in capsys.readouterr().err


def test_it_draws_the_budget_and_chooses_on_made_up_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [plots]")
    monkeypatch.setattr(planning, "WIDE", (0.3, 1.0))
    monkeypatch.setattr(planning, "NEAR", (1.8,))
    monkeypatch.setattr(planning, "FARTHER", 0)
    plot = tmp_path / "plan.svg"
    quick = ["--epsilon", "3", "--records", "30", "--delta", "1e-3", "--rounds", "1", "--steps", "3", "--sites", "3"]
    assert run(["privacy", "plan", *quick, "--simulate", "made-up", "--seeds", "2", "--plot", str(plot)]) == 0
    told = capsys.readouterr().out
    assert "Trained here, the last model on the held-out records of all sites:" in told
    assert "--set local.optimiser=sgd --set local.learning_rate=" in told
    assert "expected_batch" not in told, "the learning rate is beside the task's own"
    assert plot.read_bytes().lstrip().startswith(b"<?xml")

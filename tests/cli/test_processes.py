"""The verbs as people start them: real processes, real links on loopback."""

from __future__ import annotations

import hashlib
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.peers.create import task_lines
from p2pfl.federation import Federation, draft
from p2pfl.home import Home, notes
from p2pfl.ledger import auditor
from p2pfl.node.runs.metric import NOT_ALL_THERE
from p2pfl.training.privacy.account import Account, Mechanism, decimal_epsilon
from p2pfl.training.tasks.heart_records import deal
from tests.cli.sites import AT_THE_END_OF_PASS, DEADLINE_S, Sites, Start, ended, facts, said


@pytest.mark.claim("SUM-6")
def test_three_people_learn_their_average_and_nobody_writes_down_a_salary(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    salaries = ("520003142.00", "610002718.50", "710001618.00")  # of more digits than a digest has in a row by chance
    running = [
        start("sum", *sites.common(name), "--value", "-", "--json", stdin=f"{value}\n")
        for name, value in zip(sites.names, salaries, strict=True)
    ]
    results = [ended(process) for process in running]
    assert [status for status, _, _ in results] == [0, 0, 0]
    found = [facts(out) for _, out, _ in results]
    assert {one["value"] for one in found} == {"613335826.17"}
    assert all(one["survivors"] == sites.names for one in found)
    told = [text for _, out, err in results for text in (out.replace('"613335826.17"', ""), err)]
    for name in sites.names:
        home = tmp_path / name / "home"
        told += [
            ended(start("ledger", "show", "--log", log, "--home", str(home), "--json"))[1]
            for log in ("federation", "site")
        ]
        told += [file.read_bytes().decode("latin-1") for file in home.rglob("*") if file.is_file()]
    assert len(told) > 30
    for value in salaries:  # also as the hundredths that are summed, in text and as a word of the field
        whole, hundredths = value.partition(".")[0], int(value.replace(".", ""))
        for form in (whole, str(hundredths), hundredths.to_bytes(8, "little").decode("latin-1")):
            assert not any(form in text for text in told), form


@pytest.mark.claim("SUM-19")
@pytest.mark.parametrize(
    ("columns", "said", "status"),
    [
        (((61, 58, 70), (44, 39), ()), "2 sites with a value, and peers.yaml asks for at least 3", 1),
        (
            ((61, 58), (44, 39, 41), (50,)),
            "no site alone has so many records with a value, and peers.yaml asks for at",
            1,
        ),
        (((61, 58, 40, 42, 51), (44, 39), (50,)), "mean 48.12 over 3 sites, 8 values", 0),
    ],
)
def test_a_column_that_few_sites_or_records_have_is_not_opened(
    tmp_path: Path, start: Start, columns: tuple[tuple[int, ...], ...], said: str, status: int
) -> None:
    """Of two sites with values each would know the other's by subtraction; the third has none, and asks along."""
    sites = Sites(tmp_path)
    running = []
    for name, ages in zip(sites.names, columns, strict=True):
        file = tmp_path / name / "ages.csv"
        file.write_text("age,sex\n" + "".join(f"{age},1\n" for age in ages) + ",0\n")
        running.append(start("sum", *sites.common(name), "--csv", str(file), "--column", "age"))
    for process in running:
        found, out, err = ended(process)
        assert found == status, err
        assert said in out + err
        assert status == 0 or not any(str(sum(map(sum, columns))) in text for text in (out, err))


def test_sites_that_ask_different_questions_are_told_so(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    running = [
        start("sum", *sites.common(name), "--value", "1", "--stat", statistic)
        for name, statistic in zip(sites.names, ("mean", "mean", "sum"), strict=True)
    ]
    results = [ended(process) for process in running]
    assert all(status for status, _, _ in results)
    assert any("P2P-ROUND-030" in err for _, _, err in results)


@pytest.mark.claim("LEDGER-4")
def test_the_demo_ends_with_every_key_and_identical_roots(tmp_path: Path, start: Start) -> None:
    status, out, err = ended(start("demo", "--peers", "3", "--rounds", "2", "--home", "kept", "--json"))
    assert status == 0, err
    told = facts(out)
    assert (told["peers"], told["rounds_completed"]) == (3, 2)
    assert told["ledger"]["verified"] is True  # type: ignore[index]
    assert told["ledger"]["identical_roots"] is True  # type: ignore[index]
    assert told["tls"]["version"] == "TLSv1.3"  # type: ignore[index]
    assert told["dataset"]["records_per_site"] == [303, 294, 323]  # type: ignore[index]
    assert told["metric"]["final"] > told["metric"]["initial"]  # type: ignore[index]
    roots = set()
    for site in sorted((tmp_path / "kept").iterdir()):
        if site.is_dir():
            verified = ended(start("ledger", "verify", "--home", str(site / "home"), "--json"))
            assert verified[0] == 0
            roots.add(facts(verified[1])["federation"]["root"])  # type: ignore[index]
    assert roots == {told["ledger"]["root"]}  # type: ignore[index]


@pytest.mark.claim("DP-5")
def test_a_demo_of_passes_for_which_the_accountants_bound_sinks_is_verified(tmp_path: Path, start: Start) -> None:
    """PRV says less of five such passes than of four, and an honest home was not what was signed, for ever."""
    quiet = ("--set", "privacy.noise_multiplier=60", "--set", "privacy.steps_per_round=1")
    status, out, err = ended(start("demo", "--peers", "3", "--rounds", "6", *quiet, "--home", "kept", "--json"))
    assert (status, facts(out)["ledger"]["verified"]) == (0, True), err  # type: ignore[index]
    agreed = Federation.load(tmp_path / "kept" / "peers.yaml").privacy
    kinds = [replace(Mechanism.of_pass(agreed), steps=passes) for passes in range(1, 7)]
    bounds = [Account([kind]).epsilon(agreed.delta) for kind in kinds]
    assert bounds[3] > bounds[4], "it sinks here"
    for name in deal(3).files:
        common = ("--home", f"kept/{name}/home", "--log", "site", "--json")
        shown = facts(ended(start("ledger", "show", *common))[1])["records"]
        spent = [one["record"]["after"] for one in shown if one["record"]["kind"] == "charge"]  # type: ignore[attr-defined]
        assert spent == [decimal_epsilon(max(bounds[:passes])) for passes in range(1, 7)]


def test_a_demo_whose_budget_does_not_last_ends_with_4_and_what_the_peer_said(tmp_path: Path, start: Start) -> None:
    status, out, err = ended(start("demo", "--peers", "3", "--set", "privacy.max_epsilon=0.5", "--json"))
    assert status == 4, err
    assert "P2P-TRAIN-" in err
    assert facts(out)["error"]["code"] == "P2P-USE-008"  # type: ignore[index]


@pytest.mark.claim("MEMBER-3")
def test_no_site_signs_an_agreement_that_it_was_not_shown(tmp_path: Path, start: Start) -> None:
    """Its log says when it was shown."""
    document = tmp_path / "agreement.pdf"
    document.write_bytes(b"what the hospitals promise one another")
    named = hashlib.sha256(document.read_bytes()).hexdigest()
    sites = Sites(tmp_path, f"agreement.sha256={named}")

    def asks(name: str, *more: str) -> tuple[str, ...]:
        return ("sum", *sites.common(name), "--value", "1", *more)

    first = sites.names[0]
    status, _, err = ended(start(*asks(first)))
    assert (status, "P2P-FED-053" in err, named in err) == (2, True, True)
    status, _, err = ended(start(*asks(first, "--agreement", str(sites.peers))))
    assert (status, "P2P-FED-048" in err) == (2, True)
    for more in (("--agreement", str(document)), ()):  # asked for once: then the ledger holds the signatures
        for status, _, err in [ended(one) for one in [start(*asks(name, *more)) for name in sites.names]]:
            assert status == 0, err
    status, out, _ = ended(start("ledger", "show", "--log", "site", "--home", sites.common(first)[-1], "--json"))
    records = [one["record"] for one in facts(out)["records"]]  # type: ignore[attr-defined]
    options = [one["options"] for one in records if one["kind"] == "operator"]
    assert [one.get("agreement") for one in options] == [named, None]


def test_a_site_that_starts_first_says_for_whom_it_waits_and_gives_up_when_asked_to(
    tmp_path: Path, start: Start
) -> None:
    sites = Sites(tmp_path)
    status, _, err = ended(start(*sites.join(sites.names[0], "--wait", "6")))
    assert status == 1
    assert "never seen" in err
    assert "p2pfl join --peers peers.yaml" in err
    assert "P2P-ROUND-037" in err


def test_an_interrupted_site_is_waited_for_by_name_and_resumes(tmp_path: Path, start: Start) -> None:
    """It goes on when it is started again."""
    sites = Sites(tmp_path, "rounds=6")
    first = start(*sites.join(sites.names[0], "--json"), at=[*AT_THE_END_OF_PASS, 3], struck=signal.SIGINT)
    second, third = (start(*sites.join(name, "--json")) for name in sites.names[1:])
    assert ended(first)[0] == 130
    said(second, "round 2 ")  # who is waited for at the start is another matter
    said(second, f"waiting for {sites.names[0]}")
    again = start(*sites.join(sites.names[0], "--json"))
    told = []
    for process in (again, second, third):
        status, out, err = ended(process)
        assert status == 0, err
        told.append(facts(out))
    assert all(one["rounds_completed"] == 6 for one in told)
    assert len({one["ledger"]["root"] for one in told}) == 1  # type: ignore[index]
    assert len({one["epsilon"] for one in told}) == 1


def test_four_sites_go_on_without_a_killed_one_that_catches_up(tmp_path: Path, start: Start) -> None:
    """The rounds without it say who is away, and have no metric: line by line at a site, and in each ledger."""
    sites = Sites(tmp_path, "rounds=6", count=4)
    lost = start(*sites.join(sites.names[3], "--json"), at=[*AT_THE_END_OF_PASS, 2])
    said(lost, "listening")  # so that no round is without it before it dies: three of four would not wait for long
    first, *others = (start(*sites.join(name, "--json")) for name in sites.names[:3])
    assert ended(lost)[0] == -signal.SIGKILL
    for _ in range(2):
        line = said(first, "3 of 4 sites")
        assert f"no AUC: {NOT_ALL_THERE} ({sites.names[3]} away)" in line
    again = start(*sites.join(sites.names[3], "--json"))
    assert "finished while this site was away" in said(again, "taken over from")
    told = []
    for process in (again, first, *others):
        status, out, err = ended(process)
        assert status == 0, err
        told.append(facts(out))
    assert all(one["rounds_completed"] == 6 for one in told)
    assert len({one["ledger"]["root"] for one in told}) == 1  # type: ignore[index]
    for name in sites.names:
        assert ended(start("ledger", "verify", "--home", str(tmp_path / name / "home")))[0] == 0
    listed = ended(start("ledger", "show", "--home", str(tmp_path / sites.names[0] / "home"), "--json"))[1]
    check_what_was_measured(facts(listed)["records"], sites.names[3])


def check_what_was_measured(entries: Any, away: str) -> None:
    """The record of each round has a figure, or says why it has none; with a site away it names that one."""
    rounds = [one["record"] for one in entries if one["record"]["kind"] == "round"]
    for record in rounds:
        unmeasured = record["outcome"].get("unmeasured", "")
        assert (unmeasured == NOT_ALL_THERE) == bool(record["left_out"]), record
        assert bool(record["outcome"]["figures"]) == (not unmeasured), record
    assert [away] in [record["left_out"] for record in rounds]


def test_sigterm_ends_a_waiting_site_like_ctrl_c(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    running = start(*sites.join(sites.names[0]))
    said(running, "listening")
    running.terminate()
    assert ended(running)[0] == 130


def test_check_names_missing_links_with_the_cause_and_charges_nothing(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    first, second, third = sites.names
    other = tmp_path / "other.yaml"
    other.write_bytes(sites.peers_yaml("rounds=9"))
    check = start(*sites.join(first, "--check", "--wait", str(DEADLINE_S), "--json"))
    # It ends with the second that it meets.
    start("sum", "--peers", str(other), *sites.common(third)[2:], "--value", "1")
    said(check, f"no link with {third}")
    start("sum", *sites.common(second), "--value", "1")
    status, out, _ = ended(check)
    assert status == 1
    links = {link["peer"]: link for link in facts(out)["links"]}  # type: ignore[attr-defined]
    assert {name: link["up"] for name, link in links.items()} == {second: True, third: False}
    (code,) = [error["code"] for error in links[third]["errors"]]
    assert code in ("P2P-ROUND-033", "P2P-MESH-020")  # refused here, or there, whichever came first
    assert code == "P2P-ROUND-033" or "P2P-ROUND-033" in links[third]["error"]["evidence"]
    shown = ended(start("status", "--home", str(tmp_path / first / "home"), "--json"))[1]
    assert facts(shown)["privacy"] is None


@pytest.mark.claim("DP-4")
def test_the_budget_ends_a_training_with_4_and_is_recorded(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path, "privacy.max_epsilon=1.2", "rounds=3")
    results = [ended(process) for process in [start(*sites.join(name)) for name in sites.names]]
    assert [status for status, _, _ in results] == [4, 4, 4]
    log = ended(start("ledger", "show", "--log", "site", "--home", str(tmp_path / sites.names[0] / "home")))[1]
    assert "not started, epsilon would be" in log


@pytest.mark.claim("FED-2")
def test_another_peers_yaml_is_told_at_the_site_that_differs(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_bytes(sites.peers_yaml("rounds=9"))
    odd = sites.names[2]
    for name in sites.names[:2]:
        start("sum", *sites.common(name), "--value", "1")
    status, _, err = ended(start("sum", "--peers", str(other), *sites.common(odd)[2:], "--value", "1"))
    assert status == 2
    assert "P2P-ROUND-036" in err


WIDE = """
from torch import nn
from p2pfl.training.task import Task
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.table import TableTask

class Net(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.hidden, self.last = nn.Linear(inputs, 3200), nn.Linear(3200, 1)

    def forward(self, x):
        return self.last(self.hidden(x).tanh())

class Wide(TableTask):
    name = "wide"
    first = Task.first

    def __init__(self):
        super().__init__(heart())

    def model(self):
        return Net(self.inputs)
"""


@pytest.mark.claim("FED-6")
@pytest.mark.parametrize(("count", "method", "fewer"), [(5, "nominate", 20), (3, "lowrank", 14)])
def test_a_hospitals_own_task_and_csv_train_compressed_and_the_model_predicts(
    tmp_path: Path, start: Start, count: int, method: str, fewer: int
) -> None:
    sites = Sites(tmp_path, count=count)
    task = tmp_path / "wide.py"
    task.write_text(WIDE)
    lines = task_lines(f"{task}:Wide")
    settings = ("rounds=2", "sharing.field=16", f"compression.method={method}")
    sites.peers.write_bytes(draft.peers_file("trial", sites.members, lines, settings))
    own = tmp_path / sites.names[1] / "records.csv"  # one site calls two columns otherwise, and codes one
    header, *rows = own.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    coded = [",".join([age, "m" if sex == "1" else "w", *others]) for age, sex, *others in cells]
    own.write_text("\n".join([header.replace("age,sex", "Alter,Geschlecht"), *coded]) + "\n")
    own.with_suffix(".columns.yaml").write_text("columns: {Alter: age, Geschlecht: sex}\ncodes: {sex: {m: 1, w: 0}}\n")

    status, _, err = ended(start(*sites.join(sites.names[0], "--task", f"{task}:Wide")))
    assert status == 2 and "P2P-TRAIN-053" in err, "nobody has read it here"
    for name in sites.names:
        assert ended(start("task", "approve", str(task), "--home", str(tmp_path / name / "home")))[0] == 0
    results = [
        ended(process)
        for process in [start(*sites.join(name, "--task", f"{task}:Wide", "--json")) for name in sites.names]
    ]
    assert [status for status, _, _ in results] == [0] * count, results[0][2]
    told = [facts(out) for _, out, _ in results]
    assert len({one["ledger"]["root"] for one in told}) == 1  # type: ignore[index]
    assert all(one["payload_sent"] < one["dense_bytes"] / fewer for one in told)  # type: ignore[operator]

    shown = ended(start("ledger", "show", "--log", "site", "--home", str(tmp_path / sites.names[0] / "home")))[1]
    assert shown.count("operator ran task approve --sha256=") == 1
    model = tmp_path / "model.safetensors"
    assert ended(start("model", "export", *sites.common(sites.names[0]), "-o", str(model)))[0] == 0
    new = ["--peers", str(sites.peers), "--task", str(task), "--data", str(own), "--json"]
    from_file = ended(start("predict", *new, "--model", str(model)))
    from_home = ended(start("predict", *new, "--home", str(tmp_path / sites.names[2] / "home")))
    assert from_file[0] == from_home[0] == 0, from_file[2]
    assert facts(from_file[1]) == facts(from_home[1])
    assert facts(from_file[1])["records"] == len(rows)
    for name, command in ((sites.names[0], "model export"), (sites.names[2], "predict")):
        with Home.open(tmp_path / name / "home", write=False) as home:
            (noted,) = notes.pending(home)
        assert (noted.command, noted.options["model"]) == (command, facts(from_file[1])["model"])
        assert str(tmp_path) not in str(noted)
    log = tmp_path / "log.json"
    at_home = ["--home", str(tmp_path / sites.names[0] / "home")]
    assert ended(start("ledger", "export", *at_home, "-o", str(log)))[0] == 0
    card = facts(ended(start("model", "show", str(model), "--json"))[1])["card"]
    judged = auditor.checked(log.read_bytes(), card["ledger"]["genesis"])  # type: ignore[index,call-overload]
    assert judged["verified"], "the card names the first entry as whoever checks the ledger does"


@pytest.mark.claim("LEDGER-1")
def test_a_ledger_with_one_byte_changed_ends_verify_with_5_and_the_entrys_number(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    running = [start("sum", *sites.common(name), "--value", "1") for name in sites.names]
    assert [ended(process)[0] for process in running] == [0, 0, 0]
    home = tmp_path / sites.names[0] / "home"
    segment = next((home / "ledger" / "federation").glob("*.segment"))
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 3] ^= 1
    segment.write_bytes(raw)
    status, out, _ = ended(start("ledger", "verify", "--home", str(home)))
    assert status == 5
    assert "NOT WHAT WAS SIGNED" in out
    assert re.search(r"entry 0\b", out), out  # the genesis


@pytest.mark.claim("HOME-12")
def test_a_site_that_runs_goes_on_and_its_log_says_which_key_came_and_went(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path, files=dict.fromkeys(("oslo", "bergen", "tromso"), b""))
    home, at = tmp_path / "oslo" / "home", ["--home", str(tmp_path / "oslo" / "home")]
    running = start("sum", *sites.common("oslo"), "--value", "4")
    said(running, "listening")
    (slot,) = facts(ended(start("keys", "list", *at, "--json"))[1])["slots"]  # type: ignore[misc]
    status, out, err = ended(start("keys", "rotate", slot["slot"], *at, "--json"))
    assert status == 0, err
    made = facts(out)["added"]["slot"]  # type: ignore[index]
    others = [start("sum", *sites.common(name), "--value", "7") for name in ("bergen", "tromso")]
    assert [ended(one)[0] for one in (running, *others)] == [0, 0, 0]
    status, out, err = ended(start("ledger", "show", "--log", "site", *at))
    assert status == 0, err
    line = next(line for line in out.splitlines() if "keys rotate" in line)
    assert f"--slot={slot['slot']}" in line
    assert f"--now={made}" in line
    assert ended(start("ledger", "verify", *at))[0] == 0
    assert Home.open(home).name == "oslo"

"""init and peers: sites make cards and one peers file; nothing is overwritten; each mistake has its own error."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.cli import output
from p2pfl.cli.main import run
from p2pfl.cli.options import fit_name
from p2pfl.errors.round import WrongSender
from p2pfl.federation import Federation
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.keys import fingerprint
from p2pfl.training.tasks import heart as heart_task
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.heart_records import deal

SITES = ("charite", "st-olav", "uppsala")
BRAIN = """
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.table import TableTask

class Brain(TableTask):
    def __init__(self):
        super().__init__(heart())

class NoTask: ...
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a configuration folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("P2PFL_HOME", raising=False)
    return tmp_path


@pytest.fixture
def cards(here: Path) -> list[str]:
    """Three homes, and the paths of their cards."""
    for index, name in enumerate(SITES):
        assert run(["init", "--name", name, "--listen", f"127.0.0.1:{7001 + index}", "--home", f"homes/{name}"]) == 0
    return [f"homes/{name}/{name}.card" for name in SITES]


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    last = capsys.readouterr().out.splitlines()[-1]
    found = json.loads(last)
    assert isinstance(found, dict)
    return found


def test_three_cards_become_one_peers_file(here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["peers", "create", *cards, "-o", "peers.yaml", "--name", "trial", "--set", "rounds=3", "--json"]) == 0
    facts = told(capsys)
    federation = Federation.load("peers.yaml")
    assert federation.roster.names == SITES
    assert federation.rounds == 3
    assert federation.task.table == heart()
    assert facts["federation_digest"] == federation.digest.hex()
    for name in SITES:
        with Home.open(here / "homes" / name) as home:
            assert federation.roster[name].key == home.identity().key


def test_the_business_associate_agreement_is_named_by_its_digest_and_shown(
    cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    document = Path("agreement.pdf")
    assert run(["peers", "create", *cards, "-o", "peers.yaml", "--agreement", str(document)]) == 2
    assert "P2P-USE-015" in capsys.readouterr().err
    assert not Path("peers.yaml").exists()
    document.write_bytes(b"what the hospitals promise one another")
    named = hashlib.sha256(document.read_bytes()).hexdigest()
    assert run(["peers", "create", *cards, "-o", "peers.yaml", "--agreement", str(document)]) == 0
    assert Federation.load("peers.yaml").agreement == bytes.fromhex(named)
    assert "p2pfl join --peers peers.yaml --data their.csv --agreement agreement.pdf" in capsys.readouterr().out
    assert run(["peers", "show"]) == 0
    assert f"agreement    SHA-256 {named}" in capsys.readouterr().out
    assert run(["peers", "show", "--json"]) == 0
    assert told(capsys)["agreement"] == named
    assert run(["peers", "create", *cards, "-o", "none.yaml"]) == 0
    assert run(["peers", "show", "none.yaml"]) == 0
    assert "agreement    none is named" in capsys.readouterr().out


def test_init_tells_card_fingerprint_key_file_and_the_next_command(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", "--name", "charite", "--listen", "127.0.0.1:7001", "--home", "home"]) == 0
    shown = capsys.readouterr().out
    with Home.open(here / "home") as home:
        assert fingerprint(home.identity().key) in shown
    assert "home/charite.card" in shown
    assert str(here / "config" / "p2pfl" / "charite.key") in shown
    assert f"p2pfl peers create {here}/home/charite.card" in shown


@pytest.mark.claim("CLI-5")
def test_init_never_overwrites_a_home_or_a_key(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(cards[0]).read_bytes()
    assert run(["init", "--name", "charite", "--home", "homes/charite"]) == 2
    assert "P2P-HOME-002" in capsys.readouterr().err
    assert run(["init", "--name", "charite", "--home", "homes/second"]) == 2
    assert "P2P-KEY-005" in capsys.readouterr().err
    assert Path(cards[0]).read_bytes() == before
    assert not Path("homes/second").exists()


@pytest.mark.claim("CLI-5")
def test_peers_create_never_overwrites(here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("peers.yaml").write_text("mine\n")
    assert run(["peers", "create", *cards, "-o", "peers.yaml"]) == 2
    assert "P2P-FED-018" in capsys.readouterr().err
    assert Path("peers.yaml").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["init", "--name", "Charité"], "P2P-USE-020"),
        (["init", "--name", "a", "--listen", ":7443"], "P2P-FED-021"),
        (["init", "--name", "a", "--listen", "0.0.0.0:7443"], "P2P-FED-021"),
        (["init", "--name", "a", "--listen", "127.0.0.1:99999"], "P2P-FED-021"),
        (["init"], "P2P-USE-001"),
        (["init", "--name", "a", "--secret", "x"], "P2P-USE-001"),
        (["init", "--name", "a", "--pass-phrase"], "P2P-USE-005"),
        (["peers", "create", "-o", "x.yaml"], "P2P-USE-001"),
        (["peers", "create", "missing.card", "-o", "x.yaml"], "P2P-FED-001"),
        (["peers", "show", "missing.yaml"], "P2P-FED-001"),
        (["peers", "nonsense"], "P2P-USE-002"),
        (["model", "nonsense"], "P2P-USE-002"),
        (["help", "nonsense"], "P2P-USE-002"),
        (["help", "peers", "nonsense"], "P2P-USE-002"),
        (["help", "init", "nonsense"], "P2P-USE-001"),
        (["completion", "tcsh"], "P2P-USE-001"),
        (["demo", "--peers", "2"], "P2P-USE-006"),
        (["demo", "--peers", "21"], "P2P-USE-006"),
        (["demo", "--home", "."], "P2P-USE-007"),
        (["join", "--data", "their.csv"], "P2P-FED-001"),
        (["join"], "P2P-USE-001"),
        (["sum", "--value", "1", "--stat", "median"], "P2P-USE-001"),
        (["status", "--home", "nowhere"], "P2P-HOME-001"),
        (["ledger", "verify", "--home", "nowhere"], "P2P-HOME-001"),
        (["ledger", "compare", "a.root", "b.root"], "P2P-USE-015"),
        (["model", "export", "--home", "nowhere", "-o", "m.safetensors"], "P2P-FED-001"),
        (["predict", "--data", "new.csv"], "P2P-FED-001"),
        (["jion"], "P2P-USE-002"),
        (["relay"], "P2P-USE-002"),
    ],
)
def test_wrong_use_ends_with_2_and_its_own_error(
    here: Path, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "lies.here").touch()
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error {code}: ")
    assert not captured.out
    assert run([*arguments, "--json"]) == 2
    assert told(capsys)["error"]["code"] == code  # type: ignore[index]
    assert not any(path.suffix == ".key" for path in here.rglob("*"))


@pytest.mark.claim("SUM-5")
def test_two_sites_are_refused_and_told_why(here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["peers", "create", *cards[:2], "-o", "peers.yaml"]) == 2
    shown = capsys.readouterr().err
    assert "P2P-FED-011" in shown
    assert "subtracts" in shown
    assert not Path("peers.yaml").exists()


@pytest.mark.claim("FED-3")
def test_an_edited_card_ends_with_5(here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.card").write_text(Path(cards[0]).read_text().replace("7001", "7009"))
    assert run(["peers", "create", "bad.card", *cards[1:], "-o", "peers.yaml"]) == 5
    err = capsys.readouterr().err
    assert "P2P-FED-016" in err
    assert err.endswith("try       sha256sum bad.card\n")


def test_show_says_in_one_line_per_site_what_its_firewall_must_open(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", "--name", "mayo", "--home", "homes/mayo"]) == 0
    assert run(["peers", "create", *cards, "homes/mayo/mayo.card", "-o", "peers.yaml"]) == 0
    capsys.readouterr()
    assert run(["peers", "show"]) == 0
    shown = capsys.readouterr().out.partition("firewall lets through:\n")[2].splitlines()
    assert [line.split()[0] for line in shown] == [*SITES, "mayo"]
    assert "in TCP 7001 from 127.0.0.1, anywhere (mayo)" in shown[0]
    assert "out TCP to 127.0.0.1:7002 (st-olav), 127.0.0.1:7003 (uppsala)" in shown[0]
    assert "in nothing" in shown[3]
    assert run(["peers", "show", "--json"]) == 0
    rows = told(capsys)["peers"]
    assert isinstance(rows, list)
    assert rows[0]["firewall"]["in"] == [{"port": 7001, "from": ["st-olav", "uppsala", "mayo"]}]
    assert rows[3]["firewall"] == {
        "in": [],
        "out": [{"host": "127.0.0.1", "port": 7001 + at, "to": name} for at, name in enumerate(SITES)],
    }


@pytest.mark.parametrize(
    ("settings", "lines", "facts"),
    [
        ([], ["sums are checked", "topology     mesh"], (True, "mesh", None)),
        (
            ["sharing.verify=false", "topology=hub", "hub=st-olav"],
            ["sums are NOT checked", "topology     hub st-olav"],
            (False, "hub", "st-olav"),
        ),
    ],
    ids=["as it is by default", "otherwise"],
)
def test_show_says_whether_sums_are_checked_and_who_is_the_hub(
    cards: list[str],
    settings: list[str],
    lines: list[str],
    facts: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = [word for setting in settings for word in ("--set", setting)]
    assert run(["peers", "create", *cards, "-o", "peers.yaml", *chosen]) == 0
    capsys.readouterr()
    assert run(["peers", "show"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert all(any(line.endswith(wanted) for line in shown) for wanted in lines)
    assert run(["peers", "show", "--json"]) == 0
    found = told(capsys)
    assert (found["verify"], found["topology"], found["hub"]) == facts


def test_show_points_at_the_line_that_is_wrong(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["peers", "create", *cards, "-o", "peers.yaml"])
    assert run(["peers", "show", "peers.yaml"]) == 0
    assert "certify a sum" in capsys.readouterr().out
    text = Path("peers.yaml").read_text()
    Path("bad.yaml").write_text(text.replace("delta: 1e-5", "delta: one"))
    assert run(["peers", "show", "bad.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    number = next(index for index, line in enumerate(text.splitlines(), start=1) if "delta:" in line)
    assert lines[0].startswith(f"{number:>5} |   delta: one")
    assert lines[1].index("^") - lines[0].index("one") == 0
    assert f"bad.yaml:{number}:10" in lines[2]


def test_diff_shows_lines_and_its_status_says_whether_there_are_any(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["peers", "create", *cards, "-o", "peers.yaml"])
    run(["peers", "create", *cards, "-o", "other.yaml", "--set", "rounds=11"])
    capsys.readouterr()
    assert run(["peers", "diff", "other.yaml"]) == 1
    assert re.search(r"^\+rounds: 11", capsys.readouterr().out, re.MULTILINE)
    assert run(["peers", "diff", "peers.yaml"]) == 0
    assert run(["peers", "diff", "st-olav"]) == 2
    assert "P2P-USE-014" in capsys.readouterr().err


def test_fingerprints_of_a_card_a_name_and_a_home_agree(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["peers", "create", *cards, "-o", "peers.yaml"])
    capsys.readouterr()
    shown = []
    for arguments in ([cards[1]], ["st-olav"], ["--home", "homes/st-olav"]):
        assert run(["peers", "fingerprint", *arguments]) == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1
    assert len(shown[0].split()) == 9


SCANS = """\
images:
  classes: [normal, pneumonia]
  model: resnet18
  size: 32
  channels: 1
  centre: [0.5]
  scale: [0.5]
  weights: {file: r.pth, sha256: "%s"}
  trainable: head
  augmentation: []
  learning_rate: 0.1
  expected_batch: 4
""" % ("ab" * 32)


def test_a_task_of_ones_own_is_pinned_by_its_digest(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And what comes next says that it goes to every site, where somebody reads it."""
    Path("brain.py").write_text(BRAIN)
    assert run(["peers", "create", *cards, "-o", "peers.yaml", "--task", "brain.py:Brain"]) == 0
    task = Federation.load("peers.yaml").task
    assert (task.file, task.cls, len(task.sha256 or b"")) == ("brain.py", "Brain", 32)
    told = capsys.readouterr().out.splitlines()
    at = told.index("hand this very file, and brain.py, to every site; each of them then runs")
    assert told[at + 1].startswith("  p2pfl task review brain.py ")


def test_a_file_of_weights_goes_to_every_site_beside_the_peers_file(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("scans.yaml").write_text(SCANS)
    assert run(["peers", "create", *cards, "-o", "peers.yaml", "--task", "scans.yaml"]) == 0
    assert "hand this very file, and r.pth, to every site; each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--set", "privacy.unit=patient"], "P2P-TRAIN-140"),
        (["--set", "task.table=none"], "P2P-FED-017"),
        (["--task", "draft.yaml"], "P2P-FED-027"),
        (["--task", "brain.py"], "P2P-USE-001"),
        (["--task", "missing.yaml"], "P2P-FED-001"),
        (["--set", "sharing.scale=1e-320", "--set", "sharing.clip=1"], "P2P-FED-007"),
        (["--task", "brain.py:Brian"], "P2P-TRAIN-022"),
        (["--task", "brain.py:NoTask"], "P2P-TRAIN-022"),
        (["--task", "missing.py:Brain"], "P2P-FED-001"),
    ],
)
def test_what_join_would_refuse_is_refused_when_the_file_is_made(
    here: Path, cards: list[str], arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("brain.py").write_text(BRAIN)
    Path("draft.yaml").write_bytes(heart_task.TEXT.replace(b"centre: 55", b"centre: TODO"))
    assert run(["peers", "create", *cards, "-o", "peers.yaml", *arguments]) == 2
    assert f"error {code}: " in capsys.readouterr().err
    assert not Path("peers.yaml").exists()


@pytest.mark.parametrize("change", ["unit: record=unit: patient", "centre: 55=centre: 155", "  sha256:=  sha256:"])
def test_show_and_join_refuse_a_file_with_the_same_error(
    here: Path, cards: list[str], change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit that nobody names, a table that does not fit, and a task's file that is not the agreed one."""
    Path("brain.py").write_text(BRAIN)
    own = change.startswith("  ")
    run(["peers", "create", *cards, "-o", "peers.yaml", *(["--task", "brain.py:Brain"] if own else [])])
    old, _, new = change.partition("=")
    text = Path("peers.yaml").read_text()
    assert old in text
    Path("peers.yaml").write_text(text if own else text.replace(old, new))
    if own:
        Path("brain.py").write_text(BRAIN + "\n")
    Path("their.csv").write_bytes(next(iter(deal(3).files.values())))
    join = ["join", "--home", "homes/charite", "--data", "their.csv", "--check", "--wait", "1"]
    codes = []
    for arguments in (["peers", "show"], join):
        capsys.readouterr()
        assert run(arguments) == 2
        codes += re.findall("error (P2P-[A-Z]+-[0-9]+):", capsys.readouterr().err)
    assert len(codes) == 2
    assert codes[0] == codes[1]


def test_the_key_can_lie_elsewhere_and_recovery_words_are_shown_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", "--name", "a", "--home", "home", "--key-file", "keys/a.key", "--recovery-words", "--json"]) == 0
    facts = told(capsys)
    assert len(str(facts["recovery_words"]).split()) == 24
    assert Path("keys/a.key").stat().st_mode & 0o777 == 0o600
    assert not (here / "config").exists()


def test_interrupted_ends_with_130_and_says_that_nothing_is_lost(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("p2pfl.cli.init.Home.create", interrupt)
    assert run(["init", "--name", "a", "--home", "home"]) == 130
    assert "nothing final is lost" in capsys.readouterr().err


@pytest.mark.claim("CLI-1")
def test_a_bug_is_told_without_a_traceback_and_without_its_text(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("patient 4711")

    monkeypatch.setattr("p2pfl.cli.init.Home.create", fail)
    assert run(["init", "--name", "a", "--home", "home"]) == 1
    shown = capsys.readouterr().err
    assert "P2P-USE-004" in shown
    assert "RuntimeError" in shown
    assert "4711" not in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("text", "fit"),
    [
        ("St. Olavs Hospital", "st-olavs-hospital"),
        ("Charité", "charite"),
        ("4th clinic", "th-clinic"),
        ("日本", "st-olav"),
        ("a" * 40, "a" * 31),
        ("mayo", "mayo"),
    ],
)
def test_a_name_that_does_not_fit_is_answered_with_one_that_does(text: str, fit: str) -> None:
    assert fit_name(text) == fit


def test_cards_of_one_name_or_address_are_told_by_their_files(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["peers", "create", *cards, cards[1], "-o", "peers.yaml"]) == 2
    shown = capsys.readouterr().err
    assert f"P2P-USE-023: The cards {cards[1]} and {cards[1]} both have the name" in shown
    assert run(["init", "--name", "mayo-2", "--listen", "127.0.0.1:7001", "--home", "homes/second"]) == 0
    assert run(["peers", "create", *cards, "homes/second/mayo-2.card", "-o", "peers.yaml"]) == 2
    assert "both have the address 127.0.0.1:7001" in capsys.readouterr().err
    assert not Path("peers.yaml").exists()


def test_a_card_for_a_peers_file_and_a_peers_file_for_a_card_are_called_that(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["peers", "create", *cards, "-o", "peers.yaml"]) == 0
    capsys.readouterr()
    assert run(["doctor", "--peers", cards[0], "--home", "homes/x"]) == 2
    assert "P2P-USE-021" in capsys.readouterr().err
    assert run(["peers", "create", "peers.yaml", *cards, "-o", "again.yaml"]) == 2
    assert "P2P-USE-022" in capsys.readouterr().err


def test_what_to_run_next_can_be_pasted_whatever_the_file_is_called(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("our study").mkdir()
    assert run(["peers", "create", *cards, "-o", "our study/peers é.yaml"]) == 0
    shown = capsys.readouterr().out.splitlines()
    (joined,) = [shlex.split(line) for line in shown if "p2pfl join" in line]
    assert joined[:4] == ["p2pfl", "join", "--peers", "our study/peers é.yaml"]


def test_what_was_probably_meant_is_said(here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["peers", "create", *cards, "-o", "peers.yaml"]) == 0
    capsys.readouterr()
    assert run(["doctor", "peers.yaml"]) == 2
    assert "did you mean --peers peers.yaml?" in capsys.readouterr().err
    assert run(["stats", "km", "--group"]) == 2
    assert "p2pfl stats km --help" in capsys.readouterr().err
    assert run(["doctor", "--home", "homes"]) == 2
    assert f"homes in it: {', '.join(sorted(SITES))}" in capsys.readouterr().err
    assert run(["keys", "--home", "homes/x"]) == 2
    assert "--home stands behind one of its commands: list, add" in capsys.readouterr().err
    assert run(["--verson"]) == 2
    assert "--version" in capsys.readouterr().err
    for verb, meant in (("propose", "peers propose"), ("approve", "peers approve"), ("rotate", "peers propose rotate")):
        assert run([verb, "change.p2pfl"]) == 2
        told = capsys.readouterr().err
        assert "P2P-USE-002" in told
        assert f"did you mean {meant}?" in told
    for typed, meant in (
        ("jion", "join"),
        ("peers creat", "create"),
        ("ledger verfy", "verify"),
        ("model exprot", "export"),
    ):
        assert run(typed.split()) == 2
        told = capsys.readouterr().err
        assert f"did you mean {meant}?" in told
        assert "P2P-USE-002" in told
    assert "`p2pfl model` has no command 'exprot'" in told
    assert "p2pfl model --help" in told
    assert run(["doctor", "--wait", "0"]) == 2
    assert "'0' is no number of seconds above 0" in capsys.readouterr().err


def test_help_is_a_verb_and_says_what_the_option_says(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["peers"], ["peers", "create"], ["join"], ["sum"]):
        assert run([*words, "--help"]) == 0
        by_option = capsys.readouterr().out
        assert run(["help", *words]) == 0
        assert capsys.readouterr().out == by_option
        assert "Usage: p2pfl" in by_option


def test_version_is_a_verb_and_says_what_the_option_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    by_option = capsys.readouterr().out
    assert run(["version"]) == 0
    assert capsys.readouterr().out == by_option
    assert run(["version", "--json"]) == 0
    assert by_option == f"p2pfl {json.loads(capsys.readouterr().out)['version']}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_a_shell_needs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"_P2PFL_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("p2pfl st", ["stats", "status", "studies"]),
        ("p2pfl peers cr", ["create"]),
        ("p2pfl peers nonsense x", []),
        ("p2pfl init --li", ["--listen"]),
    ],
)
def test_a_shell_completes_verbs_and_options_and_makes_nothing_of_a_typo(words: str, found: list[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_P2PFL_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "p2pfl"], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert [line.partition(",")[2] for line in done.stdout.splitlines() if line] == found
    assert done.stderr == ""


@pytest.mark.claim("CLI-4")
def test_no_file_and_no_error_steers_the_terminal_that_it_is_shown_on(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["peers", "create", *cards, "-o", "peers.yaml"])
    capsys.readouterr()
    Path("theirs.yaml").write_bytes(b"rounds: 8  # \x1b]0;owned\x07\x1b[2J \xe2\x80\xae8 :sdnuor\xc2\x9b2J\n")
    assert run(["peers", "diff", "theirs.yaml"]) == 1
    output.progress(WrongSender(peer="mayo", evidence="a hello of \x1b[2J\u202e").render())
    told = "".join(capsys.readouterr())
    assert "owned" in told
    assert all(one.isprintable() or one == "\n" for one in told)


def test_the_card_of_a_home_is_written_once_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An init that was killed leaves key and home without one; the site has the same key as before."""
    common = ["init", "--name", "mayo", "--home", str(tmp_path / "home")]
    key = str(tmp_path / "mayo.key")
    assert run([*common, "--listen", "10.1.2.3:7443", "--key-file", key]) == 0
    file = tmp_path / "home" / "mayo.card"
    whole = file.read_bytes()
    file.unlink()
    again = [*common, "--card", "--open-with", f"key-file:{key}"]
    assert run([*again, "--listen", "10.1.2.3:7443", "--json"]) == 0
    assert file.read_bytes() == whole
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["card"], told["fingerprint"]) == (str(file), Card.load(file).fingerprint)
    assert run([*again, "--address", "mayo.example:7443"]) == 0  # and with another address
    assert [str(one) for one in Card.load(file).member.addresses] == ["mayo.example:7443"]
    assert run([*again, "--recovery-words"]) == 2
    assert run(["init", "--name", "other", *again[3:]]) == 2
    assert "the home of mayo" in capsys.readouterr().err
    assert run([*common, "--listen", "10.1.2.3:7443", "--key-file", key]) == 2
    assert "init --card writes its card once more" in capsys.readouterr().err


def test_a_task_of_python_is_created_by_its_name_alone(
    here: Path, cards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And whoever makes the file is not told to join with it."""
    assert run(["peers", "create", *cards, "-o", "peers.yaml", "--task", "python:tumours"]) == 0
    assert Federation.load("peers.yaml").task.label == "python:tumours"
    shown = capsys.readouterr().out
    assert "p2pfl join" not in shown and "peer.train(task, data=…) with the task tumours" in shown
    assert run(["peers", "show", "peers.yaml"]) == 0
    assert "python:tumours, which each site makes in Python: NO code is pinned" in capsys.readouterr().out

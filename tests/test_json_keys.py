"""What a command prints with --json has the keys that docs/reference/json.md lists for it, and no others.

Of commands that need neither other sites nor torch; `demo` and `doctor` are compared where their objects are made
(tests/cli/test_pure.py, tests/cli/test_doctor.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.main import run

PAGE = (Path(__file__).resolve().parents[1] / "docs/reference/json.md").read_text(encoding="utf-8")
STUDIES = "folder epoch sites rounds process passes epsilon delta max_epsilon marks spent_by study last"
STUDIES += " held_out epsilon_alone looks"
BY_NAME = {"epsilon", "fingerprints", "record", "told"}  # tables whose keys are names, or those of a ledger entry


def section(heading: str) -> str:
    found = PAGE.split(f"\n## {heading}\n")
    assert len(found) == 2, heading
    return found[1].split("\n## ")[0]


def row(heading: str, command: str) -> str:
    """The row of `command` in the table under `heading`."""
    return next(line for line in section(heading).splitlines() if re.match(rf"\| .*`{command}`.* \| ", line))


def documented(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def keys(value: Any) -> Iterator[str]:
    """Every key of `value`, at any depth."""
    if isinstance(value, list):
        for one in value:
            yield from keys(one)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner) if key not in BY_NAME else ()


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call it with a command line: the object that the command prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("P2PFL_HOME", raising=False)

    def call(line: str) -> dict[str, Any]:
        capsys.readouterr()
        run([*line.split(), "--json"])
        facts: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert "error" not in facts, facts
        return facts

    for index, name in enumerate(("ada", "bob", "cyd")):
        call(f"init --name {name} --listen 127.0.0.1:{7001 + index} --home {name}")
    call("peers create ada/ada.card bob/bob.card cyd/cyd.card -o peers.yaml")
    call("peers create ada/ada.card bob/bob.card cyd/cyd.card -o other.yaml --set rounds=3")
    return call


def test_of_a_homes_making_every_key_is_listed(printed: Any) -> None:
    listed = documented(row("Others", "init").partition(" | ")[2])
    new = printed("init --name dan --home dan --recovery-words")
    more = printed("init --name dan --home dan --add --key-file more.key")
    assert {*keys(new), *keys(more)} == listed


NOISE = "noise_multiplier parts unit epsilon max_epsilon sums_left"


@pytest.mark.parametrize(
    ("heading", "command", "line", "unseen"),
    [
        ("`p2pfl peers … --json`", "show", "peers show", ""),
        ("`p2pfl peers … --json`", "diff", "peers diff other.yaml", ""),
        ("`p2pfl peers … --json`", "fingerprint", "peers fingerprint ada/ada.card", ""),
        ("`p2pfl peers … --json`", "new-key", "peers new-key --home ada", ""),
        ("`p2pfl ledger … --json`", "show", "ledger show --home ada", "index record signed_by"),
        ("`p2pfl ledger … --json`", "verify", "ledger verify --home ada", "log entry segment what fault"),
        ("`p2pfl ledger … --json`", "export", "ledger export --home ada -o ada.root", ""),
        ("Others", "studies", "studies --home ada", STUDIES),
        ("Others", "stats show", "stats show --home ada", f"question told {NOISE}"),
        ("Others", "version", "version", ""),
    ],
)
def test_of_a_command_every_key_is_listed(heading: str, command: str, line: str, unseen: str, printed: Any) -> None:
    """`unseen`: keys that a home without entries has no place for."""
    text = row(heading, command)
    assert set(keys(printed(line))) | set(unseen.split()) == documented(text.partition(" | ")[2])


def test_of_a_proposed_and_an_approved_question_every_key_is_listed(printed: Any) -> None:
    listed = documented(row("Others", "stats propose").partition(" | ")[2]) - {"standing", "stats"}
    proposed = printed("stats propose describe --columns age,sex --home ada -o question.yaml")
    approved = printed("stats approve question.yaml --home bob")
    assert set(proposed) == set(approved) == listed
    assert proposed == approved and approved["told"]["columns"] == [{"column": "age"}, {"column": "sex"}]
    assert printed("stats show --home bob")["approved"] == [
        {"question": approved["question"], "told": approved["told"]}
    ]
    assert printed("stats approve --standing km,describe --home bob") == {"standing": ["km", "describe"]}
    assert printed("stats show --home bob")["standing"] == ["km", "describe"]
    assert printed("stats approve --standing agreed --home bob") == {"standing": []}


def test_every_key_of_status_is_listed(printed: Any) -> None:
    assert set(keys(printed("status --home ada"))) <= documented(section("`p2pfl status --json`"))

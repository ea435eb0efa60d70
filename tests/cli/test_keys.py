"""p2pfl keys: what a person types, what is said, and what the site log holds of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.examples import EXAMPLES
from p2pfl.cli.keys import new_key
from p2pfl.cli.main import run
from p2pfl.home import Home, keyslots
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import Secret

PHRASE = "correct horse battery staple"


@pytest.fixture(autouse=True)
def cheap_stretching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyslots, "ARGON2", {"iterations": 1, "memory_kib": 64, "lanes": 1})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key")]).close()
    return tmp_path / "home"


@pytest.fixture
def told(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """What a verb of `keys` prints as JSON."""

    def call(*arguments: str, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert run(["keys", *arguments, "--home", str(home), "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    return call


def test_keys_are_listed_added_rotated_and_removed(
    tmp_path: Path, told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_key, "typed", lambda prompt: Secret(PHRASE.encode()))
    (file,) = told("list")["slots"]
    assert (file["kind"], file["path"]) == ("key file", str(tmp_path / "ada.key"))
    assert told("remove", file["slot"], status=2)["error"]["code"] == "P2P-KEY-013"
    added = told("add", "--new-pass-phrase")["added"]
    assert added["kind"] == "pass phrase"
    words = told("add", "--new-recovery-words")
    assert len(words["recovery_words"].split()) == 24
    turned = told("rotate", file["slot"], "--keep-old", str(tmp_path / "old.key"))
    assert (turned["removed"]["slot"], turned["kept"]) == (file["slot"], str(tmp_path / "old.key"))
    again = told("rotate", words["added"]["slot"])
    assert again["recovery_words"] != words["recovery_words"]
    assert told("remove", added["slot"])["left"] == 2
    assert [one["kind"] for one in told("list")["slots"]] == ["recovery key", "key file"]
    assert told("remove", added["slot"], status=2)["error"]["code"] == "P2P-KEY-012"


def test_who_has_no_terminal_is_led_to_the_help_of_the_command(
    told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was that of `init`, whatever was called."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    error = told("add", "--new-pass-phrase", status=2)["error"]
    assert (error["code"], error["try"]) == ("P2P-USE-005", "p2pfl keys add --help")


@pytest.mark.parametrize("verb", ["remove", "rotate"])
def test_an_example_names_a_slot_as_the_list_does(verb: str, told: Callable[..., dict[str, Any]]) -> None:
    """It named a kind of key, which is no slot's name."""
    (file,) = told("list")["slots"]
    (line,) = EXAMPLES[f"keys {verb}"]
    digits = re.compile(rf"[0-9a-f]{{{len(file['slot'])}}}")
    assert digits.fullmatch(file["slot"]) and digits.fullmatch(line.split()[2])


@pytest.mark.parametrize(
    "arguments",
    [
        ("add",),
        ("add", "--new-pass-phrase", "--new-recovery-words"),
        ("rotate", "SLOT", "--keep-old", "old.key"),
        ("rotate", "COMMAND"),
    ],
)
def test_what_is_not_meant_changes_nothing(
    arguments: tuple[str, ...], told: Callable[..., dict[str, Any]], home: Path
) -> None:
    words = told("add", "--new-recovery-words")["added"]["slot"]
    program = told("add", "--new-key-command", f"echo {'ab' * 32}")["added"]["slot"]
    before = (home / "keyslots").read_bytes()
    named = [{"SLOT": words, "COMMAND": program}.get(one, one) for one in arguments]
    assert told(*named, status=2)["error"]["code"] == "P2P-USE-001"
    assert (home / "keyslots").read_bytes() == before

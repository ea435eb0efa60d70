"""What opens a home when nothing is named, and when a key is added to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.cli.main import run
from p2pfl.home import Home, keyslots
from p2pfl.home.keyslots import Command, Credential, KeyFile, KeySource, PassPhrase, RecoveryKey
from p2pfl.keys import Secret


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What systemd hands to a unit: a folder with the credential p2pfl."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "p2pfl").write_text("ab" * 32 + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def test_a_unit_with_credentials_of_other_things_opens_a_home_by_its_key_file(
    tmp_path: Path, credentials: Path
) -> None:
    (credentials / "p2pfl").rename(credentials / "database")
    Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key")]).close()
    assert run(["status", "--home", str(tmp_path / "home")]) == 0


def test_the_credential_comes_before_the_key_file_and_one_that_is_missing_is_said(
    tmp_path: Path, credentials: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key"), Credential(credentials)]).close()
    (tmp_path / "ada.key").unlink()
    assert run(["status", "--home", str(tmp_path / "home")]) == 0
    (credentials / "p2pfl").unlink()
    assert run(["status", "--home", str(tmp_path / "home")]) == 1
    assert "P2P-KEY-007" in capsys.readouterr().err


def adds(home: Path, key: Path, *more: str) -> int:
    """The status of an init that adds a key file."""
    return run(["init", "--name", "ada", "--home", str(home), "--add", "--key-file", str(key), *more])


def test_a_home_of_a_credential_and_recovery_words_gets_another_key_by_either(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = RecoveryKey.fresh(lambda count: bytes(count))
    Home.create(tmp_path / "home", "ada", [Credential(credentials), recovery]).close()
    assert adds(tmp_path / "home", tmp_path / "one.key") == 0
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    (tmp_path / "one.key").unlink()  # so that it opens nothing
    monkeypatch.setattr("p2pfl.cli.options.typed", lambda prompt: recovery.words)
    assert adds(tmp_path / "home", tmp_path / "two.key") == 1
    assert adds(tmp_path / "home", tmp_path / "two.key", "--open-with", "recovery") == 0
    Home.open(tmp_path / "home", unlock=[KeyFile(tmp_path / "two.key")]).close()


@pytest.mark.parametrize("way", ["key-file", "pass-phrase", "command"])
def test_a_key_is_added_by_whatever_opens_the_home(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyslots, "ARGON2", {"iterations": 1, "memory_kib": 64, "lanes": 1})
    monkeypatch.setattr("p2pfl.cli.options.typed", lambda prompt: Secret(b"correct horse battery"))
    program = tmp_path / "key"
    program.write_text("#!/bin/sh\necho " + "cd" * 32)
    program.chmod(0o700)
    key: KeySource = {
        "key-file": KeyFile(tmp_path / "first.key"),
        "command": Command((str(program),)),
        "pass-phrase": PassPhrase(lambda: Secret(b"correct horse battery")),
    }[way]
    Home.create(tmp_path / "home", "ada", [key]).close()
    named = {"key-file": f"key-file:{tmp_path / 'moved.key'}", "command": f"command:{program}"}.get(way, way)
    if way == "key-file":
        (tmp_path / "first.key").rename(tmp_path / "moved.key")
    assert adds(tmp_path / "home", tmp_path / "new.key") != 0
    assert not (tmp_path / "new.key").exists()
    assert adds(tmp_path / "home", tmp_path / "new.key", "--open-with", named) == 0
    Home.open(tmp_path / "home", unlock=[KeyFile(tmp_path / "new.key")]).close()


def test_a_new_credential_is_added_by_the_key_file_beside_one_that_is_there(tmp_path: Path, credentials: Path) -> None:
    Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key"), Credential(credentials)]).close()
    (credentials / "p2pfl").write_text("cd" * 32 + "\n")
    assert run(["init", "--name", "ada", "--home", str(tmp_path / "home"), "--add", "--credential"]) == 0
    assert run(["status", "--home", str(tmp_path / "home")]) == 0


@pytest.mark.parametrize("words", ["--add --open-with paper", "--add --open-with key-file", "--open-with recovery"])
def test_what_opens_no_home_is_wrong_use(tmp_path: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--name", "ada", "--home", str(tmp_path / "home"), "--recovery-words", *words.split()]) == 2
    assert "--open-with" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()

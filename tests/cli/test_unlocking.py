"""What opens a home when nothing is named, and when a key is added to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.cli.main import run
from p2pfl.home import Home
from p2pfl.keyslots import Credential, KeyFile


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

"""What each mistake of a person at a real process ends with: an exit status, a code, and what to try."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from tests.cli.sites import Sites, Start, ended, facts, said


def broken(tmp_path: Path, what: str) -> tuple[list[str], str, int]:
    """Arguments of a join that must fail, the code, and the exit status."""
    sites = Sites(tmp_path)
    name = sites.names[0]
    arguments, folder = sites.join(name), tmp_path / name
    if what == "a missing file":
        (folder / "records.csv").unlink()
        return arguments, "P2P-TRAIN-001", 2
    if what == "a word where a number belongs":
        text = (folder / "records.csv").read_text().splitlines()
        text[2] = text[2].replace(text[2].split(",")[0], "old", 1)
        (folder / "records.csv").write_text("\n".join(text))
        return arguments, "P2P-TRAIN-", 2
    if what == "a missing key file":
        (folder / "site.key").unlink()
        return arguments, "P2P-KEY-003", 1
    if what == "another home's key file":
        (folder / "site.key").write_bytes((tmp_path / sites.names[1] / "site.key").read_bytes())
        return arguments, "P2P-KEY-002", 5
    if what == "no home":
        return [*arguments[:3], "--home", str(tmp_path / "nowhere"), *arguments[5:]], "P2P-HOME-001", 2
    if what == "no peers.yaml":
        sites.peers.unlink()
        return arguments, "P2P-FED-001", 2
    if what == "a key that is not in peers.yaml":
        stranger = tmp_path / "stranger"
        Home.create(stranger, "stranger", [KeyFile(tmp_path / "stranger.key")]).close()
        return [*arguments[:3], "--home", str(stranger), *arguments[5:]], "P2P-ROUND-042", 2
    return [*arguments, "--colour"], "P2P-USE-001", 2


@pytest.mark.parametrize(
    "what",
    [
        "a missing file",
        "a word where a number belongs",
        "a missing key file",
        "another home's key file",
        "no home",
        "no peers.yaml",
        "a key that is not in peers.yaml",
        "an option that does not exist",
    ],
)
def test_bad_input_is_an_error_of_its_own(tmp_path: Path, what: str, start: Start) -> None:
    arguments, code, wanted = broken(tmp_path, what)
    status, _, err = ended(start(*arguments))
    assert status == wanted, err
    assert f"error {code}" in err
    assert "try" in err


def test_a_busy_port_is_named(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", sites.ports[0]))
        taken.listen()
        status, _, err = ended(start("sum", *sites.common(sites.names[0]), "--value", "1"))
    assert status == 1
    assert f"Port {sites.ports[0]} is in use" in err


def test_two_processes_in_one_home_are_refused(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path)
    name = sites.names[0]
    first = start("sum", *sites.common(name), "--value", "1")
    said(first, "listening")
    status, _, err = ended(start("sum", *sites.common(name), "--value", "1"))
    assert status == 1
    assert "P2P-HOME-003" in err
    shown = facts(ended(start("status", "--home", str(tmp_path / name / "home"), "--json"))[1])
    assert shown["process"] == first.pid

"""The files under deploy/ name commands, paths, users and statuses that exist, and allow no more than they must."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from p2pfl.cli.stopping import STOP_S
from p2pfl.errors import EXIT_BUDGET, EXIT_FAILED, EXIT_INTEGRITY, EXIT_INTERRUPTED, EXIT_PEER, EXIT_USAGE
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from tests.commands import parse

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/p2pfl@.service"
CONTAINER = DEPLOY / "container"
SITES = ("ada", "ben", "cyd", "dot", "eve")
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def unit() -> dict[str, list[str]]:
    """Every setting of [Service], by name, in order."""
    found: dict[str, list[str]] = {}
    section = UNIT.read_text().split("[Service]")[1].split("[Install]")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    return path


# ── systemd ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_units_command_is_one_that_the_program_takes() -> None:
    (line,) = unit()["ExecStart"]
    program, *arguments = shlex.split(line.replace("%i", "mayo").replace("$P2PFL_OPTIONS", "--metrics 9464 --wait 60"))
    assert program == "/opt/p2pfl/bin/p2pfl"
    parse(arguments)


def test_the_unit_restarts_only_what_no_person_must_see() -> None:
    """It starts again what may start again."""
    found = unit()
    assert set(map(int, found["RestartPreventExitStatus"][0].split())) == {EXIT_USAGE, EXIT_BUDGET, EXIT_INTEGRITY}
    assert {EXIT_FAILED, EXIT_PEER}.isdisjoint(map(int, found["RestartPreventExitStatus"][0].split()))
    assert found["Restart"] == ["on-failure"]
    assert found["SuccessExitStatus"] == [str(EXIT_INTERRUPTED)]
    assert found["KillSignal"] == ["SIGTERM"]
    assert float(found["TimeoutStopSec"][0]) > 2 * STOP_S


def test_systemd_reads_the_unit_without_a_word(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/p2pfl/bin/p2pfl", sys.executable))
    command = [tool("systemd-analyze"), "verify", "--man=no", copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip(), done.stdout.strip()) == (0, "", "")


@pytest.mark.claim("HOME-7")
def test_systemd_finds_the_unit_exposed_to_little() -> None:
    arguments = ["security", "--offline=true", "--threshold=15", str(UNIT)]
    done = subprocess.run([tool("systemd-analyze"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


def test_the_unit_gives_nothing_that_the_program_does_not_use() -> None:
    found = unit()
    assert found["CapabilityBoundingSet"] == [""]
    assert set(found["RestrictAddressFamilies"][0].split()) == {"AF_INET", "AF_INET6", "AF_UNIX"}
    for name in (
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "ProtectKernelModules",
        "RestrictSUIDSGID",
    ):
        assert found[name] == ["yes"], name
    assert found["ProtectSystem"] == ["strict"]


def test_user_folders_and_credential_of_the_unit_fit_together() -> None:
    found = unit()
    (user,) = re.findall(r"^u (\w+) - ", (DEPLOY / "systemd/p2pfl.sysusers").read_text(), re.M)
    assert found["User"] == found["Group"] == [user]
    line = found["ExecStart"][0]
    assert f"P2PFL_HOME=/var/lib/{found['StateDirectory'][0]}" in found["Environment"][0]
    assert f"--log /var/log/{found['LogsDirectory'][0]}/%i.jsonl" in line
    assert found["StateDirectoryMode"] == ["0700"]  # a home that others can enter is refused
    assert found["LoadCredentialEncrypted"][0].startswith("p2pfl:")


# ── the credential ────────────────────────────────────────────────────────────────────────────────────────────


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key != "CREDENTIALS_DIRECTORY"}
    return subprocess.run(
        [sys.executable, "-m", "p2pfl", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment},
    )


@pytest.mark.claim("HOME-7")
def test_a_home_that_a_credential_opens_opens_where_systemd_puts_it_and_nowhere_else(tmp_path: Path) -> None:
    given, other, home = tmp_path / "given", tmp_path / "other", str(tmp_path / "home")
    for folder, key in ((given, "ab" * 32), (other, "cd" * 32)):
        folder.mkdir(mode=0o700)
        (folder / "p2pfl").write_text(key + "\n")
    made = run(tmp_path, "init", "--name", "mayo", "--credential", "--home", home, CREDENTIALS_DIRECTORY=str(given))
    assert made.returncode == 0, made.stderr
    opened = run(tmp_path, "status", "--home", home, CREDENTIALS_DIRECTORY=str(given))
    assert opened.returncode == 0, opened.stderr
    assert run(tmp_path, "status", "--home", home, CREDENTIALS_DIRECTORY=str(other)).returncode == EXIT_INTEGRITY
    assert run(tmp_path, "status", "--home", home, CREDENTIALS_DIRECTORY=str(tmp_path)).returncode != 0
    assert run(tmp_path, "status", "--home", home).returncode == EXIT_USAGE
    assert "ab" * 32 not in made.stdout + made.stderr + opened.stdout + opened.stderr


@pytest.mark.claim("HOME-7")
def test_what_systemd_creds_encrypts_is_what_the_program_reads(tmp_path: Path) -> None:
    creds, sealed, given = tool("systemd-creds"), tmp_path / "key.cred", tmp_path / "p2pfl"
    # The null key seals for nobody: a machine that runs tests has no key of its own.
    encrypted = subprocess.run(
        [creds, "encrypt", "--with-key=null", "--name=p2pfl", "-", sealed],
        input=b"ab" * 32,
        capture_output=True,
        check=False,
    )
    if encrypted.returncode:
        pytest.skip(f"systemd-creds cannot encrypt here: {encrypted.stderr.decode().strip()[:80]}")
    command = [creds, "decrypt", "--allow-null", "--name=p2pfl", sealed, given]
    opened = subprocess.run(command, capture_output=True, check=False)
    if opened.returncode:
        pytest.skip(f"systemd-creds cannot decrypt here: {opened.stderr.decode().strip()[:80]}")
    home = str(tmp_path / "home")
    made = run(tmp_path, "init", "--name", "mayo", "--credential", "--home", home, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert made.returncode == 0, made.stderr


# ── containers ────────────────────────────────────────────────────────────────────────────────────────────────


def compose() -> dict[str, Any]:
    held = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    assert isinstance(held, dict)
    return held


def test_five_sites_share_a_network_and_peers_yaml_and_nothing_else() -> None:
    services = compose()["services"]
    assert tuple(services) == SITES
    shared = set.intersection(*(set(one["volumes"]) for one in services.values()))
    assert shared == {"./sites/peers.yaml:/etc/p2pfl/peers.yaml:ro"}
    for name, one in services.items():
        assert one["networks"] == ["hospitals"]
        own = set(one["volumes"]) - shared
        assert all(volume.startswith(f"./sites/{name}/") for volume in own)
        assert [volume for volume in own if not volume.endswith(":ro")] == [f"./sites/{name}/home:/var/lib/p2pfl"]
        assert "ports" not in one
        assert "env_file" not in one


@pytest.mark.parametrize("name", SITES)
def test_a_container_may_do_little_and_runs_a_command_that_the_program_takes(name: str) -> None:
    one = compose()["services"][name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["user"] == "${P2PFL_USER:-10001:10001}"
    assert float(one["stop_grace_period"].removesuffix("s")) > 2 * STOP_S
    parse(one["command"])
    mounted = {volume.split(":")[1] for volume in one["volumes"]}
    paths = {word for word in one["command"] if word.startswith("/")}
    assert paths <= mounted


@pytest.mark.claim("HOME-7")
def test_the_image_runs_as_nobody_special_and_holds_nothing_secret() -> None:
    text = (CONTAINER / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = lines[max(k for k, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in last if line.startswith("USER ")] == ["USER 10001:10001"]
    assert not [line for line in lines if line.startswith(("ADD ", "ARG "))]
    assert not re.search(r"\.key|\.card|peers\.yaml|sites/", text)
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = [word for words in copies for word in words]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
    ignored = (CONTAINER / "Containerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {word.removeprefix("!") for word in ignored if word.startswith("!")} == set(copied)
    (entry,) = [line for line in last if line.startswith("ENTRYPOINT ")]
    assert entry == 'ENTRYPOINT ["/opt/p2pfl/bin/p2pfl"]'
    assert 'p2pfl = "p2pfl.__main__:main"' in (ROOT / "pyproject.toml").read_text()


def test_prepare_makes_five_homes_and_one_peers_file_and_never_overwrites(tmp_path: Path) -> None:
    script = tmp_path / "prepare"
    shutil.copy(CONTAINER / "prepare", script)
    environment = {**os.environ, "P2PFL": f"{sys.executable} -m p2pfl", "PYTHONPATH": str(ROOT)}
    made = subprocess.run(["bash", script], capture_output=True, text=True, env=environment, check=False)
    assert made.returncode == 0, made.stderr
    federation = Federation.load(tmp_path / "sites/peers.yaml")
    assert federation.roster.names == SITES
    for name in SITES:
        assert str(federation.roster[name].addresses[0]) == f"{name}:7443"
        with Home.open(
            tmp_path / "sites" / name / "home", unlock=[KeyFile(tmp_path / "sites" / name / "site.key")], write=False
        ) as home:
            assert home.identity().key == federation.roster[name].key
    before = (tmp_path / "sites/peers.yaml").read_bytes()
    again = subprocess.run(["bash", script], capture_output=True, text=True, env=environment, check=False)
    assert again.returncode != 0
    assert (tmp_path / "sites/peers.yaml").read_bytes() == before


# ── logs, and what the manual says ────────────────────────────────────────────────────────────────────────────


def test_logrotate_turns_the_files_that_the_unit_writes(tmp_path: Path) -> None:
    text = (DEPLOY / "logrotate").read_text()
    assert f"/var/log/{unit()['LogsDirectory'][0]}/*.jsonl {{" in text
    assert f"su {unit()['User'][0]} " in text
    assert text.count("{") == text.count("}") == 1
    assert "--signal=HUP 'p2pfl@*.service'" in text  # which opens the log anew
    path = shutil.which("logrotate")
    if path is not None:
        copy = tmp_path / "logrotate"
        copy.write_text(re.sub(r"^ +su .*\n| +create .*\n", "", text, flags=re.M))
        copy.chmod(0o644)
        done = subprocess.run([path, "-d", "-s", tmp_path / "state", copy], capture_output=True, text=True, check=False)
        assert "error" not in done.stderr.lower().replace("missingok", "")


def test_every_command_of_the_manual_is_one_that_the_program_takes() -> None:
    text = OPERATIONS.replace("\\\n", " ")
    commands = re.findall(r"^    (?:.*?/bin/)?p2pfl (.+)$", text, re.M) + re.findall(r"`p2pfl ([^`]+)`", text)
    commands = [one for one in commands if not one.startswith("(")]
    assert len(commands) > 6
    for one in commands:
        parse(shlex.split(one))


def test_every_file_and_metric_that_the_manual_names_is_there() -> None:
    for path in re.findall(r"`(deploy/[\w./@-]+)`", OPERATIONS):
        assert (ROOT / path).exists(), path
    shown = (ROOT / "p2pfl/cli/metrics.py").read_text()
    for name in re.findall(r"p2pfl_(\w+)", OPERATIONS):
        assert name.removesuffix("_total") in shown, name

"""`p2pfl dashboard` as a process: where its link is, and where it is not; what it says when it cannot be shown."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from p2pfl.cli.dashboard.view import HomeView
from p2pfl.cli.main import run
from p2pfl.node.live import TRAFFIC
from tests.cli.sites import Start, ended
from tests.report.sample import Sample

ROOT = Path(__file__).parents[2]
DEADLINE_S = 600  # a hang, not a speed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    Sample().write_into(tmp_path).close()
    return tmp_path / "charite"


def options(place: Path) -> list[str]:
    return ["dashboard", "--home", str(place), "--key-file", str(place.parent / "charite.key")]


@pytest.mark.claim("DASH-1")
def test_the_link_lies_in_a_file_of_this_user_alone_and_nowhere_else(place: Path, start: Start) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra [dashboard]")
    pytest.importorskip("starlette", reason="needs the extra [dashboard]")
    file = place.parent / "link"
    process = start(*options(place), "--token-file", str(file))
    until = time.monotonic() + DEADLINE_S
    while not file.exists() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert file.stat().st_mode & 0o777 == 0o600
    link = file.read_text().strip()
    found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#([\w-]{43})", link)
    assert found
    address, token = found[1], found[2]
    proc = Path(f"/proc/{process.pid}")
    for shown in ("cmdline", "environ"):
        assert token.encode() not in (proc / shown).read_bytes()

    def asked(secret: str, path: str, method: str) -> bytes:
        request = urllib.request.Request(address + path, method=method, headers={"Authorization": f"Bearer {secret}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            held: bytes = answer.read()
            return held

    session = json.loads(asked(token, "/session", "POST"))["session"]
    assert b"charite in rare-disease" in asked(session, "/view", "GET")
    next_token = file.read_text().strip().partition("#")[2]
    assert next_token not in ("", token)
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert status == 130
    assert not file.exists()
    for secret in (token, next_token, session):
        assert secret not in out + err
    assert "charite: a page at http://127.0.0.1:" in err


def test_without_a_terminal_the_link_is_shown_nowhere(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra [dashboard]")
    assert run(options(place)) == 2
    said = capsys.readouterr().err
    assert "P2P-REPORT-004" in said
    assert "#" not in said


def test_a_file_that_is_there_is_not_taken_for_the_link(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra [dashboard]")
    (place.parent / "link").write_text("mine")
    assert run([*options(place), "--token-file", str(place.parent / "link")]) == 2
    assert (place.parent / "link").read_text() == "mine"


def test_a_port_that_is_taken_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra [dashboard]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run([*options(place), "--port", str(port), "--token-file", str(place.parent / "link")]) == 1
    assert "P2P-REPORT-003" in capsys.readouterr().err


def test_a_missing_extra_is_told_by_its_name(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.startswith("p2pfl.dashboard.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run([*options(place), "--token-file", str(place.parent / "link")]) == 1
    said = capsys.readouterr().err
    assert "P2P-REPORT-002" in said
    assert "pip install '.[dashboard]'" in said


def test_an_interrupt_while_a_module_loads_leaves_no_link_behind(tmp_path: Path) -> None:
    """The process is left at once then, past its blocks: the server loads some of its modules when it is asked."""
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    program = """
import sys
from pathlib import Path
from p2pfl.cli.dashboard import _telling
from p2pfl.cli.interrupts import INTERRUPTS
INTERRUPTS.take()
with _telling("http://127.0.0.1:1", Path(sys.argv[1])) as tell:
    tell("token")
    import slow
"""
    file = tmp_path / "link"
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "interrupted: nothing final is lost")
    assert not file.exists()


def test_the_traffic_of_a_round_that_was_taken_up_is_told_as_that(tmp_path: Path) -> None:
    with Sample(rounds=2).write_into(tmp_path) as home:
        for taken_up, said in (
            (False, "22.0 kB in the last round"),
            (True, "22.0 kB in the last round, since it was "),
        ):
            home.show(TRAFFIC, json.dumps([[1, "training", 20_000, 1], [2, "training", 22_000, 1, taken_up]]).encode())
            seen = HomeView(home).look()
            assert seen["v"]["traffic_last"].startswith(said), seen
            assert seen["v"]["traffic_last"].endswith("taken up") == taken_up

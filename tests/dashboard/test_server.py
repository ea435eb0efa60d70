"""The dashboard's server over a real socket: what it tells, to whom, and under which policy."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra [dashboard]")
pytest.importorskip("uvicorn", reason="needs the extra [dashboard]")

import uvicorn

from p2pfl.cli.dashboard import view
from p2pfl.cli.dashboard.questions import ProposedHere
from p2pfl.cli.dashboard.view import HomeView
from p2pfl.dashboard import server
from p2pfl.dashboard.keys import Doorkeeper
from p2pfl.dashboard.server import Dashboard
from p2pfl.home import Home
from tests.report.sample import Sample

EVIL = "</main><script>alert(1)</script><img src=x onerror=alert(1)>"
HOSTILE = Sample(federation=EVIL, metric=EVIL[:60], figures={EVIL[:60]: ["0.8", "0.7", "0.9"]}, questions=(EVIL,))


@dataclass
class Served:
    """A dashboard that answers on `port`. links: every token that was told, in order."""

    port: int
    home: Home
    links: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Host": f"127.0.0.1:{self.port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, headers=given)
        return connection.getresponse()

    def enter(self, token: str) -> http.client.HTTPResponse:
        return self.ask("POST", "/session", Authorization=f"Bearer {token}")

    def session(self) -> str:
        return str(json.loads(self.enter(self.links[-1]).read())["session"])

    def view(self, session: str, seen: str = "") -> http.client.HTTPResponse:
        return self.ask("GET", f"/view?seen={seen}", Authorization=f"Bearer {session}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serving(tmp_path_factory.mktemp("dashboard"), HOSTILE)


def serving(folder: Path, sample: Sample) -> Iterator[Served]:
    """A dashboard of that study's home, on a free port, in a thread of its own."""
    with sample.write_into(folder) as home, socket.create_server(("127.0.0.1", 0)) as listening:
        found = Served(listening.getsockname()[1], home)
        dashboard = Dashboard(HomeView(home, ProposedHere(folder)).look, Doorkeeper(os.urandom, found.links.append))
        running = uvicorn.Server(server.config_of(dashboard, found.port))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield found
        running.should_exit = True
        thread.join(60)


@pytest.mark.claim("DASH-1")
def test_without_a_session_nothing_of_the_site_is_told(served: Served) -> None:
    shell = served.ask("GET", "/").read().decode()
    for word in ("charite", "ucl", "rare", "epsilon"):
        assert word not in shell
    for answer in (served.ask("GET", "/view"), served.view("x" * 43), served.view(served.links[-1]), served.enter("")):
        assert answer.status == 403
        assert set(json.loads(answer.read())) == {"error"}
    assert served.ask("GET", "/metrics").status == 404
    assert served.ask("DELETE", "/view").status == 405


@pytest.mark.claim("DASH-1")
def test_a_link_works_once_and_another_one_is_told(served: Served) -> None:
    token = served.links[-1]
    first, second = served.enter(token), served.enter(token)
    assert (first.status, second.status) == (200, 403)
    assert served.links[-1] != token
    session = json.loads(first.read())["session"]
    assert session not in served.links
    assert served.view(session).status == 200


@pytest.mark.claim("DASH-2")
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_rebound_name_and_another_page_are_refused(headers: Mapping[str, str], served: Served) -> None:
    session = served.session()
    asked = {name: value.format(port=served.port) for name, value in headers.items()}
    for method, path in (("GET", "/"), ("GET", "/view"), ("POST", "/session")):
        answer = served.ask(method, path, **{"Authorization": f"Bearer {session}", **asked})
        assert answer.status == 403
        assert len(answer.read()) < 40


@pytest.mark.claim("DASH-2")
def test_every_answer_has_a_policy_and_none_lets_another_origin_in(served: Served) -> None:
    shell = served.ask("GET", "/")
    text = shell.read().decode()
    script, style = re.search(r"<script>(.*?)</script>", text, re.S), re.search(r"<style>(.*?)</style>", text, re.S)
    assert script and style
    hashes = [base64.b64encode(hashlib.sha256(one[1].encode()).digest()).decode() for one in (script, style)]
    wanted = (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    for answer in (shell, served.ask("GET", "/view"), served.ask("GET", "/", Host="evil"), served.enter("no")):
        assert answer.headers["Content-Security-Policy"] == wanted
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        names = {name.lower() for name in answer.headers}
        assert not [name for name in names if name.startswith("access-control-")]
        assert not names & {"set-cookie", "server"}
    assert not re.search(r"(src|href)=\"(?!#)", text)


@pytest.mark.claim("DASH-3")
def test_no_word_of_a_peer_becomes_markup_on_the_page(served: Served) -> None:
    view = served.view(served.session()).read().decode()
    assert "<script" not in view
    assert "<img" not in view
    assert view.count("&lt;script&gt;") >= 2
    assert " style=" not in view, "the policy would drop it"


def test_a_browser_waits_for_a_change_and_is_told_when_there_is_none(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WAIT_S", 0.0)
    session = served.session()
    first = served.view(session)
    seen = first.headers["x-seen"]
    assert first.status == 200
    assert served.view(session, seen).status == 204
    assert served.view(session, "0" * 64).status == 200


def test_it_answers_at_one_address_of_this_machine(served: Served) -> None:
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", served.port), timeout=5)


def test_looking_changes_no_byte_of_the_home(served: Served) -> None:
    def held() -> dict[Path, Any]:
        return {file: file.read_bytes() for file in served.home.path.rglob("*") if file.is_file()}

    before = held()
    served.view(served.session()).read()
    assert held() == before


def test_a_caller_that_never_ends_its_request_holds_its_place_no_longer(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty-two of them, a byte at a time, and nobody else was answered."""
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert slow.recv(1) == b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as silent:
        assert silent.recv(1) == b""


@pytest.mark.parametrize("what", ["damaged", "mistaken"])
def test_a_home_that_cannot_be_read_is_said_on_the_page_with_what_to_try(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each look ended in an error of the server, and the page said for ever that it was not current."""
    for served in serving(tmp_path, Sample()):
        session = served.session()
        if what == "damaged":
            head = next((served.home.folder / "ledger").rglob("head"))
            head.write_bytes(b"damaged")
        else:
            monkeypatch.setattr(view, "report_of", lambda *_, **__: 1 // 0)
        answer = served.view(session)
        text = answer.read().decode()
        assert answer.status == 200
        assert ("P2P-HOME-005" if what == "damaged" else "P2P-USE-004") in text and "Try: <code>" in text
    said = capsys.readouterr().err
    assert said.count("ZeroDivisionError") == (0 if what == "damaged" else 1)


def test_a_doorkeeper_forgets_the_oldest_browser_and_shows_no_secret() -> None:
    told: list[str] = []
    door = Doorkeeper(os.urandom, told.append)
    sessions = [door.enter(told[-1]) for _ in range(17)]
    assert None not in sessions
    assert [door.knows(str(one)) for one in sessions] == [False, *[True] * 16]
    assert not door.knows("") and not door.knows("ü" * 43)
    assert not [one for one in (*told, *map(str, sessions)) if one in repr(door)]


@pytest.mark.parametrize(
    ("absent", "told"),
    [({}, ("0.871", "")), ({4: ("ucl",)}, ("0.871 after 2 of 3 rounds", "not every site is in the sum"))],
)
def test_a_figure_of_an_earlier_model_says_of_which(
    absent: dict[int, tuple[str, ...]], told: tuple[str, str], tmp_path: Path
) -> None:
    with Sample(absent=absent).write_into(tmp_path) as home:
        view = HomeView(home).look()["v"]
    assert (view["metric_last"], view["metric_why"]) == told

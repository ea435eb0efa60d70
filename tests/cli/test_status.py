"""`status` beside a process: which links it shows, and that one which is gone, or hangs, shows none that stands."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl.cli.main import run
from p2pfl.cli.status_links import LATE_S, links_lines, links_told
from p2pfl.clocks import SYSTEM
from p2pfl.errors.mesh import PeerUnreachable
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.mesh.events import LinkStatus
from p2pfl.mesh.events import Path as Route
from p2pfl.node import link_status
from p2pfl.node.live import LiveView
from p2pfl.roster import Address
from p2pfl.sharing import loops
from tests.ledger.sample import look, write

WALL = 1_800_000_000.0  # 2027-01-15 08:00:00Z, when the mesh's clock stands at 1000
UNREACHABLE = PeerUnreachable(peer="cyd", address=Address("10.0.0.3", 7443), evidence="no answer")


def link(path: Route | None, **facts: Any) -> LinkStatus:
    standing = {
        "state": "up" if path else "down",
        "last_seen": 990.0,
        "bytes_sent": 1200,
        "bytes_received": 3400,
        "payload_sent": 0,
        "queued": 5,
        "facts": None,
        "rtt_s": 0.02,
        "speed_bytes_per_s": None,
        "last_error": None,
        "path": path,
        "dialed": True if path else None,
        "since": 900.0,
    }
    return LinkStatus(**{**standing, **facts})


LINKS = {
    "ben": link(Route("direct", "10.0.0.2:7443")),
    "cyd": link(None, last_seen=None, last_error=UNREACHABLE, rtt_s=None),
    "dot": link(Route("relay", "ben"), dialed=False),
    "eve": link(Route("proxy", "eve.example:443")),
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key")]) as made:
        yield made


def told(home: Home, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run(["status", "--home", str(home.path), "--key-file", str(home.path.parent / "ada.key"), *options]) == 0
    return capsys.readouterr().out


def put(home: Home, process: int, began: str, at: float) -> None:
    rows = [link_status.link_row(peer, one, 1000.0, WALL) for peer, one in LINKS.items()]
    home.show(link_status.ITEM, json.dumps({"process": process, "began": began, "at": at, "links": rows}).encode())


def test_a_row_says_how_each_link_runs_since_when_and_when_its_peer_was_heard() -> None:
    rows = {peer: link_status.link_row(peer, one, 1000.0, WALL) for peer, one in LINKS.items()}
    assert rows["ben"] == {
        "peer": "ben",
        "up": True,
        "since": WALL - 100,
        "path": "direct",
        "via": "10.0.0.2:7443",
        "address": "10.0.0.2:7443",
        "dialed": True,
        "bytes_sent": 1200,
        "bytes_received": 3400,
        "queued": 5,
        "round_trip_ms": 20.0,
        "last_seen": WALL - 10,
        "error": None,
    }
    assert [rows["cyd"][key] for key in ("up", "path", "last_seen", "error")] == [False, None, None, UNREACHABLE.code]
    assert [rows["dot"][key] for key in ("path", "via", "address")] == ["relay", "ben", None]
    assert [rows["eve"][key] for key in ("path", "address")] == ["proxy", "eve.example:443"]


def test_what_a_running_process_shows_is_read_as_it_is(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    put(home, os.getpid(), link_status.began(os.getpid()), time.time())
    facts = json.loads(told(home, capsys, "--json"))
    assert (facts["process"], facts["links"]["live"], facts["links"]["process"]) == (os.getpid(), True, os.getpid())
    assert [one["up"] for one in facts["links"]["peers"]] == [True, False, True, True]
    assert facts["links"]["peers"][0]["since"] == "2027-01-15 07:58:20Z"
    text = told(home, capsys)
    assert "links: 3 of 4 up" in text
    assert "relay ben" in text
    assert "to 10.0.0.2:7443" in text


@pytest.mark.skipif(not link_status.began(os.getpid()), reason="this system does not tell when a process began")
def test_a_later_process_of_the_same_number_is_not_taken_for_the_one_that_is_gone(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home, os.getpid(), "another boot/17", time.time() - 7200)  # the lock names this process
    facts = json.loads(told(home, capsys, "--json"))
    assert (facts["process"], facts["links"]["live"]) == (None, False)
    assert not any(one["up"] for one in facts["links"]["peers"])
    assert all(one["bytes_sent"] == 1200 for one in facts["links"]["peers"])
    text = told(home, capsys)
    assert "nobody is at work" in text
    assert "gone without a word, showed them 2 h" in text


def test_two_processes_that_run_at_once_did_not_begin_as_one() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert link_status.began(other.pid) != link_status.began(1) or not link_status.began(other.pid)
    assert link_status.began(other.pid) == "", "it has ended"


def test_a_process_that_hangs_is_said_to() -> None:
    seen: Mapping[str, Any] = {
        "process": 7,
        "began": "",
        "at": WALL,
        "links": [link_status.link_row("ben", LINKS["ben"], 1000.0, WALL)],
    }
    assert "1 of 1 up" in links_lines(links_told(seen, True), WALL + LATE_S)[0]
    assert "hangs" in links_lines(links_told(seen, True), WALL + LATE_S + 1)[0]


def test_half_of_what_was_shown_is_nothing_and_no_error(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    put(home, os.getpid(), "", time.time())
    path = home.path / link_status.ITEM
    path.write_bytes(path.read_bytes()[:40])
    assert json.loads(told(home, capsys, "--json"))["links"] is None


def test_it_is_renewed_when_a_link_changes_and_gone_at_the_end(home: Home) -> None:
    links = {"ben": LINKS["ben"]}
    written: list[list[bool]] = []
    news = asyncio.Event()
    show = home.show

    async def scene() -> None:
        loop = asyncio.get_running_loop()

        def watched(item: str, data: bytes | None) -> None:
            show(item, data)
            if data is not None:
                written.append([one["up"] for one in json.loads(data)["links"]])
                loop.call_soon_threadsafe(news.set)

        home.show = watched  # type: ignore[method-assign]
        async with (
            asyncio.timeout(60),
            link_status.shown(home, lambda: links, SYSTEM, LiveView(home, SYSTEM.wall)),
        ):
            await news.wait()
            news.clear()
            links["ben"] = LINKS["cyd"]
            await news.wait()

    asyncio.run(scene())
    assert written[:2] == [[True], [False]]
    assert not (home.path / link_status.ITEM).exists()


def test_a_disk_that_is_full_ends_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = asyncio.Event()

    async def scene() -> None:
        loop = asyncio.get_running_loop()

        def full(*_: object) -> None:
            loop.call_soon_threadsafe(tried.set)
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr("p2pfl.home.disk.os.replace", full)
        async with (
            asyncio.timeout(60),
            link_status.shown(home, lambda: LINKS, SYSTEM, LiveView(home, SYSTEM.wall)),
        ):
            await tried.wait()

    asyncio.run(scene())
    assert link_status.read(home) is None
    assert not list(home.path.glob("state/*.new"))


@pytest.mark.parametrize(
    ("instructions", "line"),
    [("VAES", "made by compiled loops, with VAES"), (None, "made by numpy: no compiled loops here")],
)
def test_it_says_what_makes_the_masks(
    instructions: str | None,
    line: str,
    home: Home,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = None if instructions is None else SimpleNamespace(INSTRUCTIONS=instructions)
    monkeypatch.setattr(loops, "MODULE", module)
    assert json.loads(told(home, capsys, "--json"))["inner_loops"] == (instructions or "numpy")
    (shown,) = [one for one in told(home, capsys).splitlines() if one.startswith("  masks")]
    assert shown.removeprefix("  masks").strip() == line


def test_it_says_so_where_they_are_not_built(home: Home) -> None:
    """As a process of a machine without a compiler finds it, and as sums there would be made."""
    hidden = (
        "import sys; sys.modules['p2pfl.sharing._kernel'] = None; from p2pfl.__main__ import main; sys.exit(main())"
    )
    asked = [sys.executable, "-c", hidden, "status", "--home", str(home.path), "--json"]
    assert json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["inner_loops"] == "numpy"


def test_what_looks_have_spent_of_held_out_records_is_told_apart(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(told(home, capsys, "--json"))["held_out"] is None
    looks = [look("0", "0.6"), look("0.6", "0.9", alone="1.25"), look("0.9", "0.9", charged=False, alone="1.25")]
    write(home, "site", [(one.record, {}) for one in looks])
    facts = json.loads(told(home, capsys, "--json"))
    assert facts["privacy"] is None
    wanted = {"epsilon": 0.9, "epsilon_alone": 1.25, "delta": 1e-5, "max_epsilon": 1.0, "looks": 2}
    assert facts["held_out"] == wanted
    (line,) = [one for one in told(home, capsys).splitlines() if one.startswith("  held out")]
    assert line.split("  ", 2)[2].strip() == (
        "ε 0.90 of 1 at δ 1e-05; against all other sites together ε 1.25, 2 looks at this site's held-out records"
    )

"""The live view in a real terminal: it is there, it gives way, and it leaves the terminal as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pfl.home import Home
from tests.cli.sites import Sites, Start, ended
from tests.cli.terminals import Terminal

Open = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    """Open a terminal in which `p2pfl` runs with the arguments."""
    opened: list[Terminal] = []

    def begin(*arguments: str, columns: int = 100, **environment: str) -> Terminal:
        opened.append(Terminal(list(arguments), tmp_path, environment, columns))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def test_a_sum_shows_its_links_then_its_result_and_ctrl_c_leaves_a_terminal_whole(
    tmp_path: Path, start: Start, terminal: Open
) -> None:
    sites = Sites(tmp_path, count=3, files=dict.fromkeys(("oslo", "bergen", "tromso"), b""))
    watched = terminal("sum", *sites.common("oslo"), "--value", "4", columns=100)
    shown = watched.until(lambda text: "waiting for bergen (its first hello)" in text)
    assert re.search(r"^oslo  sum ", shown, re.M)
    assert re.search(r"^bergen +down", shown, re.M)
    watched.resize(60, 40)
    watched.until(lambda text: "…" in text)  # the last line no longer fits
    watched.type("\x03")
    assert watched.ended() == 130
    assert not watched.screen.cursor.hidden
    assert watched.text.count("interrupted: nothing final is lost") == 1
    assert "down" not in watched.text.rpartition("stopping")[2]

    others = [start("sum", *sites.common(name), "--value", "7") for name in ("bergen", "tromso")]
    watched = terminal("sum", *sites.common("oslo"), "--value", "4", NO_COLOR="1")
    assert watched.ended() == 0
    assert [ended(one)[0] for one in others] == [0, 0]
    assert "mean 6.00 over 3 sites" in watched.text
    assert not re.search(r"^bergen +up", watched.text, re.M)  # the view is gone
    assert b"\x1b[?2026h" in watched.raw
    assert not re.search(rb"\x1b\[(?:\d+;)*3\dm", watched.raw)
    assert watched.raw.count(b"\x1b[?25l") == watched.raw.count(b"\x1b[?25h")


@pytest.mark.parametrize(("arguments", "environment"), [(["--plain"], {}), ([], {"TERM": "dumb"})])
def test_lines_come_where_they_are_asked_for_or_a_terminal_can_nothing_else(
    tmp_path: Path, terminal: Open, arguments: list[str], environment: dict[str, str]
) -> None:
    sites = Sites(tmp_path, count=3, files=dict.fromkeys(("oslo", "bergen", "tromso"), b""))
    watched = terminal("sum", *sites.common("oslo"), "--value", "4", *arguments, **environment)
    watched.until(lambda text: "listening" in text)
    watched.type("\x03")
    assert watched.ended() == 130
    assert b"\x1b" not in watched.raw


def test_a_doctor_shows_each_link_as_it_is_examined(tmp_path: Path, terminal: Open) -> None:
    sites = Sites(tmp_path, count=3, files=dict.fromkeys(("oslo", "bergen", "tromso"), b""))
    watched = terminal("doctor", *sites.common("oslo"), "--wait", "2")
    watched.until(lambda text: "oslo  doctor  asking and measuring" in text and "bergen  there" in text)
    assert watched.ended() == 1
    assert not re.search(r"^oslo  doctor", watched.text, re.M)
    assert "0 of 2 links work" in watched.text


def test_a_demo_goes_on_without_a_killed_site_and_ctrl_c_ends_it_whole(
    tmp_path: Path, start: Start, terminal: Open
) -> None:
    """All sites at once in one terminal. After Ctrl-C no peer is left, and all ledgers verify: the dead one's, too."""
    options = ("--peers", "4", "--rounds", "500", "--set", "privacy.max_epsilon=100", "--kill", "hungary@2")
    watched = terminal("demo", *options, "--stays-away", "--home", "kept", columns=160)
    watched.until(lambda text: bool(re.search(r"^hungary +round \d +training", text, re.M)))
    rows = (
        r"^hungary +round 2 +killed",
        *(rf"^{name} +round 2 " for name in ("cleveland", "switzerland", "long-beach")),
    )
    watched.until(lambda text: all(re.search(row, text, re.M) for row in rows))
    watched.until(lambda text: "round 2  3 of 4 sites" in text)
    watched.type("\x03")
    assert watched.ended() == 130
    assert not watched.screen.cursor.hidden
    assert "nothing final is lost" in watched.text
    for site in (tmp_path / "kept").iterdir():
        if site.is_dir():
            verified = ended(start("ledger", "verify", "--home", str(site / "home")))
            assert verified[0] == 0, verified[1]
            Home.open(site / "home").close()  # nobody holds its lock: the peer is gone

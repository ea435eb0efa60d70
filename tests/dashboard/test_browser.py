"""The dashboard in a real Chromium: opened by its link, followed as the home changes, by keyboard alone, by night."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra [dashboard]")
pytest.importorskip("uvicorn", reason="needs the extra [dashboard]")

from p2pfl.federation import Federation, draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.node import link_status, question_file, questions
from p2pfl.node.epochs import AGREED
from p2pfl.roster import Address
from p2pfl.statistics.describe import Describe
from p2pfl.statistics.question import Quantity
from tests.browser import OVERFLOW, Browser, browser
from tests.cli.test_status import LINKS, WALL
from tests.dashboard.test_server import Served, serving
from tests.peer.test_statistics import TASK
from tests.report.sample import Sample
from tests.report.test_browser import CONTRAST

NAMES = ("charite", "ben", "cyd", "dot", "eve")
LOOKS = {"desk": (1200, False), "night": (1200, True), "phone": (390, False), "phone-night": (390, True)}
HOSTILE = "<img src=x onerror=document.title=1>.yaml"
TAB, ENTER = ("Tab", 9), ("Enter", 13, "\r")


def until(chromium: Browser, condition: str) -> None:
    """Wait, in the page, until the condition holds."""
    chromium.value(
        f"new Promise(done => {{ const look = () => {condition} ? done(true) : setTimeout(look, 30); look(); }})"
    )


def show(home: object, number: int, waits: dict[str, str]) -> None:
    """What a process that works in the home, this one, would show of its links and its round."""
    rows = [link_status.link_row(peer, one, 1000.0, WALL) for peer, one in LINKS.items()]
    now = {"round": number, "attempt": 0, "phase": "gather", "since": WALL, "training": False, "looked": WALL}
    now |= {"missing": waits, "silent": dict.fromkeys(waits, 12.0)}
    process = {"process": os.getpid(), "began": link_status.began(os.getpid()), "at": WALL}
    home.show(link_status.ITEM, json.dumps({**process, "links": rows, "now": now}).encode())  # type: ignore[attr-defined]


def propose(sample: Sample, home: Home) -> None:
    """A question of ben's lies beside the home, in a file of a hostile name; the home agreed to a table."""
    at = {name: [Address("127.0.0.1", 4000 + place)] for place, name in enumerate(NAMES)}
    members = [Card.sign(sample.keys[name], name, at[name]).member for name in NAMES]
    federation = Federation.parse(draft.peers_file("rare-disease", members, TASK), "peers.yaml")
    home.replace(AGREED, federation.raw)
    asked = Describe((Quantity("age", 0.0, 120.0),))
    told = question_file.text_of(asked, federation)
    file = home.folder.parent / HOSTILE
    file.write_bytes(question_file.to_bytes(told, federation, "ben", sample.keys["ben"]))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    sample = Sample(names=NAMES, rounds=4, absent={2: ("dot",)})
    for found in serving(tmp_path_factory.mktemp("dashboard"), sample):
        propose(sample, found.home)
        show(found.home, 5, {"cyd": "its sum digest"})
        found.home.show(
            "state/traffic", json.dumps([[k, "training", 20_000 + 500 * k, 1, k == 4] for k in range(1, 5)]).encode()
        )
        yield found


@pytest.fixture(scope="module")
def chromium(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Opened by the link, as somebody clicks on it."""
    with browser(tmp_path_factory.mktemp("browser")) as started:
        started.open(f"http://127.0.0.1:{served.port}/#{served.links[-1]}")
        until(started, "document.getElementById('ledger')")
        yield started


def test_the_page_shows_round_links_curves_ledger_and_members(chromium: Browser) -> None:
    def text(part: str) -> str:
        return str(chromium.value(f"document.getElementById('{part}').innerText"))

    assert text("top").startswith("charite in rare-disease")
    assert "Round 5" in text("now")
    assert "Waiting for cyd: its sum digest has not come" in text("now")
    assert chromium.value("document.querySelector('[aria-current=step]').textContent") == "gather"
    assert "3 of 4 up" in text("links")
    assert "relay ben" in text("links")
    assert "0.871" in text("metric")
    assert "2.50" in text("epsilon")
    assert "22.0 kB in the last round, since it was taken up" in text("traffic")
    assert re.search(r"of trainings and of questions.*would send [0-9.]+ k?B in one of training", text("traffic"))
    assert "verified" in text("ledger")
    assert all(name in text("members") for name in NAMES)
    assert chromium.value("location.hash") == "", "the link's token is out of the address"


@pytest.mark.parametrize("look", LOOKS)
def test_the_dashboard_reads_well_at_every_width_by_day_and_by_night(
    look: str, chromium: Browser, tmp_path: Path
) -> None:
    width, dark = LOOKS[look]
    chromium.look(width=width, dark=dark)
    chromium.picture(tmp_path / f"dashboard-{look}.png")
    assert chromium.value(OVERFLOW) <= 0
    assert chromium.value(CONTRAST) >= 4.5


@pytest.mark.parametrize("look", LOOKS)
def test_the_numbers_of_every_axis_are_whole_and_have_as_many_decimals(look: str, chromium: Browser) -> None:
    width, dark = LOOKS[look]
    chromium.look(width=width, dark=dark)
    left = "Math.min(...[...document.querySelectorAll('#main svg text')].map(one => one.getBBox().x))"
    assert chromium.value(left) >= 0
    told = chromium.value("[...document.querySelectorAll('#metric svg text')].slice(0, 2).map(one => one.textContent)")
    assert told == ["0.922", "0.820"]
    members = "document.querySelector('#members .wide')"
    assert chromium.value(f"{members}.scrollWidth - {members}.clientWidth") <= 0, "ε of each member is seen"


def test_what_changes_in_the_home_changes_on_the_page_and_focus_stays(chromium: Browser, served: Served) -> None:
    chromium.value("document.querySelector('#links [tabindex]').focus()")
    chromium.value("document.getElementById('ledger').dataset.mine = 'kept'")
    show(served.home, 6, {})
    until(chromium, "document.querySelector('#now h2').textContent === 'Round 6'")
    assert "Waiting" not in chromium.value("document.getElementById('now').innerText")
    assert chromium.value("document.activeElement.getAttribute('aria-label')") == "Links by site"


@pytest.mark.claim("DASH-3", "DASH-4")
def test_a_question_of_another_site_waits_on_the_page_as_text_until_it_is_approved(
    chromium: Browser, served: Served
) -> None:
    part = "document.getElementById('approvals')"
    assert "ben proposes describe of age. Columns: age." in chromium.value(f"{part}.innerText")
    assert HOSTILE in chromium.value(f"{part}.querySelector('code').textContent")
    assert chromium.value(f"{part}.querySelector('img')") is None
    federation = Federation.parse(served.home.read(AGREED) or b"", "peers.yaml")
    (file,) = served.home.folder.parent.glob("*.yaml")
    questions.approve(served.home, federation, question_file.load(file, federation).told)
    show(served.home, 7, {})  # the page looks again when something is shown, or after some seconds
    until(chromium, f"{part}.innerText.includes('approved here, and not asked yet: describe of age')")
    assert "ben proposes" not in chromium.value(f"{part}.innerText")


@pytest.mark.claim("DASH-2")
def test_it_talks_to_its_own_server_alone_and_breaks_no_policy(chromium: Browser, served: Served) -> None:
    asked = {one.split("?")[0] for one in chromium.requested if one != "about:blank"}
    place = f"http://127.0.0.1:{served.port}"
    assert {one.split("#")[0] for one in asked} <= {
        f"{place}/",
        f"{place}/session",
        f"{place}/view",
        f"{place}/favicon.ico",
    }
    assert [one for one in chromium.complaints if "favicon" not in one and "404" not in one] == []


def test_it_is_opened_and_walked_through_by_keyboard_alone(served: Served, tmp_path: Path) -> None:
    """Without the link: the field has the focus, the token is pasted, Enter opens; Tab goes from part to part."""
    with browser(tmp_path) as chromium:
        chromium.open(f"http://127.0.0.1:{served.port}/")
        until(chromium, "document.activeElement.id === 'token'")
        chromium.call("Input.insertText", text="not-the-token")
        chromium.press(*ENTER)
        until(chromium, "document.getElementById('why').textContent.includes('was used')")
        chromium.call("Input.insertText", text=served.links[-1])
        chromium.press(*ENTER)
        until(chromium, "document.getElementById('ledger')")
        chromium.value("document.activeElement.blur()")
        met = []
        for _ in range(4):
            chromium.press(*TAB)
            met.append(
                chromium.value(
                    "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
                )
            )
        assert "Links by site" in met
        assert "Members and fingerprints" in met
        assert chromium.value("document.getElementById('door').hidden")

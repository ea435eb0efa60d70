"""What a running process shows of its round: phase, who is waited for, traffic of past rounds; and that it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.clocks import SYSTEM
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.node import link_status
from p2pfl.node.live import FINAL, MOST_ROWS, SHARE, TRAFFIC, LiveView, read_traffic
from p2pfl.node.progress import PassCharged, PassTrained, PhaseEntered, RoundFinal, RoundLeft, StillWaiting
from p2pfl.sharing.state import Phase


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key")]) as made:
        yield made


def final(number: int, purpose: str = "training") -> RoundFinal:
    return RoundFinal(number, 9, ("ada",), {}, {}, {"purpose": purpose}, 1.0, 1000 + number, 800, taken_up=False)


def test_the_round_under_way_is_shown_by_phase_with_who_is_waited_for(home: Home) -> None:
    view = LiveView(home, lambda: 50.0)
    assert view.facts is None
    view(PhaseEntered(3, 1, "share"))
    view(PassCharged(3, "1.0", "3.0"))
    assert view.facts is not None
    assert (view.facts["round"], view.facts["attempt"], view.facts["phase"]) == (3, 1, "share")
    assert view.facts["training"]
    view(PassTrained(3, 2.0))
    view(StillWaiting(3, "training", {"bob": "its Propose"}, {"bob": None, "cyd": 7.0}))
    facts = view.facts
    assert facts is not None
    assert (facts["phase"], facts["training"], facts["looked"]) == ("share", False, 50.0)
    assert (facts["missing"], facts["silent"]) == ({"bob": "its Propose"}, {"bob": None, "cyd": 7.0})
    view(PhaseEntered(3, 1, "propose"))
    assert view.facts is not None
    assert view.facts["missing"] == {}
    view(RoundLeft(3, 1, ("bob",), False))
    assert view.facts is not None
    assert view.facts["phase"] == ""


def test_a_pass_begins_the_next_round_and_ends_no_other(home: Home) -> None:
    view = LiveView(home, lambda: 50.0)
    view(final(3))
    view(PassCharged(4, "1.0", "3.0"))
    assert view.facts is not None
    assert (view.facts["round"], view.facts["phase"], view.facts["training"]) == (4, "share", True)
    view(PhaseEntered(4, 0, "propose"))
    view(PassTrained(4, 1.0))
    assert view.facts is not None
    assert (view.facts["phase"], view.facts["training"]) == ("propose", False)


def test_a_site_that_waits_before_its_first_round_shows_for_whom(home: Home) -> None:
    view = LiveView(home, lambda: 50.0)
    view(StillWaiting(0, "genesis", {"bob": "its first hello"}, {"bob": None}))
    assert view.facts is not None
    assert (view.facts["phase"], view.facts["missing"]) == ("genesis", {"bob": "its first hello"})


def test_traffic_of_rounds_outlives_the_process_and_stays_bounded(home: Home) -> None:
    view = LiveView(home, lambda: 50.0)
    for number in (1, 2):
        view(final(number))
    view.keep(home)
    later = LiveView(home, lambda: 60.0)
    later(final(1, "sum"))
    later.keep(home)
    rows = read_traffic(home)
    found = [(1, "training", 1001, 800), (2, "training", 1002, 800), (1, "sum", 1001, 800)]
    assert rows == [(*row, False) for row in found]
    for number in range(MOST_ROWS):
        later(final(number))
    assert len(later.rows) == MOST_ROWS


def test_a_process_shows_its_round_beside_its_links_and_leaves_the_traffic_behind(home: Home) -> None:
    view, held = LiveView(home, SYSTEM.wall), list[object]()

    async def scene() -> None:
        async with asyncio.timeout(60), link_status.shown(home, dict, SYSTEM, view):
            view(PhaseEntered(1, 0, "share"))
            view(final(1))
            while (seen := link_status.read(home)) is None or seen["now"] is None:
                await asyncio.sleep(0.05)
            held.append(seen["now"]["phase"])

    asyncio.run(scene())
    assert held == ["final"]
    assert link_status.read(home) is None
    assert read_traffic(home) == [(1, "training", 1001, 800, False)]


def test_the_traffic_of_a_round_that_was_taken_up_is_kept_as_that(home: Home) -> None:
    view = LiveView(home, lambda: 50.0)
    view(replace(final(1), taken_up=True))
    view.keep(home)
    assert read_traffic(home) == [(1, "training", 1001, 800, True)]
    home.show(TRAFFIC, b'[[1, "training", 1001, 800]]')  # as an earlier version kept it
    assert read_traffic(home) == [(1, "training", 1001, 800, False)]


@pytest.mark.parametrize("broken", [b"[", b"{}", b'[["x"]]', b"7", b"[[1, 2, null, []]]"])
def test_a_broken_record_of_traffic_counts_as_none(broken: bytes, home: Home) -> None:
    home.show(TRAFFIC, broken)
    assert read_traffic(home) == []
    home.place(TRAFFIC).write_bytes(b"torn")
    assert read_traffic(home) == []


def test_its_phases_are_those_of_a_round() -> None:
    assert (Phase.SHARE.value, Phase.FINAL.value) == (SHARE, FINAL)

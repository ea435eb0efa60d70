"""The live view without a process: what it shows, how it is drawn, and what never reaches a terminal."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import pyte
import pytest
from rich.console import RenderableType

from p2pfl.cli import output
from p2pfl.cli.demo.kill import Death, Dying
from p2pfl.cli.live.demo import DemoView
from p2pfl.cli.live.doctor import DoctorView
from p2pfl.cli.live.region import BEGIN, COLOUR, END, Region, cells
from p2pfl.cli.live.screen import Screen, fits, lines_of
from p2pfl.cli.live.site import SiteView
from p2pfl.cli.live.words import PHASES, bar
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.mesh.events import LinkStatus, Path
from p2pfl.mesh.probe.diagnosis import Diagnosis
from p2pfl.node import progress as events
from p2pfl.node.progress import Moment
from p2pfl.sharing.state import Phase
from tests.federation.sample import NAMES, peers_yaml

HOSTILE = "\x1b]0;owned\x07\x1b[2J [red]x[/red]\r\nnext \u202egnp.exe"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
WIDTHS = (20, 60, 80, 120, 200)


def text(view: RenderableType, width: int = 100) -> str:
    return "\n".join(lines_of(view, width, None))


def link(path: Path | None = None, rtt_s: float | None = None) -> LinkStatus:
    return LinkStatus("up" if path else "down", None, 1200, 3400, 0, 0, None, rtt_s, None, None, path)


def training() -> SiteView:
    """A site in the middle of its second round."""
    view = SiteView(Federation.parse(peers_yaml(), "peers.yaml"), "join", lambda: 0.0)
    view.name = NAMES[0]
    outcome = {"metric": "auc", "figures": {"auc": ["0.871", "", ""]}}
    view(events.RoundFinal(1, 9, NAMES, outcome, {NAMES[0]: "0.5"}, {}, 4.0, 10, 10, taken_up=False))
    view(events.PassCharged(2, "0.84", "3"))
    view(events.PassStepped(2, 3, 12))
    links = {NAMES[1]: link(Path("relay", NAMES[2]), 0.0125), NAMES[2]: link()}
    view.look(links, Moment("training", 2, {NAMES[2]: "its share"}, (0, 0)))
    return view


def test_a_sites_view_says_round_metric_privacy_steps_links_and_who_is_waited_for() -> None:
    shown = text(training().render(10.0, ""))
    for part in (NAMES[0], "round 2 of 8", "AUC 0.871", "ε 0.84 of", "10 s", "about 28 s left", "3 of 12 steps"):
        assert part in shown, (part, shown)
    assert re.search(rf"{NAMES[1]} +up +relay {NAMES[2]} +12.5 ms +sent 1.2 kB +got 3.4 kB", shown), shown
    assert re.search(rf"{NAMES[2]} +down +never seen", shown), shown
    assert f"waiting for {NAMES[2]} (its share)" in shown


def test_bulk_is_counted_in_pieces_and_a_large_sum_in_parts_of_a_hundred() -> None:
    view = training()
    for phase in ("mask", "gather"):
        view.look({}, Moment(phase, 2, {}, (3, 12)))
        assert f"{PHASES[phase]}" in text(view.render(1.0, ""))
        assert "3 of 12 pieces" in text(view.render(1.0, ""))
    view.look({}, Moment("gather", 2, {}, (30_000, 120_000)))
    assert "25 of 100 %" in text(view.render(1.0, ""))


def test_what_takes_a_moment_is_said_in_place_of_the_phase() -> None:
    shown = text(training().render(1.0, "verifying the ledger  4 s"))
    assert "verifying the ledger 4 s" in shown
    assert "training" not in shown


def test_every_phase_of_a_round_has_words() -> None:
    assert {phase.value for phase in Phase} <= PHASES.keys()


def views_of_hostile_texts() -> Iterator[RenderableType]:
    site = training()
    site.name = HOSTILE
    site(events.EpochBegan(2, [HOSTILE, NAMES[1]], None))  # type: ignore[arg-type]
    site.look({HOSTILE: link(Path("relay", HOSTILE))}, Moment(HOSTILE, 2, {HOSTILE: HOSTILE}, (1, 2)))
    yield site.render(1.0, HOSTILE)
    demo = DemoView([HOSTILE], 3, lambda: 0.0)
    for event in (
        {"event": "phase", "round": 1, "attempt": HOSTILE, "phase": HOSTILE},
        {"event": "round", "round": 1, "bytes_sent": 5, "metric": HOSTILE, "value": 0.5},
        {"event": "waiting", "missing": {HOSTILE: HOSTILE}},
    ):
        demo.take(HOSTILE, event)
    yield demo.render(1.0, HOSTILE)
    yield DoctorView(HOSTILE, [HOSTILE], lambda: {HOSTILE: Diagnosis(HOSTILE, there=HOSTILE)}, 9.0).render(1.0, HOSTILE)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_of_a_peer_steers_the_terminal_is_read_as_markup_or_makes_a_line(width: int) -> None:
    for view in views_of_hostile_texts():
        for colours in (None, "truecolor"):
            lines = lines_of(view, width, colours)
            told = [COLOUR.sub("", line) for line in lines]
            assert not any(CONTROL.search(line) for line in told), told
            assert all(cells(line) <= width for line in lines)
            assert not any(line.startswith("next") for line in told)
        assert width < 60 or any("[red]x[/red]" in line for line in told)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_view_keeps_to_the_width_and_the_name_of_every_site(width: int) -> None:
    lines = lines_of(training().render(3.0, ""), width, "256")
    assert all(cells(line) <= width for line in lines)
    if width >= 60:
        assert all(any(name in line for line in lines) for name in NAMES)


def test_no_color_takes_the_colours_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    told = "\n".join(lines_of(training().render(3.0, ""), 100, "truecolor"))
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d)", told)  # bold and dim are no colours


def test_a_bar_is_ascii_where_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert bar(3, 12, "steps").plain.isascii()
    assert bar(5, 0, "steps").plain == ""
    assert "12 of 12" in bar(40, 12, "steps").plain


class Drawn:
    """A stream whose writes an emulator shows; `frames` are the writes."""

    encoding = "utf-8"

    def __init__(self, columns: int = 40, rows: int = 12) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.screen.set_mode(pyte.modes.LNM)  # as a terminal line discipline does, \n begins a line
        self._stream, self.frames = pyte.Stream(self.screen), list[str]()

    def write(self, text: str) -> int:
        self.frames.append(text)
        self._stream.feed(text)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]


def test_a_region_is_drawn_in_place_and_leaves_nothing_behind() -> None:
    drawn, size = Drawn(), os.terminal_size((40, 12))
    region = Region(drawn, lambda: size)  # type: ignore[arg-type]
    drawn.write("before\n")
    region.draw(["one", "two", "three"])
    region.draw(["four", "\x1b[1mfive\x1b[0m"])
    assert drawn.lines == ["before", "four", "five"]
    region.erase()
    drawn.write("after\n")
    assert drawn.lines == ["before", "after"]
    region.draw([str(number) for number in range(30)])
    assert len(drawn.lines) <= 12
    region.draw(["x" * 60, "fits"])
    assert drawn.lines[-1] == "fits"
    assert all(frame.count(BEGIN) == frame.count(END) for frame in drawn.frames)
    assert drawn.frames[-1].endswith(END)


def test_lines_that_a_narrower_terminal_has_wrapped_are_erased_with_it() -> None:
    """A terminal that becomes narrower breaks what stands on it: 30 columns take two rows of 20."""
    drawn, size = Drawn(20), [os.terminal_size((40, 12))]
    region = Region(drawn, lambda: size[0])  # type: ignore[arg-type]
    drawn.write("kept\n")
    region.draw(["a" * 30, "b" * 30])  # on 20 columns: as it stands once it is wrapped
    size[0] = os.terminal_size((20, 12))
    region.draw(["c"])
    assert drawn.lines == ["kept", "c"]


class Still:
    """A view of one line."""

    def render(self, now: float, doing: str) -> RenderableType:
        return f"still {doing}"


def test_what_is_printed_meanwhile_stands_above_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn()
    monkeypatch.setattr("sys.stderr", drawn)
    with Screen(Still(), drawn):  # type: ignore[arg-type]
        output.progress("first")
        with output.doing("verifying"):
            output.progress("second")
            assert drawn.lines[:2] == ["first", "second"]
            assert drawn.lines[2].startswith("still verifying")
    output.progress("third")
    assert drawn.lines == ["first", "second", "third"]


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Drawn):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    with Screen(Still(), Gone()), output.doing("verifying"):  # type: ignore[arg-type]
        pass


def test_without_a_view_a_line_says_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SILENT_S", 0.001)
    told, said = threading.Event(), list[str]()
    with output.doing("verifying the ledger", lambda line: (said.append(line), told.set())[1]):
        assert told.wait(60)
    assert said == ["verifying the ledger"]


@pytest.mark.parametrize("terminal", ["", "dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal: str) -> None:
    assert not fits(Drawn(), {"TERM": terminal})  # type: ignore[arg-type]
    assert not fits(io.StringIO(), {"TERM": "xterm"})
    assert fits(Drawn(), {"TERM": "xterm"})  # type: ignore[arg-type]


def charged(peer_round: int) -> dict[str, Any]:
    return {"event": "charged", "round": peer_round, "epsilon": "0.5"}


def test_a_demos_site_dies_in_its_round_once_and_comes_back_after_it() -> None:
    did: list[str] = []
    dying = Dying(
        Death("hungary", 2), lambda site: did.append(f"kill {site}"), lambda site: did.append(f"start {site}")
    )
    for peer, event in (
        ("hungary", charged(1)),
        ("cleveland", charged(2)),
        ("cleveland", {"event": "round", "round": 1}),
    ):
        dying.heed(peer, event)
        assert did == []
    dying.heed("hungary", charged(2))
    assert did == ["kill hungary"]
    dying.heed("cleveland", {"event": "round", "round": 1})
    dying.heed("hungary", {"event": "round", "round": 2})
    assert did == ["kill hungary"]
    dying.heed("cleveland", {"event": "round", "round": 2})
    dying.heed("cleveland", {"event": "round", "round": 3})
    dying.heed("hungary", charged(2))
    assert did == ["kill hungary", "start hungary"]
    assert dying.facts() == {"site": "hungary", "round": 2, "returned": True}


@pytest.mark.parametrize(
    ("death", "names", "why"),
    [
        (Death("oslo", 1), ("a", "b", "c", "d"), "the sites are a, b, c, d"),
        (Death("a", 1), ("a", "b", "c"), "no round completes"),
        (Death("a", 9), ("a", "b", "c", "d"), "round 9 of 5"),
    ],
)
def test_a_death_that_the_demo_cannot_show_is_refused(death: Death, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(WrongUse) as refused:
        death.check(names, 5)
    assert why in refused.value.evidence


def test_a_demos_view_shows_all_sites_what_each_does_and_who_is_dead() -> None:
    view = DemoView(["oslo", "bergen"], 5, lambda: 0.0)
    step = {"event": "step", "round": 1, "step": 4, "steps": 8}
    for event in (charged(1), step, {"event": "link_up", "peer": "oslo"}):
        view.take("bergen", event)
    assert "4 of 8 steps" in text(view.render(1.0, ""))
    assert "1 link" in text(view.render(1.0, ""))
    view.take("oslo", {"event": "killed"})
    shown = text(view.render(1.0, ""))
    assert re.search(r"oslo +killed", shown)
    view.take("oslo", {"event": "started"})
    assert re.search(r"oslo +loading PyTorch", text(view.render(1.0, "")))

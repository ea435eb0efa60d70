"""The committed drawing of a round is the one that the table makes, and it leaves nothing of the table out."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

from p2pfl.sharing.state import Phase
from p2pfl.sharing.table import EVENTS, GUARDED, Ignore, Keep, Transition
from tools import draw_rounds

TEXT = unescape(re.sub(r"<[^>]+>", "\n", draw_rounds.draw()))


def test_the_committed_drawing_is_what_the_script_draws() -> None:
    assert draw_rounds.FILE.read_bytes() == draw_rounds.draw().encode(), "python -m tools.draw_rounds"


def test_every_row_of_the_table_stands_in_the_drawing_as_often_as_in_the_table() -> None:
    rows = [
        f"{draw_rounds.spoken(kind)} ► {draw_rounds.action(cell.action)}"
        for (_, kind), cell in EVENTS.items()
        if isinstance(cell, Transition)
    ]
    ready = [
        f"if {draw_rounds.action(when.true)} ► {draw_rounds.action(when.action)}"
        for whens in GUARDED.values()
        for when in whens
    ]
    flat = re.sub(r"\s+", " ", TEXT)
    for said in {*rows, *ready}:
        found = len(re.findall(rf"(?<=\s)(?<!✉\s){re.escape(said)}(?![\w.])", flat))
        assert found == (rows + ready).count(said), said


def test_the_drawing_says_every_reason_phase_and_kept_letter() -> None:
    """Every reason for ignoring, every phase, every letter that is kept."""
    flat = re.sub(r"\s+", " ", TEXT)
    reasons = {cell.reason for cell in EVENTS.values() if isinstance(cell, Ignore)}
    assert all(reason in flat for reason in reasons)
    assert all(f"\n{phase.name}\n" in TEXT for phase in Phase)
    kept = sum(isinstance(cell, Keep) for cell in EVENTS.values())
    listed = [
        each
        for phase in Phase
        for heading, text in draw_rounds.within(phase)
        if heading == "kept for later"
        for each in text.split(", ")
    ]
    assert len(listed) == kept


def test_the_drawing_is_well_formed_and_needs_nothing_from_elsewhere() -> None:
    root = ElementTree.fromstring(draw_rounds.draw())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "href" not in draw_rounds.draw()
    assert "url(#head)" in draw_rounds.draw()


def test_no_text_runs_out_of_its_box() -> None:
    for phase in Phase:
        for _, text in draw_rounds.within(phase):
            assert all(len(line) <= draw_rounds.CHARACTERS + 20 for line in draw_rounds._folded(text))

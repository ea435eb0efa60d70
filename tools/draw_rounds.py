"""Draw docs/spec/rounds.svg from the table of the protocol: python -m tools.draw_rounds [--check].

Phases are boxes from top to bottom. What an event does within a phase stands in its box; an arrow is a row that leads
elsewhere, with the event's name: solid when an event came, dashed when a guarded row became true. ABANDON leads back
up. Nothing is written by hand: a row that the table gains appears here.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from p2pfl import messages
from p2pfl.messages import Message
from p2pfl.sharing import events
from p2pfl.sharing.state import Phase
from p2pfl.sharing.table import EVENTS, GUARDED, Guarded, Ignore, Keep, Transition
from tools.written import write_or_check

FILE: Final = Path(__file__).parents[1] / "docs" / "spec" / "rounds.svg"
LEFT: Final = 60  # of the boxes: beside them ABANDON goes up
WIDE: Final = 940
GAP: Final = 26  # between a box and its arrows, and the next box
LINE: Final = 17
ARROW: Final = 19  # height that an arrow's label takes
COLUMN: Final = 150  # where what stands behind a heading begins
LEGEND: Final = (
    "✉ a letter of a peer · ► action, file.function · solid: an event came · dashed: tried after every event · "
    "what stands in no box is refused"
)
CHARACTERS: Final = 108  # of small text in one line of a box


def action(made: Callable[..., Any]) -> str:
    """The action by its file and function, as it stands in the table."""
    return f"{made.__module__.rsplit('.', 1)[-1]}.{made.__name__}"


def spoken(kind: type) -> str:
    """An event's name; a letter's with an envelope before it, since a peer sent it."""
    return f"✉ {kind.__name__}" if issubclass(kind, Message) else kind.__name__


@dataclass(frozen=True)
class Arrow:
    """A row that leads to another phase, or back to this one's beginning with the next attempt."""

    to: Phase
    label: str
    ready: bool


def cells(phase: Phase, wanted: type) -> list[tuple[type, Any]]:
    """What the table says about `phase`, letters first, both in the order of their numbers or definition."""
    letters: list[type] = [messages.KINDS[number] for number in sorted(messages.KINDS)]
    order = [*letters, *(kind for kind in vars(events).values() if isinstance(kind, type))]
    found = {kind: cell for (at, kind), cell in EVENTS.items() if at is phase and isinstance(cell, wanted)}
    return [(kind, found[kind]) for kind in order if kind in found]


def within(phase: Phase) -> list[tuple[str, str]]:
    """(heading, text) of all that leads nowhere else."""
    rows = [f"{spoken(kind)} ► {action(row.action)}" for kind, row in cells(phase, Transition) if row.next is phase]
    dashed = [f"if {action(row.true)} ► {action(row.action)}" for row in GUARDED[phase] if _stays(phase, row)]
    kept = [spoken(kind) for kind, _ in cells(phase, Keep)]
    texts = [("runs", "   ".join(rows)), ("when true", "   ".join(dashed)), ("kept for later", ", ".join(kept))]
    reasons: dict[str, list[str]] = {}
    for kind, cell in cells(phase, Ignore):
        reasons.setdefault(cell.reason, []).append(spoken(kind))
    texts += [("ignored", f"{', '.join(kinds)}: {reason}") for reason, kinds in reasons.items()]
    return [(heading, text) for heading, text in texts if text]


def arrows(phase: Phase) -> list[Arrow]:
    """All that leads on: rows for events, then guarded rows in the order in which they are tried."""
    solid = [
        Arrow(row.next, f"{spoken(kind)} ► {action(row.action)}", False)
        for kind, row in cells(phase, Transition)
        if row.next is not phase
    ]
    return solid + [_dashed(row) for row in GUARDED[phase] if not _stays(phase, row)]


def _stays(phase: Phase, row: Guarded) -> bool:
    """False also for the row that begins the next attempt while this one still stands in its first phase."""
    order = list(Phase)
    back = {each.action for at, rows in GUARDED.items() for each in rows if order.index(each.next) < order.index(at)}
    return row.next is phase and row.action not in back


def _dashed(row: Guarded) -> Arrow:
    return Arrow(row.next, f"if {action(row.true)} ► {action(row.action)}", True)


class Drawing:
    """Elements of an SVG, added from top to bottom."""

    def __init__(self) -> None:
        self.elements: list[str] = []
        self.y = 0

    def text(self, x: int, y: int, said: str, style: str = "small") -> None:
        self.elements.append(f'<text x="{x}" y="{y}" class="{style}" xml:space="preserve">{escape(said)}</text>')

    def line(self, points: str, style: str, head: bool = True) -> None:
        end = ' marker-end="url(#head)"' if head else ""
        self.elements.append(f'<polyline points="{points}" class="{style}"{end}/>')

    def box(self, title: str, rows: list[tuple[str, str]]) -> tuple[int, int]:
        """A box with a title and rows of small text; returns its upper and lower edge."""
        lines: list[tuple[str, str]] = []
        for heading, text in rows:
            folded = _folded(text)
            lines += [(heading if place == 0 else "", part) for place, part in enumerate(folded)]
        top, height = self.y, 38 + LINE * len(lines)
        self.elements.append(f'<rect x="{LEFT}" y="{top}" width="{WIDE}" height="{height}" rx="6" class="box"/>')
        self.text(LEFT + 14, top + 23, title, "title")
        last = ""
        for place, (heading, part) in enumerate(lines):
            y = top + 44 + LINE * place
            if heading and heading != last:
                self.text(LEFT + 14, y, heading, "heading")
            last = heading or last
            self.text(LEFT + COLUMN, y, part)
        self.y = top + height
        return top, self.y


def _folded(text: str) -> list[str]:
    """Lines of at most CHARACTERS; an `event ► action` is never broken."""
    marked = text.replace("   ", "\x00").replace(" ", "\xa0") if "►" in text else text
    wrapped = textwrap.wrap(marked.replace("\x00", " \x00"), CHARACTERS, break_long_words=False, break_on_hyphens=False)
    return [part.replace("\xa0", " ").replace(" \x00", "     ").lstrip("\x00") for part in wrapped]


def draw() -> str:
    """The whole picture."""
    picture = Drawing()
    picture.text(LEFT, 30, "One round, phase by phase (drawn from p2pfl/sharing/table.py)", "title")
    picture.text(LEFT, 52, LEGEND)
    picture.y = 72
    tops: dict[Phase, int] = {}
    backs: list[int] = []
    for phase in Phase:
        tops[phase], bottom = picture.box(phase.name, within(phase))
        _leave(picture, arrows(phase), phase, bottom, backs)
    _back(picture, tops[Phase.SHARE], backs)
    return _document(picture)


def _leave(picture: Drawing, found: list[Arrow], phase: Phase, bottom: int, backs: list[int]) -> None:
    """The arrows below a box: those to the next phase go down, those further down say where, ABANDON turns left."""
    order = list(Phase)
    following = order[order.index(phase) + 1] if phase is not order[-1] else None
    down = [each for each in found if order.index(each.to) > order.index(phase)]
    y = bottom
    for each in down:
        y += ARROW
        there = "" if each.to is following else f" ▼ {each.to.name}"
        style = "dashed" if each.ready else "solid"
        picture.line(f"{LEFT + 20},{y - 5} {LEFT + 60},{y - 5}", style, head=bool(there))
        picture.text(LEFT + 68, y, f"{each.label}{there}")
    y = max(y, bottom)
    for each in found:
        if each not in down:
            y += ARROW
            picture.line(f"{LEFT + 20},{y - 5} 28,{y - 5}", "dashed" if each.ready else "solid", head=False)
            picture.text(LEFT + 68, y, f"{each.label} ▲ {each.to.name} of the next attempt")
            backs.append(y - 5)
    picture.y = y + GAP if found else y + GAP // 2
    if following is not None:
        solid = any(each.to is following and not each.ready for each in down)
        picture.line(f"{LEFT + 20},{bottom} {LEFT + 20},{picture.y}", "solid" if solid else "dashed")


def _back(picture: Drawing, top: int, backs: list[int]) -> None:
    if backs:
        picture.line(f"28,{max(backs)} 28,{top + 18} {LEFT},{top + 18}", "dashed")


def _document(picture: Drawing) -> str:
    wide, high = LEFT + WIDE + 30, picture.y + 24
    style = (
        ".box{fill:#f7f7f4;stroke:#333}.solid,.dashed{fill:none;stroke:#333;stroke-width:1.3}"
        ".dashed{stroke-dasharray:5 4}text{font-family:DejaVu Sans,Verdana,sans-serif;fill:#111}"
        ".title{font-size:15px;font-weight:bold}.small{font-size:11.5px}.heading{font-size:11.5px;fill:#555}"
    )
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#333"/></marker>'
    )
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    parts = [opened, f"<style>{style}</style>", f"<defs>{head}</defs>", ground]
    return "\n".join([*parts, *picture.elements, "</svg>", ""])


def main() -> int:
    return write_or_check({FILE: draw()})


if __name__ == "__main__":
    sys.exit(main())

"""What the views share: words for phases, bars, and text that can be nothing but text."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Final

from rich.text import Text

from p2pfl.cli.output import duration, shown

BAR: Final = 16  # columns of a bar
PHASES: Final[Mapping[str, str]] = {
    "": "between two rounds",
    "genesis": "waiting for every site's first hello",
    "hello": "waiting for hellos",
    "ledger": "fetching the ledger",
    "catching up": "fetching what was missed",
    "training": "training",
    "share": "dealing shares",
    "propose": "agreeing on who is in",
    "mask": "sending masked words",
    "gather": "summing masked words",
    "ballot": "voting",
    "unmask": "opening the sum",
    "confirm": "confirming the sum",
    "final": "the round is final",
}


def plain(words: object, style: str = "") -> Text:
    """`words` of anybody as text of one line: no markup is read in it, and nothing in it steers the terminal."""
    return Text(" ".join(shown(str(words)).split()), style, no_wrap=True, overflow="ellipsis")


def phase_of(phase: str) -> str:
    """What people call it."""
    return PHASES.get(phase, phase)


def bar(done: int, of: int, what: str) -> Text:
    """`12 of 25 steps`, drawn; empty where there is nothing to count."""
    if of <= 0:
        return Text()
    done = max(0, min(done, of))
    full = BAR * done // of
    drawn, left = ("━", "─") if unicode() else ("#", ".")
    return Text.assemble((drawn * full, "green"), (left * (BAR - full), "dim"), f" {done} of {of} {what}")


def unicode() -> bool:
    """stderr takes more than ASCII."""
    return (getattr(sys.stderr, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def left_of(spent: float, done: int, of: int) -> str:
    """How long the rest takes, if it goes on as it has; empty before that can be said."""
    if done <= 0 or of <= done or not math.isfinite(spent):
        return ""
    return f"about {duration(spent / done * (of - done))} left"


def joined(parts: list[Text]) -> Text:
    """The parts that say something, two blanks apart."""
    line = Text("  ").join(part for part in parts if part.plain)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line

"""What a running process shows of its round, beside its links: the phase, who is waited for, and what each round sent.

An observer keeps it; `link_status` writes it into the home, for another process that opens the home. The traffic of
past rounds stays there when the process has ended: no ledger holds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from p2pfl.errors import P2PFLError
from p2pfl.home import Home
from p2pfl.node.progress import (
    AttemptAbandoned,
    PassCharged,
    PassRepeated,
    PassTrained,
    PhaseEntered,
    Progress,
    RoundFinal,
    RoundLeft,
    StillWaiting,
)

TRAFFIC: Final = "state/traffic"
SHARE: Final = "share"  # values of sharing's Phase, which would load numpy where only a home is read
FINAL: Final = "final"
MOST_ROWS: Final = 2000  # rounds whose traffic is kept
# Round, purpose, bytes on the wire, bytes of them that are words of the sum, whether they count from where a process
# took the round up.
Row = tuple[int, str, int, int, bool]


class LiveView:
    """An observer. `changes` counts what it has seen that is worth showing. wall: Unix seconds."""

    def __init__(self, home: Home, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.rows = read_traffic(home)
        self.changes = 0
        self.unkept = False  # there are rows that the home does not hold yet
        self._now: dict[str, Any] = {}

    def __call__(self, event: Progress) -> None:
        """Keep what `event` says. Also called on the thread that trains."""
        match event:
            case PhaseEntered():
                self._enter(event.round, event.phase, attempt=event.attempt)
            case PassCharged() | PassRepeated():
                if event.round != self._now.get("round"):  # a round begins in its first phase, and nobody tells of that
                    self._enter(event.round, SHARE)
                self._now = {**self._now, "training": True}
            case PassTrained():
                self._now = {**self._now, "training": False}
            case StillWaiting():
                if event.round != self._now.get("round") or not self._now.get("phase"):
                    self._enter(event.round, event.phase)
                waits = {"missing": dict(event.missing), "silent": dict(event.silent), "looked": self._wall()}
                self._now = {**self._now, **waits}
            case RoundFinal():
                purpose = str(event.configuration.get("purpose", ""))
                row = event.round, purpose, event.bytes_sent, event.payload_bytes, event.taken_up
                self.rows = [*self.rows, row][-MOST_ROWS:]
                self.unkept = True
                self._enter(event.round, FINAL)
            case AttemptAbandoned() | RoundLeft():
                self._enter(event.round, "", attempt=event.attempt)
            case _:
                return
        self.changes += 1

    def _enter(self, number: int, phase: str, attempt: int = 0) -> None:
        training = self._now.get("training", False) and phase != FINAL
        kept = {"round": number, "attempt": attempt, "phase": phase, "since": self._wall(), "training": training}
        self._now = {**kept, "missing": {}, "silent": {}, "looked": None}

    @property
    def facts(self) -> dict[str, Any] | None:
        """The round under way: `round`, `attempt`, `phase`, `since` and `looked` (Unix seconds), `training`, `missing`
        (what each peer owes), `silent` (seconds since each was heard, or null); None before the first."""
        return dict(self._now) if "round" in self._now else None

    def keep(self, home: Home) -> None:
        """The home holds the traffic. Not durable: a power cut may cost it. Raises what writing raises."""
        self.unkept = False  # before: a row that comes meanwhile is kept the next time
        home.show(TRAFFIC, json.dumps(self.rows).encode())


def read_traffic(home: Home) -> list[Row]:
    """What rounds sent, oldest first; nothing where nothing was kept, or it is broken."""
    try:
        held = json.loads(home.read(TRAFFIC) or b"[]")
        rows = [
            (int(number), str(purpose), int(sent), int(words), bool(taken_up))
            for number, purpose, sent, words, taken_up in ([*row, False][:5] for row in held)  # an older one has four
        ]
    except (P2PFLError, ValueError, TypeError):
        return []
    return rows[-MOST_ROWS:]

"""What a doctor has found so far, as a live view: one row for each link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pfl.cli.live.words import joined, plain
from p2pfl.cli.output import amount, counted, duration

if TYPE_CHECKING:
    from p2pfl.mesh.probe.diagnosis import Diagnosis

# Words of mesh/probe/diagnosis.py, for people.
WAYS: Final = {"ok": "works", "link": "works", "no": "does not", "stalls": "stalls", "none": "no port", "unknown": "?"}
STYLES: Final = {"works": "green", "does not": "red", "stalls": "red"}


class DoctorView:
    """What `p2pfl doctor` shows: `found` gives what was found until now, by peer; it waits until `until` at most."""

    def __init__(
        self, name: str, peers: Sequence[str], found: Callable[[], Mapping[str, Diagnosis]], until: float
    ) -> None:
        self._name, self._peers, self._found, self._until = name, peers, found, until

    def render(self, now: float, doing: str) -> RenderableType:
        """The view at `now`."""
        found = dict(self._found())
        left = f"{duration(max(0.0, self._until - now))} left to wait" if self._until > now else ""
        head = joined([plain(self._name, "bold"), plain("doctor"), plain(doing, "cyan"), plain(left, "dim")])
        table = Table.grid(padding=(0, 2))
        for _ in range(5):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for peer in self._peers:
            table.add_row(*_row(peer, found.get(peer)))
        return Group(head, table)


def _row(peer: str, one: Diagnosis | None) -> list[Text]:
    if one is None:
        return [plain(peer), plain("not asked yet", "dim")]
    ways = [WAYS.get(way, way) for way in (one.there, one.back)]
    trip = "" if one.round_trip_s is None else f"{1000 * one.round_trip_s:.1f} ms"
    speed = "" if one.to_bytes_s is None else f"{amount(one.to_bytes_s)}/s"
    wrong = counted(len(one.errors), "finding") if one.errors else ""
    directions = [
        plain(f"{end} {way}", STYLES.get(way, "dim")) for end, way in zip(("there", "back"), ways, strict=True)
    ]
    return [plain(peer), *directions, joined([plain(trip), plain(speed)]), plain(wrong, "yellow")]

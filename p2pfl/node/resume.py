"""What processes before this one left in the home of their runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pfl import codec
from p2pfl.home import Home
from p2pfl.node.logs import Logs
from p2pfl.sharing.snapshot import place_of
from p2pfl.sharing.state import ATTEMPT_ITEM, LEFT_ITEMS

RUN_BYTES: Final = 64  # a run, packed, before what this home keeps of it
ANY_ATTEMPT: Final = (1 << 53) - 1


def begun_before(home: Home, logs: Logs) -> dict[bytes, tuple[int, int]]:
    """By run, the highest (round, attempt) that this home has begun."""
    begun = {run_id: (number, ANY_ATTEMPT) for run_id, number in logs.final_rounds().items()}
    for run_id, items in left_items(home, (ATTEMPT_ITEM, *(attempt for attempt, _ in LEFT_ITEMS))).items():
        begun[run_id] = max([begun.get(run_id, (0, 0)), *(place_of(snapshot) for snapshot in items.values())])
    return begun


def left_items(home: Home, items: Iterable[str]) -> dict[bytes, dict[str, bytes]]:
    """By run, those of `items` that lie in the home, by name."""
    found: dict[bytes, dict[str, bytes]] = {}
    for item in items:
        data = home.read(item)
        if data is not None:
            run_id, inner = codec.split_tail(data, most=RUN_BYTES, items=0)
            found.setdefault(run_id, {})[item] = bytes(inner)
    return found

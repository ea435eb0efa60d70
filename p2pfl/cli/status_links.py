"""The links that a process shows of itself, as `status` tells them to people and machines. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from p2pfl.cli import output
from p2pfl.ledger.entry import utc_text

HEADS: Final = ("site", "link", "path", "address", "since", "rtt", "sent", "received", "heard")
RIGHT: Final = (5, 6, 7, 8)
LATE_S: Final = 30.0  # seconds: a view is renewed every few, so an older one is of a process that hangs
GONE: Final = {
    "up": False,
    "since": None,
    "path": None,
    "via": None,
    "address": None,
    "dialed": None,
    "round_trip_ms": None,
    "error": None,
}


def links_told(seen: Mapping[str, Any], there: bool) -> dict[str, Any]:
    """What `seen` shows; of a process that is gone (`there` is False) no link is up, and what it counted is left."""
    rows = seen["links"] if there else [{**one, **GONE} for one in seen["links"]]
    named = [{**one, "since": _when(one["since"]), "last_seen": _when(one["last_seen"])} for one in rows]
    return {"live": there, "process": seen["process"], "at": _when(seen["at"]), "peers": named}


def _when(moment: float | None) -> str | None:
    return None if moment is None else utc_text(moment)


def links_lines(links: Mapping[str, Any] | None, now: float) -> list[str]:
    """The table under `status`; nothing where no process has shown any. now: Unix seconds."""
    if links is None:
        return []
    age = now - _moment(links["at"])
    if not links["live"]:
        head = f"process {links['process']}, which is gone without a word, showed them {output.duration(age)} ago"
    elif age > LATE_S:
        head = f"shown {output.duration(age)} ago, and not since: process {links['process']} hangs, or its disk is full"
    else:
        head = f"{sum(one['up'] for one in links['peers'])} of {len(links['peers'])} up"
    table = output.aligned([HEADS, *(_cells(one, now) for one in links["peers"])], RIGHT)
    return [f"  links: {head}", *(f"    {line}" for line in table.splitlines())]


def _cells(one: Mapping[str, Any], now: float) -> list[str]:
    trip, seen = one["round_trip_ms"], one["last_seen"]
    path = f"relay {one['via']}" if one["path"] == "relay" else one["path"] or "-"
    called = f"{'to' if one['dialed'] else 'from'} {one['address']}" if one["address"] else "-"
    return [
        one["peer"],
        "up" if one["up"] else one["error"] or "down",
        path,
        called,
        one["since"] or "-",
        "-" if trip is None else f"{trip:.1f} ms",
        output.amount(one["bytes_sent"]),
        output.amount(one["bytes_received"]),
        "never" if seen is None else f"{output.duration(max(0.0, now - _moment(seen)))} ago",
    ]


def _moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%SZ").replace(tzinfo=UTC).timestamp()

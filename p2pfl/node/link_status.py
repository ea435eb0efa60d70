"""What a running process shows of its links and round: a sealed item of its home, for a process that opens the home.

It is renewed when a link changes and every few seconds, whole and never durable, and gone when the process has ended.
One that kill -9 left behind names a process that is gone: by its number and when it began, for numbers come again.
Nothing secret is in it: names of the roster, addresses, counts and times.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from p2pfl.errors import P2PFLError
from p2pfl.home import Home
from p2pfl.node.live import LiveView

if TYPE_CHECKING:
    from p2pfl.clocks import Clocks
    from p2pfl.mesh.events import LinkStatus

ITEM: Final = "state/links"
LOOK_S: Final = 1.0  # seconds between checks for a changed link
RENEW_S: Final = 5.0  # seconds between writes when none has changed

Links = Callable[[], Mapping[str, "LinkStatus"]]


def began(process: int) -> str:
    """When `process` began, as this system counts it; "" where it does not tell, or there is no such process."""
    try:
        line = Path(f"/proc/{process}/stat").read_text("ascii", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
    return f"{boot}/{line.rpartition(')')[2].split()[19]}"  # field 22 of proc(5); the name before may hold blanks


def link_row(peer: str, link: LinkStatus, now: float, wall: float) -> dict[str, Any]:
    """One link, as `status --json` shows it. now, wall: the mesh's clock and Unix seconds, of the same moment."""
    path = link.path
    relayed = path is not None and path.kind == "relay"
    seen = None if link.last_seen is None else round(wall - (now - link.last_seen), 3)
    return {
        "peer": peer,
        "up": link.state == "up",
        "since": round(wall - (now - link.since), 3),
        "path": path.kind if path else None,
        "via": path.via if path else None,
        "address": path.via if path and not relayed else None,
        "dialed": link.dialed,
        "bytes_sent": link.bytes_sent,
        "bytes_received": link.bytes_received,
        "queued": link.queued,
        "round_trip_ms": None if link.rtt_s is None else round(1000 * link.rtt_s, 2),
        "last_seen": seen,
        "error": link.last_error.code if link.last_error and not path else None,
    }


@asynccontextmanager
async def shown(home: Home, links: Links, clocks: Clocks, live: LiveView) -> AsyncIterator[None]:
    """The links, and what `live` has seen, are readable while the block runs; the traffic of its rounds also later.

    A disk that does not take them ends nothing: the ledger will say.
    """
    over = asyncio.Event()
    task = asyncio.create_task(_renew(home, links, clocks, live, over))
    try:
        yield
    finally:
        over.set()
        await task  # not cancelled: the thread that writes would write after the end
        with contextlib.suppress(P2PFLError):
            home.show(ITEM, None)


async def _renew(home: Home, links: Links, clocks: Clocks, live: LiveView, over: asyncio.Event) -> None:
    process, written, shape = {"process": os.getpid(), "began": began(os.getpid())}, 0.0, None
    while not over.is_set():
        now, wall = clocks.now(), clocks.wall()
        rows = [link_row(peer, link, now, wall) for peer, link in sorted(links().items())]
        seen = [live.changes, *((one["peer"], one["up"], one["path"], one["via"], one["error"]) for one in rows)]
        if seen != shape or now - written >= RENEW_S:
            data = json.dumps({**process, "at": round(wall, 3), "links": rows, "now": live.facts}).encode()
            await asyncio.to_thread(_write, home, live, data)
            written, shape = now, seen
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await over.wait()
    await asyncio.to_thread(_keep, home, live)


def _write(home: Home, live: LiveView, data: bytes) -> None:
    """The home shows this, and holds the traffic: a round that is over is a change that is shown."""
    with contextlib.suppress(P2PFLError):
        home.show(ITEM, data)
    _keep(home, live)


def _keep(home: Home, live: LiveView) -> None:
    if live.unkept:
        with contextlib.suppress(P2PFLError):
            live.keep(home)


def read(home: Home) -> dict[str, Any] | None:
    """What was shown last: `process`, `began`, `at` (Unix seconds), `links`, `now` (`LiveView.facts`).

    None when nothing was, or it is broken.
    """
    try:
        held = home.read(ITEM)
    except P2PFLError:  # a power cut may leave half of it
        return None
    found: dict[str, Any] | None = json.loads(held) if held else None
    return found


def is_there(found: Mapping[str, Any], worker: int | None) -> bool:
    """The process that showed `found` is the one that works in the home (`worker`), and no later one of its number."""
    same: bool = worker == found["process"] and began(found["process"]) == found["began"]
    return same

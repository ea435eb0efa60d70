"""`p2pfl status` beside real processes: how its links run, that a killed peer's is down, and what kill -9 leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Sites


def links_at(sites: Sites, name: str) -> dict[str, Any] | None:
    """What `p2pfl status --json` tells of the links at `name`."""
    site = sites[name]
    arguments = ["-m", "p2pfl", "status", "--home", site.home, "--key-file", site.key, "--json"]
    ended = sites.run(name, arguments).end()
    assert ended.status == 0, ended.text
    found: dict[str, Any] | None = ended.facts["links"]
    return found


def once(sites: Sites, name: str, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
    """The links at `name`, by peer, as soon as `holds` is true of them; each look is a process of its own."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = links_at(sites, name)
        peers = {one["peer"]: one for one in found["peers"]} if found is not None else {}
        if found is not None and found["live"] and holds(peers):
            return peers
        assert time.monotonic() < until, found


def test_status_shows_direct_relayed_and_dead_links(make: MakeSites) -> None:
    """It shows a peer that was killed, and that its own process was."""
    sites = make(3, outbound=("ben", "cyd"))
    started = {name: sites.site(name, [sites[name].shut(1)]) for name in sites.names}
    peers = once(sites, "ben", lambda peers: all(one["up"] for one in peers.values()))
    assert [peers["ada"][key] for key in ("path", "address", "dialed")] == [
        "direct",
        f"127.0.0.1:{sites['ada'].port}",
        True,
    ]
    assert [peers["cyd"][key] for key in ("path", "via", "address")] == ["relay", "ada", None]
    assert peers["ada"]["bytes_sent"] > 0
    assert peers["ada"]["since"] <= peers["ada"]["last_seen"]

    started["cyd"].kill()
    gone = once(sites, "ben", lambda peers: not peers["cyd"]["up"])
    assert gone["ada"]["up"]
    assert gone["cyd"]["path"] is None
    assert gone["cyd"]["last_seen"] >= peers["cyd"]["since"]

    started["ben"].kill()
    left = links_at(sites, "ben")
    assert left is not None
    assert (left["live"], left["process"]) == (False, started["ben"].process.pid)
    assert not any(one["up"] for one in left["peers"])
    assert {one["peer"]: one["last_seen"] for one in left["peers"]}["ada"] is not None

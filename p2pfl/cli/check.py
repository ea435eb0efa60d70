"""`p2pfl join --check`: are all links there? No round is begun, nothing is charged, no data leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from p2pfl.cli import output
from p2pfl.cli.access import Access
from p2pfl.cli.watch import Watch
from p2pfl.errors import P2PFLError
from p2pfl.federation import Federation
from p2pfl.progress import Progress

if TYPE_CHECKING:
    from p2pfl.peer import Peer

CHECK_S: Final = 30.0  # so long are links waited for, unless --wait says otherwise


async def links_of(federation: Federation, access: Access, watch: Watch) -> dict[str, Any]:
    """Open the port and wait for every link; what `join --check --json` prints."""
    up, refused, changed = set[str](), dict[str, P2PFLError](), asyncio.Event()

    def observe(told: Progress) -> None:
        watch(told)
        if told.kind == "link_up":
            up.add(told.facts["peer"])
        elif told.kind == "refused" and told.facts["peer"]:
            refused[told.facts["peer"]] = told.facts["error"]
        changed.set()

    async with access.join(federation, observe, "join", check=True) as peer:
        others = [name for name in federation.roster.names if name != peer.name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(access.wait_s or CHECK_S):
                while set(others) - up:
                    await changed.wait()
                    changed.clear()
        links = [_link(peer, name, name in up, refused.get(name)) for name in others]
    return {"name": peer.name, "ready": set(others) <= up, "links": links}


def _link(peer: Peer, name: str, is_up: bool, error: P2PFLError | None) -> dict[str, Any]:
    held = peer.links()[name]
    said, facts = error or held.last_error, held.facts
    tls = {"version": facts.version, "cipher": facts.cipher, "group": facts.group} if facts else None
    shown = None if is_up or said is None else said.as_json()
    path = {"path": held.path.kind, "via": held.path.via} if held.path else {"path": None, "via": None}
    return {"peer": name, "up": is_up, "tls": tls, "error": shown, **path}


def check_text(facts: Mapping[str, Any]) -> str:
    rows = [["  key, data, port, one private step", "ok", ""]]
    for link in sorted(facts["links"], key=lambda row: bool(row["up"])):
        error = link["error"]
        why = f"{error['code']}: {error['happened']} try: {error['try']}" if error else ""
        way = {"proxy": "through the proxy", "relay": f"through {link['via']}"}.get(link["path"], "")
        why = why or (way if link["up"] else "never seen: is it started?")
        rows.append([f"  link to {link['peer']}", "ok" if link["up"] else "NO", why])
    return "\n".join([f"{facts['name']}: {'ready' if facts['ready'] else 'not ready'}", output.aligned(rows)])

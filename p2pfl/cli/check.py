"""`p2pfl join --check`: are all links there? No round is begun, nothing is charged, no data leaves.

A link that does not come up is examined as `p2pfl doctor` does it, from here: what stands in the way, and what to try.
A site that runs under another peers.yaml is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from p2pfl.cli.doctor import local_site, own_peers_file
from p2pfl.cli.joining import Access
from p2pfl.cli.links import link_facts, link_lines
from p2pfl.cli.monitor import Monitor
from p2pfl.cli.watch import Watch
from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import RefusedThere
from p2pfl.errors.round import PeersFileDiffers
from p2pfl.federation import Federation
from p2pfl.federation.difference import difference
from p2pfl.node.progress import LinkCameUp, LinkRefused, Progress

if TYPE_CHECKING:
    from p2pfl.mesh.probe.diagnosis import Diagnosis
    from p2pfl.peer import Peer

CHECK_S: Final = 30.0  # seconds to wait for links, unless --wait says otherwise


async def links_of(federation: Federation, access: Access, watch: Watch, monitor: Monitor) -> dict[str, Any]:
    """Open the port and wait for every link; what `join --check --json` prints."""
    up, refused, changed = set[str](), dict[str, P2PFLError](), asyncio.Event()

    def observe(event: Progress) -> None:
        watch(event)
        if isinstance(event, LinkCameUp):
            up.add(event.peer)
        elif isinstance(event, LinkRefused) and event.peer:
            refused[event.peer] = event.error
        changed.set()

    async with access.join(federation, observe, "join", monitor, check=True) as peer:
        federation = peer.federation  # the file that was named may be of an earlier epoch
        others = [name for name in federation.roster.names if name != peer.name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(access.wait_s or CHECK_S):
                while set(others) - up - {peer for peer, error in refused.items() if _holds_another_file(error)}:
                    await changed.wait()
                    changed.clear()
        found = await asyncio.gather(
            *(
                _linked(peer, name) if name in up else _examined(peer, access, name, refused.get(name))
                for name in others
            )
        )
    links = [link_facts(one, _diff(federation, one)) | {"up": one.peer in up} for one in found]
    return {"name": peer.name, "ready": set(others) <= up, "links": links}


def _holds_another_file(error: P2PFLError) -> bool:
    """Whoever is refused for that, at either end, has to start anew with the right file: no time brings it up."""
    there = error.fields["their_code"] if isinstance(error, RefusedThere) else error.code
    return there == PeersFileDiffers.code


async def _linked(peer: Peer, name: str) -> Diagnosis:
    """A link that was up: its hello has checked more than a probe would."""
    from p2pfl.mesh.events import DIRECT
    from p2pfl.mesh.probe.diagnosis import LINK, Diagnosis

    held = peer.links()[name]
    path = held.path or DIRECT
    return Diagnosis(name, path=path, there=LINK, back=LINK, tls=held.facts, round_trip_s=held.rtt_s)


async def _examined(peer: Peer, access: Access, name: str, refused: P2PFLError | None) -> Diagnosis:
    from p2pfl.mesh.probe.diagnose import Doctor
    from p2pfl.mesh.probe.diagnosis import NO, UNKNOWN

    site = local_site(peer.federation, peer.node.identity, peer.name, access.proxy.proxy())
    doctor = Doctor(site, own_peers_file(peer.federation), reachable=True, until=site.clocks.now())
    found = await doctor.examine(name)
    said = refused or peer.links()[name].last_error
    if refused is not None and found.there == NO:  # it has ended since: its refusal, said before, counts
        found.there, found.errors = UNKNOWN, [refused]
    elif not found.errors and said is not None:
        found.errors.append(said)
    elif not found.errors:
        found.notes.append(f"no link came up; there, run: p2pfl join --check --peers {quote(peer.federation.source)} …")
    return found


def _diff(federation: Federation, found: Diagnosis) -> str | None:
    return None if found.theirs is None else difference(federation.raw, found.theirs, "yours", found.peer)


def check_text(facts: Mapping[str, Any]) -> str:
    head = [f"{facts['name']}: {'ready' if facts['ready'] else 'not ready'}", "  key, data, port, one private step: ok"]
    return "\n".join([*head, *link_lines(facts["links"])])

"""What `p2pfl doctor` prints: the object of `--json`, and the same for people, the worst link first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from p2pfl._version import __version__
from p2pfl.cli import output
from p2pfl.cli.links import apart, finding, link_facts, link_lines
from p2pfl.errors import P2PFLError
from p2pfl.errors.round import PeersFileDiffers
from p2pfl.federation import Federation
from p2pfl.federation.difference import difference
from p2pfl.roster import Address

if TYPE_CHECKING:
    from p2pfl.mesh.probe.diagnosis import Diagnosis
    from p2pfl.mesh.proxy import Proxy


@dataclass(frozen=True, slots=True)
class Port:
    """This site's own port: `state` is open (this doctor listens), taken (by this site's own p2pfl), none, or shut."""

    state: str
    address: Address | None
    process: int | None = None
    error: P2PFLError | None = None


def facts_of(
    federation: Federation,
    name: str,
    port: Port,
    found: Sequence[Diagnosis],
    own: Sequence[P2PFLError],
    turned_away: Sequence[P2PFLError],
    proxy: Proxy | None = None,
) -> dict[str, Any]:
    """What `doctor --json` prints."""
    links = []
    for one in found:
        differs = one.theirs is not None and any(isinstance(error, PeersFileDiffers) for error in one.errors)
        diff = difference(federation.raw, one.theirs or b"", "yours", one.peer) if differs else None
        if one.facts is not None and one.facts.software != __version__:
            one.notes.append(f"it runs p2pfl {one.facts.software}; the protocol is the same")
        links.append(link_facts(one, diff))
    clocks = [one.clock.ahead_s for one in found if one.clock is not None]
    return {
        "name": name,
        "federation": federation.name,
        "ready": not own and not any(one.errors for one in found),
        "version": __version__,
        "protocol": "p2pfl/1",
        "federation_digest": federation.digest.hex(),
        "port": {
            "state": port.state,
            "address": str(port.address) if port.address else None,
            "process": os.getpid() if port.state == "open" else port.process,
        },
        "proxy": proxy
        and {
            "address": str(proxy.address),
            "variable": proxy.no_proxy.variable,
            "direct": [entry.text for entry in proxy.no_proxy.entries],
            "ignored": list(proxy.no_proxy.ignored),
        },
        "clock_ahead_s": own_clock(clocks),
        "links": links,
        "errors": [error.as_json() for error in own],
        "turned_away": [error.as_json() for error in turned_away],
    }


def own_clock(clocks: Sequence[float]) -> float | None:
    """How far this site's clock is ahead of the median; of the others, or of all, so that it is the clock of one site.

    Between two of the others, of which one is a day ahead, nobody's clock stands.
    """
    own = [] if len(clocks) % 2 else [0.0]
    return round(0.0 - median([*clocks, *own]), 3) if clocks else None


def doctor_text(facts: dict[str, Any]) -> str:
    """The same for people: this site, one row for each link, the worst first, each with what to try."""
    links, port = facts["links"], facts["port"]
    up, answered = sum(link["up"] for link in links), [link for link in links if link["software"] is not None]
    same = sum(bool(link["same_peers_yaml"]) for link in answered)
    held = f"the same at {same} of {len(answered)} sites that answered" if answered else "and nobody answered"
    clock = facts["clock_ahead_s"]
    address = Address.parse(port["address"]) if port["address"] else None
    rows = [
        ["  peers.yaml", f"{facts['federation_digest'][:12]}, {held}"],
        ["  port", port_text(Port(port["state"], address, port["process"]))],
        *([["  proxy", _proxy_text(facts["proxy"])]] if facts["proxy"] else []),
        ["  clock", f"{apart(clock)} from the median clock" if clock is not None else "nobody to compare with"],
        *(["  TLS", text] for text in _tls_texts(links)),
    ]
    works = "all links work" if up == len(links) else f"{up} of {len(links)} links work"
    wrong = sum(len(link["errors"]) for link in links) + len(facts["errors"])
    found = f", {output.counted(wrong, 'finding')}" if wrong else ""
    lines = [f"{facts['name']}: {works}{found}", output.aligned(rows)]
    for error in facts["errors"]:
        lines += finding(error)
    lines += link_lines(links)
    lines += [f"  turned away: {error['code']}: {error['happened']}" for error in facts["turned_away"]]
    return "\n".join(lines)


def port_text(port: Port) -> str:
    """Whether this site can be called, and who listens there."""
    return {
        "open": f"listening at {port.address}",
        "taken": f"{port.address}, held by this site's own p2pfl, process {port.process}",
        "none": "no port listed: this site dials the others",
        "shut": f"{port.address} cannot be listened on",
    }[port.state]


def _proxy_text(proxy: Mapping[str, Any]) -> str:
    """The proxy and what NO_PROXY lists. An entry that means nothing here is no error: other programs may read it."""
    entries, variable = proxy["direct"], proxy["variable"]
    text = f"{proxy['address']}; {variable}: {', '.join(entries)}" if entries else f"{proxy['address']}, for all sites"
    strange = ", ".join(ascii(entry) for entry in proxy["ignored"])
    return f"{text}; {variable} also has what means nothing here: {strange}" if strange else text


def _tls_texts(links: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each kind of session; the sites are named when there is more than one kind."""
    kinds: dict[str, list[str]] = {}
    for link in links:
        if link["tls"]:
            kinds.setdefault(", ".join(link["tls"].values()), []).append(link["peer"])
    return [kind if len(kinds) == 1 else f"{kind}: {', '.join(sites)}" for kind, sites in kinds.items()]

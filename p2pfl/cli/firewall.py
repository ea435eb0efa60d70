"""What each site's firewall must let through, read off peers.yaml: one line a site, for the people who run it.

Every pair of sites has one link, and either end may dial it. A site with addresses is dialled at their ports; one
without needs nothing inbound. Firewalls keep state, so what is let out once may answer.
"""

from __future__ import annotations

from typing import Any

from p2pfl.cli import output
from p2pfl.roster import Roster


def openings(roster: Roster, name: str) -> dict[str, Any]:
    """What `name` must let through: `in` as port and the sites that call it, `out` as host, port and site."""
    others = [one for one in roster.members if one.name != name]
    ports = dict.fromkeys(address.port for address in roster[name].addresses)
    return {
        "in": [{"port": port, "from": [one.name for one in others]} for port in ports],
        "out": [
            {"host": address.host, "port": address.port, "to": one.name} for one in others for address in one.addresses
        ],
    }


def firewall_lines(roster: Roster) -> list[str]:
    """One line a site."""
    rows = []
    for one in roster.members:
        found = openings(roster, one.name)
        ports = ", ".join(str(each["port"]) for each in found["in"])
        inbound = f"in TCP {ports} from {_sites(roster, one.name)}" if ports else "in nothing: it dials out"
        hosts = [
            f"{address!s} ({other.name})" for other in roster.members if other is not one for address in other.addresses
        ]
        rows.append([f"  {one.name}", inbound, f"out TCP to {', '.join(hosts)}" if hosts else "out nothing"])
    return output.aligned(rows).splitlines()


def _sites(roster: Roster, name: str) -> str:
    """The others, by the hosts that they are listed under, each once; one without an address calls from anywhere."""
    others = [one for one in roster.members if one.name != name]
    hosts = (one.addresses[0].host if one.addresses else f"anywhere ({one.name})" for one in others)
    return ", ".join(dict.fromkeys(hosts))

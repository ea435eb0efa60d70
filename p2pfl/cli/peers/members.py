"""The sites of a peers.yaml, as lines and as facts."""

from __future__ import annotations

from collections.abc import Sequence

from p2pfl.cli import output
from p2pfl.cli.firewall import openings
from p2pfl.federation import Federation
from p2pfl.keys import fingerprint
from p2pfl.roster import Member


def member_lines(members: Sequence[Member], addresses: bool = True) -> list[str]:
    rows = [[f"  {one.name}", fingerprint(one.key)] for one in members]
    if addresses:
        for row, one in zip(rows, members, strict=True):
            row.append(", ".join(map(str, one.addresses)) or "dials out")
    return output.aligned(rows).splitlines()


def federation_facts(federation: Federation) -> dict[str, object]:
    return {
        "federation": federation.name,
        "epoch": federation.roster.epoch,
        "federation_digest": federation.digest.hex(),
        "quorum": federation.roster.quorums.q,
        "rounds": federation.rounds,
        "verify": federation.sharing.verify,
        "topology": federation.topology,
        "hub": federation.hub,
        "agreement": federation.agreement.hex() if federation.agreement else None,
        "peers": [
            {
                "name": one.name,
                "key": one.key.hex(),
                "fingerprint": fingerprint(one.key),
                "addresses": [str(address) for address in one.addresses],
                "firewall": openings(federation.roster, one.name),
            }
            for one in federation.roster.members
        ],
    }

"""Homes of sites on this machine, and the peers.yaml that they agree on: with these, benchmarks of processes begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._links import Place

if TYPE_CHECKING:
    from p2pfl.federation.draft import TaskLines


def key_file(folder: Path, name: str) -> Path:
    """What opens the home `folder`/`name`."""
    return folder / "keys" / f"{name}.key"


def numbered(places: Sequence[Place]) -> dict[str, str]:
    """site-0, site-1, … at the addresses of these places."""
    return {f"site-{number}": place.address for number, place in enumerate(places)}


def federation(
    folder: Path, hosts: Mapping[str, str], *, task: TaskLines | None = None, settings: Sequence[str] = ()
) -> Path:
    """`folder`/NAME, the home of each site, each at a free port of its host; returns their peers.yaml.

    hosts      by name of the site, where it listens
    task       what stands under `task:`; None: heart disease
    settings   lines as for `p2pfl peers create --set`
    """
    # Loaded late: a site's own process, which is measured, does without.
    from p2pfl.cli.peers.create import task_lines
    from p2pfl.cli.ports import free_ports
    from p2pfl.federation import draft
    from p2pfl.federation.cards import Card
    from p2pfl.home import Home
    from p2pfl.home.keyslots import KeyFile
    from p2pfl.roster import Address

    members = []
    for (name, host), port in zip(hosts.items(), free_ports(len(hosts)), strict=True):
        with Home.create(folder / name, name, [KeyFile(key_file(folder, name))]) as home:
            members.append(Card.sign(home.identity(), name, [Address(host, port)]).member)
    path = folder / "peers.yaml"
    path.write_bytes(draft.peers_file("bench", members, task or task_lines(None), settings))
    return path

"""What doctor says of networks that are as hospitals have them: firewalls, and tunnels in between."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.processes import Process, Sites
from tests.network.namespaces import placed

Played = Callable[[Callable[[Path], None]], None]


def listening(sites: Sites, *names: str) -> list[Process]:
    """Doctors that listen, for as long as the scene lasts."""
    started = [sites.p2pfl(name, "doctor", "--wait", "300") for name in names]
    for process in started:
        process.line("listening")
    return started


def found(sites: Sites, name: str, other: str) -> dict[str, Any]:
    """What a short look of `name` finds of the link with `other`."""
    facts = sites.p2pfl(name, "doctor", "--wait", "0.1", "--json").end().facts
    links = {link["peer"]: link for link in facts["links"]}
    return links[other] | {"codes": [error["code"] for error in links[other]["errors"]]}


def a_closed_door(place: Path) -> None:
    """ben lists an address, and its firewall drops whoever dials it: told at both ends, each in its own words."""
    with placed(place, 3) as (net, sites):
        net.refuse_callers(1)
        (ada,) = listening(sites, "ada")
        link = found(sites, "ben", "ada")
        assert (link["there"], link["back"], link["codes"]) == ("ok", "no", ["P2P-MESH-045"])
        assert "P2P-MESH-003" in link["errors"][0]["evidence"]
        ada.signal(signal.SIGINT)
        assert ada.end().status == 130
        link = found(sites, "ada", "ben")
        assert (link["there"], link["codes"]) == ("no", ["P2P-MESH-003"])
        assert "no answer within 5 s" in link["error"]["evidence"]


def large_packets_vanish(place: Path) -> None:
    """A tunnel on the way to ben carries less than Ethernet, and whoever should say so does not."""
    with placed(place, 3) as (net, sites):
        net.swallow_large(1, 1300)
        listening(sites, "ben", "cyd")
        assert found(sites, "ada", "ben")["codes"] == ["P2P-MESH-042"]
        assert found(sites, "ada", "cyd")["codes"] == []


@pytest.mark.parametrize("scene", [a_closed_door, large_packets_vanish], ids=lambda scene: scene.__name__)
def test_doctor_names_what_stands_between_two_sites(scene: Any, played: Played) -> None:
    played(scene)

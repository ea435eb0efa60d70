"""What doctor says of networks that are as hospitals have them: firewalls, sites without a port, tunnels in between."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks._links import LinksUnavailable
from tests.end_to_end.processes import Process, Sites
from tests.network.places import placed
from tests.network.test_strict_firewalls import INSIDE, behind_firewalls

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


def strict_firewalls(place: Path) -> None:
    """Five sites, two of them without a port and cut off from one another: nothing is wrong with that."""
    with placed(place, 5, outbound=tuple(INSIDE)) as (net, sites):
        behind_firewalls(net)
        running = {name: sites.p2pfl(name, "doctor", "--wait", "100", "--json") for name in sites.names}
        for name, process in running.items():
            ended = process.end()
            assert ended.status == 0, process.tail
            for link in ended.facts["links"]:
                pair = {name, link["peer"]}
                assert link["up"]
                if pair == set(INSIDE):
                    assert (link["path"], link["there"], link["back"]) == ("relay", "none", "none")
                    assert link["via"] in ("ada", "ben", "cyd")
                elif not pair & set(INSIDE):
                    assert (link["path"], link["there"], link["back"]) == ("direct", "ok", "ok")


def a_closed_door(place: Path) -> None:
    """ben lists an address, and its firewall drops whoever dials it: told at both ends, each in its own words."""
    with placed(place, 3) as (net, sites):
        try:
            net.refuse_callers(1)
        except LinksUnavailable as reason:
            pytest.skip(f"no firewall can be made here: {reason}")
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


@pytest.mark.parametrize("scene", [strict_firewalls, a_closed_door, large_packets_vanish],
                         ids=lambda scene: scene.__name__)  # fmt: skip
def test_doctor_is_green_where_links_will_work_and_names_what_stands_in_their_way(scene: Any, played: Played) -> None:
    played(scene)

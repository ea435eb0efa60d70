"""Five sites, two of them behind firewalls that let nobody in: they cannot reach each other, and train all the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks._links import Network
from p2pfl.training.tasks.heart_records import deal
from tests.end_to_end.processes import PATIENCE_S, Sites
from tests.network.capture import read_as_tls, recorded, streams
from tests.network.namespaces import ended_well, placed

Played = Callable[[Callable[[Path], None]], None]

INSIDE = {"dot": 3, "eve": 4}  # by name, the number of their place


def behind_firewalls(net: Network) -> None:
    """Nobody reaches dot and eve, and they do not reach each other."""
    net.keep_apart(*INSIDE.values())
    for number in INSIDE.values():
        net.refuse_callers(number)


def relayed(sites: Sites) -> set[str]:
    """RelayTrial whom dot and eve say that they are linked with each other."""
    ways = {
        line.rpartition(", through ")[2]
        for process in sites.started
        for line in process.said
        if process.name in INSIDE and line.startswith(tuple(f"link to {name}" for name in INSIDE))
    }
    return {way for way in ways if way in sites.names}


def doctors(sites: Sites) -> None:
    """All five ask for a doctor at once, and each finds every link well: that of dot and eve through a third."""
    asked = {name: sites.p2pfl(name, "doctor", "--wait", PATIENCE_S, "--json") for name in sites.names}
    for name, process in asked.items():
        ended = process.end(2 * PATIENCE_S)  # one that misses a question of another stays for all of its time
        assert ended.status == 0 and ended.facts["ready"], process.tail
        for link in ended.facts["links"]:
            assert link["up"] and not link["errors"]
            assert (link["path"] == "relay") == (name in INSIDE and link["peer"] in INSIDE)
            assert link["path"] != "relay" or (link["relay"]["there"] and link["relay"]["back"])
            assert link["tls"] is None or link["tls"]["version"] == "TLSv1.3"


def a_training(place: Path) -> None:
    """The doctors, then two rounds of a real training, and all packets of the three sites that have a port."""
    with placed(place, 5, "rounds=2", "privacy.steps_per_round=3", outbound=tuple(INSIDE)) as (net, sites):
        behind_firewalls(net)
        for site, raw in zip(sites.sites.values(), deal(5).files.values(), strict=True):
            site.records.write_bytes(raw)
        with contextlib.ExitStack() as taps:
            for number in range(3):
                taps.enter_context(recorded(net.places[number], place / f"{number}"))
            doctors(sites)
            joined = [sites.join(name) for name in sites.names]
            ended_well(sites)
        for process in joined:
            facts = process.end().facts
            assert facts["rounds_completed"] == 2 and facts["ledger"]["verified"], process.tail
        through = relayed(sites)
        assert through, "\n".join(process.tail for process in sites.started)
        assert through <= {"ada", "ben", "cyd"}
        for number in range(3):
            found = streams(place / f"{number}")
            assert read_as_tls(found) >= 4  # connections, one with each other site
            senders = {flow[0] for flow in found}
            assert senders == {net.places[each].address for each in range(5)}, "somebody was not heard here"


@pytest.mark.claim("NET-5")
@pytest.mark.parametrize("scene", [a_training], ids=["a training"])
def test_two_sites_without_a_port_train_with_three_others(scene: Any, played: Played) -> None:
    """The relay sees TLS 1.3 and nothing else."""
    played(scene)

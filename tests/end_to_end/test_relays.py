"""Sites of which most only dial out: doctors and sums go through relays, and a sum outlives the one it runs through."""

from __future__ import annotations

import json
from typing import Any

from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Process


def test_five_sites_sum_through_a_hub_and_go_on_without_it(make: MakeSites) -> None:
    """The hub owns every chunk until it is killed."""
    sites = make(5, "topology=hub", "hub=ada", outbound=("cyd", "dot", "eve"))
    dies = {"told": {"event": "phase", "phase": "gather", "round": 2}}
    started = {}
    for index, name in enumerate(sites.names):
        # Of other numbers: the same data are summed over one set of sites only.
        orders = [{"sum": [of << index], "times": 50, "name": question} for question, of in (("one", 1), ("two", 32))]
        orders[0]["patience_s"] = PATIENCE_S  # whoever starts late is in it, too
        started[name] = sites.site(name, orders, linger=PATIENCE_S, **({"die": dies} if name == "ada" else {}))
    ada = started.pop("ada")
    assert ada.end().status == -9
    given = {name: [process.event("given")["given"] for _ in range(2)] for name, process in started.items()}
    sites.close()  # each stays for the hub, which lacks the second
    for name, process in started.items():
        first, second = given[name]
        assert (set(first["total"]), first["survivors"]) == ({"31"}, sites.names)
        assert (set(second["total"]), second["survivors"]) == ({str(32 * 30)}, ["ben", "cyd", "dot", "eve"])
        ways = {json.loads(line)["via"] for line in process.said if '"link_up"' in line and '"path": "relay"' in line}
        assert ways <= {"ada", "ben"}
        assert ("ben" in ways) == (name != "ben")  # who outlived the hub


def by_peer(doctor: Process) -> dict[str, dict[str, Any]]:
    """The links of `doctor --json`; one that misses a question of another stays for all of its time."""
    ended = doctor.end(2 * PATIENCE_S)
    assert (ended.status, ended.facts["ready"]) == (0, True), doctor.tail
    return {link["peer"]: link for link in ended.facts["links"]}


def test_doctors_try_the_way_through_a_third_that_runs_doctor_or_is_at_work(make: MakeSites) -> None:
    for third in ("doctor", "sum"):
        sites = make(3, outbound=("ben", "cyd"))
        ada = sites.p2pfl("ada", "doctor", "--wait", PATIENCE_S) if third == "doctor" else sites.sum("ada", 1)
        ada.line("listening at")
        asked = {name: sites.p2pfl(name, "doctor", "--wait", PATIENCE_S, "--json") for name in ("ben", "cyd")}
        found = {name: by_peer(process) for name, process in asked.items()}
        for name, other in (("ben", "cyd"), ("cyd", "ben")):
            link = found[name][other]
            assert (link["up"], link["path"], link["via"], link["errors"]) == (True, "relay", "ada", [])
            assert (link["relay"]["via"], link["relay"]["there"], link["relay"]["back"]) == ("ada", True, True)
            assert link["relay"]["round_trip_ms"] == link["round_trip_ms"] > 0
            assert link["tls"]["version"] == "TLSv1.3"
            assert link["same_peers_yaml"] is True
        if third == "doctor":
            assert ada.end(2 * PATIENCE_S).status == 0, ada.tail

"""Sites of which most only dial out: a sum runs through relays, and outlives the one that it runs through."""

from __future__ import annotations

import json

from tests.end_to_end.conftest import MakeSites


def test_five_sites_sum_through_a_hub_that_owns_all_and_go_on_without_it_when_it_is_killed(make: MakeSites) -> None:
    sites = make(5, "topology=hub", "hub=ada", outbound=("cyd", "dot", "eve"))
    dies = {"told": {"event": "phase", "phase": "gather", "round": 2}}
    started = {}
    for index, name in enumerate(sites.names):
        orders = [{"sum": [1 << index], "times": 50, "name": question} for question in ("one", "two")]
        started[name] = sites.site(name, orders, linger=1, **({"die": dies} if name == "ada" else {}))
    ada = started.pop("ada")
    assert ada.end().status == -9
    for name, process in started.items():
        ended = process.end()
        assert ended.status == 0, process.tail
        first, second = ended.facts["given"]
        assert (set(first["total"]), first["survivors"]) == ({"31"}, sites.names)
        assert (set(second["total"]), second["survivors"]) == ({"30"}, ["ben", "cyd", "dot", "eve"])
        ways = {json.loads(line)["via"] for line in ended.said if '"link_up"' in line and '"path": "relay"' in line}
        assert ways <= {"ada", "ben"}
        assert ("ben" in ways) == (name != "ben")  # who outlived the hub

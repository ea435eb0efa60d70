"""Sites of which most only dial out: a sum runs through relays, and outlives the one that it runs through."""

from __future__ import annotations

from tests.end_to_end.conftest import MakeSites


def test_five_sites_of_which_three_only_dial_out_sum_though_one_of_their_two_relays_is_killed(make: MakeSites) -> None:
    sites = make(5, outbound=("cyd", "dot", "eve"))
    dies = {"told": {"event": "phase", "phase": "gather"}}
    started = {}
    for index, name in enumerate(sites.names):
        order = {"sum": [1 << index], "times": 20_000}
        started[name] = sites.site(name, [order], linger=1, **({"die": dies} if name == "ada" else {}))
    assert started.pop("ada").end().status == -9
    for name, process in started.items():
        ended = process.end()
        assert ended.status == 0, process.tail
        (given,) = ended.facts["given"]
        assert set(given["total"]) == {"30"}
        assert given["survivors"] == ["ben", "cyd", "dot", "eve"]
        ways = [line for line in ended.said if '"link_up"' in line and '"relay"' in line]
        assert name == "ben" or ways, ended.text

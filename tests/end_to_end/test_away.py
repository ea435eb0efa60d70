"""Five real sites: one is dead and comes back, or one no longer speaks with another and the rest remove it."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.cli.main import run
from tests.end_to_end.checks import entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Process, Sites, of

SUMS = 1500  # more than are begun before the test is over, however slowly a process starts
STAY = ("ada", "ben", "cyd", "dot")
OTHERS = ("ada", "ben", "dot", "eve")


def asks(sites: Sites, name: str) -> Process:
    """It asks one sum after another, of other numbers each time."""
    orders: list[dict[str, Any]] = [{"sum": [100 + number], "name": f"sum {number}"} for number in range(SUMS)]
    return sites.site(name, orders, again=True, linger=2)


@pytest.mark.claim("LIVE-7")
def test_a_site_that_is_back_is_in_the_next_round_and_the_dead_in_none(make: MakeSites) -> None:
    sites = make(5)
    running = {name: asks(sites, name) for name in sites.names}
    ada = running["ada"]
    ada.event("round", round=3)
    running["cyd"].kill()
    ada.event("link_down", peer="cyd")
    ada.event("round")  # the one that was under way
    for _ in range(5):
        assert "cyd" not in ada.event("round")["survivors"]
    running["cyd"] = asks(sites, "cyd")
    linked_s = max(running[name].event("link_up", peer="cyd")["told_s"] for name in OTHERS)
    for _ in range(5):  # rounds under way then end without it, and those that pass while it takes over what it missed
        ada.event("round", told_s=lambda told_s: told_s > linked_s, survivors=of("cyd"))
    for process in running.values():
        process.kill()
    for name in sites.names:
        sites.verified(name)


def peers(sites: Sites, name: str, verb: str, *arguments: object) -> None:
    """`p2pfl peers VERB` as a person of that site runs it."""
    site = sites[name]
    common = ["--peers", sites.peers, "--home", site.home, "--key-file", site.key]
    assert run([str(one) for one in ("peers", verb, *arguments, *common)]) == 0


@pytest.mark.claim("LIVE-7")
def test_a_revoked_site_is_in_no_sum_with_the_one_and_gone_within_two_rounds(
    make: MakeSites,
) -> None:
    sites = make(5, "rounds=6", "privacy.max_epsilon=100")
    running = sites.linked(lambda name: [sites[name].shut(at=3)])
    for name in sites.names:
        running[name].event("charged", round=3)
    peers(sites, "ada", "revoke", "eve")
    running["ada"].event("link_down", peer="eve")
    file = sites.place / "change.yaml"
    peers(sites, "ada", "propose", "remove", "eve", "-o", file)
    for name in STAY[1:]:
        peers(sites, name, "approve", file, "--yes")
    for name in STAY:
        running[name].event("change", epoch=2)
    for name in sites.names:
        sites[name].open()
    for name in STAY:
        ended = running[name].end()
        assert ended.status == 0, ended.text
    held = [one for one in entries(sites["ada"], "federation") if one["kind"] in ("round", "membership")]
    place = [one["kind"] for one in held].index("membership")
    assert held[place]["removed"] == ["eve"]
    before = [one for one in held[:place] if one["round"] > 2]
    assert 1 <= len(before) <= 2
    assert all(len({"ada", "eve"} & set(one["survivors"])) <= 1 for one in before)
    assert all("eve" not in one["survivors"] for one in held[place + 1 :])
    assert len({sites.verified(name).federation.root for name in STAY}) == 1

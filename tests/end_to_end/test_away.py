"""Five real sites: one is dead and comes back, or one no longer speaks with another and the rest remove it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from p2pfl.cli.main import run
from tests.end_to_end.checks import entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Process, Sites

SUMS = 1500  # more than are begun before the test is over, however slowly a process starts
STAY = ("ada", "ben", "cyd", "dot")
OTHERS = ("ada", "ben", "dot", "eve")


def asks(sites: Sites, name: str, *, patience_s: float | None = None, **plan: Any) -> Process:
    """It asks one sum after another, of other numbers each time."""
    waits = {"patience_s": patience_s} if patience_s is not None else {}
    orders: list[dict[str, Any]] = [{"sum": [100 + one], "name": f"sum {one}", **waits} for one in range(SUMS)]
    return sites.site(name, orders, again=True, linger=2, **plan)


@pytest.mark.claim("LIVE-7")
def test_a_site_that_is_back_is_in_the_next_round_and_the_dead_in_none(make: MakeSites) -> None:
    """It comes between two rounds; what it missed it takes over while the others wait for it in the next."""
    sites = make(5)
    sums: list[dict[str, Any]] = [{"sum": [100 + number], "name": f"sum {number}"} for number in range(10)]
    running = {
        name: sites.site(name, [*sums[:2], site.hold(), *sums[2:7], site.hold(), *sums[7:]])
        for name, site in sites.sites.items()
    }
    ada = running["ada"]
    ada.event("round", round=2)
    running["cyd"].kill()
    for name in OTHERS:
        running[name].event("link_down", peer="cyd")
        sites[name].open()
    for number in range(3, 8):
        assert "cyd" not in ada.event("round", round=number)["survivors"]
    running["cyd"] = sites.site("cyd", sums, again=True)
    for name in OTHERS:
        running[name].event("link_up", peer="cyd")
    for name in OTHERS:
        sites[name].open()
    for number in range(8, 11):
        assert set(ada.event("round", round=number)["survivors"]) == set(sites.names)
    for process in running.values():
        assert process.end().status == 0, process.tail
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


# ── without what is said of links ─────────────────────────────────────────────────────────────────────────────


def dies(sites: Sites, running: dict[str, Process]) -> None:
    running["eve"].kill()


def is_revoked(sites: Sites, running: dict[str, Process]) -> None:
    peers(sites, "ada", "revoke", "eve")


@pytest.mark.parametrize("loss", [dies, is_revoked])
def test_were_nobody_to_say_who_is_away_each_round_would_wait_anew(
    make: MakeSites, loss: Callable[[Sites, dict[str, Process]], None]
) -> None:
    """Whoever names a set has waited for a quarter of the deadline before, though it is the same site each time."""
    sites = make(5)
    running = {name: asks(sites, name, patience_s=2.0, lie="WaitsEachTime") for name in sites.names}
    ada = running["ada"]
    ada.event("round", round=3)
    loss(sites, running)
    ada.event("link_down", peer="eve")
    under_way = ada.event("round")["round"]
    later = {under_way + 1, under_way + 2, under_way + 3}
    ada.event("round", round=max(later))
    named: dict[int, list[bool]] = {}
    for process in running.values():
        process.kill()
        for line in process.end().said:
            if line.startswith('{"event": "set_named"'):
                told = json.loads(line)
                named.setdefault(told["round"], []).append(told["waited"])
    assert later <= named.keys()
    assert all(all(named[number]) for number in later), named


# ── at the end ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("LIVE-7")
def test_a_process_ends_without_the_word_of_who_was_away_in_the_round_before_it(make: MakeSites) -> None:
    sites = make(4)
    running = {name: sites.site(name, [sites[name].hold(), {"sum": [1]}]) for name in sites.names}
    for name, process in running.items():
        process.linked(*(running.keys() - {name}))
    running["dot"].kill()
    for name in STAY[:3]:
        running[name].event("link_down", peer="dot")
        sites[name].open()
    for name in STAY[:3]:
        assert "dot" not in running[name].given()["survivors"]
    for process in running.values():
        process.kill()  # it would wait: the dead site was there as it began
    again = [sites.site(name, [{"sum": [2]}], linger=20) for name in STAY[:3]]
    for process in again:
        ended = process.end()
        assert ended.status == 0, ended.text
        events = [json.loads(line) for line in ended.said if line.startswith('{"event": "waiting"')]
        assert not [one for one in events if one["phase"] == "final" and "dot" in one["missing"]]

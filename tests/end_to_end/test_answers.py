"""A site killed between the end of a sum and its last word: the same command again tells the number."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.checks import rounds
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Process, Sites

# `p2pfl` that dies at a step on the home's disk, or right before or after it prints its result; `linger` are the most
# seconds that it serves others at its end.
DYING = """
import functools, json, sys
from p2pfl.cli import output
from p2pfl.cli.main import main
from p2pfl.home import home as homes
from p2pfl.peer import Peer
from tests.end_to_end.site import Fault, die

plan, printed = json.loads(sys.argv[1]), output.result
Peer.join = functools.partial(Peer.join, linger_s=plan.get("linger", 60.0))
if "at" in plan.get("die", {}):
    homes.Home.open = functools.partial(homes.Home.open, fault=Fault(plan))

def result(*of):
    if plan.get("result") == "before":
        die()
    seen = printed(*of)
    if plan.get("result") == "after":
        die()
    return seen

output.result = result
main(sys.argv[2:])
"""
MOMENTS: dict[str, dict[str, Any]] = {
    "while it keeps the number": {"die": {"at": ["flush", "state/answer", 1]}},
    "with the number kept and no record": {"die": {"at": ["put", "state/attempt", 7]}},
    "before the round is in the ledger": {"die": {"at": ["put", "state/total", 1]}},
    "with the round's last step durable and half of its entry in the ledger": {
        "die": {"at": ["write", "federation/*", 4]}
    },
    "before the round's last step is in its place": {"die": {"at": ["rename", "state/journal", 2]}},
    "with the round's last step durable and nothing of it in the ledger": {"die": {"at": ["write", "federation/*", 3]}},
    "before it lets go of the number": {"result": "after"},
}


def dying(sites: Sites, name: str, plan: dict[str, Any], *more: object) -> Process:
    site = sites[name]
    words = ["sum", "--peers", sites.peers, "--home", site.home, "--stat", "sum", "--json", *more]
    return sites.run(name, ["-c", DYING, json.dumps(plan), *words])


@pytest.mark.claim("LIVE-5")
@pytest.mark.parametrize("plan", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_site_killed_when_its_sum_is_final_is_told_the_number(make: MakeSites, plan: dict[str, Any]) -> None:
    sites = make(3)
    others = [sites.sum(name, value) for name, value in (("ada", 1), ("cyd", 3))]
    assert dying(sites, "ben", plan, "--value", 2).end().status == -9
    # Who is told it again waits a minute for the others' word that they have it, also where they have gone before.
    again = dying(sites, "ben", {"linger": 5.0 if "result" in plan else 60.0}, "--value", 2)
    ended = [process.end() for process in (again, *others)]
    assert [(one.status, one.facts["value"], one.facts["round"]) for one in ended] == [(0, "6.00", 1)] * 3
    assert len(rounds(sites["ben"], "sum")) == 1
    assert len(sites.roots()) == 1
    anew = [sites.sum(name, value) for name, value in (("ada", 1), ("ben", 2), ("cyd", 3))]
    told = [process.end().facts for process in anew]  # it was told: the same command again is another sum
    assert [(one["round"], one["kept"]) for one in told] == [(2, False)] * 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_number_is_told_when_all_others_have_gone(make: MakeSites, moment: str) -> None:
    """Also that of a column, before which sites and records were counted; twice at most, and then it says so."""
    sites = make(3)
    for site in sites.sites.values():
        site.records.write_text("age\n" + "\n".join(map(str, range(30, 40))) + "\n")
    asked = {name: ["--csv", sites[name].records, "--column", "age"] for name in sites.names}
    others = [sites.p2pfl(name, "sum", "--stat", "sum", *asked[name]) for name in ("ada", "cyd")]
    assert dying(sites, "ben", {"result": moment}, *asked["ben"]).end().status == -9
    for process in others:
        process.line("waiting for the others to have it")
        process.kill()
    alone = sites.p2pfl("ben", "sum", "--stat", "sum", "--json", *asked["ben"])
    alone.line("waiting for the others to have it")
    facts = alone.result()
    assert (facts["value"], facts["count"], facts["kept"]) == ("1035.00", 30, True)


def test_a_site_killed_between_the_count_and_the_sum_goes_on_with_the_sum(make: MakeSites) -> None:
    sites = make(3)
    for site in sites.sites.values():
        site.records.write_text("age\n" + "\n".join(map(str, range(30, 40))) + "\n")
    asked = {name: ["--csv", sites[name].records, "--column", "age"] for name in sites.names}
    others = [sites.p2pfl(name, "sum", "--stat", "sum", "--json", *asked[name]) for name in ("ada", "cyd")]
    plan = {"die": {"at": ["write", "federation/*", 3]}}  # the count is final, and in no segment yet
    assert dying(sites, "ben", plan, *asked["ben"]).end().status == -9
    again = sites.p2pfl("ben", "sum", "--stat", "sum", "--json", *asked["ben"])
    ended = [process.end() for process in (again, *others)]
    assert [(one.status, one.facts["value"]) for one in ended] == [(0, "1035.00")] * 3


def test_a_site_whose_number_is_lost_says_so_and_the_same_command_sums_anew(make: MakeSites) -> None:
    """It died before its caller was told, and what the number is made of was damaged before it came back."""
    sites = make(3)
    order = {"sum": [1, 2, 3], "times": 12_000, "brief": True}  # words too many to be written twice
    started = sites.linked(lambda name: [order, sites[name].hold()] if name == "ben" else [order])
    assert [started[name].end().status for name in ("ada", "cyd")] == [0, 0]
    started["ben"].given()
    started["ben"].kill()
    held = sites["ben"].home / "state/sums/1"
    held.write_bytes(held.read_bytes()[:-1] + b"?")
    lost = sites.site("ben", [order]).end()
    assert (lost.status, lost.facts["error"]["code"]) == (5, "P2P-HOME-015")
    assert "over ada, ben, cyd" in lost.facts["error"]["evidence"]
    anew = sites.linked(lambda name: [order])
    given = [anew[name].given() for name in sites.names]
    assert [(one["total"], one["round"]) for one in given] == [(["3", "6", "9"], 2)] * 3

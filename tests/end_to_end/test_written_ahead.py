"""A site killed between two parts of the masked sums that it writes while they come: its round goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.checks import rounds
from tests.end_to_end.conftest import MakeSites

# `p2pfl` that writes each masked sum as it comes, however small, in a file of its own; and dies at a step on the disk.
DYING = """
import functools, json, sys
from p2pfl.cli.main import main
from p2pfl.home import home as homes, items
from p2pfl.sharing.phases import ahead
from tests.end_to_end.site import Fault

ahead.AHEAD_BYTES, items.SMALL_BYTES = 1, 0
homes.Home.open = functools.partial(homes.Home.open, fault=Fault(json.loads(sys.argv[1])))
main(sys.argv[2:])
"""


@pytest.mark.parametrize("step", [["open", 1], ["write", 2], ["write", 8], ["write", 10], ["fsync", 1]], ids=str)
def test_a_site_killed_between_two_parts_of_its_masked_sums_ends_its_round(make: MakeSites, step: list[Any]) -> None:
    sites = make(3)
    others = [sites.sum(name, value) for name, value in (("ada", 1), ("cyd", 3))]
    kind, number = step
    plan = {"die": {"at": [kind, "sums/[01].new", number]}}
    site = sites["ben"]
    words = ["sum", "--peers", sites.peers, "--home", site.home, "--stat", "sum", "--json", "--value", 2]
    assert sites.run("ben", ["-c", DYING, json.dumps(plan), *words]).end().status == -9
    ended = [process.end() for process in (sites.sum("ben", 2), *others)]
    assert [(one.status, one.facts["value"], one.facts["round"]) for one in ended] == [(0, "6.00", 1)] * 3
    assert len(rounds(site, "sum")) == 1
    assert len(sites.roots()) == 1

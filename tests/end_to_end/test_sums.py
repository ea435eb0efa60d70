"""Peer.sum and Peer.mean between real processes: every kind of number, and every way in which sites can disagree."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.federation import Federation
from p2pfl.home.keyslots import KeyFile
from p2pfl.peer import Peer
from tests.end_to_end.checks import entries, rounds
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Ended, Sites


def together(sites: Sites, *plans: list[dict[str, Any]]) -> list[Ended]:
    """All sites at once, each with its own orders; how they ended, in the sites' order."""
    started = [sites.site(name, do) for name, do in zip(sites.names, plans, strict=True)]
    return [process.end() for process in started]


def test_every_kind_of_vector_is_summed_to_the_same_bits(make: MakeSites) -> None:
    """Between processes."""
    sites = make(3)
    orders = [
        {"sum": [1, -2, 3], "name": "integers"},
        {"sum": [4, 5, 6], "name": "tensor"},
        {"sum": [0.25, -0.5], "limit": 1.0, "name": "floats"},
        {"sum": ["48210.55", "-0.01"], "decimals": 2, "name": "money"},
        {"mean": [10.0, 20.0], "weight": 1, "limit": 100.0, "name": "mean"},
        {"mean": ["10.00"], "weight": "0.5", "decimals": 2, "name": "weighted"},
    ]
    plans = [[dict(order) for order in orders] for _ in sites.names]
    plans[0][1]["torch"] = True  # one site's tensor adds up with the others' arrays
    plans[0][4] |= {"weight": 2}
    ended = together(sites, *plans)
    assert [one.status for one in ended] == [0, 0, 0], ended[0].text
    given = [one.facts["given"] for one in ended]
    assert given[0] == given[1] == given[2]
    integers, tensor, floats, money, mean, weighted = given[0]
    assert (integers["total"], integers["kind"]) == (["3", "-6", "9"], "int64")
    assert tensor["total"] == ["12", "15", "18"]
    assert [float(one) for one in floats["total"]] == pytest.approx([0.75, -1.5], abs=1e-6)
    assert money["total"] == ["144631.65", "-0.03"]
    assert [float(one) for one in mean["mean"]] == pytest.approx([10.0, 20.0], abs=1e-5)
    assert [float(one) for one in weighted["mean"]] == [10.0]
    assert [one["round"] for one in (integers, tensor, floats, money)] == [1, 2, 3, 4]
    assert len(sites.roots()) == 1


@pytest.mark.parametrize(
    ("field", "orders"),
    [
        ("name", [{"sum": [1], "name": "a"}, {"sum": [1], "name": "a"}, {"sum": [1], "name": "b"}]),
        ("vectors", [{"sum": [1.0], "limit": 2.0}, {"sum": [1.0], "limit": 2.0}, {"sum": [1.0], "limit": 3.0}]),
        ("vectors", [{"sum": [1, 2]}, {"sum": [1, 2]}, {"sum": [1, 2, 3]}]),
        ("vectors", [{"sum": ["1"], "decimals": 2}, {"sum": ["1"], "decimals": 2}, {"sum": ["1"], "decimals": 3}]),
    ],
    ids=["names", "limits", "lengths", "decimals"],
)
def test_sites_that_ask_different_sums_are_told_which_part_differs(
    make: MakeSites, field: str, orders: list[dict[str, Any]]
) -> None:
    sites = make(3)
    ended = together(sites, *([order] for order in orders))
    assert all(one.status == 2 for one in ended), [one.text for one in ended]
    assert all("P2P-ROUND-030" in one.text and f"{field} differs" in one.text for one in ended)
    assert len(sites.roots()) == 1
    assert not [one for one in entries(sites["ada"], "federation") if one["kind"] == "round"]


def test_a_value_over_its_limit_is_refused_where_it_is_and_the_others_go_on_waiting(make: MakeSites) -> None:
    sites = make(3)
    others = [sites.sum(name, 10, "--limit", 100) for name in ("ada", "ben")]
    refused = sites.sum("cyd", 314159265, "--limit", 100).end()
    assert refused.status == 2
    assert "P2P-SHARE-007" in refused.text
    assert "314159265" not in refused.text  # longer than a port or a count
    again = sites.sum("cyd", 99, "--limit", 100)
    for process in (*others, again):
        assert process.end().facts["value"] == "119.00"


def test_two_copies_of_a_question_over_the_same_sites_are_both_answered(make: MakeSites) -> None:
    sites = make(3)
    orders = [{"sum": [1], "name": "same"}, {"sum": [2], "name": "same"}]
    assert [one.status for one in together(sites, orders, orders, orders)] == [0, 0, 0]
    assert [one["query"] for one in entries(sites["ben"], "site") if one["kind"] == "query"] == ["same", "same"]


@pytest.mark.claim("SUM-14")
def test_a_mean_and_then_a_sum_of_the_same_values_are_over_one_set_of_sites(make: MakeSites) -> None:
    """Nobody names either, so each has its default name, and that is no part of the lock."""
    sites = make(4)
    values = dict(zip(sites.names, (100, 101, 102, 103), strict=True))
    asked = ["--json", "--patience", 200]
    for name, value in values.items():
        sites.p2pfl(name, "sum", "--value", value, *asked)
    assert [sites.next_end().end().facts["value"] for _ in values] == ["101.50"] * 4
    for name in ("ada", "ben", "cyd"):
        sites.sum(name, values[name], "--patience", 1)
    refused = sites.next_end().end()
    assert refused.status == 2 and "P2P-ROUND-038" in refused.text, refused.text
    assert "then over ada, ben, cyd, dot; now over ada, ben, cyd; asked then as mean" in refused.text
    assert [one["configuration"]["name"] for one in rounds(sites["ada"], "sum")] == ["mean"]


def test_code_that_is_not_async_sums_with_processes(make: MakeSites) -> None:
    sites = make(3)
    for name in ("ben", "cyd"):
        sites.site(name, [{"sum": [1, 2]}, {"mean": [3.0], "limit": 10.0}])
    ada = sites["ada"]
    with Peer.join_blocking(Federation.load(sites.peers), home=ada.home, unlock=[KeyFile(ada.key)]) as peer:
        import numpy as np

        assert peer.sum(np.array([5, 6])).total.tolist() == [7, 10]
        assert peer.mean(np.array([6.0]), limit=10.0) == pytest.approx([4.0], abs=1e-5)
    assert len(sites.roots()) == 1


def test_a_sum_is_refused_while_a_training_is_under_way_in_that_home(make: MakeSites) -> None:
    sites = make(3, "rounds=2", "privacy.steps_per_round=10")
    started = [sites.site(name, [{"train": 2}], die={"at": ["put", "state/attempt", 2]}) for name in sites.names]
    assert sites.next_end().end().status == -9
    for process in started:
        process.kill()
    refused = sites.sum("ada", 1).end()
    assert refused.status == 2
    assert "P2P-ROUND-041" in refused.text
    again = [sites.site(name, [{"train": 2}]) for name in sites.names]
    assert [process.end().status for process in again] == [0, 0, 0]
    done = [sites.sum(name, 1) for name in sites.names]
    assert [process.end().status for process in done] == [0, 0, 0]

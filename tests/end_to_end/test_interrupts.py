"""Ctrl-C at every moment, the privacy budget across restarts, and when a site may leave."""

from __future__ import annotations

import signal
import time

import pytest

from tests.end_to_end.checks import check_budget, check_everything, entries, rounds
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Sites

MOMENTS = ("listening", "link_up", "charged", "trained", "propose", "gather", "ballot", "unmask")


def test_ctrl_c_at_any_moment_of_a_training_ends_with_130(make: MakeSites) -> None:
    """The ledger verifies."""
    sites = make(3, "rounds=3", "privacy.steps_per_round=10")
    do = [{"train": 3}]
    others = [sites.site(name, do) for name in ("ada", "cyd")]
    for moment in MOMENTS:
        process = sites.site("ben", do)
        process.line(f'"{moment}"')
        process.signal(signal.SIGINT)
        assert process.end().status == 130, process.tail
        sites.verified("ben")
    last = sites.site("ben", do)
    assert [one.end().status for one in (*others, last)] == [0, 0, 0]
    check_everything(sites, rounds=3, sums=0)


def test_ctrl_c_does_not_wait_for_a_pass_that_takes_for_ever(make: MakeSites) -> None:
    sites = make(3, "rounds=1", "privacy.steps_per_round=10")
    started = [sites.site(name, [{"train": 1, **({"endless": True} if name == "ben" else {})}]) for name in sites.names]
    started[1].event("charged")
    started[1].signal(signal.SIGINT)
    assert started[1].end().status == 130
    started[1] = sites.site("ben", [{"train": 1}])
    assert [process.end().status for process in started] == [0, 0, 0]
    assert len([one for one in entries(sites["ben"], "site") if one["kind"] == "charge"]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_interrupted_in_mid_training_resumes(make: MakeSites, number: signal.Signals) -> None:
    """It ends with 130, and goes on where it stood when it is started again."""
    sites = make(3)
    process = sites.sum("ada", 1)
    process.line("listening")
    process.signal(number)
    ended = process.end()
    assert (ended.status, ended.said[-1]) == (130, "interrupted: nothing final is lost")
    assert "Traceback" not in ended.text
    sites.verified("ada")
    again = [sites.sum(name, 1) for name in sites.names]
    for started in again:
        assert started.end().facts["value"] == "3.00"


def test_killed_and_interrupted_trainings_end_with_one_ledger(make: MakeSites) -> None:
    """What they have spent never shrinks."""
    from p2pfl.training.tasks.heart_records import deal

    sites = make(3, "rounds=3", "privacy.steps_per_round=3")
    for site, raw in zip(sites.sites.values(), deal(3).files.values(), strict=True):
        site.records.write_bytes(raw)
    ada = sites.join("ada")
    ben = sites.dying("ben", ["unlink", "state/pass", 1])
    cyd = sites.dying("cyd", ["unlink", "state/pass", 3], signal.SIGINT)
    assert ben.end().status == -9
    spent = _spent(sites, "ben")
    again = sites.join("ben")
    assert cyd.end().status == 130
    last = sites.join("cyd")
    for process in (ada, again, last):
        ended = process.end()
        assert ended.status == 0, process.tail
        assert ended.facts["rounds_completed"] == 3
        assert ended.facts["ledger"]["verified"]
    assert len(sites.roots()) == 1
    assert [one["round"] for one in rounds(sites["ada"], "training")] == [1, 2, 3]
    assert _spent(sites, "ben") > spent > 0
    for name in sites.names:
        check_budget(sites[name], 3, 3.0)


def _spent(sites: Sites, name: str) -> float:
    charges = [one for one in entries(sites[name], "site") if one["kind"] == "charge"]
    return float(charges[-1]["after"]) if charges else 0.0


def test_a_budget_that_is_spent_ends_with_4_and_restarts_do_not_refill_it(make: MakeSites) -> None:
    sites = make(3, "rounds=5", "privacy.steps_per_round=10", "privacy.max_epsilon=0.25")  # two passes of 0.1
    for _ in range(2):
        ended = [process.end() for process in [sites.site(name, [{"train": 5}]) for name in sites.names]]
        assert [one.status for one in ended] == [4, 4, 4], ended[0].text
        assert all("P2P-TRAIN-030" in one.text for one in ended)
    assert len(sites.roots()) == 1
    assert [one["round"] for one in rounds(sites["ada"], "training")] == [1, 2]
    for name in sites.names:
        site = sites[name]
        check_budget(site, 2, 0.25)
        assert len(list((site.folder / "updates").iterdir())) == 2  # nothing was trained beyond what was paid
        assert [one for one in entries(site, "site") if one["kind"] == "budget"]


def test_the_others_are_told_of_a_site_out_of_budget(
    make: MakeSites,
) -> None:
    """They wait no longer than they are told to."""
    sites = make(3, "rounds=4", "privacy.steps_per_round=10", "privacy.max_epsilon=0.45")
    do = [{"train": 4}]
    ben = sites.site("ben", do, die={"at": ["fsync", "state/residual.new", 1]})
    patient = [sites.site(name, do) for name in ("ada", "cyd")]
    ben.event("dies")  # it paid for a pass that it cannot repeat: its records have changed
    assert sites.site("ben", [{"train": 4, "records": "one more"}]).end().status == 4
    for process in patient:  # that stood by while ben started, however long that took
        process.kill()
    for process in [sites.site(name, do, wait=8.0) for name in ("ada", "cyd")]:
        ended = process.end()
        assert ended.status == 1, process.tail
        assert "P2P-ROUND-037" in ended.text
        assert "ben" in next(line for line in ended.text.splitlines() if line.startswith("  evidence"))
    assert len(sites.roots()) == 1


def test_waiting_is_bounded_by_wait_even_while_links_come_and_go(make: MakeSites) -> None:
    sites = make(3)
    ada = sites.sum("ada", 1, "--wait", "6")
    ada.line("listening")
    until = time.monotonic() + PATIENCE_S
    while ada.running and time.monotonic() < until:
        ben = sites.sum("ben", 2)
        ben.line("listening")
        ben.line(lambda line: "link to ada" in line or "waiting" in line)
        ben.kill()
    ended = ada.end()
    assert ended.status == 1
    assert "P2P-ROUND-037" in ended.text
    assert "cyd" in ended.text


def test_a_site_leaves_as_soon_as_everybody_has_the_last_round(make: MakeSites) -> None:
    sites = make(3)
    for process in [sites.site(name, [{"sum": [1]}], linger=10_000.0) for name in sites.names]:
        assert process.end().status == 0

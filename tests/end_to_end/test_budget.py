"""What training costs where processes die, are started alone, and come back as they were: real sites, real disks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.budget import run, told
from tests.end_to_end.checks import check_everything, entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Site

TRAIN = [{"train": 2}]
BEFORE_ITS_SEED = {"at": ["open", "state/pass.new", 1]}


def charges(site: Site) -> list[dict[str, Any]]:
    return [one for one in entries(site, "site") if one["kind"] == "charge"]


@pytest.mark.claim("DP-4")
def test_an_isolated_site_that_starts_again_and_again_spends_nothing(make: MakeSites) -> None:
    """It finds the attempt of a round on its disk, and waits for others before it trains for it."""
    sites = make(3, "rounds=2", "privacy.steps_per_round=10")
    dying = sites.site("ada", TRAIN, die=BEFORE_ITS_SEED)
    others = [sites.site(name, TRAIN) for name in ("ben", "cyd")]
    dying.event("dies")
    for process in others:
        process.kill()
    for _ in range(3):
        alone = sites.site("ada", TRAIN)
        assert set(alone.event("waiting", phase="hello")["missing"]) == {"ben", "cyd"}
        alone.kill()
    assert charges(sites["ada"]) == []
    for name in sites.names:
        sites.site(name, TRAIN, again=True)
    for process in sites.started[-3:]:
        assert process.end().status == 0, process.tail
    check_everything(sites, rounds=2, sums=0)
    assert [len(charges(sites[name])) for name in sites.names] == [2, 2, 2]


@pytest.mark.claim("DP-4")
def test_a_site_killed_in_its_pass_repeats_it_and_pays_once(make: MakeSites) -> None:
    sites = make(3, "rounds=1", "privacy.steps_per_round=10")
    for name in ("ben", "cyd"):
        sites.site(name, TRAIN)
    for moment in ("charged", "repeated", "repeated", "repeated"):
        sites.site("ada", TRAIN, die={"told": {"event": moment}}).end()
    sites.site("ada", TRAIN)
    for process in (*sites.started[:2], sites.started[-1]):
        assert process.end().status == 0, process.tail
    assert len(told(sites, "ada", "repeated")) == 4
    check_everything(sites, rounds=1, sums=0)
    assert len(charges(sites["ada"])) == 1


@pytest.mark.claim("HOME-5")
def test_a_home_set_back_to_before_its_charge_is_stopped_by_any_peer(make: MakeSites, tmp_path: Path) -> None:
    """It dealt, and is of the same round and attempt as its later self, which has trained and proposed."""
    sites = make(3, "rounds=2", "privacy.steps_per_round=10")  # so that no round goes on without it
    for name in ("ben", "cyd"):
        sites.site(name, TRAIN)
    sites.site("ada", TRAIN, die=BEFORE_ITS_SEED).end()
    shutil.copytree(sites["ada"].home, tmp_path / "kept", symlinks=True)
    ben = sites.started[0]
    sites.site("ada", TRAIN, die={"told": {"event": "phase", "phase": "mask"}}).end()
    assert ben.running
    shutil.rmtree(sites["ada"].home)
    shutil.copytree(tmp_path / "kept", sites["ada"].home, symlinks=True)
    back = sites.site("ada", TRAIN).end()
    assert back.status == 5
    assert "P2P-ROUND-032" in back.text
    assert "signed by this site, says ε = 0.1" in back.text
    assert len(charges(sites["ada"])) == 1  # its peers told what it had forgotten
    again = sites.site("ada", TRAIN).end()
    assert again.status == 5
    assert "P2P-ROUND-032" in again.text


@pytest.mark.claim("DP-4")
def test_sites_killed_while_they_train_pay_for_what_they_offered_and_no_more(tmp_path: Path) -> None:
    """`tests.end_to_end.budget` does the same with a hundred kills."""
    found = run(tmp_path, kills=5, sites=5, rounds=3, seed=4)
    assert found.kills >= 5

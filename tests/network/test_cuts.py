"""A site's link is cut for 20 s while a round is under way: it costs time, and not the round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.checks import check_everything
from tests.end_to_end.processes import Process, Sites
from tests.network.namespaces import STOP, ended_well, placed, silent

Played = Callable[[Callable[[Path], None]], None]

# Whose link is cut, in each phase: ben coordinates the first attempt, and orders who takes part in it.
PHASES = {
    "share": "cyd",
    "propose": "ben",
    "mask": "ben",
    "gather": "cyd",
    "ballot": "cyd",
    "unmask": "ben",
    "confirm": "cyd",
}


def moment(phase: str) -> dict[str, Any]:
    """Where the site stops: when it has entered the phase, and nothing that it owes there has left."""
    if phase == "share":
        return {"at": ["put", "state/attempt", 1]}
    return {"told": {"event": "phase", "phase": phase}}


def begin(sites: Sites, victim: str, phase: str, do: list[dict[str, Any]]) -> dict[str, Process]:
    """All sites start; the victim has stopped in that phase when this returns."""
    running = sites.linked(lambda name: do, {victim: {"die": moment(phase), **STOP}})
    running[victim].stopped()
    return running


def a_cut(place: Path, phase: str, do: list[dict[str, Any]], rounds: int, sums: int) -> None:
    """Three sites, so no round can do without one of them. The cut lasts until the others heard nothing for 20 s."""
    victim = PHASES[phase]
    with placed(place, 3, "rounds=2", "privacy.steps_per_round=10") as (net, sites):
        running = begin(sites, victim, phase, do)
        number = sites.names.index(victim)
        net.cut(number)
        running[victim].wake()
        for name, process in running.items():
            if name != victim:
                silent(process, victim)
        net.mend(number)
        ended_well(sites)
        assert not [line for process in sites.started for line in process.said if '"left"' in line]
        check_everything(sites, rounds=rounds, sums=sums)


SUM = [{"sum": [1, 2, 3], "name": "count"}]


@pytest.mark.claim("LIVE-2")
@pytest.mark.parametrize(
    "scene", [partial(a_cut, phase=phase, do=SUM, rounds=0, sums=1) for phase in PHASES], ids=list(PHASES)
)
def test_a_link_cut_for_20_s_in_any_phase_costs_time_and_not_the_round(scene: Any, played: Played) -> None:
    played(scene)


@pytest.mark.claim("LIVE-2")
@pytest.mark.parametrize("scene", [partial(a_cut, phase="gather", do=[{"train": 2}], rounds=2, sums=0)], ids=["gather"])
def test_a_training_goes_on_after_a_cut_of_20_s_and_every_update_counts_once(scene: Any, played: Played) -> None:
    played(scene)


def all_cut(place: Path) -> None:
    """Three sites, and the switch between them: each is alone until all have heard nothing of the others for 20 s."""
    with placed(place, 3) as (net, sites):
        running = begin(sites, "cyd", "gather", SUM)
        for number in range(3):
            net.cut(number)
        running["cyd"].wake()
        for name, process in running.items():
            for other in sites.names:
                if other != name:
                    silent(process, other)
        for number in range(3):
            net.mend(number)
        ended_well(sites)
        check_everything(sites, rounds=0, sums=1)


@pytest.mark.parametrize("scene", [all_cut], ids=["gather"])
def test_a_switch_that_fails_for_20_s_costs_time_and_not_the_round(scene: Any, played: Played) -> None:
    played(scene)


def without_it(place: Path, phase: str) -> None:
    """Four sites, of which three are a quorum. The cut lasts until the others have their result."""
    with placed(place, 4) as (net, sites):
        running = begin(sites, "cyd", phase, SUM)
        net.cut(2)
        running["cyd"].wake()
        given = [process.event("given")["given"] for name, process in running.items() if name != "cyd"]
        net.mend(2)
        ended_well(sites)
        assert given[0] == given[1] == given[2]
        assert ("cyd" in given[0]["survivors"]) == (phase == "unmask")
        check_everything(sites, rounds=0, sums=1)


@pytest.mark.claim("LIVE-2")
@pytest.mark.parametrize(
    "scene",
    [partial(without_it, phase=phase) for phase in ("gather", "unmask")],
    ids=["before the certificate", "after it"],
)
def test_of_four_the_others_have_their_sum_while_the_cut_lasts(scene: Any, played: Played) -> None:
    """The site that was cut off has it afterwards."""
    played(scene)

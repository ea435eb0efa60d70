"""Sites that do not all reach one another, sites that move, and machines that vanish without a word."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks._links import NETWORK, Network
from tests.end_to_end.checks import check_everything
from tests.network.namespaces import STOP, ended_well, lost, placed, silent

Played = Callable[[Callable[[Path], None]], None]

SUMS = [{"sum": [1, 2], "name": "before"}, {"sum": [3, 4], "name": "after"}]
FIRST_DONE = {"die": {"told": {"event": "round"}}, **STOP}


def one_way(net: Network, apart: bool) -> None:
    """ada hears ben, and ben does not hear ada."""
    (net.deafen if apart else net.hear)(1, to=0)


def both_ways(net: Network, apart: bool) -> None:
    """ada and ben are cut off from each other; both reach the other two."""
    net.keep_apart(0, 1, apart=apart)


def apart(place: Path, how: Callable[[Network, bool], None]) -> None:
    """Four sites; two of them fall out between two sums. The second goes on with a quorum, and holds everywhere."""
    with placed(place, 4) as (net, sites):
        running = sites.linked(lambda name: SUMS, {"ada": FIRST_DONE})
        running["ada"].stopped()
        how(net, True)
        running["ada"].wake()
        lost(running["ben"], "ada")
        for name in ("cyd", "dot"):  # both reach everyone
            given = running[name].event("given", order=SUMS[1])["given"]
            assert len(given["survivors"]) >= 3
        how(net, False)
        ended_well(sites)
        check_everything(sites, rounds=0, sums=2)


@pytest.mark.claim("LIVE-2")
@pytest.mark.parametrize(
    "scene",
    [partial(apart, how=one_way), partial(apart, how=both_ways)],
    ids=["one hears the other", "neither hears the other"],
)
def test_two_sites_that_cannot_talk_keep_no_sum_from_the_others(scene: Any, played: Played) -> None:
    """They have it themselves afterwards."""
    played(scene)


def a_move(place: Path) -> None:
    """Three sites; one has another address in the middle of a round, which is the second of those that are listed."""

    def listed(site: Any) -> list[str]:
        return [site.place.address, f"{NETWORK}.42"] if site.name == "ben" else [site.place.address]

    with placed(place, 3, addresses=listed) as (net, sites):
        everywhere = f"0.0.0.0:{sites['ben'].port}"
        stops = {"die": {"told": {"event": "phase", "phase": "gather"}}, **STOP, "listen": everywhere}
        running = {name: sites.site(name, SUMS[:1], **(stops if name == "ben" else {})) for name in sites.names}
        running["ben"].stopped()
        net.move(1, f"{NETWORK}.42")
        running["ben"].wake()
        ended_well(sites)
        check_everything(sites, rounds=0, sums=1)


@pytest.mark.claim("LIVE-2")
@pytest.mark.parametrize("scene", [a_move], ids=["in GATHER"])
def test_a_site_whose_address_changes_in_mid_round_is_found_again(scene: Any, played: Played) -> None:
    """The round holds."""
    played(scene)


def a_machine_gone(place: Path) -> None:
    """Three sites; the machine of one vanishes: no FIN, no RST. Later another process of that site comes."""
    with placed(place, 3) as (net, sites):
        stops = {"die": {"told": {"event": "phase", "phase": "gather"}}, **STOP}
        running = {name: sites.site(name, SUMS[:1], **(stops if name == "cyd" else {})) for name in sites.names}
        running["cyd"].stopped()
        net.cut(2)
        running["cyd"].kill()
        for name in ("ada", "ben"):
            silent(running[name], "cyd")
        net.mend(2)
        again = sites.site("cyd", SUMS[:1], again=True)
        again.event("link_up", peer="ada")
        ended_well(sites)
        check_everything(sites, rounds=0, sums=1)


@pytest.mark.claim("LIVE-2")
@pytest.mark.parametrize("scene", [a_machine_gone], ids=["in GATHER"])
def test_a_connection_whose_other_end_is_gone_is_found(scene: Any, played: Played) -> None:
    """The round goes on with the next process of that site."""
    played(scene)

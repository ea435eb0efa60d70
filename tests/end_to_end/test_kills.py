"""kill -9 at every kind of moment: the others say for whom they wait, and go on; nothing final is lost.

`tests.end_to_end.chaos` does the same hundreds of times, at moments drawn from a seed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.training.model import checkpoint
from p2pfl.training.model.personal import PersonalState
from tests.end_to_end.chaos import drawn, episode
from tests.end_to_end.checks import check_everything, entries, rounds
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Site, Sites, of

SUM = {"sum": [1, 2, 3], "name": "count"}

# Where a site dies: before such a step on such a path, the k-th time. In a sum its attempt is put into the journal
# seven times: dealt, receipts, U accepted, READY with the sums, ballot, certificate, record. Then come, in one step,
# the sum for those who missed it, the ledger's entry and heads, and what was heard.
MOMENTS = {
    "before the genesis is written": ["write", "federation/*", 1],
    "with half of the genesis written": ["write", "federation/*", 2],
    "before its shares leave": ["put", "state/attempt", 1],
    "before it acknowledges": ["put", "state/attempt", 2],
    "with U accepted and nobody told": ["flush", "state/attempt", 3],
    "before its READY is durable": ["put", "state/attempt", 4],
    "with its READY written and nobody told": ["flush", "state/attempt", 4],
    "before its ballot is durable": ["put", "state/attempt", 5],
    "with its ballot written and nobody told": ["flush", "state/attempt", 5],
    "before the certificate is durable": ["put", "state/attempt", 6],
    "before its record is durable": ["put", "state/attempt", 7],
    "before it keeps the sum for others": ["put", "state/total", 1],
    "before the round's last step is in its place": ["rename", "state/journal", 2],
    "with the round's last step durable and half of its entry in the ledger": ["write", "federation/*", 4],
    "before its logs and heads are files": ["open", "federation/head.new", 1],
    "before its journal goes": ["unlink", "state/journal", 1],
}


def until_all_end(sites: Sites, do: list[dict[str, Any]]) -> None:
    """Whoever dies is started again; then all must have ended well."""
    running = len(sites.names)
    while running:
        process = sites.next_end()
        status = process.end().status
        if status == -9:
            sites.site(process.name, do, again=True)
        else:
            assert status == 0, process.tail
            running -= 1


def run_to_the_end(sites: Sites, do: list[dict[str, Any]], *, rounds: int, sums: int) -> None:
    """Whoever dies is started again; then all must have ended well, with one ledger."""
    until_all_end(sites, do)
    check_everything(sites, rounds=rounds, sums=sums)


def begin_with_one_dying(sites: Sites, do: list[dict[str, Any]], moment: list[Any]) -> None:
    """All sites start, and the second dies at its moment."""
    for name in sites.names:
        sites.site(name, do, again=True, **({"die": {"at": moment}} if name == "ben" else {}))
    sites.started[1].event("dies")


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_site_killed_in_mid_sum_returns_and_the_sum_stands(make: MakeSites, moment: list[Any]) -> None:
    sites = make(3)
    do = [SUM, {"sum": [0.5], "limit": 1.0, "name": "next"}]
    begin_with_one_dying(sites, do, moment)
    run_to_the_end(sites, do, rounds=0, sums=2)


def test_a_round_taken_up_after_a_restart_says_since_when_it_counts(make: MakeSites) -> None:
    """Its seconds and bytes are those since then, and said to be; its time in the ledger is that of its proposals."""
    sites, begun = make(3), time.time()
    do = [SUM, {"sum": [0.5], "limit": 1.0, "name": "next"}]
    begin_with_one_dying(sites, do, MOMENTS["before its ballot is durable"])
    sites.next_end()
    died, restarted = time.time(), time.monotonic()
    again = sites.site("ben", do)
    told = again.event("round")
    assert told["taken_up"] and 0 <= told["seconds"] <= time.monotonic() - restarted
    assert told["bytes_sent"] > 0
    assert not any(sites.started[place].event("round")["taken_up"] for place in (0, 2))
    assert not again.event("round", round=2)["taken_up"]
    until_all_end(sites, do)
    first = rounds(sites["ada"], "sum")[0]
    latest = time.time() if first["attempt"] else died
    assert int(1000 * begun) <= first["time_ms"] <= 1000 * latest


@pytest.mark.claim("LIVE-5")
@pytest.mark.parametrize("seed", [21, 131])
def test_sites_killed_again_and_again_at_random_moments_lose_nothing(tmp_path: Path, seed: int) -> None:
    count, deaths = drawn(seed)
    assert episode(tmp_path, count, deaths) > 0


@pytest.mark.claim("LIVE-5")
@pytest.mark.parametrize(
    "moment",
    [["fsync", "accounts/spent.new", 1], ["fsync", "state/residual.new", 2]],
    ids=["while it charges", "while its update is made durable"],
)
def test_a_site_killed_around_its_training_pays_for_whatever_it_trained(make: MakeSites, moment: list[Any]) -> None:
    sites = make(3, "rounds=2", "privacy.steps_per_round=10")
    do = [{"train": 2}]
    begin_with_one_dying(sites, do, moment)
    run_to_the_end(sites, do, rounds=2, sums=0)


# Around the layers of a second pass: with half of them on the disk, before they count, and behind them with no update.
OWN_MOMENTS = {
    "ada": ["write", "checkpoints/personal.new", 18],  # of 12 for each pass
    "ben": ["rename", "checkpoints/personal", 2],
    "cyd": ["open", "state/residual.new", 3],  # of two for each pass: made, and sent
}


@pytest.mark.claim("LIVE-5", "DP-14")
def test_sites_killed_beside_their_layers_have_what_their_charged_passes_made(make: MakeSites) -> None:
    """Each makes its pass again from the same numbers, at no charge; the next one starts from what it left."""
    sites = make(3, "rounds=3", "privacy.steps_per_round=10", "local.personal=[head]")
    do = [{"train": 4, "personal": 5}]
    for name in sites.names:
        sites.site(name, do, again=True, die={"at": OWN_MOMENTS[name]})
    run_to_the_end(sites, do, rounds=3, sums=0)
    assert sum(process.process.returncode == -9 for process in sites.started) == 3
    again = [passes_made_again(sites[name], np.full(5, place, np.float32)) for place, name in enumerate(sites.names)]
    assert again[:2] == [1, 1]


def passes_made_again(site: Site, first: NDArray[np.float32]) -> int:
    """How many of its passes a site made twice; each charged one starts from the layers that the one before it left.

    first    what the layers start from, (k,); the home has those at the end of the chain
    """
    charged = sum(one["kind"] == "charge" for one in entries(site, "site"))
    layers, twice = first, 0
    for number in range(1, charged + 1):
        made = []
        for file in sorted((site.folder / "own").glob(f"{number:04d}-*")):
            with np.load(file) as held:
                made.append((held["before"].tobytes(), held["moved"].tobytes()))
        before, moved = made[0]
        assert before == layers.tobytes(), f"{site.name}: pass {number} starts from other layers than were left to it"
        assert set(made) == {(before, moved)}, f"{site.name}: pass {number} was another one when it was made again"
        layers, twice = layers + np.frombuffer(moved, np.float32), twice + len(made) - 1
    with site.opened() as home:
        held = PersonalState.from_file(home.read(PERSONAL) or b"")
    assert (held.charge, held.after.tobytes()) == (charged, layers.tobytes())
    return twice


@pytest.mark.claim("LIVE-5")
@pytest.mark.parametrize("item", ["checkpoints/next", "checkpoints/model"])
def test_a_site_killed_beside_a_state_of_adam_has_the_moments_of_the_others(make: MakeSites, item: str) -> None:
    adam = ("server.method=adam", "server.learning_rate=0.01", "average.decay=0.5")
    sites = make(3, "rounds=3", "privacy.steps_per_round=10", *adam)
    do = [{"train": 3}]
    begin_with_one_dying(sites, do, ["rename", item, 2])
    until_all_end(sites, do)
    assert sum(process.process.returncode == -9 for process in sites.started) == 1
    assert len(sites.roots()) == 1, "the ledger names the state after each round"
    states = set()
    for name in sites.names:
        with sites[name].opened() as home:
            states.add(home.read("checkpoints/model"))
    (state,) = states
    assert checkpoint.facts_of(state or b"")["kinds"] == "model momentum second average"


def test_a_site_that_dies_before_signing_its_head_verifies(make: MakeSites) -> None:
    """It always dies there, and its ledger verifies nevertheless."""
    sites = make(3)
    do = [{"sum": [number], "name": "again"} for number in range(4)]
    unsigned = {"at": ["put", "site/head", 2]}  # the first is signed at the start, the second after a round
    for name in sites.names:
        sites.site(name, do, again=True, **({"die": unsigned} if name == "ben" else {}))
    for deaths in (1, 2):
        assert sites.next_end().end().status == -9
        sites.site("ben", do, again=True, **({"die": unsigned} if deaths == 1 else {}))
    run_to_the_end(sites, do, rounds=0, sums=4)


@pytest.mark.claim("LIVE-5")
def test_all_sites_killed_at_once_go_on_where_they_stood(make: MakeSites) -> None:
    sites = make(4, "rounds=2", "privacy.steps_per_round=10")
    do = [{"train": 2}, SUM]
    for name in sites.names:
        sites.site(name, do, again=True, die={"at": ["put", "state/attempt", 5]})
    run_to_the_end(sites, do, rounds=2, sums=1)
    assert sum(process.process.returncode == -9 for process in sites.started) == 4


@pytest.mark.claim("LIVE-5")
def test_two_sites_killed_at_once_are_waited_for_by_name(make: MakeSites) -> None:
    sites = make(4)
    first, second = sites.site("ada", [SUM]), sites.site("ben", [SUM])
    for name in ("cyd", "dot"):
        sites.site(name, [SUM], die={"at": ["put", "state/attempt", 1]})
    dead = {sites.next_end().name for _ in range(2)}
    for process in (first, second):
        process.event("waiting", silent=of(*dead))
    for name in dead:
        sites.site(name, [SUM])
    run_to_the_end(sites, [SUM], rounds=0, sums=1)


def test_a_site_killed_after_the_others_had_its_confirmation_is_still_served(make: MakeSites) -> None:
    sites = make(4)
    dies = {"die": {"at": ["put", "state/total", 1]}}  # it holds a quorum, in memory alone
    running = sites.linked(lambda name: [SUM], {"ben": dies})
    running.pop("ben").event("dies")
    for process in running.values():
        process.event("given")
        process.event("waiting", phase="final", missing=lambda missing: list(missing) == ["ben"])
    run_to_the_end(sites, [SUM], rounds=0, sums=1)


def test_the_command_says_who_was_never_seen_and_whose_link_is_down(make: MakeSites) -> None:
    sites = make(3)
    for process in [sites.sum(name, 5, "--name", "first") for name in sites.names]:
        assert process.end().status == 0, process.tail
    ada, ben = sites.sum("ada", 1), sites.sum("ben", 2)
    ada.line("waiting for cyd: never seen")
    ben.kill()
    ada.line("link to ben is down")
    again, cyd = sites.sum("ben", 2), sites.sum("cyd", 3)
    for process in (ada, again, cyd):
        ended = process.end()
        assert ended.status == 0, process.tail
        assert ended.facts["value"] == "6.00"
    assert len(sites.roots()) == 1

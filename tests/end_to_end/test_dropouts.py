"""One of five is killed in mid-round, again and again: every round ends with the right sum of the others."""

from __future__ import annotations

import json
import random
import time

import pytest

from tests.end_to_end.checks import rounds
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Process, Sites

KILLS = 10
EACH = 4  # sums for each kill: the site dies in the first, and may be back in the others
SUMS = EACH * KILLS + 1
FIRST = 100  # of the numbers that tell the sums apart; no power of two of a site is among them
PHASES = ("propose", "mask", "gather", "ballot", "unmask", "confirm", "final")


def orders(index: int) -> list[dict[str, object]]:
    """What one site adds to each of the sums: a power of two of its own, so that a total tells who is in it.

    The second number is another one in each sum: the same data are summed over one set of sites only.
    """
    return [{"sum": [1 << index, FIRST + number], "name": f"sum {number}"} for number in range(SUMS)]


def begin(sites: Sites, name: str) -> Process:
    return sites.site(name, orders(sites.names.index(name)), again=True)


def watched(sites: Sites, name: str) -> Process:
    """As `begin`, but it waits before each kill's sums: without it four others cannot go on while one is away."""
    asked = orders(sites.names.index(name))
    batches = [asked[at : at + EACH] for at in range(0, SUMS, EACH)]
    hold = sites[name].hold()
    return sites.site(name, [order for batch in batches for order in (hold, *batch)])


@pytest.mark.claim("LIVE-3")
def test_one_of_five_killed_ten_times_in_a_row_costs_no_round(
    make: MakeSites,
) -> None:
    """A site that comes back takes part again."""
    choice = random.Random(11)
    sites = make(5)
    watch = watched(sites, "ada")
    running = {"ada": watch} | {name: begin(sites, name) for name in sites.names[1:]}
    killed_in: list[tuple[str, int]] = []
    for kill in range(KILLS):
        victim = choice.choice(sites.names[1:])
        if kill % 3 == 1:  # between rounds, while ada holds: one ends without it
            running[victim].kill()
            sites["ada"].open()
            told = watch.event("round", survivors=lambda names, gone=victim: gone not in names)
        else:  # in mid-round; that one may end with it, and the next wait until it is back
            begun_s = time.monotonic()
            sites["ada"].open()
            phase = choice.choice(PHASES)
            told = watch.event("phase", phase=phase, told_s=lambda told_s, since=begun_s: told_s > since)
            running[victim].kill()
            watch.event("round")
        killed_in.append((victim, told["round"]))
        running[victim] = begin(sites, victim)
        running[victim].linked(*(name for name in sites.names if name != victim))  # so that it is in the next round
    sites["ada"].open()
    for process in running.values():
        assert process.end().status == 0, process.tail
    assert len(sites.roots()) == 1
    records = rounds(sites["ada"], "sum")
    assert len(records) == SUMS
    assert any(len(one["survivors"]) == 4 for one in records)
    for victim, number in killed_in:
        assert any(victim in one["survivors"] for one in records if one["round"] > number), f"{victim} after {number}"
    _totals_are_right(sites, watch)


def _totals_are_right(sites: Sites, watch: Process) -> None:
    """Every answer that a site was given is the sum over the sites that it names."""
    answers = [json.loads(line)["given"] for line in watch.said if line.startswith('{"event": "given"')]
    assert len(answers) == SUMS
    for number, answer in enumerate(answers):
        names = answer["survivors"]
        powers = sum(1 << sites.names.index(name) for name in names)
        assert answer["total"] == [str(powers), str(len(names) * (FIRST + number))]
        assert len(names) >= 4

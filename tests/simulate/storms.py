"""Weathers, and many seeds under each: what fails says the line that does it again."""

from __future__ import annotations

from collections.abc import Iterable

from p2pfl.errors.round import LeftOutTooOften
from p2pfl.simulate import SimulatedFederation, Weather
from tests.simulate import promises

WEATHERS = {
    # deaths and partitions, delays over four orders of magnitude, and letters that overtake bulk
    "storm": Weather(0.03, 8, (0.05, 100.0), (0.0005, 5.0), 0.01, 4, (0.1, 80.0), 0.5),
    "deaths": Weather(0.05, 20, (0.05, 100.0), (0.0005, 5.0)),
    "blinks": Weather(0.03, 10, (0.01, 5.0), (0.0005, 0.2), 0.02, 6, (0.01, 30.0), 0.5),  # back within a deadline
    "apart": Weather(0.0, 0, (0.1, 60.0), (0.001, 1.0), 0.02, 8, (0.1, 150.0)),  # nobody dies
    "slow": Weather(0.02, 6, (0.05, 200.0), (0.0005, 20.0), 0.01, 4, (0.1, 200.0), 0.5),  # a letter takes a deadline
    "hours": Weather(0.005, 2, (100.0, 4000.0), (0.001, 1.0), 0.003, 2, (10.0, 400.0)),  # rounds go by without the dead
}


def weathered(peers: int, seed: int, weather: str, rounds: int = 2) -> SimulatedFederation:
    """One schedule, to its end, with every promise checked."""
    federation = SimulatedFederation(peers, rounds=rounds, length=2 * peers, seed=seed, weather=WEATHERS[weather])
    federation.run(200_000)
    while stopped := [peer for peer in federation.peers.values() if isinstance(peer.error, LeftOutTooOften)]:
        # In such weather sites are left out without anybody's fault. Their operators look, and they go on.
        for peer in stopped:
            peer.disk.looked = peer.final_round
            federation.start(peer)
        federation.settle(200_000)
    promises.check(federation)
    promises.everything_is_final(federation)
    return federation


def sweep(peers: int, seeds: Iterable[int], weather: str, rounds: int = 2) -> list[SimulatedFederation]:
    """Every seed. Raises AssertionError that names each one that broke a promise, and how."""
    held, broken = [], []
    for seed in seeds:
        try:
            held.append(weathered(peers, seed, weather, rounds))
        except (AssertionError, RuntimeError) as error:
            broken.append(f"weathered({peers}, {seed}, {weather!r}, {rounds}): {error}")
    assert not broken, "\n".join(broken)
    return held

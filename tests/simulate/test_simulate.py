"""Rounds in memory under random orders, deaths and partitions: right or none, and right once all can talk."""

from __future__ import annotations

import pytest

import p2pfl
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate import SimulatedFederation, Weather, outcome_of, simulate
from tests.simulate import promises

STORM = Weather(0.03, 8, (0.05, 100.0), (0.0005, 5.0), 0.01, 4, (0.1, 80.0))
SLOW = Weather(0.05, 20, (0.05, 100.0), (0.0005, 5.0))  # many deaths, one after another

SCHEDULES = [
    *((3, seed, STORM) for seed in range(20)),
    *((4, seed, STORM) for seed in range(12)),
    *((5, seed, STORM) for seed in range(5)),
    *((6, seed, STORM) for seed in range(2)),
    *((7, seed, STORM) for seed in range(2)),
    (10, 0, STORM),
    *((3, seed, SLOW) for seed in range(6)),
    *((4, seed, SLOW) for seed in range(3)),
]


@pytest.mark.parametrize(("peers", "seed", "weather"), SCHEDULES)
def test_a_round_is_right_or_none_whatever_the_order_of_letters_deaths_and_partitions(
    peers: int, seed: int, weather: Weather
) -> None:
    federation = SimulatedFederation(peers, rounds=2, length=12, seed=seed, weather=weather)
    federation.run(200_000)
    promises.check(federation)
    promises.everything_is_final(federation)


def test_twenty_sites_agree() -> None:
    outcome = simulate(20, length=40, weather=Weather(0.0005, 1))
    assert outcome.complete
    assert [one.final_at for one in outcome.rounds] == [outcome.peers]


@pytest.mark.parametrize("bits", FIELDS)
def test_a_sum_is_that_of_pythons_integers_in_every_field(bits: int) -> None:
    outcome = simulate(3, bits=bits, length=4097, rounds=2)
    assert outcome.complete
    assert [one.number for one in outcome.rounds] == [1, 2]


@pytest.mark.parametrize("length", [0, 1, 2, 200_000])
def test_a_vector_may_have_fewer_words_than_owners_or_more_than_one_chunk_each(length: int) -> None:
    assert simulate(3, length=length).complete


def test_the_same_arguments_give_the_same_outcome() -> None:
    first, second = (simulate(4, rounds=2, seed=11, length=12, weather=STORM) for _ in range(2))
    assert first == second
    assert first != simulate(4, rounds=2, seed=12, length=12, weather=STORM)


def test_the_outcome_says_who_sent_how_much_and_what_fell_upon_them() -> None:
    outcome = simulate(4, rounds=2, seed=3, length=12, weather=STORM)
    assert outcome.peers == ("site-0", "site-1", "site-2", "site-3")
    assert outcome.deaths == 8
    assert outcome.partitions == 4
    assert outcome.letters > 0
    assert set(outcome.bytes_sent) == set(outcome.peers)
    assert all(outcome.bytes_sent.values())
    assert not outcome.errors
    assert all(one.survivors == outcome.peers and one.attempts >= 1 for one in outcome.rounds)


def test_a_run_that_is_cut_short_says_how_far_it_got() -> None:
    federation = SimulatedFederation(3, rounds=2, length=12)
    federation.begin()
    while federation.peers["site-0"].final_round < 1:
        assert federation.clock.step()
    outcome = outcome_of(federation)
    assert len(outcome.rounds) == 1
    assert "site-0" in outcome.rounds[0].final_at
    assert outcome.complete == (outcome.rounds[0].final_at == outcome.peers)


def test_bytes_sent_per_peer_are_within_a_few_kilobytes_of_the_optimum_of_an_all_reduce() -> None:
    outcome = simulate(4, length=100_000)
    optimum = 2 * 3 / 4 * 100_000 * 8
    for sent in outcome.bytes_sent.values():
        assert optimum <= sent <= optimum + 40_000


def test_simulate_is_called_from_the_package_itself() -> None:
    assert p2pfl.simulate(3, length=5).complete  # type: ignore[operator]
    from p2pfl import simulate as again

    assert again(3, length=5).complete  # type: ignore[operator]

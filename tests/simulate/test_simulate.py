"""Rounds in memory under random orders, deaths and partitions: right or none, and right once all can talk."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import p2pfl
from benchmarks import simulator
from p2pfl.messages import Letter
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate import SimulatedFederation, Weather, outcome_of, simulate
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate.storms import WEATHERS

STORM = WEATHERS["storm"]


def test_twenty_sites_agree() -> None:
    outcome = simulate(20, length=40, weather=Weather(0.0005, 1))
    assert outcome.complete
    assert [one.final_at for one in outcome.rounds] == [outcome.peers]


def test_the_benchmark_finds_a_small_federation_sound_and_a_wrong_sum_unsound() -> None:
    run = simulator.measure(7, 50, 3)
    assert run.outcome.deaths == 1
    assert all(finding.holds for finding in simulator.findings([run]))
    wrong = replace(run.outcome, rounds=(replace(run.outcome.rounds[0], right=False),))
    assert not all(finding.holds for finding in simulator.findings([replace(run, outcome=wrong)]))


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
    assert all(len(one.survivors) >= 3 and set(one.survivors) <= set(outcome.peers) for one in outcome.rounds)
    assert all(one.attempts >= 1 for one in outcome.rounds)


class Kept(SimulatedFederation):
    """Keeps what each letter said when it left: words travel from where they lie, and must not change under way."""

    def __init__(self, seed: int) -> None:
        super().__init__(4, rounds=2, length=40, seed=seed, weather=STORM)
        self.kept: list[bytes] = []

    def sent(self, to: str | None, letter: Letter) -> None:
        super().sent(to, letter)
        self.kept.append(letter.wire)


@pytest.mark.parametrize("seed", range(4))
def test_no_letter_changes_after_it_has_left(seed: int) -> None:
    federation = Kept(seed)
    federation.run()
    assert {"Chunk", "SumChunk", "Root"} <= {type(letter.message).__name__ for _, letter in federation.log}
    assert federation.kept == [letter.wire for _, letter in federation.log]


class Ordered(SimulatedFederation):
    """Keeps what left one site for another, and what arrived, by its bytes and by whether it is signed."""

    def __init__(self, overtaking: float) -> None:
        super().__init__(4, rounds=2, length=4000, seed=2, weather=Weather(overtaking=overtaking))
        self.left: list[tuple[bytes, bool]] = []
        self.arrived: list[bytes] = []

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if (sender, to) == ("site-0", "site-1"):
            self.left.append((letter.wire, letter.message.signed))
        super()._carry(sender, to, letter)

    def _deliver(self, sender: str, target: SimulatedPeer, wire: bytes) -> None:
        if (sender, target.name) == ("site-0", "site-1"):
            self.arrived.append(wire)
        super()._deliver(sender, target, wire)

    def places(self) -> tuple[list[int], list[bool]]:
        """By arrival, of what was said once: its place among all that left, and whether it is signed."""
        said = Counter(wire for wire, _ in self.left)
        places = {wire: at for at, (wire, _) in enumerate(self.left) if said[wire] == 1}
        found = [places[wire] for wire in self.arrived if wire in places]
        return found, [self.left[at][1] for at in found]


@pytest.mark.parametrize("overtaking", [0.0, 1.0])
def test_signed_letters_overtake_bulk_alone_and_nothing_overtakes_them(overtaking: float) -> None:
    federation = Ordered(overtaking)
    federation.run()
    places, signed = federation.places()
    assert len(places) > 10
    overtaken = [(k, j) for k in range(len(places)) for j in range(k) if places[j] > places[k]]
    assert bool(overtaken) == (overtaking > 0)
    assert all(signed[j] and not signed[k] for k, j in overtaken)


def test_a_run_that_is_cut_short_says_how_far_it_got() -> None:
    federation = SimulatedFederation(3, rounds=2, length=12)
    federation.begin()
    while federation.peers["site-0"].final_round < 1:
        assert federation.clock.step()
    outcome = outcome_of(federation)
    assert len(outcome.rounds) == 1
    assert "site-0" in outcome.rounds[0].final_at
    assert outcome.complete == (outcome.rounds[0].final_at == outcome.peers)


def test_bytes_sent_per_peer_are_near_the_optimum_of_an_all_reduce() -> None:
    """Within tens of kilobytes."""
    outcome = simulate(4, length=100_000)
    optimum = 2 * 3 / 4 * 100_000 * 8
    for sent in outcome.bytes_sent.values():
        assert optimum <= sent <= optimum + 60_000


def test_simulate_is_called_from_the_package_itself() -> None:
    assert p2pfl.simulate(3, length=5).complete  # type: ignore[operator]
    from p2pfl import simulate as again

    assert again(3, length=5).complete  # type: ignore[operator]

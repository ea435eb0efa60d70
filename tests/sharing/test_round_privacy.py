"""q−2 peers that pool everything learn the certified sums over the honest ones, and nothing else: shown by rank."""

from __future__ import annotations

import itertools
from functools import cache

import pytest

from p2pfl import messages as m
from p2pfl.roster import Quorums
from p2pfl.simulate import Weather
from tests.sharing.algebra import Coalition, Watched, rank
from tests.simulate import promises

STORM = Weather(0.03, 8, (0.05, 100.0), (0.0005, 5.0), 0.01, 4, (0.1, 80.0))


@cache
def stormy(peers: int, seed: int) -> Watched:
    federation = Watched(peers, rounds=2, length=2 * peers, seed=seed, weather=STORM)
    federation.run(200_000)
    promises.check(federation)
    return federation


@cache
def with_an_abandoned_attempt(peers: int, whole: bool = True) -> Watched:
    """In attempt 0 everyone masked and summed, then a peer died before it vouched; cut there unless `whole`."""
    federation = Watched(peers, rounds=1, length=2 * peers, seed=4)
    federation.begin()
    victim = federation.peers["site-0"]
    while not (victim.round and victim.round.state.pieces and victim.round.state.sums):
        assert federation.clock.step()
    victim.kill()
    while not all(peer.round is None or peer.round.attempt for peer in federation.peers.values() if peer.alive):
        if not federation.clock.step():
            federation.start(victim)
    if whole:
        federation.start(victim)
        while federation.clock.step():
            pass
        promises.check(federation)
        promises.everything_is_final(federation)
    return federation


RUNS = [(3, seed) for seed in range(8)] + [(4, seed) for seed in range(8)] + [(5, seed) for seed in range(3)] + [(6, 0)]


def coalitions(federation: Watched) -> list[tuple[str, ...]]:
    """Every set of the largest size that may collude."""
    names = federation.roster.names
    return list(itertools.combinations(names, Quorums(len(names)).q - 2))


@pytest.mark.parametrize(("peers", "seed"), RUNS)
@pytest.mark.parametrize("fresh", [True, False], ids=["words rounded anew", "the same words again"])
def test_a_coalition_of_the_largest_size_learns_the_certified_sums_alone(peers: int, seed: int, fresh: bool) -> None:
    federation = stormy(peers, seed)
    for members in coalitions(federation):
        assert Coalition(federation, members, fresh=fresh).learns_only_the_certified_sums(), members


def test_these_runs_hold_abandoned_attempts_in_which_words_were_masked() -> None:
    masked = {(number, seed, letter.envelope.round, letter.envelope.attempt)
              for number, seed in RUNS for _, letter in stormy(number, seed).log
              if isinstance(letter.message, m.Root)}  # fmt: skip
    final = {place[:3] for place in masked}
    assert len(masked) > len(final) + 5


@pytest.mark.parametrize("peers", [3, 4])
def test_the_equations_are_those_of_the_code(peers: int) -> None:
    federation = stormy(peers, 1)
    assert Coalition(federation, ()).equations_hold() > peers * (peers - 1)


@pytest.mark.parametrize("peers", [3, 4, 5])
def test_they_do_learn_each_certified_sum_so_the_check_sees_what_there_is_to_see(peers: int) -> None:
    federation = stormy(peers, 0)
    for members in coalitions(federation):
        coalition = Coalition(federation, members)
        allowed = coalition.certified()
        assert len(allowed) == 2
        for rows in coalition.seen().values():
            assert rank([*allowed, *coalition.determined(rows)]) == len(coalition.determined(rows)) == 2


def test_an_undecided_attempt_tells_nothing_at_all() -> None:
    federation = with_an_abandoned_attempt(3, whole=False)
    for members in coalitions(federation):
        coalition = Coalition(federation, members)
        assert not coalition.certified()
        assert not any(coalition.determined(rows) for rows in coalition.seen().values())


@pytest.mark.parametrize("whole", [True, False], ids=["then certified", "undecided"])
@pytest.mark.parametrize("peers", [3, 4])
def test_were_the_self_masks_of_an_abandoned_attempt_opened_the_check_would_fail(peers: int, whole: bool) -> None:
    """The negative control: the honest peers' second self-masks give away a second sum."""
    federation = with_an_abandoned_attempt(peers, whole)
    members = coalitions(federation)[-1]  # site-0, which died, is honest
    honest = [name for name in federation.roster.names if name not in members]
    opened = [("self", name, (1, 0)) for name in honest]
    assert Coalition(federation, members).learns_only_the_certified_sums()
    assert not Coalition(federation, members, extra=opened).learns_only_the_certified_sums()
    assert Coalition(federation, members, extra=opened[:-1]).learns_only_the_certified_sums()


def test_were_an_edge_between_two_honest_peers_opened_the_check_would_fail() -> None:
    federation = stormy(3, 0)
    (member,) = coalitions(federation)[0]
    one, other = (name for name in federation.roster.names if name != member)
    edges = [(kind, *pair, (1, attempt)) for kind in ("edge",) for pair in ((one, other), (other, one))
             for attempt in range(9)]  # fmt: skip
    assert not Coalition(federation, [member], extra=edges).learns_only_the_certified_sums()


def test_one_colluder_more_than_may_collude_learns_the_last_honest_peers_words() -> None:
    """So the bound of q−2 is not idle: with q−1 there may be one honest peer left, and the sum is its value."""
    coalition = Coalition(stormy(3, 0), ["site-0", "site-1"], fresh=False)
    for rows in coalition.seen().values():
        assert {("x", "site-2", 1): 1} in coalition.determined(rows)

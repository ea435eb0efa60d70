"""q−2 peers that pool everything learn the certified sums over the honest ones, and nothing else: shown by rank."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from p2pfl import codec
from p2pfl import messages as m
from p2pfl.messages import Letter, seal
from p2pfl.roster import Quorums
from p2pfl.sharing.digests import sum_digest
from p2pfl.sharing.state import Phase
from p2pfl.simulate import Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import THOROUGH, seeds
from tests.sharing.algebra import Coalition, P, Watched, equations_hold, rank
from tests.simulate import promises
from tests.simulate.storms import WEATHERS

SEEDS = {3: 3, 4: 3, 5: 1}  # by peers, under each weather
RUNS = [(peers, seed, weather) for weather in WEATHERS for peers in SEEDS for seed in seeds(SEEDS[peers])]
LARGE = [(6, 0, "storm"), (6, 1, "apart"), (7, 0, "slow")]


@cache
def stormy(peers: int, seed: int, weather: str, words: int = 3) -> Watched:
    """`words`: of each chunk, when all are in U."""
    federation = Watched(peers, rounds=2, length=words * peers, seed=seed, weather=WEATHERS[weather])
    federation.run(200_000)
    promises.check(federation)
    return federation


@cache
def calm(peers: int) -> Watched:
    """Everyone is in U."""
    federation = Watched(peers, rounds=1, length=3 * peers)
    federation.run()
    assert {vector.chosen for vector in federation.vectors.values()} == {federation.roster.names}
    return federation


def until(federation: Watched, done: Callable[[], bool]) -> None:
    while not done():
        assert federation.clock.step()


def round_of(peer: SimulatedPeer, number: int = 1):  # type: ignore[no-untyped-def]
    return peer.run.rounds.get(number) if peer.run is not None else None


@cache
def with_an_abandoned_attempt(peers: int, whole: bool = True) -> Watched:
    """In attempt 0 everyone masked and summed, then site-0 died before it vouched; cut there unless `whole`."""
    federation = Watched(peers, rounds=1, length=3 * peers, seed=4, weather=Weather(delay_s=(0.001, 0.1)))
    federation.begin()
    victim = federation.peers["site-0"]
    until(federation, lambda: bool((found := round_of(victim)) and found.state.view))
    victim.kill()
    alive = [peer for peer in federation.peers.values() if peer.alive]
    until(federation, lambda: all((found := round_of(peer)) and found.attempt for peer in alive))
    if whole:
        until(federation, lambda: peers == 3 or all(peer.final_round for peer in alive))
        federation.start(victim)
        while federation.clock.step():
            pass
        promises.check(federation)
        promises.everything_is_final(federation)
    return federation


@cache
def with_backups(peers: int) -> Watched:
    """site-2 died under the certificate, before its seed left: the others opened it from their shares."""
    federation = Watched(peers, rounds=1, length=3 * peers, seed=4, weather=Weather(delay_s=(0.001, 0.1)))
    federation.begin()
    victim = federation.peers["site-2"]
    federation.lies["site-2"] = lambda liar, to, letter: () if isinstance(letter.message, m.Reveal) else (letter,)
    until(federation, lambda: bool((found := round_of(victim)) and found.phase is Phase.UNMASK))
    victim.kill()
    while federation.clock.step():
        pass
    return federation


def coalitions(federation: Watched) -> list[tuple[str, ...]]:
    """Every set of the largest size that may collude."""
    names = federation.roster.names
    return list(itertools.combinations(names, Quorums(len(names)).q - 2))


@pytest.mark.claim("SUM-7")
@pytest.mark.parametrize(("peers", "seed", "weather"), RUNS)
@pytest.mark.parametrize("fresh", [True, False], ids=["words rounded anew", "the same words again"])
def test_a_coalition_of_the_largest_size_learns_the_certified_sums_alone(
    peers: int, seed: int, weather: str, fresh: bool
) -> None:
    federation = stormy(peers, seed, weather)
    for members in coalitions(federation):
        assert Coalition(federation, members, fresh=fresh).learns_only_the_certified_sums(), members


@pytest.mark.parametrize(("peers", "seed", "weather"), LARGE)
def test_so_does_one_among_more_peers_with_the_same_words_in_every_attempt(peers: int, seed: int, weather: str) -> None:
    federation = stormy(peers, seed, weather)
    for members in coalitions(federation)[::3]:
        assert Coalition(federation, members, fresh=False).learns_only_the_certified_sums(), members


@pytest.mark.claim("SUM-7")
def test_chunks_too_short_for_their_tags_tell_nothing_more() -> None:
    """Their tags give each masked word away, and nothing behind it."""
    federation = stormy(4, 0, "storm", 1)
    for members in coalitions(federation):
        assert Coalition(federation, members, fresh=False).learns_only_the_certified_sums(), members


@pytest.mark.skipif(not THOROUGH, reason="counts over the seeds that make test plays")
def test_these_runs_hold_all_that_could_tell_something() -> None:
    """Attempts abandoned after words were masked, a U without somebody, shares of seeds, tags, rounds left behind."""
    said: set[str] = set()
    abandoned = smaller = left = 0
    for run in RUNS:
        federation = stormy(*run)
        decided = Coalition(federation, ()).decided
        abandoned += len({at for _, at in federation.vectors} - decided.keys())
        smaller += sum(len(chosen) < len(federation.peers) for chosen in decided.values())
        left += sum(bool(peer.left) for peer in federation.peers.values())
        said |= {type(letter.message).__name__ for _, _, letter in federation.carried}
    assert abandoned > 20
    assert smaller > 20
    assert left > 5
    assert {"BackupShare", "Tags", "Total", "Handed"} <= said


@pytest.mark.parametrize("peers", [3, 4, 5])
def test_the_equations_are_those_of_the_code(peers: int) -> None:
    for weather in ("storm", "apart"):
        federation = stormy(peers, 0, weather)
        counted = equations_hold(federation, federation.roster.names)
        assert min(counted[kind] for kind in ("Chunk", "SumChunk", "Tags")) >= peers


@pytest.mark.parametrize("peers", [3, 4, 5])
def test_they_do_learn_each_certified_sum_so_the_check_sees_what_there_is_to_see(peers: int) -> None:
    """Of rounds whose set holds one of them that has their record: who was out may take over a record without its sum,
    and who has as many rounds as it wanted is not there for a later one of the others."""
    federation, compared = stormy(peers, 0, "storm"), 0
    for members in coalitions(federation):
        coalition = Coalition(federation, members)
        records = [(name, codec.read_facts(one)) for name in members for one in federation.peers[name].disk.ledger]
        held = {facts["round"] for _, facts in records}
        summed = {facts["round"] for name, facts in records if name in facts["survivors"]}
        for number, rows in coalition.seen().items():
            allowed, known = coalition.allowed(number), coalition.determined(rows)
            assert rank([*allowed, *known]) == rank(allowed)
            assert rank(known) == rank(allowed) or number not in summed
            compared += number in summed
        assert len(held) >= 2
        assert rank([row for number in sorted(held)[:2] for row in coalition.allowed(number)]) >= 2 * federation.length
    assert compared >= 2 * (peers - 1)


@pytest.mark.claim("SUM-7")
def test_an_undecided_attempt_tells_nothing_at_all() -> None:
    federation = with_an_abandoned_attempt(3, whole=False)
    assert len(federation.vectors) >= 3
    for members in coalitions(federation):
        coalition = Coalition(federation, members)
        assert not coalition.decided
        assert not any(coalition.determined(rows) for rows in coalition.seen().values())


def test_a_peer_outside_of_u_is_not_in_what_they_learn() -> None:
    """site-0 masked in attempt 0, and is in no certified U: nothing of its words is determined."""
    federation = with_an_abandoned_attempt(4)
    (chosen,) = Coalition(federation, ()).decided.values()
    assert "site-0" not in chosen
    for members in coalitions(federation):
        assert Coalition(federation, members, fresh=False).learns_only_the_certified_sums()


@cache
def with_a_false_sum() -> Watched:
    """site-0 added wrongly on purpose: it opened to all, still masked, what it had been given of that chunk."""

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> tuple[Letter, ...]:
        message, found = letter.message, round_of(liar)
        if not isinstance(message, m.SumDigest) or found is None or found.attempt:
            return (letter,)
        state = found.state
        if state.gathering.sum_digests[message.index] == letter:
            state.gathering.sums[message.index][0] = (int(state.gathering.sums[message.index][0]) + 1) % P
            said = sum_digest(state.attempt_digest, message.index, state.gathering.sums[message.index])
            state.gathering.sum_digests[message.index] = seal(
                replace(message, sum_digest=said), letter.envelope, liar.identity
            )
        return (state.gathering.sum_digests[message.index],)

    federation = Watched(4, rounds=1, length=12, lies={"site-0": lie})
    federation.run(100_000)
    promises.check(federation, beside=["site-0"])
    promises.everything_is_final(federation, beside=["site-0"])
    return federation


def test_the_opened_chunks_of_a_false_sum_tell_nothing() -> None:
    """Its owner is left out of the next attempt."""
    federation = with_a_false_sum()
    assert any(isinstance(letter.message, m.Opened) for _, _, letter in federation.carried)
    (chosen,) = Coalition(federation, ()).decided.values()
    assert "site-0" not in chosen
    for members in coalitions(federation):
        assert Coalition(federation, members, fresh=False).learns_only_the_certified_sums()


# ── negative controls: were more opened, the check would fail ─────────────────────────────────────────────────


@pytest.mark.claim("SUM-7")
@pytest.mark.parametrize("whole", [True, False], ids=["then certified", "undecided"])
@pytest.mark.parametrize("peers", [3, 4])
def test_were_the_self_masks_of_an_abandoned_attempt_opened_the_check_would_fail(peers: int, whole: bool) -> None:
    federation = with_an_abandoned_attempt(peers, whole)
    members = coalitions(federation)[-1]  # site-0, which died, is honest
    honest = [name for name in federation.roster.names if name not in members]
    opened = [(name, (1, 0)) for name in honest]
    assert Coalition(federation, members).learns_only_the_certified_sums()
    assert not Coalition(federation, members, opened=opened).learns_only_the_certified_sums()
    assert Coalition(federation, members, opened=opened[:-1]).learns_only_the_certified_sums()


@pytest.mark.claim("SUM-7")
@pytest.mark.parametrize("peers", [3, 4])
def test_were_shares_of_abandoned_self_masks_shown_the_check_fails(peers: int) -> None:
    """One share of each self-mask of an abandoned attempt is enough.

    They hold q−2 shares of each; one more is the seed.
    """
    federation = with_an_abandoned_attempt(peers)
    members = coalitions(federation)[-1]
    honest = [name for name in federation.roster.names if name not in members]
    shared = [(dealer, (1, 0), next(name for name in honest if name != dealer)) for dealer in honest]
    assert not Coalition(federation, members, shared=shared).learns_only_the_certified_sums()
    assert Coalition(federation, members, shared=shared[:-1]).learns_only_the_certified_sums()
    fewer = members[1:]  # with one colluder less, one share less
    assert Coalition(federation, fewer, shared=shared).learns_only_the_certified_sums()


@pytest.mark.claim("SUM-7")
@pytest.mark.parametrize("peers", [4, 5])
def test_shares_of_a_silent_members_seed_open_the_certified_sum_and_nothing_else(peers: int) -> None:
    federation = with_backups(peers)
    assert any(isinstance(letter.message, m.BackupShare) for _, _, letter in federation.carried)
    assert all(peer.final_round for name, peer in federation.peers.items() if name != "site-2")
    for members in coalitions(federation):
        coalition = Coalition(federation, members, fresh=False)
        assert coalition.learns_only_the_certified_sums()
        if "site-2" not in members:
            assert rank(coalition.determined(coalition.seen()[1])) == federation.length


def test_were_the_edges_of_one_honest_peer_opened_the_check_fails() -> None:
    """The edges between it and the others."""
    federation = calm(4)
    members = coalitions(federation)[0]
    one, *others = (name for name in federation.roster.names if name not in members)
    edges = [frozenset((one, other)) for other in others]
    assert not Coalition(federation, members, edges=edges).learns_only_the_certified_sums()
    assert Coalition(federation, members, edges=edges[1:]).learns_only_the_certified_sums()


def test_were_a_tag_taken_of_words_that_are_not_masked_the_check_would_fail() -> None:
    """The coefficients are known to all: of bare words, a tag is an equation that no sum gives."""
    federation = calm(4)
    coalition = Coalition(federation, coalitions(federation)[0])
    assert coalition.learns_only_the_certified_sums()
    where = (coalition.honest[0], (1, 0))
    kept = federation.vectors[where]
    federation.vectors[where] = replace(kept, streams=())  # as if no stream were in it
    try:
        assert not coalition.learns_only_the_certified_sums()
    finally:
        federation.vectors[where] = kept


@pytest.mark.claim("SUM-7")
def test_one_colluder_more_than_may_collude_learns_the_last_honest_peers_words() -> None:
    """So the bound of q−2 is not idle: with q−1 there may be one honest peer left, and the sum is its value."""
    federation = calm(3)
    coalition = Coalition(federation, ["site-0", "site-1"], fresh=False)
    known = coalition.determined(coalition.seen()[1])
    assert all(coalition.word("site-2", (1, 0), place) in known for place in range(federation.length))

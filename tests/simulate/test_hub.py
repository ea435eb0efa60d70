"""`topology: hub`: the hub owns every chunk while it is in U, and neither it nor who colludes with it learns more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.errors import round as errors
from p2pfl.messages import Letter
from p2pfl.sharing import round as rounds
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.field import Field
from p2pfl.sharing.phases import gather
from p2pfl.sharing.state import State
from p2pfl.simulate import SimulatedFederation, Weather, peer
from tests.examples import seeds
from tests.sharing.algebra import Coalition, Watched
from tests.sharing.liars import altering, proven, run, with_fields
from tests.sharing.test_round_privacy import coalitions
from tests.simulate import promises
from tests.simulate.storms import WEATHERS

HUB = "site-2"


def owners(federation: SimulatedFederation) -> Iterable[tuple[m.Members, str, str | None]]:
    """For every chunk: the set that it was masked under, who sent it, and to whom."""
    sets = {
        attempt_digest(letter): letter.message for _, letter in federation.log if isinstance(letter.message, m.Members)
    }
    for to, letter in federation.log:
        if isinstance(letter.message, m.Chunk):
            yield sets[letter.message.attempt_digest], letter.sender, to


def test_the_hub_owns_every_chunk_and_the_sum_is_right() -> None:
    federation = SimulatedFederation(5, rounds=2, length=40, hub=HUB)
    federation.run()
    promises.check(federation)
    promises.everything_is_final(federation)
    sent = list(owners(federation))
    assert len(sent) >= 2 * 4
    assert {to for _, _, to in sent} == {HUB}


def test_without_its_hub_the_members_own_chunks_as_in_a_mesh() -> None:
    federation = SimulatedFederation(5, rounds=1, length=40, hub=HUB)
    federation.begin()
    hub = federation.peers[HUB]
    while not hub.alive:
        assert federation.clock.step()
    hub.kill()
    others = [peer for peer in federation.peers.values() if peer is not hub]
    while not all(peer.final_round for peer in others):
        assert federation.clock.step()
    sent = list(owners(federation))
    assert {to for _, _, to in sent} == {peer.name for peer in others}
    assert all(HUB not in chosen.survivors for chosen, _, _ in sent)
    promises.check(federation)


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("peers", [3, 4, 5])
def test_a_round_with_a_hub_is_right_or_none_in_every_weather(peers: int, weather: str) -> None:
    for seed in seeds(3):
        federation = SimulatedFederation(
            peers, rounds=2, length=2 * peers, seed=seed, weather=WEATHERS[weather], hub=HUB
        )
        federation.run(200_000)
        promises.check(federation)
        promises.everything_is_final(federation)


@pytest.mark.claim("SUM-15")
@pytest.mark.parametrize("weather", WEATHERS)
def test_a_coalition_with_the_hub_in_it_learns_the_certified_sums_alone(weather: str) -> None:
    for peers, seed in ((3, 0), (4, 0), (4, 1)):
        federation = Watched(peers, rounds=2, length=2 * peers, seed=seed, weather=WEATHERS[weather], hub=HUB)
        federation.run(200_000)
        for members in coalitions(federation):
            assert Coalition(federation, members, fresh=False).learns_only_the_certified_sums(), members


class Adding:
    """A field whose sums are one too large."""

    def __init__(self, field: Field) -> None:
        self._field = field

    def __getattr__(self, name: str) -> Any:
        return getattr(self._field, name)

    def sum(self, rows: Any) -> Any:
        total = self._field.sum(rows)
        total[0] = (int(total[0]) + 1) % self._field.p
        return total


@pytest.mark.claim("SUM-15")
def test_a_hub_that_lies_about_a_sum_is_convicted_and_the_others_go_on_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = gather.field_of

    def field_of(state: State, index: int) -> Any:
        sums_it = state.context.me == HUB and index not in state.gathering.sum_digests
        return Adding(true(state, index)) if sums_it else true(state, index)

    monkeypatch.setattr(gather, "field_of", field_of)
    federation = run({}, hub=HUB)
    assert proven(federation) == {HUB}
    others = [peer for name, peer in federation.peers.items() if name != HUB]
    assert all({one.peer for one in peer.accused} == {HUB} for peer in others)  # some by the proof of another
    assert any(isinstance(one.error, errors.FalseSum) for peer in others for one in peer.accused)
    assert all(peer.final_round for peer in others)
    promises.check(federation, beside=[HUB])


@pytest.mark.claim("SUM-15")
@pytest.mark.parametrize(("hub", "owner"), [(HUB, "site-1"), (None, "site-1"), (None, HUB)])
def test_a_coordinator_does_not_choose_who_owns(hub: str | None, owner: str) -> None:
    coordinator = "site-1"
    federation = run({coordinator: altering(m.Members, with_fields(owners=(owner,)))}, hub=hub)
    honest = [peer for name, peer in federation.peers.items() if name != coordinator]
    said = [one.error for peer in honest for one in peer.accused]
    assert any(
        isinstance(error, errors.MembersRejected) and "not those of peers.yaml" in error.evidence for error in said
    )
    assert all(chosen.owners != (owner,) for chosen, sender, _ in owners(federation) if sender != coordinator)
    promises.check(federation, beside=[coordinator])


class ToldLast(SimulatedFederation):
    """The set comes to the hub two seconds after all others have it, and so does all that is said behind it."""

    late = False

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        self.late |= isinstance(letter.message, m.Members) and to == HUB
        super()._carry(sender, to, letter)

    def _arrival(self, sender: str, to: str, *, signed: bool) -> float:
        slow = 2.0 if self.late and (sender, to) == ("site-1", HUB) else 0.0
        return super()._arrival(sender, to, signed=signed) + slow


def told_last() -> ToldLast:
    federation = ToldLast(4, length=60_000, hub=HUB, weather=Weather(delay_s=(0.001, 0.05)))
    federation.run()
    assert federation.late
    return federation


def test_a_hub_that_is_told_the_set_last_holds_the_words_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are more than what a peer may be ahead with."""
    monkeypatch.setattr(rounds, "EARLY_BYTES", 1 << 18)
    federation = told_last()
    promises.check(federation)
    promises.everything_is_final(federation)


def test_were_there_no_room_for_a_sum_it_would_accuse_the_honest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "EARLY_BYTES", 1 << 18)
    monkeypatch.setattr(peer, "MOST_SUM", 0)
    error = told_last().peers[HUB].error
    assert error is not None
    assert error.code == "P2P-ROUND-001"

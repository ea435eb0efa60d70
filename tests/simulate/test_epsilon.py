"""A proposal that claims less spent privacy than the ledger holds of its sender would spoil every ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl.sharing.state import Context
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer

LIAR = "site-2"


def known_to_have_spent(monkeypatch: pytest.MonkeyPatch, epsilon: float) -> SimulatedFederation:
    """Four peers, whose ledgers say how much the liar has spent; a simulated peer claims 0.1 for each round."""
    plain = SimulatedPeer.context

    def context(peer: SimulatedPeer) -> Context:
        return replace(plain(peer), spent=lambda: {LIAR: epsilon} if peer.name != LIAR else {})

    monkeypatch.setattr(SimulatedPeer, "context", context)
    return SimulatedFederation(4, rounds=1, length=8)


def test_a_proposal_with_a_fallen_epsilon_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its sender is named and gone on without."""
    federation = known_to_have_spent(monkeypatch, 0.2)
    federation.run()
    for name, peer in federation.peers.items():
        if name != LIAR:
            assert {(one.peer, one.error.code) for one in peer.accused} == {(LIAR, "P2P-ROUND-046")}
            assert len(peer.disk.ledger) == 1
            assert f'"{LIAR}"' not in peer.disk.ledger[0].decode().partition('"survivors"')[2]


def test_an_epsilon_that_did_not_fall_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = known_to_have_spent(monkeypatch, 0.1)
    federation.run()
    assert not any(peer.accused for peer in federation.peers.values())


def test_a_set_that_holds_such_a_proposal_is_not_taken_part_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its coordinator may not know better, or be in league with it."""
    federation = known_to_have_spent(monkeypatch, 0.2)
    coordinator = federation.peers[federation.roster.names[1]]  # of round 1, attempt 0
    plain = coordinator.context
    monkeypatch.setattr(coordinator, "context", lambda: replace(plain(), spent=dict))
    federation.begin()
    while federation.clock.step():
        for name, peer in federation.peers.items():
            if peer.round is not None and peer.round.attempt == 0 and name not in (LIAR, coordinator.name):
                assert LIAR not in peer.round.state.survivors
    assert all(len(peer.disk.ledger) == 1 for peer in federation.peers.values())

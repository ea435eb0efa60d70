"""A proposal that nominates what nobody can sum on would end every process that is handed its set."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from p2pfl.errors.training import SupportMalformed
from p2pfl.sharing.state import Context
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer

LIAR = "site-2"


def refused(configuration: bytes, support: bytes, peers: int, peer: str) -> None:
    """As each honest site finds of the same bytes."""
    if peer == LIAR:
        raise SupportMalformed(evidence="3 bytes", peer=peer)


def spoilt(monkeypatch: pytest.MonkeyPatch, unaware: Collection[str] = ()) -> SimulatedFederation:
    """Four peers, of which one nominates nonsense; it itself, and `unaware`, take that for positions."""
    plain = SimulatedPeer.context

    def context(peer: SimulatedPeer) -> Context:
        found = plain(peer)
        return found if peer.name in (LIAR, *unaware) else replace(found, check_support=refused)

    monkeypatch.setattr(SimulatedPeer, "context", context)
    return SimulatedFederation(4, rounds=1, length=8)


def honest(federation: SimulatedFederation) -> list[SimulatedPeer]:
    return [peer for name, peer in federation.peers.items() if name != LIAR]


def test_a_proposal_that_nominates_nonsense_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its sender is named and gone on without."""
    federation = spoilt(monkeypatch)
    federation.run()
    for peer in honest(federation):
        assert {(one.peer, one.error.code) for one in peer.accused} == {(LIAR, "P2P-TRAIN-040")}
        assert len(peer.disk.ledger) == 1
        assert f'"{LIAR}"' not in peer.disk.ledger[0].decode().partition('"survivors"')[2]


def test_a_set_that_holds_such_a_proposal_is_not_taken_part_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its coordinator may be in league with it."""
    coordinator = "site-1"  # of round 1, attempt 0
    federation = spoilt(monkeypatch, unaware=[coordinator])
    assert federation.roster.names[1] == coordinator
    federation.begin()
    while federation.clock.step():
        for peer in honest(federation):
            if peer.round is not None and peer.round.attempt == 0 and peer.name != coordinator:
                assert LIAR not in peer.round.state.survivors
    assert all(len(peer.disk.ledger) == 1 for peer in federation.peers.values())


def test_what_others_pass_on_of_it_is_not_held_and_who_passes_it_on_is_not_to_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = ["site-0", "site-3"]
    federation = spoilt(monkeypatch, unaware=others)
    federation.begin()
    coordinator = federation.peers["site-1"]
    while federation.clock.step():
        if coordinator.round is not None and coordinator.round.attempt == 0:
            assert LIAR not in coordinator.round.state.proposals.proposes
    assert {one.peer for one in coordinator.accused} == {LIAR}
    assert not any(federation.peers[name].accused for name in others)

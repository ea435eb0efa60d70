"""What a step destroys is not on the disk any more, though an attempt's earlier steps lie in the journal until then."""

from __future__ import annotations

import pytest

from p2pfl import messages as m
from p2pfl.sharing import events as e
from p2pfl.sharing.snapshot import restore
from p2pfl.sharing.state import ATTEMPT_ITEM, Phase
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.stopped_rounds import ME, standing
from tests.simulate.storms import weathered

DESTROYING = (e.CertificateStored, e.Dealt, e.Moved)
Secrets = set[tuple[int, int, str, bytes]]  # round, attempt, what, and the secret


def secrets_in(peer: SimulatedPeer, data: e.Stored) -> Secrets:
    """Those of a snapshot."""
    assert peer.run is not None and isinstance(data, bytes)
    state = restore(peer.run.context, peer.run.peers, data)
    held = {(f"backup of {name}", one.share.reveal()) for name, one in state.unmasking.backups.items()}
    if state.unmasking.deal is not None:
        held |= {("self-mask", state.unmasking.deal.self_mask.reveal())}
    return {(state.round, state.attempt, *one) for one in held}


@pytest.mark.parametrize(("seed", "weather"), [(11, "storm"), (10, "deaths")])
def test_no_step_that_destroys_secrets_leaves_them_in_the_journal(
    seed: int, weather: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later attempt was certified elsewhere; a peer died, and dealt anew under a bundle that U does not hold."""
    journals: dict[bytes, Secrets] = {}  # by process
    persist, left = SimulatedPeer._persist, []

    def noted(peer: SimulatedPeer, effect: e.Persist) -> None:
        for item, data in effect.items:
            if item == ATTEMPT_ITEM:
                now = secrets_in(peer, data) if data is not None else set()
                held = now | (set() if effect.anew else journals.get(peer.incarnation, set()))
                journals[peer.incarnation] = held
                if effect.then in DESTROYING:
                    left.extend((peer.name, effect.then.__name__, *one[:3]) for one in held - now)
        persist(peer, effect)

    monkeypatch.setattr(SimulatedPeer, "_persist", noted)
    weathered(5, seed, weather)
    assert left == []


def test_who_follows_a_round_that_was_left_has_no_older_secret_on_its_disk() -> None:
    federation, found = standing(Phase.MASK, peers=4)
    state = found.state

    def said(name: str, message: m.Message) -> list[e.Effect]:
        peer = federation.peers[name]
        place = m.Envelope(peer.run_id, 1, found.number, 0, name, peer.incarnation)
        return found.handle(e.Received(state.now, m.seal(message, place, peer.identity)))

    others = [name for name in state.names if name != ME]
    for name in others:
        said(name, m.Leave(()))
    effects = [one for name in others for one in said(name, m.Ballot(0, b"", b"", (), ()))]
    (moved,) = [one for one in effects if isinstance(one, e.Persist) and one.then is e.Moved]
    assert found.attempt == 1 and moved.anew

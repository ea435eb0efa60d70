"""Liars without a plan: whatever they say, nothing is revealed or believed wrongly, and nobody honest is accused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pfl.errors import P2PFLError
from p2pfl.errors.round import RolledBack
from p2pfl.messages import Letter
from p2pfl.simulate import CALM, SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import seeds
from tests.sharing.chance import Chance
from tests.sharing.liars import errors, run
from tests.simulate import promises

WIND = Weather(0.01, 3, (0.05, 60.0), (0.0005, 5.0))


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize("seed", seeds(50))
def test_whatever_a_liar_says_no_promise_is_broken(seed: int) -> None:
    """Nobody honest ends, and only liars are named."""
    peers = 4 if seed % 5 else 7  # of seven, two may lie
    lies = {name: Chance(seed * 10 + k, (0.02, 0.1, 0.3)[seed % 3]) for k, name in enumerate(("site-0", "site-3"))}
    if peers == 4:
        del lies["site-3"]
    federation = run(
        dict(lies), peers=peers, seed=seed, rounds=2, length=10, weather=WIND if seed % 2 else CALM, steps=6000
    )
    promises.check(federation, beside=lies)
    assert not errors(federation), f"{errors(federation)}\n{lies}"


@pytest.mark.parametrize("seed", seeds(25))
def test_when_a_liar_repents_it_comes_back_unless_it_is_proven(seed: int) -> None:
    """Every round is right.

    Its operator starts it again, after it has lied enough. Whom letters of its own convict, is out for the epoch.
    """
    chance = Chance(seed, 0.15)

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        return chance(liar, peer, letter) if len(chance.lies) <= seed % 4 else (letter,)

    federation = SimulatedFederation(
        4, rounds=2, seed=seed, length=6, weather=WIND if seed % 2 else CALM, lies={"site-0": lie}
    )
    federation.begin()
    liar = federation.peers["site-0"]
    for _ in range(12):
        ended = settle(federation)
        if all(len(peer.disk.ledger) >= 2 for peer in federation.peers.values()) or ended is not None:
            break
        liar.kill()
        federation.start(liar)
    promises.check(federation, beside=["site-0"])
    honest = [peer for name, peer in federation.peers.items() if name != "site-0"]
    assert all(len(peer.disk.ledger) >= 2 for peer in honest)
    if ended is None:
        promises.everything_is_final(federation)
    else:
        assert isinstance(ended, RolledBack), ended.render()
        assert any("site-0" in peer.run.peers.proven for peer in honest if peer.run is not None)


def settle(federation: SimulatedFederation, most: int = 40_000) -> P2PFLError | None:
    """Until nothing is left to do, or for good: what ended the liar's process. Nobody else's ends."""
    for _ in range(most):
        if not federation.clock.step():
            return federation.peers["site-0"].error
    raise AssertionError("it never comes to rest")

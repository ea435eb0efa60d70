"""Liars without a plan: whatever they say, nothing is revealed or believed wrongly, and nobody honest is accused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pfl.errors import P2PFLError, RemoteProtocolError
from p2pfl.errors.round import ViewsDiffer
from p2pfl.messages import Letter
from p2pfl.simulate import CALM, SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.chance import Chance
from tests.sharing.liars import errors, run
from tests.simulate import promises

WIND = Weather(0.01, 3, (0.05, 60.0), (0.0005, 5.0))


@pytest.mark.parametrize("seed", range(50))
def test_whatever_a_liar_says_no_promise_is_broken_and_only_liars_are_named(seed: int) -> None:
    peers = 4 if seed % 5 else 7  # of seven, two may lie
    lies = {name: Chance(seed * 10 + k, (0.02, 0.1, 0.3)[seed % 3]) for k, name in enumerate(("site-0", "site-3"))}
    if peers == 4:
        del lies["site-3"]
    federation = run(dict(lies), peers=peers, seed=seed, rounds=2, length=10, weather=WIND if seed % 2 else CALM,
                     steps=6000)  # fmt: skip
    promises.check(federation, beside=lies)
    for name, error in errors(federation).items():
        if isinstance(error, RemoteProtocolError) and not isinstance(error, ViewsDiffer):
            # Unlike views are shown by an honest peer, too, and the error says no more than that.
            assert error.fields["peer"] in lies, f"{name}: {error.render()}\n{lies}"


@pytest.mark.parametrize("seed", range(25))
def test_when_a_liar_repents_and_everyone_starts_again_every_round_is_right(seed: int) -> None:
    """Whoever was ended by an error is started again by its operator; the liar, too, once it has lied enough."""
    chance = Chance(seed, 0.15)

    def lie(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
        return chance(liar, peer, letter) if len(chance.lies) <= seed % 4 else (letter,)

    federation = SimulatedFederation(4, rounds=2, seed=seed, length=6, weather=WIND if seed % 2 else CALM,
                                     lies={"site-0": lie})  # fmt: skip
    federation.begin()
    liar = federation.peers["site-0"]
    for _ in range(12):
        ended = settle(federation)
        if all(peer.final_round == 2 for peer in federation.peers.values()):
            break
        liar.kill()
        federation.start(liar)
    promises.check(federation, beside=["site-0"])
    promises.everything_is_final(federation)
    assert all(isinstance(error, P2PFLError) for error in ended)


def settle(federation: SimulatedFederation, most: int = 40_000) -> list[P2PFLError]:
    """Until nothing is left to do; whoever was ended by an error is back five seconds later."""
    ended: list[P2PFLError] = []
    for _ in range(most):
        if not federation.clock.step():
            return ended
        for peer in federation.peers.values():
            if peer.error is not None:
                ended.append(peer.error)
                peer.error = None
                federation.clock.at(federation.now + 5, lambda peer=peer: federation.start(peer))  # type: ignore[misc]
    raise AssertionError("it never comes to rest")

"""What a driver does with an update that no sum took: it is that of the next round."""

from __future__ import annotations

from p2pfl.sharing import events as e
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.algebra import Watched


class SummingAgain(Watched):
    """A watched federation whose sites sum an update again that was not sent in the round before."""

    careless: bool = False  # also one that was sent

    def update(self, name: str, number: int) -> tuple[e.Vector, ...]:
        return super().update(name, self.again.get((name, number), number))

    def _watch(self, peer: SimulatedPeer, effect: e.Quantise) -> None:
        left = {one.round: one.sent for one in peer.left}
        if effect.round - 1 in left and (self.careless or not left[effect.round - 1]):
            self.again[(peer.name, effect.round)] = self.again.get((peer.name, effect.round - 1), effect.round - 1)
        super()._watch(peer, effect)

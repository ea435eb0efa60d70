"""Signed letters overtake words of a sum: who votes before it has all of Y still takes the rest."""

from __future__ import annotations

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing.state import Phase
from tests.simulate import promises
from tests.simulate.manual_rounds import ByHand

OWNER, SLOW = "site-3", "site-0"


class Overtaken(ByHand):
    """The words of one owner's sums, and from then on all ballots, are late at one site."""

    def __init__(self) -> None:
        super().__init__(4)
        self.late: list[tuple[str, str, Letter]] = []
        self.held: tuple[type[m.Message], ...] = (m.SumChunk, m.Ballot)

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        words_of_another = isinstance(letter.message, m.SumChunk) and sender != OWNER
        if to == SLOW and isinstance(letter.message, self.held) and not words_of_another:
            self.late.append((sender, to, letter))
        else:
            super()._carry(sender, to, letter)

    def let_go(self, kind: type[m.Message]) -> None:
        self.held = tuple(one for one in self.held if one is not kind)
        found = [each for each in self.late if isinstance(each[2].message, kind)]
        self.late = [each for each in self.late if each not in found]
        assert found
        for each in found:
            self._carry(*each)
        self.flow()


@pytest.mark.parametrize("voted", [True, False], ids=["in BALLOT", "in UNMASK"])
def test_words_that_are_overtaken_by_a_quorums_readys_are_taken_where_they_come(voted: bool) -> None:
    """They were dropped while it voted, and then asked for as a whole sum after half of a deadline."""
    world = Overtaken()
    world.start_all()
    slow = world.peers[SLOW]
    world.flow()
    while not (slow.round and slow.round.phase is Phase.BALLOT) and world.tick():
        world.flow()
    assert slow.round is not None
    assert slow.round.state.voting.ready is None, "it votes by the READYs of the others alone"
    for kind in (m.SumChunk, m.Ballot) if voted else (m.Ballot, m.SumChunk):
        world.let_go(kind)
    assert slow.final_round, "no time passes for it"
    assert not any(isinstance(one.message, m.Want) and one.message.what == m.Question.SUM for _, one in world.log)
    world.until(lambda: all(peer.final_round for peer in world.peers.values()))
    promises.check(world)

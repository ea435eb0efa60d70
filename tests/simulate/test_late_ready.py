"""An ABANDON that came before this peer vouched counts as one that comes after: no honest attempt stays undecided."""

from __future__ import annotations

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.state import Phase
from tests.simulate import promises
from tests.simulate.manual_rounds import ByHand


class SlowSums(ByHand):
    """The SumChunks of all but site-0 stay on their way until they are let go."""

    def __init__(self) -> None:
        super().__init__(3)
        self.late: list[tuple[str, str, Letter]] = []
        self.slow = True

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if self.slow and sender != "site-0" and isinstance(letter.message, m.SumChunk):
            self.late.append((sender, to, letter))
        else:
            super()._carry(sender, to, letter)

    def let_go(self) -> None:
        self.slow = False
        for each in self.late:
            self._carry(*each)


def phases(world: ByHand) -> list[Phase | None]:
    return [peer.round.phase if peer.round else None for peer in world.peers.values()]


def test_peers_that_vouch_after_they_heard_an_abandon_do_not_wait_for_ever() -> None:
    world = SlowSums()
    world.start_all()
    world.flow()
    while phases(world) != [Phase.GATHER] * 3 and world.tick():
        world.flow()
    first = world.peers["site-0"]
    assert first.round is not None
    # Its clock is ahead of the others': it lacks words of the two others, who lack nothing of it.
    first.feed(e.Tick(first.round.state.due["gather"], 1, 0))
    world.flow()
    assert phases(world) == [Phase.BALLOT, Phase.GATHER, Phase.GATHER]
    world.let_go()
    world.flow()
    assert phases(world) != [Phase.BALLOT] * 3, "they wait for a certificate that can never be"
    world.until(lambda: all(peer.final_round for peer in world.peers.values()))
    promises.check(world)

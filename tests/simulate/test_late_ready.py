"""An ABANDON that came before this peer vouched counts as one that comes after: no honest attempt stays undecided."""

from __future__ import annotations

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.state import Phase
from tests.simulate.by_hand import ByHand


class SlowSums(ByHand):
    """The SumChunks of all but site-0 stay on their way until `late` is let go."""

    def __init__(self) -> None:
        super().__init__(3)
        self.late: list[tuple[str, str, Letter]] = []
        self.slow = True

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if self.slow and sender != "site-0" and isinstance(letter.message, m.SumChunk):
            self.late.append((sender, to, letter))
        else:
            super()._carry(sender, to, letter)

    def flow(self) -> None:
        while self.pairs():
            self.deliver(self.pairs()[0])

    def let_go(self) -> None:
        self.slow = False
        for each in self.late:
            self._carry(*each)


def phases(world: ByHand) -> list[Phase | None]:
    return [peer.round.phase if peer.round else None for peer in world.peers.values()]


def test_peers_that_vouch_after_they_heard_an_abandon_do_not_wait_for_ever() -> None:
    world = SlowSums()
    for peer in world.peers.values():
        world.start(peer)
    world.flow()
    while phases(world) != [Phase.GATHER] * 3 and world.tick():
        world.flow()
    own = (timer for timer in world.timers if timer[2].name == "site-0")
    early = next(timer for timer in own if isinstance(timer[4], e.GatherDeadline))
    world.timers.remove(early)
    world.clock.now = max(world.now, early[0])
    world.peers["site-0"].feed(early[4])  # it lacks words of the two others, who lack nothing of it
    world.flow()
    assert phases(world) == [Phase.BALLOT, Phase.GATHER, Phase.GATHER]
    world.let_go()
    world.flow()
    while any(peer.final_round < 1 for peer in world.peers.values()):
        assert world.tick(), f"no timer is left, and the round stands in {phases(world)}"
        world.flow()

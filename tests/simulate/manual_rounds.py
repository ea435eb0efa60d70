"""A federation whose every step is chosen from outside: which letter arrives next, who dies, when time passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.simulate import SimulatedFederation
from p2pfl.simulate.peer import SimulatedPeer

Thing = Callable[[], None]
Pair = tuple[str, str]


class ByHand(SimulatedFederation):
    """Letters of a pair wait in order; `deliver` takes the first of one pair. Nothing happens by itself."""

    def __init__(self, peers: int, rounds: int = 1) -> None:
        super().__init__(peers, rounds=rounds, length=4)
        self.waiting: dict[Pair, deque[Thing]] = {}
        self.timers: list[tuple[float, int, SimulatedPeer, bytes, e.Event]] = []
        self.delivered: list[tuple[str, bytes, Letter]] = []  # to whom, which of its processes
        self.doomed: dict[str, int] = {}  # effects that a process may still carry out before it dies
        self.cut: set[frozenset[str]] = set()  # pairs between which nothing arrives for now
        self._set = 0

    # ── the world of a peer ──────────────────────────────────────────────────────────────────────────────────

    def dies(self, peer: SimulatedPeer) -> bool:
        left = self.doomed.get(peer.name)
        if left is None:
            return False
        self.doomed[peer.name] = left - 1
        if left > 0:
            return False
        del self.doomed[peer.name]
        self.deaths += 1
        return True

    def _down(self, hearer: SimulatedPeer, name: str) -> None:
        """The end of a link is noticed behind all that had left before it."""
        there, here = hearer.incarnation, self.peers[name].incarnation

        def down() -> None:
            gone = not self.peers[name].alive or frozenset((name, hearer.name)) in self.cut
            if hearer.incarnation == there and self.peers[name].incarnation == here and gone:
                hearer.feed(e.LinkDown(self.now, name))

        self.waiting.setdefault((name, hearer.name), deque()).append(down)

    def timer(self, peer: SimulatedPeer, event: e.Event) -> None:
        self._set += 1
        self.timers.append((event.now, self._set, peer, peer.incarnation, event))

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        source, target = self.peers[sender], self.peers[to]
        if not target.alive:
            return
        here, there = source.incarnation, target.incarnation

        def arrive() -> None:
            if target.alive and target.incarnation == there and (source.incarnation == here or not source.alive):
                self.delivered.append((to, there, letter))
                self._deliver(sender, target, letter.wire)

        self.waiting.setdefault((sender, to), deque()).append(arrive)

    def _link(self, teller: SimulatedPeer, hearer: SimulatedPeer) -> None:
        there, here = hearer.incarnation, teller.incarnation

        def up() -> None:
            if hearer.incarnation == there and teller.incarnation == here:
                hearer.feed(e.LinkUp(self.now, teller.name, here))

        self.waiting.setdefault((teller.name, hearer.name), deque()).append(up)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────

    def start_all(self) -> None:
        for peer in self.peers.values():
            self.start(peer)

    def pairs(self) -> list[Pair]:
        """The pairs between which something can arrive."""
        return sorted(pair for pair, things in self.waiting.items() if things and frozenset(pair) not in self.cut)

    def deliver(self, pair: Pair) -> None:
        self.waiting[pair].popleft()()

    def flow(self, unless: Callable[[], bool] = lambda: False) -> None:
        """Everything arrives that can, pair after pair, until `unless` holds."""
        while not unless() and (pairs := self.pairs()):
            self.deliver(pairs[0])

    def until(self, done: Callable[[], bool]) -> None:
        """Everything arrives, and time passes, until `done`."""
        while not done():
            pairs = self.pairs()
            if pairs:
                self.deliver(pairs[0])
            else:
                assert self.tick(), "nothing is left to happen"

    def again(self, which: int) -> None:
        """Deliver once more a letter that this process of its receiver has had."""
        alive = [(to, letter) for to, process, letter in self.delivered if self.peers[to].incarnation == process]
        if alive:
            to, letter = alive[which % len(alive)]
            self.peers[to].feed(e.Received(self.now, letter))

    def part(self, one: str, other: str) -> None:
        """Two processes lose sight of each other; what is under way arrives once they meet again."""
        if frozenset((one, other)) in self.cut or not (self.peers[one].alive and self.peers[other].alive):
            return
        self.cut.add(frozenset((one, other)))
        for hearer, name in ((one, other), (other, one)):
            if self.peers[hearer].alive:
                self.peers[hearer].feed(e.LinkDown(self.now, name))

    def meet(self, one: str, other: str) -> None:
        """They see each other again: behind what was under way, each is told so."""
        self.cut.discard(frozenset((one, other)))
        self._meet(one, other)

    def tick(self) -> bool:
        """Time passes until the next timer. False when there is none."""
        if not self.timers:
            return False
        self.timers.sort(key=lambda timer: timer[:2])
        time, _, peer, process, event = self.timers.pop(0)
        self.clock.now = max(self.clock.now, time)
        if peer.incarnation == process:
            peer.feed(event)
        return True

    def settle(self, most: int = 40_000) -> None:
        """Nobody dies any more; everyone is back; everything arrives; time passes when nothing else is left to do."""
        self.doomed.clear()
        for pair in sorted(map(sorted, self.cut)):
            self.meet(*pair)
        for _ in range(most):
            for peer in self.peers.values():
                assert peer.error is None, f"{peer.name}: {peer.error.render()}"
                self.start(peer)
            pairs = self.pairs()
            if pairs:
                self.deliver(pairs[0])
            elif not self.tick():
                return
        raise AssertionError("it never comes to rest")

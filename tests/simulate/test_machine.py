"""Whatever anyone chooses to deliver, hold back, repeat, kill or restart: nothing forbidden; an end once all talk."""

from __future__ import annotations

from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.examples import examples
from tests.simulate import promises
from tests.simulate.manual_rounds import ByHand

SOME = st.integers(0, 10_000)
MOST_DEATHS = 5


class Federation(RuleBasedStateMachine):
    """Three or four sites, two rounds."""

    @initialize(peers=st.sampled_from([3, 3, 4]))
    def begin(self, peers: int) -> None:
        self.world = ByHand(peers, rounds=2)
        self.world.start_all()

    @rule(which=SOME)
    def deliver(self, which: int) -> None:
        pairs = self.world.pairs()
        if pairs:
            self.world.deliver(pairs[which % len(pairs)])

    @rule(which=SOME, count=st.integers(5, 60))
    def deliver_many(self, which: int, count: int) -> None:
        """A pair that is chosen waits; the others go on."""
        for step in range(count):
            pairs = self.world.pairs()
            if len(pairs) > 1:
                pairs.pop(which % len(pairs))
            if pairs:
                self.world.deliver(pairs[(which + step) % len(pairs)])

    @rule(which=SOME)
    def deliver_all_of_one_pair(self, which: int) -> None:
        pairs = self.world.pairs()
        if pairs:
            pair = pairs[which % len(pairs)]
            while self.world.waiting[pair]:
                self.world.deliver(pair)

    @rule(which=SOME)
    def repeat(self, which: int) -> None:
        self.world.again(which)

    @precondition(lambda self: self.world.deaths < MOST_DEATHS)
    @rule(which=SOME, effects=st.integers(0, 6))
    def kill(self, which: int, effects: int) -> None:
        """A process dies before one of the next effects that it would carry out."""
        names = list(self.world.peers)
        self.world.doomed[names[which % len(names)]] = effects

    @rule(which=SOME)
    def restart(self, which: int) -> None:
        gone = [peer for peer in self.world.peers.values() if not peer.alive]
        if gone:
            self.world.start(gone[which % len(gone)])

    @rule(which=SOME)
    def link_comes_up_anew(self, which: int) -> None:
        alive = [peer for peer in self.world.peers.values() if peer.alive]
        if len(alive) > 1:
            one, other = alive[which % len(alive)], alive[(which + 1) % len(alive)]
            self.world._link(one, other)
            self.world._link(other, one)

    @precondition(lambda self: not self.world.cut)
    @rule(which=SOME)
    def a_link_ends(self, which: int) -> None:
        names = list(self.world.peers)
        self.world.part(names[which % len(names)], names[(which + 1) % len(names)])

    @rule()
    def they_meet_again(self) -> None:
        for pair in sorted(map(sorted, self.world.cut)):
            self.world.meet(*pair)

    @rule()
    def time_passes(self) -> None:
        self.world.tick()

    @invariant()
    def nobody_broke_the_protocol(self) -> None:
        if hasattr(self, "world"):
            for peer in self.world.peers.values():
                assert peer.error is None, peer.error.render()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            promises.check(self.world)
            self.world.settle()
            promises.check(self.world)
            promises.everything_is_final(self.world)


Federation.TestCase.settings = examples(
    60, stateful_step_count=40, suppress_health_check=list(HealthCheck), derandomize=True
)
TestFederation = Federation.TestCase

"""One site dies at any moment: from four sites on, the others have their result without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.examples import THOROUGH
from tests.simulate import promises

pytestmark = pytest.mark.usefixtures("letters_read_once")

QUICK = Weather(delay_s=(0.001, 0.05))
TWO = 4  # sites that show that the next round is as good; larger federations show one round


class Drop(SimulatedFederation):
    """The victim dies before it carries out its effect number `moment` of round 1, and comes back after `back` seconds.

    back   None: it never does
    """

    def __init__(self, peers: int, victim: str, moment: int, back: float | None = None) -> None:
        super().__init__(peers, rounds=2 if peers <= TWO else 1, length=8, seed=moment, weather=QUICK)
        self.victim, self.moment, self.back = victim, moment, back

    def dies(self, peer: SimulatedPeer) -> bool:
        if peer.name != self.victim or self.deaths or peer.final_round:
            return False
        self.moment -= 1
        if self.moment >= 0:
            return False
        self.deaths += 1
        if self.back is not None:
            self.clock.at(self.now + self.back, lambda: self.start(peer))
        return True


def drops(
    peers: int, victim: str, stride: int = 1, back: float | None = None, first: int = 0
) -> Iterator[tuple[int, Drop]]:
    """One run for each moment of the victim's round 1 (every `stride`-th), from effect `first` to its last."""
    moment = first
    while True:
        federation = Drop(peers, victim, moment, back)
        federation.run(100_000)
        if not federation.deaths:
            return
        promises.check(federation)
        yield moment, federation
        moment += stride


# Site 1 coordinates attempt 0 of round 1.
EVERY_MOMENT = [(peers, k) for peers in (4, 5) for k in range(peers)]
STRIDE = 1 if THOROUGH >= 1 else 3  # each victim is seen at every third moment, and all of them at every one
SOME_MOMENTS = [(6, "site-0"), (6, "site-1"), (7, "site-1"), (7, "site-4")]


def check_the_others(federation: Drop, moment: int) -> None:
    where = f"{federation.victim} died before its effect {moment}"
    for name, peer in federation.peers.items():
        if name != federation.victim:
            assert peer.error is None, f"{where}; {name}: {peer.error.render()}"
            assert len(peer.disk.ledger) >= federation.rounds, f"{where}; {name} has {len(peer.disk.ledger)} results"
            assert not peer.left, f"{where}; {name} left a round behind"


@pytest.mark.claim("LIVE-3")
@pytest.mark.parametrize(("peers", "victim"), EVERY_MOMENT)
def test_whoever_dies_at_whatever_moment_the_others_have_their_result_without_it(peers: int, victim: int) -> None:
    moments = 0
    for moment, federation in drops(peers, f"site-{victim}", STRIDE, first=victim % STRIDE):
        check_the_others(federation, moment)
        moments += STRIDE
    assert moments > 30


@pytest.mark.claim("LIVE-3")
@pytest.mark.parametrize(("peers", "victim"), SOME_MOMENTS)
def test_so_it_is_in_larger_federations_at_every_fifth_moment(peers: int, victim: str) -> None:
    for moment, federation in drops(peers, victim, stride=5):
        check_the_others(federation, moment)


@pytest.mark.claim("LIVE-4")
@pytest.mark.parametrize("back", [3.0, 200.0], ids=["within a deadline", "after all deadlines"])
@pytest.mark.parametrize(("peers", "victim"), [(3, "site-0"), (3, "site-1"), (4, "site-1")])
def test_whoever_comes_back_has_every_result_too_and_of_three_nothing_else_is_needed(
    peers: int, victim: str, back: float
) -> None:
    for _, federation in drops(peers, victim, stride=2, back=back):
        promises.everything_is_final(federation)


def test_of_three_sites_the_two_that_are_left_have_no_result_and_learn_nothing() -> None:
    """n = 3 carries no loss: said to the user, and true."""
    for moment, federation in drops(3, "site-1", stride=7):
        others = [peer for name, peer in federation.peers.items() if name != "site-1"]
        held = {len(peer.disk.ledger) for peer in others}
        assert held <= {0, 1}, f"two sites went on alone after moment {moment}"

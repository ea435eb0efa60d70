"""A queue that was full is given up, and its link comes up anew: what left meanwhile overtakes what was lost."""

from __future__ import annotations

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from tests.sharing.algebra import Watched
from tests.simulate import promises
from tests.simulate.attackers import CALM

OWNER, SLOW = "site-0", "site-2"


class Lossy(Watched):
    """What the owner says to one site from its first digest of a sum up to the words of that sum is lost."""

    lost = passed = False

    def _carry(self, sender: str, to: str, letter: Letter) -> None:
        if (sender, to) == (OWNER, SLOW) and not self.passed:
            self.lost = self.lost or isinstance(letter.message, m.SumDigest)
            if self.lost and not isinstance(letter.message, m.SumChunk):
                return
            if self.lost:
                self.passed = True
                super()._carry(sender, to, letter)
                self._link(self.peers[OWNER], self.peers[SLOW])
                self._link(self.peers[SLOW], self.peers[OWNER])
                return
        super()._carry(sender, to, letter)


@pytest.mark.claim("LIAR-3")
def test_words_that_overtake_the_digest_of_their_sum_accuse_nobody() -> None:
    world = Lossy(4, length=20, weather=CALM)
    world.run()
    assert world.passed
    assert not any(peer.accused for peer in world.peers.values())
    promises.check(world)
    promises.everything_is_final(world)
    assert max(letter.envelope.attempt for _, letter in world.log) == 0, "what was lost is asked for in time"

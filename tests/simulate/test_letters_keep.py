"""A letter may wait long for a slow peer: whatever its sender does meanwhile, its bytes stay those that were sealed.

Bulk is not copied into its letter, and vectors are reused where they lie; so nothing may be sent from one that is.
"""

from __future__ import annotations

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing.phases import fetch
from p2pfl.simulate import SimulatedFederation
from tests.simulate import promises
from tests.simulate.storms import WEATHERS

BULK = (m.Chunk, m.SumChunk, m.Total)


class Noting(SimulatedFederation):
    """Notes the bytes of each letter of bulk when it leaves its process."""

    def __init__(self, weather: str, seed: int) -> None:
        super().__init__(4, rounds=2, length=24, seed=seed, weather=WEATHERS[weather])
        self.noted: list[tuple[Letter, bytes]] = []

    def sent(self, to: str | None, letter: Letter) -> None:
        super().sent(to, letter)
        if isinstance(letter.message, BULK):
            self.noted.append((letter, letter.wire))


@pytest.mark.parametrize("weather", ["deaths", "blinks", "slow"])
def test_no_letter_of_bulk_changes_after_it_was_sent(weather: str) -> None:
    kinds: set[type[m.Message]] = set()
    for seed in range(6):
        federation = Noting(weather, seed)
        federation.run(200_000)
        promises.check(federation)
        assert all(letter.wire == wire for letter, wire in federation.noted)
        kinds |= {type(letter.message) for letter, _ in federation.noted}
    assert kinds == set(BULK)


def test_masked_sums_that_a_peer_asked_for_stay_masked_in_their_letters() -> None:
    federation = Noting("apart", 0)
    federation.begin()
    asked = federation.peers["site-0"]
    while not (asked.round and asked.round.state.sum.masked):
        assert federation.clock.step()
    masked = asked.round.state.sum.masked
    parts = fetch.parts_of(masked, masked=True)
    before = [bytes(part.words) for part in parts]
    while not asked.round.state.sum.total:
        assert federation.clock.step()
    assert [bytes(part.words) for part in parts] == before
    assert before != [bytes(part.words) for part in fetch.parts_of(asked.round.state.sum.total, masked=False)]

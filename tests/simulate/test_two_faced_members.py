"""A member that behaves well to all but the coordinator of each attempt: these would refuse its set, and name it.

So one liar would have the honest named one after another, left out by the next coordinator, and stopped for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from p2pfl import codec, merkle
from p2pfl import messages as m
from p2pfl.keys import digest
from p2pfl.messages import Letter, open_letter, seal
from p2pfl.sharing import events as e
from p2pfl.sharing.digests import edge_commitment, share_leaf
from p2pfl.sharing.phases import heard
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises

pytestmark = pytest.mark.usefixtures("letters_read_once")

LIAR = "site-0"
OTHER = digest("other")
BY_ANOTHER = bytes(16)  # a process that there never was
CONVICTED = ["another proposal", "another bundle"]
WAYS = [
    *CONVICTED,
    "one bundle less",
    "another digest of one bundle",
    "another proposal, by another process",
    "another bundle, by another process",
    "no share",
]


class TwoFacedMember(SimulatedFederation):
    """The liar passes nothing on, names no set, and tells the coordinator something else than the others."""

    liars: tuple[str, ...] = (LIAR,)

    def __init__(self, way: str, peers: int = 5, rounds: int = 6) -> None:
        quick = Weather(delay_s=(0.001, 0.05))
        super().__init__(peers, rounds=rounds, length=peers, seed=5, weather=quick, lies={LIAR: self._lie})
        self.way = way
        for liar in self.liars:
            self.peers[liar].disk.looked = 1 << 40  # it does not stop for being left out itself

    @property
    def honest(self) -> list[str]:
        return [name for name in self.peers if name not in self.liars]

    def _lie(self, liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        coordinator = self.coordinator(letter)
        if isinstance(letter.message, m.Held) or (isinstance(letter.message, m.Members) and coordinator == LIAR):
            return ()
        return self._told(liar, letter, to) if to == coordinator else (letter,)

    def coordinator(self, letter: Letter) -> str:
        return self.roster.names[(letter.envelope.round + letter.envelope.attempt) % len(self.peers)]

    def _told(self, liar: SimulatedPeer, letter: Letter, to: str) -> Iterable[Letter]:
        """What the coordinator gets for it."""
        message, at, way = letter.message, letter.envelope, self.way
        at = replace(at, incarnation=BY_ANOTHER) if "by another process" in way else at
        if isinstance(message, m.Ack) and way == "one bundle less":
            message = replace(message, held=tuple(row for row in message.held if row[0] != self._victim(to)))
        elif isinstance(message, m.Ack) and way == "another digest of one bundle":
            victim = self._victim(to)
            message = replace(message, held=tuple((one, OTHER if one == victim else it) for one, it in message.held))
        elif isinstance(message, m.Propose) and "another proposal" in way:
            message = replace(message, model=OTHER)
        elif isinstance(message, m.Share) and "another bundle" in way:
            message = self._another(liar, message, at, to)
        elif isinstance(message, m.Share) and way == "no share":
            return ()
        return (letter if message is letter.message else seal(message, at, liar.identity),)

    def _victim(self, coordinator: str) -> str:
        return [name for name in self.honest if name != coordinator][-1]

    def _another(self, liar: SimulatedPeer, share: m.Share, at: m.Envelope, to: str) -> m.Share:
        """A share under a bundle that nobody else is shown."""
        place = self.roster.index(to)
        leaves = [share_leaf(share.salt, edge_commitment(share.salt, share.edge), share.backup)] * len(self.peers)
        dealt = open_letter(share.bundle, self.roster, m.Bundle).message
        bundle = seal(replace(dealt, nonce=OTHER, shares=merkle.root(leaves)), at, liar.identity)
        return replace(share, bundle=bundle.wire, path=merkle.paths(leaves)[place])

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────────

    def named(self) -> dict[tuple[int, int, str], int]:
        """By round, attempt and honest site, how many honest sites name it."""
        return Counter(
            (*promises.place_of(letter), name)
            for _, letter in self.log
            if isinstance(letter.message, m.Ballot) and letter.sender not in self.liars
            for name in letter.message.waited_for
            if name not in self.liars
        )

    def most_attempts(self) -> int:
        """Of a round that is final."""
        return 1 + max(codec.read_facts(record)["attempt"] for record in self.peers["site-1"].disk.ledger)

    def missed(self) -> list[str]:
        """Who counts a round against the others."""
        return [name for name in self.honest for note in self.peers[name].disk.notes if isinstance(note, e.NoteMissed)]


@pytest.mark.parametrize("way", WAYS)
def test_who_tells_the_coordinator_another_thing_has_nobody_honest_named(way: str) -> None:
    """And no round takes more attempts than one, beside those that the liar coordinates."""
    world = TwoFacedMember(way)
    world.run()
    promises.check(world, beside=[LIAR])
    promises.everything_is_final(world, beside=[LIAR])
    assert world.named() == {}
    assert world.most_attempts() <= 2
    assert world.missed() == []
    assert {one.peer for name in world.honest for one in world.peers[name].accused} == (
        {LIAR} if way in CONVICTED else set()
    )


@pytest.mark.parametrize("way", WAYS)
def test_were_what_others_pass_on_not_held_all_would_pay_for_it(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than c would name honest sites, or each of them would coordinate an attempt in vain."""
    monkeypatch.setattr(heard, "_hold", lambda *_: None)
    monkeypatch.setattr(heard, "_compare", lambda *_: None)
    world = TwoFacedMember(way)
    world.run()
    assert max(world.named().values(), default=0) > world.roster.quorums.c or world.most_attempts() > len(world.peers)


@pytest.mark.parametrize("deals", [True, False])
def test_a_member_silent_to_the_coordinator_beside_one_that_is_away_ends_nobody(deals: bool) -> None:
    """The coordinator looked into an acknowledgement that it knew from the others alone, and its process ended."""

    class Silent(TwoFacedMember):
        def start(self, peer: SimulatedPeer) -> None:
            if peer.name != "site-1":  # an honest one, which stands before the coordinators of the first rounds
                super().start(peer)

        def _told(self, liar: SimulatedPeer, letter: Letter, to: str) -> Iterable[Letter]:
            mute = (m.Ack, m.Propose) if deals else (m.Ack, m.Propose, m.Share)
            return () if isinstance(letter.message, mute) else super()._told(liar, letter, to)

    world = Silent("another bundle, by another process", peers=7, rounds=4)
    world.run()
    there = [name for name in world.honest if name != "site-1"]
    assert [len(world.peers[name].disk.ledger) for name in there] == [4] * len(there)

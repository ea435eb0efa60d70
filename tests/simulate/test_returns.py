"""Who comes back, and as what: a new process, an older disk, a second copy; and what each may still do."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from p2pfl import messages as m
from p2pfl.errors import RemoteProtocolError
from p2pfl.errors.round import RolledBack
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.state import Phase
from p2pfl.simulate import SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer, VirtualDisk
from tests.examples import seeds
from tests.sharing.liars import resealed
from tests.simulate import promises
from tests.simulate.manual_rounds import ByHand


def copied(disk: VirtualDisk) -> VirtualDisk:
    return VirtualDisk(
        dict(disk.items),
        list(disk.ledger),
        list(disk.signatures),
        list(disk.totals),
        list(disk.notes),
        disk.looked,
        list(disk.proofs),
    )


class OlderDisk(SimulatedFederation):
    """site-0 comes back, twice, on a copy of its disk that was taken at some earlier moment."""

    def __init__(self, peers: int, seed: int) -> None:
        weather = Weather(0.02, 6, (0.05, 60.0), (0.0005, 5.0))
        super().__init__(peers, rounds=3, seed=seed, length=6, weather=weather)
        self.copies: list[VirtualDisk] = []
        self.dice = random.Random(seed + 77)
        self.rolled_back = 0

    def dies(self, peer: SimulatedPeer) -> bool:
        if peer.name == "site-0" and self.dice.random() < 0.3:
            disk = peer.disk
            self.copies.append(copied(disk))
        return (peer.name == "site-0" or self.dice.random() < 0.3) and super().dies(peer)

    def start(self, peer: SimulatedPeer) -> None:
        if not peer.alive and peer.name == "site-0" and self.copies and peer.incarnation and self.rolled_back < 2:
            self.rolled_back += 1
            peer.disk = self.dice.choice(self.copies)
            self.copies = []
        super().start(peer)


@pytest.mark.claim("HOME-6")
@pytest.mark.parametrize("seed", seeds(30))
def test_a_home_that_was_rolled_back_gains_nothing(seed: int) -> None:
    """It makes nobody else look like a liar."""
    federation = OlderDisk(4, seed)
    federation.run(60_000)
    promises.check(federation, beside=["site-0"])
    for name, peer in federation.peers.items():
        if name == "site-0":
            # It may take what others say for a breach, since it knows less than it should: never for a bug here.
            assert peer.error is None or isinstance(peer.error, (RolledBack, RemoteProtocolError))
        elif peer.error is not None:
            assert peer.error.fields["peer"] == "site-0"


def test_a_peer_that_could_not_vouch_gives_up_nothing_on_a_return() -> None:
    """Another comes back after the certificate.

    It stands in UNMASK without a READY; an ABANDON there was an event without a row, and ended its process.
    """
    world = ByHand(4)
    world.start_all()
    slow, back, other = world.peers["site-3"], world.peers["site-0"], world.peers["site-1"]

    def arrives(pair: tuple[str, str]) -> bool:
        # Behind site-0's nonce, all that it says stays on its way: site-3 sends its tags, and cannot vouch.
        return pair != ("site-0", "site-3") or not any(
            to == "site-3" and one.sender == "site-0" and isinstance(one.message, m.Nonce)
            for to, _, one in world.delivered
        )

    while not (other.round and other.round.phase is Phase.CONFIRM) and not other.final_round:
        pair = next(filter(arrives, world.pairs()), None)
        if pair is not None:
            world.deliver(pair)
        else:
            assert world.tick(), "nothing is left to happen"
        if other.round and other.round.phase is Phase.UNMASK:
            world._link(slow, other)  # the link comes up anew: site-1 repeats itself, the certificate too
        if slow.round and slow.round.phase is Phase.UNMASK:
            break
    assert slow.round is not None
    assert slow.round.phase is Phase.UNMASK
    assert slow.round.state.voting.ready is None
    back.kill()
    world.waiting[("site-0", "site-3")].clear()
    world.start(back)
    world.settle()
    promises.check(world)
    promises.everything_is_final(world)
    assert not any(isinstance(one.message, m.Ballot) and not one.message.survivors for _, one in world.log)


def two_faced(liar: SimulatedPeer, peer: str, letter: Letter) -> Iterable[Letter]:
    """SURVIVORS to site-3, ABANDON to all others."""
    if isinstance(letter.message, m.Ballot) and letter.message.survivors and peer != "site-3":
        return (resealed(liar, letter, m.Ballot(0, letter.message.attempt_digest, b"", (), ())),)
    return (letter,)


def test_a_certificate_outweighs_the_ballot_that_a_liar_showed_to_one_peer_alone() -> None:
    """site-3 holds the liar's SURVIVORS and is shown an ABANDON certificate that counts the liar's other ballot."""
    world = ByHand(4)
    world.start_all()
    victim = world.peers["site-3"].round
    assert victim is not None
    state, attempt = victim.state, victim.attempt
    places = {
        name: m.Envelope(world.peers[name].run_id, 1, 1, attempt, name, world.peers[name].incarnation)
        for name in world.peers
    }

    def ballot(name: str) -> Letter:
        return m.seal(m.Ballot(0, b"", b"", (), ()), places[name], world.peers[name].identity)

    # What the liar showed to site-3 alone: SURVIVORS for some set.
    state.voting.ballots["site-0"] = m.seal(
        m.Ballot(1, bytes(32), bytes(32), (), ()), places["site-0"], world.peers["site-0"].identity
    )
    certificate = m.Certificate(tuple(ballot(name).wire for name in ("site-0", "site-1", "site-2")), b"")
    shown = m.seal(certificate, places["site-1"], world.peers["site-1"].identity)
    world.peers["site-3"].feed(e.Received(world.now, shown))
    assert victim.attempt == attempt + 1


def test_two_faced_voters_never_make_two_answers() -> None:
    for seed in range(6):
        federation = SimulatedFederation(4, seed=seed, length=6, lies={"site-0": two_faced})
        federation.run(60_000)
        promises.check(federation, beside=["site-0"])


@pytest.mark.claim("HOME-6")
def test_a_second_copy_of_a_running_home_masks_under_no_bundle_but_its_own() -> None:
    """Two processes on copies of one disk: the copy found an attempt under way, and may only give it up."""
    world = ByHand(4)
    world.start_all()
    original = world.peers["site-0"]
    world.until(lambda: original.round is not None and original.round.state.members is not None)
    copy = SimulatedPeer(world, "site-0", original.identity, original.roster, original.run_id, original.rounds, 61)
    copy.disk = copied(original.disk)
    copy.boot()
    copy.begin()
    assert copy.round is not None
    assert copy.round.phase is Phase.BALLOT
    said = {type(letter.message) for _, letter in world.log if letter.envelope.incarnation == copy.incarnation}
    assert said == {m.Ballot}

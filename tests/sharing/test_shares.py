"""SHARE: an acknowledgement is a receipt for what is on the disk, and a backup share opens without the edge's seed."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.errors.round import BundleRejected, TwoStatements
from p2pfl.messages import Letter, open_letter
from p2pfl.sharing import events as e
from p2pfl.sharing import shamir
from p2pfl.sharing.digests import commitment, edge_commitment, share_leaf
from p2pfl.sharing.evidence import convicted
from p2pfl.sharing.graph import outgoing
from p2pfl.sharing.parts import MOST_DEALT
from p2pfl.sharing.peers import PeerView
from p2pfl.sharing.phases import share as shares
from p2pfl.sharing.round import Round
from p2pfl.sharing.snapshot import restore, snapshot
from p2pfl.sharing.state import ATTEMPT_ITEM, Phase, State
from p2pfl.simulate import CALM, SimulatedFederation, Weather
from p2pfl.simulate.peer import SimulatedPeer
from tests.sharing.stopped_rounds import copied, picture, standing
from tests.simulate import promises

STORM = Weather(0.03, 8, (0.05, 60.0), (0.0005, 5.0), 0.01, 3, (0.1, 40.0))


# ── what a dealer sends ───────────────────────────────────────────────────────────────────────────────────────


@cache
def dealt(n: int) -> tuple[SimulatedFederation, dict[tuple[str, str], Letter]]:
    """Every share of attempt 0, by dealer and receiver."""
    federation = SimulatedFederation(n, length=4)
    federation.run()
    found = {(one.sender, to): one for to, one in federation.log if isinstance(one.message, m.Share) and to is not None}
    return federation, found


def share_of(letter: Letter) -> m.Share:
    assert isinstance(letter.message, m.Share)
    return letter.message


def bundle_of(federation: SimulatedFederation, letter: Letter) -> m.Bundle:
    message = open_letter(share_of(letter).bundle, federation.roster, m.Bundle).message
    assert isinstance(message, m.Bundle)
    return message


@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_each_pair_has_one_seed_and_each_peer_one_backup_share_of_every_other(n: int) -> None:
    federation, found = dealt(n)
    names = federation.roster.names
    assert set(found) == set(itertools.permutations(names, 2))
    seeded = {(dealer, to) for (dealer, to), one in found.items() if share_of(one).edge}
    assert seeded == {(names[i], names[j]) for i in range(n) for j in outgoing(i, n)}
    seeds = [share_of(one).edge for one in found.values() if share_of(one).edge]
    assert len(set(seeds)) == len(seeds) == n * (n - 1) // 2
    bundles = {dealer: {share_of(found[dealer, to]).bundle for to in names if to != dealer} for dealer in names}
    assert all(len(held) == 1 for held in bundles.values()), "one bundle for all"


@pytest.mark.claim("SUM-9")
@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_q_minus_one_shares_open_the_self_mask_and_no_edge_seed(n: int) -> None:
    """Any q−1 shares open the self-mask of the bundle.

    From what a BackupShare shows: share, salt, commitment to the edge, path. Its seed stays with its two ends.
    """
    federation, found = dealt(n)
    names, threshold = federation.roster.names, federation.roster.quorums.q - 1
    for dealer in names:
        rows = {}
        for holder in (name for name in names if name != dealer):
            one = share_of(found[dealer, holder])
            bound, place = edge_commitment(one.salt, one.edge), names.index(holder)
            shown = share_leaf(one.salt, bound, one.backup)
            assert merkle.includes(bundle_of(federation, found[dealer, holder]).shares, shown, place, n, one.path)
            rows[place] = one.backup
            assert one.edge == b"" or one.edge not in (one.salt, bound, one.backup, *one.path)
        opened = {shamir.combine(dict(chosen)) for chosen in itertools.combinations(rows.items(), threshold)}
        made = bundle_of(federation, found[dealer, holder])
        assert [commitment("self-mask", seed) for seed in opened] == [made.self_mask]
        fewer = {shamir.combine(dict(chosen)) for chosen in itertools.combinations(rows.items(), threshold - 1)}
        assert not opened & fewer


@given(st.sampled_from(["salt", "edge", "backup", "place", "path", "dealer"]), st.integers(0, 255))
def test_a_leaf_is_bound_to_its_salt_seed_share_place_and_dealer(what: str, bit: int) -> None:
    federation, found = dealt(4)
    one = share_of(found["site-0", "site-1"])
    root, place = bundle_of(federation, found["site-0", "site-1"]).shares, 1
    salt, edge, backup, path = one.salt, one.edge, one.backup, one.path

    def flipped(data: bytes) -> bytes:
        return bytes([*data[: bit // 8], data[bit // 8] ^ 1 << bit % 8, *data[bit // 8 + 1 :]])

    if what == "salt":
        salt = flipped(salt)
    elif what == "edge":
        edge = flipped(edge) if bit else b""
    elif what == "backup":
        backup = flipped(backup)
    elif what == "place":
        place = (0, 2, 3)[bit % 3]
    elif what == "path":
        path = (flipped(path[0]), *path[1:]) if bit else path[:-1]
    else:
        root = bundle_of(federation, found["site-2", "site-1"]).shares
    assert not merkle.includes(root, share_leaf(salt, edge_commitment(salt, edge), backup), place, 4, path)
    assert merkle.includes(
        bundle_of(federation, found["site-0", "site-1"]).shares,
        share_leaf(one.salt, edge_commitment(one.salt, one.edge), one.backup),
        1,
        4,
        one.path,
    )


def test_roots_of_bundles_tell_nothing_of_a_share_without_its_salt() -> None:
    """Salts are fresh for each receiver: equal shares and seeds would have unlike leaves."""
    _, found = dealt(4)
    salts = [share_of(one).salt for one in found.values()]
    assert len(set(salts)) == len(salts)


# ── receipts ──────────────────────────────────────────────────────────────────────────────────────────────────


class Receipts(SimulatedFederation):
    """Whenever an Ack leaves a process, what it lists lies on the disk: bundles, and a backup share of each."""

    acks = 0

    def sent(self, to: str | None, letter: Letter) -> None:
        if isinstance(letter.message, m.Ack) and to is None:
            peer = self.peers[letter.sender]
            state = restore(peer.context(), PeerView(self.roster, peer.name), peer.disk.items[ATTEMPT_ITEM])
            assert (state.round, state.attempt) == (letter.envelope.round, letter.envelope.attempt)
            for dealer, digest in letter.message.held:
                last = state.proposals.bundles[dealer].digest == digest
                held = state.unmasking.backups[dealer] if last else state.unmasking.older[digest]
                assert len(held.share.reveal()) == 32
            self.acks += 1
        super().sent(to, letter)


@pytest.mark.claim("SUM-10")
@pytest.mark.parametrize(("seed", "weather"), [(0, CALM), (1, STORM), (2, STORM), (3, STORM), (4, STORM)])
def test_what_is_acknowledged_is_on_the_disk_whatever_happens(seed: int, weather: Weather) -> None:
    federation = Receipts(4, rounds=2, length=8, seed=seed, weather=weather)
    federation.run(100_000)
    promises.check(federation)
    assert federation.acks >= 8


def silent(effects: list[e.Effect]) -> bool:
    return not any(isinstance(one, e.Send) and isinstance(one.letter.message, m.Ack) for one in effects)


def acknowledged(effects: list[e.Effect]) -> tuple[Letter, tuple[tuple[str, bytes], ...]]:
    """The acknowledgement that was sent to all, and what it lists."""
    (sent,) = [one for one in effects if isinstance(one, e.Send)]
    assert sent.to is None
    message = sent.letter.message
    assert isinstance(message, m.Ack)
    return sent.letter, message.held


def receive_all(found: Round, federation: SimulatedFederation) -> list[e.Effect]:
    """Every other's share of this attempt comes in."""
    effects: list[e.Effect] = []
    me = found.state.context.me
    letters = [one for to, one in federation.log if isinstance(one.message, m.Share) and to == me]
    for letter in letters:
        effects += found.handle(e.Received(found.state.now, letter))
    return effects


@pytest.mark.claim("SUM-10")
def test_an_acknowledgement_leaves_only_when_its_receipt_is_durable_and_once() -> None:
    federation, found = sharing()
    effects = receive_all(found, federation)
    stored = [one for one in effects if isinstance(one, e.Persist)]
    assert silent(effects)
    assert [one.then for one in stored] == [e.Receipted]
    _, listed = acknowledged(found.handle(stored[0].stored(found.state.now)))
    assert [name for name, _ in listed] == list(found.state.names)
    assert silent(found.handle(e.Tick(found.state.now + 100.0, found.number, found.attempt))), "there is nothing new"


def sharing() -> tuple[SimulatedFederation, Round]:
    """A peer whose own shares are out, and to which no other's has come; all others' are on their way."""
    federation = SimulatedFederation(4, length=4)
    federation.begin()
    me = "site-2"
    while sum(isinstance(one.message, m.Share) for _, one in federation.log) < 12:
        assert federation.clock.step()
    peer = federation.peers[me]
    found = Round(peer.context(), PeerView(federation.roster, me), 1)
    found.state.peers.down.clear()
    noted, stored = found.handle(e.Begin(federation.now))
    assert isinstance(noted, e.NoteBundle) and isinstance(stored, e.Persist)
    found.handle(stored.stored(federation.now))
    return federation, found


def test_from_a_quorum_on_the_rest_is_waited_for_and_then_acknowledged_together() -> None:
    federation, found = sharing()
    now = found.state.now
    letters = [one for to, one in federation.log if isinstance(one.message, m.Share) and to == "site-2"]
    first = found.handle(e.Received(now, letters[0]))
    assert first == [], "two bundles are no quorum"
    (timer,) = found.handle(e.Received(now, letters[1]))
    assert timer == e.SetTimer(e.Tick(now + shares.FIRST_ACK_S, 1, 0))
    (stored,) = found.handle(timer.event)
    _, listed = acknowledged(found.handle(stored.stored(timer.event.now)))
    assert len(listed) == 3
    (further,) = found.handle(e.Received(timer.event.now, letters[2]))
    assert further == e.SetTimer(e.Tick(timer.event.now + shares.NEXT_ACK_S, 1, 0)), "others may be right behind it"
    again = next(one for one in found.handle(further.event) if isinstance(one, e.Persist))
    last, grown = acknowledged(found.handle(again.stored(further.event.now)))
    assert len(grown) == 4
    assert set(listed) < set(grown), "it has grown"
    kept = [one.letter for one in found.state.outbox if isinstance(one.letter.message, m.Ack)]
    assert kept == [last], "a peer that comes back is told the later one"


def test_who_is_away_is_not_waited_for() -> None:
    federation, found = sharing()
    letters = [one for to, one in federation.log if isinstance(one.message, m.Share) and to == "site-2"]
    found.state.peers.down[letters[2].sender] = 0.0
    found.handle(e.Received(found.state.now, letters[0]))
    effects = found.handle(e.Received(found.state.now, letters[1]))
    assert [one.then for one in effects if isinstance(one, e.Persist)] == [e.Receipted]


def test_before_its_own_shares_are_durable_and_out_a_peer_acknowledges_nothing() -> None:
    federation, found = sharing()
    found.state.proposals.dealt = False
    assert not any(isinstance(one, e.Persist) for one in receive_all(found, federation))
    assert silent(found.handle(e.Tick(found.state.now + 100.0, 1, 0)))


@pytest.mark.parametrize("phase", [Phase.MASK, Phase.GATHER, Phase.BALLOT, Phase.UNMASK, Phase.CONFIRM, Phase.FINAL])
def test_share_closes_when_a_set_is_accepted(phase: Phase) -> None:
    federation, held = standing(phase, peers=4)
    found = copied(held)
    before = picture(found)
    message = next(one.message for to, one in federation.log if isinstance(one.message, m.Share) and to == "site-2")
    liar = federation.peers["site-0"]
    place = m.Envelope(liar.run_id, 1, found.number, found.attempt, "site-0", liar.incarnation)
    assert found.handle(e.Received(found.state.now, m.seal(message, place, liar.identity))) == []
    assert found.handle(e.Receipted(found.state.now, found.number, found.attempt)) == []
    assert picture(found) == before


# ── what a receiver checks ────────────────────────────────────────────────────────────────────────────────────


def said_anew(federation: SimulatedFederation, letter: Letter, **change: Any) -> Letter:
    """The same dealer's share under another bundle (`nonce`), of this or of another `process`."""
    dealer, share = federation.peers[letter.sender], share_of(letter)
    held = open_letter(share.bundle, federation.roster, m.Bundle)
    process = change.get("process", letter.envelope.incarnation)
    place = m.Envelope(dealer.run_id, 1, 1, 0, letter.sender, process)
    made: Any = held.message
    bundle = m.seal(m.Bundle(made.self_mask, change.get("nonce", made.nonce), made.shares), place, dealer.identity)
    again = m.Share(bundle.wire, share.edge, change.get("backup", share.backup), share.salt, share.path)
    return m.seal(again, place, dealer.identity)


def test_a_second_bundle_of_one_process_is_two_statements_that_convict_it() -> None:
    federation, found = sharing()
    letters = [one for to, one in federation.log if isinstance(one.message, m.Share) and to == "site-2"]
    found.handle(e.Received(found.state.now, letters[0]))
    before = found.state.proposals.bundles[letters[0].sender]
    effects = found.handle(e.Received(found.state.now, said_anew(federation, letters[0], nonce=bytes(32))))
    (accused,) = [one for one in effects if isinstance(one, e.Accuse)]
    assert (accused.peer, type(accused.error)) == (letters[0].sender, TwoStatements)
    assert convicted(accused.proof, federation.roster) == letters[0].sender
    assert found.state.proposals.bundles[letters[0].sender] == before


def test_a_new_process_deals_anew_and_what_its_first_one_said_counts_no_more() -> None:
    federation, found = sharing()
    receive_all(found, federation)
    state, dealer = found.state, "site-0"
    peer = federation.peers[dealer]
    place = m.Envelope(peer.run_id, 1, 1, 0, dealer, peer.incarnation)
    found.handle(e.Received(state.now, m.seal(m.Ack((), ()), place, peer.identity)))
    assert dealer in state.proposals.acks
    letter = next(
        one for to, one in federation.log if isinstance(one.message, m.Share) and (one.sender, to) == (dealer, "site-2")
    )
    anew = said_anew(federation, letter, process=bytes(16), nonce=bytes(32))
    effects = found.handle(e.Received(state.now, anew))
    assert not any(isinstance(one, e.Accuse) for one in effects)
    assert state.proposals.bundles[dealer].envelope.incarnation == bytes(16)
    assert dealer not in state.proposals.acks


def dealt_anew(federation: SimulatedFederation, found: Round, process: int) -> Letter:
    """site-0's share to this peer by another process, under another bundle."""
    dealt = [one for to, one in federation.log if isinstance(one.message, m.Share) and to == found.state.context.me]
    first = next(one for one in dealt if one.sender == "site-0")
    return said_anew(federation, first, process=bytes([process]) * 16, nonce=bytes([process]) * 32)


def test_what_was_acknowledged_of_a_first_process_still_masks_and_opens() -> None:
    """The dealer may have made up the second one for this peer alone. It holds also in a process after this one."""
    federation, found = sharing()
    receive_all(found, federation)
    state = found.state
    first, seed = state.proposals.bundles["site-0"], state.masking.received.get("site-0")
    share_of_it = state.unmasking.backups["site-0"].share.reveal()
    found.handle(e.Received(state.now, dealt_anew(federation, found, 7)))
    second = state.proposals.bundles["site-0"]
    assert second.digest != first.digest
    assert all(shares.holds(state, "site-0", one.digest) for one in (first, second))
    assert not shares.holds(state, "site-0", bytes(32))
    peer = federation.peers["site-2"]
    again = restore(peer.context(), PeerView(federation.roster, "site-2"), snapshot(state))
    for held in (state, again):
        assert held.unmasking.older[first.digest].share.reveal() == share_of_it
        shares.hold_bundles(held, members_with(held, first))
        assert held.proposals.bundles["site-0"].digest == first.digest
        assert held.unmasking.backups["site-0"].share.reveal() == share_of_it
        assert set(held.unmasking.older) == {second.digest}
    assert state.masking.received.get("site-0") == seed


def members_with(state: State, bundle: Letter[m.Bundle]) -> Letter[m.Members]:
    return state.seal(m.Members(("site-0",), (bundle.wire,), (), (), (), 1, ()))


def test_of_one_dealers_processes_few_are_held_and_no_older_one_comes_back() -> None:
    federation, found = sharing()
    receive_all(found, federation)
    state = found.state
    anew = [dealt_anew(federation, found, process) for process in range(1, MOST_DEALT + 4)]
    for letter in (*anew, *anew):
        found.handle(e.Received(state.now, letter))
    assert len(state.proposals.older) == MOST_DEALT - 1
    assert state.proposals.bundles["site-0"].envelope.incarnation == anew[MOST_DEALT - 2].envelope.incarnation


def test_two_bundles_of_a_process_convict_it_also_with_another_between_them() -> None:
    federation, found = sharing()
    receive_all(found, federation)
    first = found.state.proposals.bundles["site-0"]
    found.handle(e.Received(found.state.now, dealt_anew(federation, found, 7)))
    dealt = [one for to, one in federation.log if isinstance(one.message, m.Share) and to == "site-2"]
    letter = next(one for one in dealt if one.sender == "site-0")
    effects = found.handle(e.Received(found.state.now, said_anew(federation, letter, nonce=bytes(32))))
    (accused,) = [one for one in effects if isinstance(one, e.Accuse)]
    assert convicted(accused.proof, federation.roster) == "site-0" == first.sender


def test_an_acknowledgement_lists_what_was_written_and_nothing_that_came_since() -> None:
    federation, found = sharing()
    effects = receive_all(found, federation)
    first = found.state.proposals.bundles["site-0"]
    (stored,) = [one for one in effects if isinstance(one, e.Persist)]
    found.handle(e.Received(found.state.now, dealt_anew(federation, found, 7)))
    _, listed = acknowledged(found.handle(stored.stored(found.state.now)))
    assert ("site-0", first.digest) in listed


@pytest.mark.parametrize("change", [{"backup": bytes(32)}, {"process": bytes(16), "backup": bytes(32)}])
def test_a_backup_share_that_is_not_under_the_root_is_refused_under_its_dealers_name(change: dict[str, Any]) -> None:
    federation, found = sharing()
    letter = next(one for to, one in federation.log if isinstance(one.message, m.Share) and to == "site-2")
    before = dict(found.state.proposals.bundles)
    (accused,) = found.handle(e.Received(found.state.now, said_anew(federation, letter, **change)))
    assert (accused.peer, type(accused.error)) == (letter.sender, BundleRejected)
    assert found.state.proposals.bundles == before


# ── a new process ─────────────────────────────────────────────────────────────────────────────────────────────


class SlowLink(SimulatedFederation):
    """site-2 dies when it is about to acknowledge all; after that, what site-0 says to it is slow."""

    died_once = False

    def dies(self, peer: SimulatedPeer) -> bool:
        own = peer.round.state.proposals.acks.get("site-2") if peer.round else None
        if self.died_once or peer.name != "site-2" or own is None or len(own.message.held) < 4:  # type: ignore[attr-defined]
            return False
        self.died_once = True
        self.clock.at(self.now + 1.0, lambda: self.start(peer))
        return True

    def _arrival(self, sender: str, to: str, *, signed: bool) -> float:
        slow = 8.0 if self.died_once and (sender, to) == ("site-0", "site-2") else 0.0
        return super()._arrival(sender, to, signed=signed) + slow


def test_a_new_process_that_lacks_a_seed_again_takes_part_in_no_set_that_needs_it() -> None:
    """Its disk holds the bundles that it had acknowledged, but no seed of an edge: those come again with the links."""
    federation = SlowLink(4, length=8)
    federation.run(100_000)
    assert federation.died_once
    promises.check(federation)
    promises.everything_is_final(federation)

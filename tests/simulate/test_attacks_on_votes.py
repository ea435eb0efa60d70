"""Attacks on what decides an attempt: two sums, or none and one, or two models, out of one round.

site-0 lies, and delays what site-3, the victim, says to site-1 and site-2: so site-3 alone holds the certificate of
round 1, and the liar, who reads all that is sent to it, opens its sum with site-3's shares and its own. What it is
after is a second sum over the same words without site-3: then one subtraction gives site-3's.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter, seal
from p2pfl.roster import Quorums
from p2pfl.sharing import events as e
from p2pfl.sharing import vows
from p2pfl.sharing.phases import ballot, confirm
from p2pfl.sharing.state import Phase, State
from p2pfl.sharing.table import Guarded
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate import promises
from tests.simulate.attackers import Attacked, action_off, check_that_the_others_go_on, row_off, without
from tests.simulate.promises import place_of

LIAR, ONE, TWO, VICTIM = "site-0", "site-1", "site-2", "site-3"
SECRET = (m.Ballot, m.Certificate, m.Reveal, m.BackupShare, m.Confirm)
FIRST = (1, 0)


def split(rounds: int = 1, careless: bool = False) -> Attacked:
    """Until the victim holds the certificate of round 1, and everyone else waits for votes that do not come."""

    def holds(sender: str, to: str, letter: Letter) -> bool:
        voted = isinstance(letter.message, m.Ballot) and place_of(letter) == FIRST
        return voted and sender == VICTIM and to in (ONE, TWO)

    def takes(sender: str, to: str, letter: Letter) -> bool:
        given_up = isinstance(letter.message, m.Ballot) and not letter.message.survivors
        return to == LIAR and isinstance(letter.message, SECRET) and place_of(letter) == FIRST and not given_up

    def withheld(liar: SimulatedPeer, to: str, letter: Letter) -> tuple[Letter, ...]:
        vote = isinstance(letter.message, m.Ballot) and letter.message.survivors and place_of(letter) == FIRST
        return () if vote and to in (ONE, TWO) else (letter,)

    lies = {LIAR: withheld}
    world = Attacked(lies=lies, holds=holds, takes=takes, rounds=rounds, careless=careless)
    world.begin()
    world.until(lambda: world.stands(VICTIM, Phase.UNMASK) and world.round_of(VICTIM).state.sum.backed_up)
    assert world.stands(ONE, Phase.BALLOT)
    assert world.stands(TWO, Phase.BALLOT)
    return world


def only_in_the_first(lie):  # type: ignore[no-untyped-def]
    return lambda liar, peer, letter: lie(liar, peer, letter) if place_of(letter) == FIRST else (letter,)


def let_it_run(world: Attacked, *, without_victim: bool = True) -> None:
    """The others have their result without the victim; then the wires are as they should be."""
    if without_victim:
        world.until(lambda: all(world.peers[name].final_round for name in (ONE, TWO)))
    world.takes = lambda sender, to, letter: False
    world.release()
    world.to_the_end()


def a_second_ballot(patch: pytest.MonkeyPatch) -> None:
    """Defence off: whoever has voted SURVIVORS votes ABANDON too, when nothing has come by the deadline.

    And nobody takes two votes for a lie: the last one counts.
    """

    def again(state: State) -> bool:
        voted = state.voting.ballot is not None and isinstance(state.voting.ballot.message, m.Ballot)
        stuck = voted and state.voting.ballot.message.survivors and state.certificate is None  # type: ignore[union-attr]
        return ballot.gives_up(state) or (stuck and state.past("gather"))

    def give_up(state: State) -> list[e.Effect]:
        return ballot._cast(state, m.Ballot(0, state.attempt_digest, b"", (), ()))

    def count(state: State, letter: Letter) -> list[e.Effect]:
        state.voting.ballots.pop(letter.sender, None)
        return ballot.count(state, letter)

    action_off(patch, Phase.BALLOT, m.Ballot, count)
    row_off(patch, Phase.BALLOT, ballot.gives_up, Guarded(again, give_up, Phase.BALLOT))


# ── delayed dropout: a peer is declared gone after its words were summed ──────────────────────────────────────


@pytest.mark.claim("SUM-12")
def test_a_delayed_dropout_gives_no_second_sum_of_the_same_words() -> None:
    world = split()
    let_it_run(world)
    assert all([one.sent for one in world.peers[name].left] == [True] for name in (ONE, TWO))
    assert not world.exposed(VICTIM)
    assert len(world.certificates()) == 1
    check_that_the_others_go_on(world)


@pytest.mark.claim("SUM-12")
def test_without_the_rule_of_one_ballot_a_delayed_dropout_exposes_the_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    a_second_ballot(monkeypatch)
    world = split()
    let_it_run(world)
    assert world.exposed(VICTIM)
    assert len(world.certificates()) == 2
    with pytest.raises(AssertionError, match="two ballots"):
        promises.check(world, beside=world.liars)


# ── a re-used update ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("SUM-12")
def test_a_site_that_sums_a_sent_update_again_is_exposed() -> None:
    """So it is told that the update was sent.

    Round 2 sums the words of round 1 once more: by a driver that does not listen to LeftBehind.sent.
    """
    world = split(careless=True)
    let_it_run(world)
    assert world.exposed(VICTIM)


def abandon_of(world: Attacked, name: str) -> Letter:
    peer = world.peers[name]
    envelope = m.Envelope(peer.run_id, 1, *FIRST, name, peer.incarnation)
    return seal(m.Ballot(0, b"", b"", (), ()), envelope, peer.identity)


def show_an_abandonment(world: Attacked) -> None:
    """The liar shows to the others that its own vote has abandoned the attempt, and acts so itself."""
    own = abandon_of(world, LIAR)
    for name in (ONE, TWO):
        world.say(LIAR, name, m.Certificate((own.wire,) * 3, b""))
        world._carry(LIAR, name, own)
    state = world.round_of(LIAR).state
    state.voting.ballots = {name: letter for name, letter in state.voting.ballots.items() if name != LIAR} | {LIAR: own}
    world.peers[LIAR].feed(e.Tick(world.now, *FIRST))


@pytest.mark.claim("SUM-12")
def test_an_abandonment_that_a_liar_made_up_frees_no_update_for_a_second_attempt() -> None:
    world = split()
    show_an_abandonment(world)
    world.until(lambda: len(world.accused(LIAR)) >= 2)
    let_it_run(world, without_victim=False)
    assert not world.exposed(VICTIM)
    assert {error.code for error in world.accused(LIAR).values()} & {"P2P-ROUND-008"}
    check_that_the_others_go_on(world)


def test_were_one_abandon_enough_the_second_attempt_would_expose_the_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quorums, "__post_init__", lambda self: None)
    monkeypatch.setattr(Quorums, "a", property(lambda self: 1))
    world = split()
    show_an_abandonment(world)
    let_it_run(world)
    assert world.exposed(VICTIM)


# ── two certificates: the numbers ─────────────────────────────────────────────────────────────────────────────


def two_sides() -> Attacked:
    """site-2 is kept from the tags, and gives up; site-1 and site-3 vouch; the liar votes on both sides."""

    def holds(sender: str, to: str, letter: Letter) -> bool:
        return to == TWO and sender != LIAR and isinstance(letter.message, m.Tags) and place_of(letter) == FIRST

    withheld = (m.Tags, m.Ready, m.Ballot, m.Handed, m.Certificate, m.Reveal)
    world = Attacked(lies={LIAR: only_in_the_first(without(*withheld, to=(TWO,)))}, holds=holds)
    world.begin()
    world.until(lambda: world.stands(ONE, Phase.UNMASK, Phase.CONFIRM))
    world.until(lambda: world.round_of(TWO).state.voting.ballot is not None)
    return world


@pytest.mark.claim("SUM-11")
def test_a_liar_that_votes_on_both_sides_makes_no_two_certificates() -> None:
    world = two_sides()
    assert len(world.certificates()) == 1
    assert "ABANDON" not in world.certificates()
    world.release()
    world.to_the_end()
    check_that_the_others_go_on(world)


def test_with_one_abandon_less_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """q + a − n > c is tight; a configuration that breaks it is refused when it is built, but for this test."""
    monkeypatch.setattr(Quorums, "__post_init__", lambda self: None)
    monkeypatch.setattr(Quorums, "a", property(lambda self: self.n - self.q + self.c))
    world = two_sides()
    assert len(world.certificates()) == 2


# ── a certificate of an earlier round, used to confirm two models ─────────────────────────────────────────────


def help_the_victim(world: Attacked) -> tuple[tuple[str, bytes], ...]:
    """The liar helps the victim to the sum of round 1, which confirms it: the seed with which it does."""
    state = world.round_of(LIAR).state
    assert state.unmasking.deal is not None
    shares = tuple(
        (name, one.share.reveal(), one.salt, one.edge, one.path)
        for name, one in state.unmasking.backups.items()
        if name in (ONE, TWO)
    )
    seed = ((LIAR, state.unmasking.deal.self_mask.reveal()),)
    world.say(LIAR, VICTIM, m.BackupShare(shares))
    world.say(LIAR, VICTIM, m.Reveal(seed))
    world.until(lambda: VICTIM in world.round_of(VICTIM).state.confirming.confirms)
    return seed


def confirm_the_first_beside_the_second(world: Attacked) -> None:
    """The liar helps the victim to the sum of round 1, and shows its certificate to the others in round 2."""
    seed = help_the_victim(world)
    record, _ = world.round_of(VICTIM).state.confirming.confirms[VICTIM]
    said = world.round_of(VICTIM).state.confirming.confirm_letters[VICTIM].message
    assert isinstance(said, m.Confirm)
    world.say(LIAR, VICTIM, replace(said, cosignature=world.peers[LIAR].identity.sign("record", record)))
    world.until(lambda: all(world.stands(name, Phase.PROPOSE, Phase.MASK, number=2) for name in (ONE, TWO)))
    certificate = world.round_of(VICTIM).state.certificate
    assert certificate is not None
    opened = tuple((name, one.reveal()) for name, one in world.round_of(VICTIM).state.sum.reveals.items())
    for name in (ONE, TWO):
        world.say(LIAR, name, certificate.message)
        world.say(LIAR, name, m.Reveal(opened or seed))


def test_the_certificate_of_an_earlier_round_makes_no_two_models() -> None:
    world = split()
    confirm_the_first_beside_the_second(world)
    let_it_run(world, without_victim=False)
    assert len({world.peers[name].disk.ledger[0] for name in (ONE, TWO, VICTIM)}) == 1
    check_that_the_others_go_on(world)


def test_without_the_vows_across_rounds_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vows.Vows, "may_vouch", lambda self, number, base, chain: True)
    monkeypatch.setattr(vows.Vows, "may_confirm", lambda self, number: True)

    def sign(state: State) -> list[e.Effect]:
        effects = confirm.vow(state)
        state.peers.vows.confirmed.clear()
        return effects

    row_off(monkeypatch, Phase.CONFIRM, confirm.may_sign, Guarded(confirm.may_sign, sign, Phase.CONFIRM))
    world = split()
    confirm_the_first_beside_the_second(world)
    world.until(lambda: all(world.peers[name].final_round for name in (ONE, TWO, VICTIM)))
    assert len({world.peers[name].disk.ledger[0] for name in (ONE, TWO, VICTIM)}) == 2
    with pytest.raises(AssertionError, match="ignores a record"):
        promises.one_model(world, world.honest)

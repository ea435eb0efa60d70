"""Votes name the READYs that they stand on and carry neither these nor the set: who was sent less, asks a voter.

site-0 lies and withholds; one link of the honest is slow on top of that, so that nothing comes by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from p2pfl import messages as m
from p2pfl.messages import Letter
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import questions, unmask
from p2pfl.sharing.state import Phase, State
from p2pfl.simulate.peer import SimulatedPeer
from tests.simulate.attackers import Attacked, Which, check_that_the_others_go_on, row_off
from tests.simulate.promises import place_of

LIAR, ONE, TWO, LACKS = "site-0", "site-1", "site-2", "site-3"
FIRST = (1, 0)
DECIDED = (Phase.UNMASK, Phase.CONFIRM, Phase.FINAL)


def slow(kind: type[m.Message], *pairs: tuple[str, str]) -> Which:
    """From its first letter of this kind in round 1 on, the link from … to … is silent."""
    return lambda sender, to, letter: (sender, to) in pairs and isinstance(letter.message, kind)


def questions_of(world: Attacked, place: tuple[int, int] = FIRST) -> list[Letter]:
    """What the site that lacks something asked of voters."""
    return [
        letter
        for sender, _, letter in world.carried
        if sender == LACKS
        and place_of(letter) == place
        and isinstance(letter.message, m.Want)
        and letter.message.what == m.Question.VOTE
    ]


def vote_of(world: Attacked, name: str, attempt: int = 0) -> list[bool]:
    return [
        bool(letter.message.survivors)
        for sender, _, letter in world.carried
        if sender == name and isinstance(letter.message, m.Ballot) and place_of(letter) == (1, attempt)
    ]


# ── READYs ────────────────────────────────────────────────────────────────────────────────────────────────────


def keeps_its_ready(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
    """The liar votes for nothing, and sends no READY to site-3."""
    withheld = (m.Ballot, m.Ready) if to == LACKS else m.Ballot
    return () if isinstance(letter.message, withheld) and place_of(letter) == FIRST else (letter,)


def few_readys() -> Attacked:
    """site-3 is sent its own READY and site-2's, one less than q; the liar votes for nothing."""
    world = Attacked(lies={LIAR: keeps_its_ready}, holds=slow(m.Ready, (ONE, LACKS)))
    world.begin()
    return world


def test_who_was_sent_too_few_readys_has_them_from_a_voter_and_votes() -> None:
    world = few_readys()
    world.until(lambda: world.stands(ONE, *DECIDED) and world.stands(TWO, *DECIDED))
    assert set(vote_of(world, LACKS)) == {True}
    assert [one.message.lacking for one in questions_of(world)] == [((LIAR, 4, 0), (ONE, 4, 0))]  # type: ignore[attr-defined]
    world.release()
    world.to_the_end()
    check_that_the_others_go_on(world)


def test_without_the_question_three_honest_sites_wait_in_vain_for_one_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    for phase in (Phase.GATHER, Phase.BALLOT):
        row_off(monkeypatch, phase, questions.lacks, None)
    monkeypatch.setattr(questions, "hopes", lambda state: False)
    world = few_readys()
    world.until(lambda: False in vote_of(world, LACKS))
    assert not world.stands(ONE, *DECIDED)
    assert not world.stands(TWO, *DECIDED)


class LastMoment(Attacked):
    """As above; and site-2's vote is on its way to site-3 until that gives up within the next half second."""

    def __init__(self) -> None:
        self.slow_vote = True

        def holds(sender: str, to: str, letter: Letter) -> bool:
            late = self.slow_vote and sender == TWO and isinstance(letter.message, m.Ballot)
            return to == LACKS and (late or (sender == ONE and isinstance(letter.message, m.Ready)))

        super().__init__(lies={LIAR: keeps_its_ready}, holds=holds)
        self.begin()
        self.until(lambda: self.stands(LACKS, Phase.BALLOT))
        due = self.round_of(LACKS).state.due["ready"]
        self.clock.at(due - 0.5, lambda: None)
        self.until(lambda: self.now >= due - 0.5)
        self.slow_vote = False
        for letter in self.late.pop((TWO, LACKS)):
            self._carry(TWO, LACKS, letter)


def test_who_hears_of_a_vote_a_moment_before_its_deadline_asks_before_it_gives_up() -> None:
    """The others are decided by then, and say so."""
    world = LastMoment()
    world.until(lambda: world.stands(LACKS, *DECIDED))
    assert vote_of(world, LACKS) == []
    world.release()
    world.to_the_end()
    check_that_the_others_go_on(world)


def test_without_the_moment_to_ask_it_would_vote_against_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "hopes", lambda state: False)
    world = LastMoment()
    world.until(lambda: vote_of(world, LACKS))
    assert set(vote_of(world, LACKS)) == {False}
    assert True in vote_of(world, TWO)


def early_vote(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
    """With its nonce, a vote on READYs of all, its own among them, that nobody has signed."""
    if isinstance(letter.message, (m.Ready, m.Ballot, m.Handed)) and place_of(letter) == FIRST:
        return ()
    if not isinstance(letter.message, m.Nonce) or place_of(letter) != FIRST or liar.round is None:
        return (letter,)
    vote = m.Ballot(1, liar.round.state.attempt_digest, letter.message.view, liar.roster.names, ())
    return letter, m.seal(vote, letter.envelope, liar.identity)


def test_a_vote_on_readys_that_nobody_has_moves_nobody() -> None:
    """It brings nobody to vote or to reveal anything.

    site-2 is kept from the tags, so of q READYs one is lacking: what the liar says of it counts for nothing.
    """
    world = Attacked(lies={LIAR: early_vote}, holds=slow(m.Tags, (ONE, TWO), (LACKS, TWO)))
    world.begin()
    world.until(lambda: all(vote_of(world, name) for name in world.honest))
    assert [vote for name in world.honest for vote in vote_of(world, name) if vote] == []
    assert not [letter for _, _, letter in world.carried if isinstance(letter.message, m.Reveal)]
    world.release()
    world.to_the_end()
    check_that_the_others_go_on(world)


# ── the set ───────────────────────────────────────────────────────────────────────────────────────────────────


def no_set() -> Attacked:
    """Nobody hears the proposal of site-3; the coordinator, site-1, names a set without it, which does not reach it."""

    def unheard(slow: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        return () if isinstance(letter.message, (m.Propose, m.Held)) and place_of(letter) == FIRST else (letter,)

    return Attacked(
        liars=(),
        lies={LACKS: unheard},
        holds=lambda sender, to, letter: (
            (sender, to) == (ONE, LACKS) and isinstance(letter.message, m.Members) and place_of(letter) == FIRST
        ),
    )


def test_a_peer_without_the_set_has_the_certificate_from_a_voter() -> None:
    """Before it gives up."""
    world = no_set()
    world.begin()
    world.until(lambda: world.stands(LACKS, *DECIDED))
    assert vote_of(world, LACKS) == []
    assert {one.message.lacking for one in questions_of(world)} == {()}  # type: ignore[attr-defined]
    told = [to for _, to, letter in world.carried if isinstance(letter.message, m.Certificate)]
    assert set(told) == {LACKS}, "a certificate goes to whoever lacks it, and to nobody else"
    world.release()
    world.to_the_end()
    check_that_the_others_go_on(world)


def test_without_the_question_it_gives_up_an_attempt_that_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    for phase in (Phase.SHARE, Phase.PROPOSE):
        row_off(monkeypatch, phase, questions.lacks, None)
    world = no_set()
    world.begin()
    world.until(lambda: vote_of(world, LACKS))
    assert set(vote_of(world, LACKS)) == {False}
    assert world.peers[ONE].disk.ledger, "the others have finished the round long ago"


# ── an attempt that is over ───────────────────────────────────────────────────────────────────────────────────


def no_abandons(patch: pytest.MonkeyPatch) -> Attacked:
    """Attempt 0 fails, since the liar sends nothing in it; that it is abandoned, only site-1 tells site-3.

    Nobody shows the end of it to site-3 for its vote or its LEAVE there (test_wedges.py): there is the question alone.
    """
    patch.setattr(questions, "show_end", lambda state, names: [])
    patch.setattr(unmask, "_tell_leavers", lambda state: [])

    def lie(liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        withheld = (m.Root, m.Chunk, *((m.Ballot, m.Certificate) if to == LACKS else ()))
        return () if isinstance(letter.message, withheld) and place_of(letter) == FIRST else (letter,)

    def holds(sender: str, to: str, letter: Letter) -> bool:
        return (sender, to) == (TWO, LACKS) and isinstance(letter.message, m.Ballot) and place_of(letter) == FIRST

    world = Attacked(lies={LIAR: lie}, holds=holds)
    world.begin()
    world.until(lambda: world.stands(LACKS, Phase.BALLOT))
    assert set(vote_of(world, LACKS)) == {False}
    world.until(lambda: all(world.stands(name, *DECIDED, attempt=1) for name in (LIAR, ONE, TWO)))
    return world


def test_who_stands_in_an_attempt_that_is_over_hears_of_it_from_a_voter_of_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = no_abandons(monkeypatch)
    world.until(lambda: world.stands(LACKS, *DECIDED, attempt=1))
    assert questions_of(world, (1, 1))
    world.release()
    world.to_the_end()
    check_that_the_others_go_on(world)


def test_without_the_question_it_stays_where_it_is_until_it_leaves_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    row_off(monkeypatch, Phase.BALLOT, questions.lacks, None)
    world = no_abandons(monkeypatch)
    world.until(lambda: world.round_of(LACKS).state.leaving.leave is not None)
    assert world.stands(LACKS, Phase.BALLOT)


# ── votes that hold others up ─────────────────────────────────────────────────────────────────────────────────

TWO_LIARS = ("site-2", "site-3")


class HeldUp(Attacked):
    """Two of seven withhold nonces and READYs, vote on READYs that nobody signed, and link anew in turn."""

    def __init__(self) -> None:
        self._voted: set[tuple[str, str, int]] = set()
        super().__init__(7, liars=TWO_LIARS, lies=dict.fromkeys(TWO_LIARS, self._lie))
        self.begin()
        self.clock.at(2, lambda: self._link_anew(0))

    def _lie(self, liar: SimulatedPeer, to: str, letter: Letter) -> Iterable[Letter]:
        if isinstance(letter.message, (m.Nonce, m.Ready, m.Ballot, m.Leave, m.Handed, m.Tags)):
            return ()
        at = (liar.name, to, letter.envelope.attempt)
        if not isinstance(letter.message, m.Root) or at in self._voted or liar.round is None:
            return (letter,)
        self._voted.add(at)
        state = liar.round.state
        vote = m.Ballot(1, state.attempt_digest, bytes(32), state.survivors[: self.roster.quorums.q], ())
        return letter, m.seal(vote, letter.envelope, liar.identity)

    def _link_anew(self, turn: int) -> None:
        liar = TWO_LIARS[turn % 2]
        for peer in (self.peers[name] for name in self.honest if self.peers[name].alive):
            peer.feed(e.LinkDown(self.now, liar))
            peer.feed(e.LinkUp(self.now, liar, self.peers[liar].incarnation))
        if not all(self.peers[name].disk.ledger for name in self.honest) and self.now < 3600:
            self.clock.at(self.now + 3, lambda: self._link_anew(turn + 1))


def test_liars_that_vote_and_link_anew_hold_a_vote_up_for_one_answer_each() -> None:
    world = HeldUp()
    world.until(lambda: all(world.stands(name, Phase.GATHER) for name in world.honest))
    latest = max(world.round_of(name).state.due["gather"] for name in world.honest)
    world.until(lambda: all(vote_of(world, name) for name in world.honest))
    assert world.now < latest + 4 * questions.AGAIN_S
    world.to_the_end()
    check_that_the_others_go_on(world)


def test_were_each_new_link_waited_for_again_no_honest_site_would_ever_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    def hopes(state: State) -> bool:
        able = [name for name in questions._voters(state) if questions._readys_lacking(state, name)]
        return bool(able) and (any(not state.voting.questioned.get(name) for name in able) or not state.past("vote"))

    monkeypatch.setattr(questions, "hopes", hopes)
    world = HeldUp()
    world.until(lambda: world.now > 1800)
    assert not any(vote_of(world, name) for name in world.honest)

"""A member that asks for the same words without end has them once, and nobody else is troubled again."""

from __future__ import annotations

from p2pfl import messages as m
from p2pfl.messages import Item, Question
from p2pfl.sharing import events as e
from p2pfl.sharing.phases import gather
from p2pfl.sharing.round import Round
from p2pfl.sharing.state import Phase
from p2pfl.simulate import SimulatedFederation
from tests.sharing.stopped_rounds import ME, standing

LIAR = "site-0"  # owns chunk 0
CHUNK = (ME, Item.CHUNK, 0)


def asks(federation: SimulatedFederation, found: Round, *lacking: m.Lacking) -> list[e.Send]:
    liar = federation.peers[LIAR]
    place = m.Envelope(liar.run_id, 1, found.number, found.attempt, LIAR, liar.incarnation)
    effects = found.handle(e.Received(found.state.now, m.seal(m.Want(Question.WORDS, lacking), place, liar.identity)))
    return [one for one in effects if isinstance(one, e.Send)]


def test_words_that_an_owner_asks_for_again_and_again_go_to_all_once() -> None:
    federation, found = standing(Phase.GATHER, peers=4)
    first = asks(federation, found, *[CHUNK] * 400)
    assert [(one.to, type(one.letter.message)) for one in first] == [(None, m.Chunk)]
    for _ in range(20):
        assert asks(federation, found, *[CHUNK] * 400) == []


def test_what_is_asked_for_later_is_still_given() -> None:
    federation, found = standing(Phase.GATHER, peers=4)
    assert asks(federation, found, CHUNK)
    (handed,) = asks(federation, found, CHUNK, (ME, Item.ROOT, 0))
    assert isinstance(handed.letter.message, m.Handed)


def test_were_every_question_answered_one_letter_would_flood_all() -> None:
    """It would bring the same words to all, four hundred times."""
    federation, found = standing(Phase.GATHER, peers=4)
    liar = federation.peers[LIAR]
    place = m.Envelope(liar.run_id, 1, found.number, found.attempt, LIAR, liar.incarnation)
    letter = m.seal(m.Want(Question.WORDS, (CHUNK,) * 400), place, liar.identity)
    assert len(gather.help_out(found.state, letter.sender, letter.message.lacking)) == 400


def test_only_what_is_asked_for_is_handed_on() -> None:
    federation, found = standing(Phase.GATHER, peers=4)
    assert asks(federation, found, (ME, Item.NONCE, 0), (ME, Item.TAGS, 0)) == []  # there is none yet
    (handed,) = asks(federation, found, *[(name, Item.ROOT, 0) for name in found.state.gathering.roots])
    assert isinstance(handed.letter.message, m.Handed)
    assert {type(m.read_letter(wire).message) for wire in handed.letter.message.letters} == {m.Root}


def test_a_signed_letter_has_no_number_but_0_under_which_it_is_asked_for_again() -> None:
    federation, found = standing(Phase.GATHER, peers=4)
    assert asks(federation, found, *[(ME, Item.ROOT, number) for number in range(1, 400)]) == []
    assert len(asks(federation, found, *[(ME, Item.ROOT, number) for number in range(400)])) == 1


def test_signed_statements_are_asked_for_before_words() -> None:
    """None of a kind that is here already."""
    _, found = standing(Phase.GATHER, peers=4)
    *shown, sent = gather.ask(found.state)
    assert {type(one.letter.message) for one in shown if isinstance(one, e.Send)} <= {
        m.Handed
    }  # Roots, of whose words lack
    assert isinstance(sent, e.Send)
    assert isinstance(sent.letter.message, m.Want)
    items = [item if item in gather.SIGNED else len(Item) for _, item, _ in sent.letter.message.lacking]
    assert items == sorted(items)
    rootless = {name for name, item, _ in sent.letter.message.lacking if item == Item.ROOT}
    assert rootless.isdisjoint(found.state.laid_out.roots)


# ── what a vote stands on ─────────────────────────────────────────────────────────────────────────────────────


def wants_to_know(federation: SimulatedFederation, found: Round, *names: str) -> list[e.Send]:
    liar = federation.peers[LIAR]
    place = m.Envelope(liar.run_id, 1, found.number, found.attempt, LIAR, liar.incarnation)
    want = m.seal(m.Want(Question.VOTE, tuple((name, Item.READY, 0) for name in names)), place, liar.identity)
    return [one for one in found.handle(e.Received(found.state.now, want)) if isinstance(one, e.Send)]


def test_whoever_asks_has_those_readys_that_it_lacks_once() -> None:
    federation, found = standing(Phase.BALLOT, peers=4)
    held = list(found.state.voting.readys)
    (handed,) = wants_to_know(federation, found, *held[:1], *held[:1])
    assert handed.to == LIAR
    assert handed.letter.message == m.Handed((found.state.voting.readys[held[0]].wire,))
    assert wants_to_know(federation, found, *held) == []


def test_while_votes_are_out_there_is_nothing_to_tell_whoever_lacks_no_ready() -> None:
    federation, found = standing(Phase.BALLOT, peers=4)
    assert wants_to_know(federation, found) == []


def test_under_a_certificate_whoever_asks_has_it_once_and_again_over_a_new_link() -> None:
    federation, found = standing(Phase.UNMASK, peers=4)
    assert [one.letter for one in wants_to_know(federation, found)] == [found.state.certificate]
    assert wants_to_know(federation, found) == []
    again = found.handle(e.LinkUp(found.state.now, LIAR, bytes(16)))
    assert found.state.certificate in [one.letter for one in again if isinstance(one, e.Send)]


def leaves(federation: SimulatedFederation, found: Round, attempt: int = 0) -> list[e.Send]:
    liar = federation.peers[LIAR]
    place = m.Envelope(liar.run_id, 1, found.number, found.attempt + attempt, LIAR, liar.incarnation)
    left = m.seal(m.Leave(()), place, liar.identity)
    return [one for one in found.handle(e.Received(found.state.now, left)) if isinstance(one, e.Send)]


def test_whoever_leaves_a_certified_attempt_again_and_again_sees_its_end_once() -> None:
    """It holds the set: a letter of a hundred bytes would bring megabytes each time."""
    federation, found = standing(Phase.UNMASK, peers=4)
    assert leaves(federation, found) == [e.Send(LIAR, found.state.certificate)]
    assert [leaves(federation, found) for _ in range(3)] == [[]] * 3


def test_whoever_leaves_from_an_earlier_attempt_is_shown_its_end_once() -> None:
    federation, found = standing(Phase.BALLOT, peers=4)
    abandoned = found.state.seal(m.Certificate((), b""))
    found.state.attempt, found.state.last_abandon = 1, abandoned
    assert leaves(federation, found, attempt=-1) == [e.Send(LIAR, abandoned)]
    assert leaves(federation, found, attempt=-1) == []

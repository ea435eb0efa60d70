"""U, at those who get it: who knows a victim to be there takes no part; a set that does not hold is a breach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from p2pfl import messages as m
from p2pfl.errors.round import MembersRejected, TwoStatements
from p2pfl.keys import digest
from p2pfl.messages import Letter
from p2pfl.sharing import certificate
from p2pfl.sharing import events as e
from p2pfl.sharing.certificate import compose
from p2pfl.sharing.digests import attempt_digest
from p2pfl.sharing.phases import members
from p2pfl.sharing.state import State
from tests.sharing.letters import Paper
from tests.sharing.peer_fixtures import REST, VICTIM, abandons, leaves, paper, seat, sitting, told
from tests.sharing.test_members import (
    on_another_model,
    on_another_round,
    who_acknowledged_nobody_else,
    whom_nobody_else_acknowledged,
)

NAMES, COORDINATOR = paper.names, paper.coordinator
OTHER = digest("other")


def refusal(state: State, letter: Letter) -> str:
    return members.refusal(state, letter, compose(letter, paper.roster))


def test_a_set_of_all_is_accepted_and_durable_before_anything_is_masked() -> None:
    found = seat(sitting("site-0"))
    (stored,) = told(found, paper.members())
    assert isinstance(stored, e.Persist)
    assert stored.then is e.Accepted
    assert found.state.members == paper.members()
    assert found.handle(stored.stored(0.0))[-1] == e.Quantise(1, 0, found.state.attempt_digest, NAMES, (b"",) * 4)


@pytest.mark.claim("LIAR-6")
def test_a_victim_that_is_there_and_was_passed_on_at_half_time_is_not_left_out() -> None:
    for name in ("site-0", "site-2"):
        found = seat(sitting(name))
        effects = told(found, paper.members(survivors=REST))
        assert found.state.members is None
        assert VICTIM in found.state.proposals.refused
        ballot = found.state.voting.ballot
        assert ballot is not None
        assert ballot.message == m.Ballot(0, b"", b"", (), (COORDINATOR,))
        assert [type(one) for one in effects] == [e.Send, e.Persist]
        assert not found.state.peers.breaches, "a set that holds together is no breach"


def down(state: State) -> None:
    state.peers.down[VICTIM] = 0.0


def not_passed_on(state: State) -> None:
    del state.proposals.passed_on[VICTIM]


def nothing_passed_on(state: State) -> None:
    state.proposals.passed_on = {}


def left_out_itself(state: State) -> None:
    state.context = replace(state.context, me=VICTIM)


def whom_one_member_did_not_acknowledge(state: State) -> None:
    state.proposals.acks["site-2"] = paper.ack("site-2", names=REST)


def of_whom_one_member_holds_another_bundle(state: State) -> None:
    own: Any = paper.ack("site-2").message
    held = tuple((name, OTHER if name == VICTIM else one) for name, one in own.held)
    state.proposals.acks["site-2"] = paper.by("site-2", m.Ack(held, ()))


def who_holds_another_bundle_of_a_member(state: State) -> None:
    own: Any = paper.ack(VICTIM).message
    state.proposals.acks[VICTIM] = paper.by(VICTIM, m.Ack((("site-0", OTHER), *own.held[1:]), ()))


EXCUSES: list[Callable[[State], None]] = [
    down,
    not_passed_on,
    nothing_passed_on,
    left_out_itself,
    whom_nobody_else_acknowledged,
    whom_one_member_did_not_acknowledge,
    of_whom_one_member_holds_another_bundle,
    who_holds_another_bundle_of_a_member,
    who_acknowledged_nobody_else,
    on_another_model,
    on_another_round,
]


@pytest.mark.parametrize("excuse", EXCUSES, ids=lambda excuse: excuse.__name__)
def test_who_may_have_been_missed_honestly_may_be_left_out(excuse: Callable[[State], None]) -> None:
    state = sitting("site-0")
    state.now = 1.0  # half-time
    assert VICTIM in refusal(state, paper.members(survivors=REST))
    excuse(state)
    acks = state.proposals.acks
    state.proposals.passed_on = {name: acks[name] for name in state.proposals.passed_on}
    named = paper.members(survivors=REST, acks=tuple(certificate.short(acks[name], REST) for name in REST))
    assert refusal(state, named) == ""


def says_less(name: str) -> Letter:
    return paper.ack(name, names=REST)


def says_another_thing(name: str) -> Letter:
    own: Any = paper.ack(name).message
    return paper.by(name, m.Ack(tuple((one, OTHER if one == VICTIM else it) for one, it in own.held), ()))


@pytest.mark.parametrize(
    ("passed_on", "in_the_set", "counts"),
    [
        (paper.ack, says_less, True),  # the coordinator was shown the newer one
        (says_less, paper.ack, True),  # it has the newer one itself
        (says_less, says_less, False),
        (paper.ack, says_another_thing, False),  # its author lies, to the coordinator or here
    ],
    ids=["an older one in the set", "a newer one in the set", "the same", "two that no honest site says"],
)
def test_of_a_members_two_acknowledgements_the_larger_counts(
    passed_on: Callable[[str], Letter], in_the_set: Callable[[str], Letter], counts: bool
) -> None:
    state = sitting("site-0")
    state.now = 1.0
    state.proposals.passed_on["site-2"] = passed_on("site-2")
    acks = [in_the_set(name) if name == "site-2" else paper.ack(name) for name in REST]
    letter = paper.members(survivors=REST, acks=tuple(certificate.short(ack, REST) for ack in acks))
    assert (VICTIM in refusal(state, letter)) == counts


def test_a_proven_liar_that_was_passed_on_before_it_was_proven_may_be_left_out() -> None:
    state = sitting("site-0")
    state.now = 1.0
    proven(state)
    assert refusal(state, paper.members(survivors=REST)) == ""


def test_once_each_has_coordinated_in_vain_any_set_that_holds_is_taken_part_in() -> None:
    for attempt, why in ((3, VICTIM), (4, "")):
        state = sitting("site-0", attempt)
        state.now = 1.0
        assert why in refusal(state, paper.members(survivors=REST, attempt=attempt))
        assert why or refusal(state, paper.members(survivors=REST, attempt=attempt)) == ""


def not_proposed(state: State) -> None:
    del state.proposals.proposes["site-0"]


def proven(state: State) -> None:
    state.peers.proven[VICTIM] = None


def came_back(state: State) -> None:
    state.due["begun"] = 0.0
    state.peers.link_down(VICTIM, 0.5)
    state.peers.link_up(VICTIM, 0.6)


def in_vain(state: State) -> None:
    state.attempt = 4


def late(state: State) -> None:
    """The others' clocks are ahead of this one's: it dealt anew."""
    state.late = True


@pytest.mark.claim("LIAR-6")
@pytest.mark.parametrize(
    "excuse", [down, not_proposed, proven, came_back, in_vain, late], ids=lambda excuse: excuse.__name__
)
def test_before_half_time_nobody_is_left_out_whose_link_stands_heard_or_not(excuse: Callable[[State], None]) -> None:
    state = sitting("site-0")
    not_passed_on(state)
    del state.proposals.acks[VICTIM], state.proposals.proposes[VICTIM]
    letter = paper.members(survivors=REST)
    assert members.left_out_early(state, letter) == [VICTIM]
    excuse(state)
    assert members.left_out_early(state, letter) == []


def test_who_names_a_set_early_is_not_named_for_it_since_its_own_links_may_be_cut() -> None:
    state = sitting("site-0")
    not_passed_on(state)
    found = seat(state)
    told(found, paper.members(survivors=REST))
    assert found.state.members is None
    assert found.state.voting.ballot is not None
    assert found.state.voting.ballot.message == m.Ballot(0, b"", b"", (), ())


def test_a_set_not_taken_part_in_is_shown_to_all() -> None:
    """To all that may have been told another."""
    found, letter = seat(sitting("site-0")), paper.members(survivors=REST)
    shown = [one.letter.message for one in told(found, letter) if isinstance(one, e.Send)]
    assert shown == [m.Handed((letter.wire,))]


GROUNDS: dict[str, tuple[bool, Callable[[], list[Letter]]]] = {
    "two ballots of the attempt before": (True, lambda: abandons("site-0", "site-2")),
    "three of them, of which two name it": (
        True,
        lambda: [*abandons("site-0", "site-2"), *abandons("site-1", names=("site-0",))],
    ),
    "two LEAVEs of the round before": (True, lambda: leaves("site-0", "site-2")),
    "a LEAVE and a ballot": (False, lambda: [*leaves("site-0"), *abandons("site-2")]),
    "no grounds": (False, list),
    "one ballot": (False, lambda: abandons("site-0")),
    "one ballot twice": (False, lambda: abandons("site-0", "site-0")),
    "a ballot and a LEAVE of one signer": (False, lambda: [*abandons("site-0"), *leaves("site-0")]),
    "two ballots of one signer": (False, lambda: [*abandons("site-0"), *abandons("site-0", names=(VICTIM, "site-2"))]),
    "two ballots that name somebody else": (False, lambda: abandons("site-0", "site-2", names=("site-2",))),
    "ballots of this attempt": (False, lambda: abandons("site-0", "site-2", attempt=1)),
    "ballots of another round": (False, lambda: abandons("site-0", "site-2", round=2)),
    "ballots of another run": (False, lambda: abandons("site-0", "site-2", run=OTHER)),
    "ballots of another epoch": (False, lambda: abandons("site-0", "site-2", epoch=2)),
    "LEAVEs of this round": (False, lambda: leaves("site-0", "site-2", round=1)),
    "LEAVEs of another run": (False, lambda: leaves("site-0", "site-2", run=OTHER)),
    "other letters": (False, lambda: [paper.by(name, m.Want("sum", ((VICTIM, m.Item.CHUNK, 0),))) for name in NAMES]),
}


@pytest.mark.claim("LIAR-6")
@pytest.mark.parametrize("name", GROUNDS)
def test_a_live_peer_is_left_out_only_if_more_than_c_named_it(name: str) -> None:
    """In what went before."""
    enough, made = GROUNDS[name]
    wires = tuple(letter.wire for letter in made())
    letter = paper.members(attempt=1, survivors=REST, grounds=wires)
    assert (refusal(sitting("site-0", attempt=1), letter) == "") is enough


@pytest.mark.parametrize("wire", [b"", b"\x93", abandons("site-0")[0].wire[:-1]])
def test_grounds_that_are_no_letters_are_refused_under_the_coordinators_name(wire: bytes) -> None:
    found = seat(sitting("site-0"))
    (accused,) = told(found, paper.members(survivors=REST, grounds=(wire,)))
    assert (accused.peer, found.state.members) == (COORDINATOR, None)


# ── what a peer does not take part in, whoever is in it ───────────────────────────────────────────────────────


def a_liar_in_it(state: State) -> None:
    state.peers.proven["site-2"] = paper.by("site-2", m.Evidence(()))


def dealt_anew(state: State) -> None:
    assert state.unmasking.deal is not None
    state.unmasking.deal = replace(
        state.unmasking.deal, bundle=paper.elsewhere(state.unmasking.deal.bundle, incarnation=bytes(16))
    )


def nothing_dealt(state: State) -> None:
    state.unmasking.deal = None


def not_yet_sent(state: State) -> None:
    state.proposals.dealt = False


def another_bundle_of_a_member(state: State) -> None:
    state.proposals.bundles["site-2"] = paper.deal("site-2", salt=b"x").bundle


def no_bundle_of_a_member(state: State) -> None:
    del state.proposals.bundles["site-2"]


def no_seed_of_an_edge(state: State) -> None:
    """It is a new process: its disk holds the bundle, and no disk holds a seed."""
    del state.masking.received["site-3"]  # whose edge leads to site-0


def nothing_proposed(state: State) -> None:
    del state.proposals.proposes["site-0"]


def proposed_on_another_model(state: State) -> None:
    state.proposals.proposes["site-0"] = paper.propose("site-0", model=OTHER)


@pytest.mark.parametrize(
    "way",
    [
        a_liar_in_it,
        dealt_anew,
        nothing_dealt,
        not_yet_sent,
        another_bundle_of_a_member,
        no_bundle_of_a_member,
        no_seed_of_an_edge,
        nothing_proposed,
        proposed_on_another_model,
    ],
    ids=lambda way: way.__name__,
)
def test_a_set_that_this_peer_cannot_sum_with_is_not_taken_part_in(way: Callable[[State], None]) -> None:
    state = sitting("site-0")
    assert refusal(state, paper.members()) == ""
    way(state)
    assert refusal(state, paper.members())


def test_a_peer_outside_of_a_set_needs_none_of_its_own_to_follow_it() -> None:
    state = sitting(VICTIM)
    state.unmasking.deal = None
    state.proposals.bundles.clear()
    state.proposals.proposes.clear()
    assert refusal(state, paper.members(survivors=REST)) == ""


# ── what breaks the protocol ──────────────────────────────────────────────────────────────────────────────────


def evidence(effects: Sequence[e.Effect]) -> list[Letter]:
    return [one.letter for one in effects if isinstance(one, e.Send) and isinstance(one.letter.message, m.Evidence)]


@pytest.mark.claim("LIAR-6")
def test_a_set_that_is_not_complete_is_a_breach_that_its_letter_proves_to_all() -> None:
    found = seat(sitting("site-0"))
    letter = paper.members(survivors=NAMES[:2])
    effects = told(found, letter)
    (accused,) = [one for one in effects if isinstance(one, e.Accuse)]
    assert (accused.peer, type(accused.error)) == (COORDINATOR, MembersRejected)
    assert [one.message.proof for one in evidence(effects)] == [(letter.wire,)]  # type: ignore[attr-defined]
    assert COORDINATOR in found.state.peers.proven
    assert found.state.members is None


def test_two_sets_are_two_statements_and_the_first_stays() -> None:
    found = seat(sitting("site-0"))
    told(found, paper.members())
    assert told(found, paper.members()) == [], "the same again says nothing"
    effects = told(found, paper.members(survivors=REST))
    (accused,) = [one for one in effects if isinstance(one, e.Accuse)]
    assert (accused.peer, type(accused.error)) == (COORDINATOR, TwoStatements)
    assert len(evidence(effects)) == 1
    assert found.state.members == paper.members()


def test_a_set_of_anyone_but_the_coordinator_is_refused_under_its_senders_name() -> None:
    found = seat(sitting("site-0"))
    effects = told(found, paper.by("site-2", paper.members().message))
    assert [one.peer for one in effects if isinstance(one, e.Accuse)] == ["site-2"]
    assert not evidence(effects), "it may hold together: its letter alone proves nothing"
    assert found.state.members is None


def test_after_its_vote_a_peer_accepts_no_set() -> None:
    found = seat(sitting("site-0"))
    told(found, paper.members(survivors=REST))
    assert found.state.voting.ballot is not None
    assert told(found, paper.members(survivors=REST)) == []
    (accused,) = [one for one in told(found, paper.members()) if isinstance(one, e.Accuse)]
    assert (accused.peer, type(accused.error)) == (COORDINATOR, TwoStatements)
    assert found.state.members is None


def test_a_set_that_was_refused_is_not_accepted_when_it_comes_again() -> None:
    state = sitting("site-0")
    found = seat(state)
    told(found, paper.members(survivors=REST))
    state.voting.ballot, state.proposals.passed_on = None, {}
    assert members.accept(state, paper.members(survivors=REST)) == []
    assert state.members is None


# ── what came before the set ──────────────────────────────────────────────────────────────────────────────────


def test_a_ballot_resting_on_a_site_outside_the_set_does_not_count() -> None:
    """It counts no more once the set is known.

    Two liars of seven: one in the set casts SURVIVORS with the READY of the other, who is not in it.
    """
    seven = Paper(7)  # q = 5
    names, chosen = seven.names, seven.names[:6]
    letter = seven.members(survivors=chosen)
    attempt, view = attempt_digest(letter), digest("view")

    def survivors(name: str, voices: Sequence[str]) -> Letter:
        return seven.by(name, m.Ballot(1, attempt, view, tuple(voices), ()))

    found = seat(sitting("site-0", on=seven))
    found.state.proposals.passed_on = {}
    found.state.due |= {"half": 0.0, "passed on": 0.0}
    for name in names[1:5]:
        told(found, survivors(name, names[1:6]))
    told(found, survivors("site-5", [*names[1:5], "site-6"]))
    effects = told(found, letter)
    for one in effects:
        if isinstance(one, e.Persist):
            found.handle(one.stored(found.state.now))
    assert found.state.members == letter
    assert found.state.certificate is None, "four SURVIVORS of five"
    told(found, survivors("site-5", names[1:6]))
    assert found.state.peers.breaches.keys() <= {"site-5"}

"""What decides an attempt, checked from letters alone: anyone with the roster can repeat it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.keys import digest
from p2pfl.messages import Letter, narrow
from p2pfl.sharing.certificate import (
    check_ballot,
    check_certificate,
    common_deadline_ms,
    compose,
    proposals,
    same_attempt,
    short,
    tally,
)
from p2pfl.sharing.digests import attempt_digest
from tests.sharing.letters import Paper
from tests.sharing.liars import STRANGER

paper = Paper(4)  # q = 3, c = 1, a = 3
NAMES = paper.names
MEMBERS = paper.members()
D, V, OTHER = attempt_digest(MEMBERS), digest("view"), digest("other")
Q, A = paper.roster.quorums.q, paper.roster.quorums.a


def ready(name: str, attempt: int = 0, view: bytes = V) -> Letter:
    return paper.by(name, m.Ready(D, view), attempt=attempt)


def survivors(name: str, voices: Sequence[str] = NAMES[:Q], *, attempt: int = 0, view: bytes = V) -> Letter:
    return paper.by(name, m.Ballot(1, D, view, tuple(voices), ()), attempt=attempt)


def abandon(name: str, attempt: int = 0, waited: tuple[str, ...] = ()) -> Letter:
    return paper.by(name, m.Ballot(0, b"", b"", (), waited), attempt=attempt)


def certificate(ballots: Sequence[Letter], members: bytes = b"", by: str = NAMES[0], attempt: int = 0) -> Letter:
    return paper.by(by, m.Certificate(tuple(ballot.wire for ballot in ballots), members), attempt=attempt)


def test_q_equal_survivors_decide_and_say_for_which_set_and_sums() -> None:
    verdict = check_certificate(certificate([survivors(name) for name in NAMES[:Q]], MEMBERS.wire), paper.roster)
    assert verdict.survivors
    assert (verdict.round, verdict.attempt) == (1, 0)
    assert (verdict.attempt_digest, verdict.view) == (D, V)
    assert verdict.members == MEMBERS


def test_a_abandons_decide_and_say_who_was_waited_for() -> None:
    ballots = [abandon(name, waited=(NAMES[3],)) for name in NAMES[:A]]
    verdict = check_certificate(certificate(ballots), paper.roster)
    assert not verdict.survivors
    assert verdict.waited_for == (NAMES[3],)
    assert verdict.members is None


def test_whoever_seals_a_certificate_it_decides_the_same() -> None:
    ballots = [survivors(name) for name in NAMES[:Q]]
    verdicts = {check_certificate(certificate(ballots, MEMBERS.wire, by), paper.roster).view for by in NAMES}
    assert verdicts == {V}


def outside() -> Letter:
    """A set without the first site."""
    return paper.members(survivors=NAMES[1:])


def survived(voters: Sequence[str], voices: Sequence[str]) -> list[Letter]:
    """SURVIVORS for that set, by these voters, on READYs of these voices."""
    return [paper.by(voter, m.Ballot(1, attempt_digest(outside()), V, tuple(voices), ())) for voter in voters]


def test_a_set_smaller_than_the_roster_is_decided_by_its_own_members() -> None:
    verdict = check_certificate(certificate(survived(NAMES[1:], NAMES[1:]), outside().wire), paper.roster)
    assert verdict.survivors
    assert verdict.members == outside()


GOOD = [survivors(name) for name in NAMES[:Q]]
REFUSED: dict[str, Callable[[], Letter]] = {
    "one SURVIVORS too few": lambda: certificate(GOOD[:-1], MEMBERS.wire),
    "one SURVIVORS many times": lambda: certificate([GOOD[0]] * 5, MEMBERS.wire),
    "one ABANDON too few": lambda: certificate([abandon(name) for name in NAMES[: A - 1]]),
    "one ABANDON many times": lambda: certificate([abandon(NAMES[0])] * 5),
    "a mixture that reaches neither": lambda: certificate([*GOOD[:2], abandon(NAMES[2]), abandon(NAMES[3])]),
    "SURVIVORS without the set": lambda: certificate(GOOD),
    "SURVIVORS with another set": lambda: certificate(GOOD, paper.members(deadline_ms=99).wire),
    "SURVIVORS for different sums": lambda: certificate([*GOOD[:2], survivors(NAMES[2], view=OTHER)], MEMBERS.wire),
    "two ballots of one voter": lambda: certificate([*GOOD, abandon(NAMES[0])], MEMBERS.wire),
    "too few READYs in a ballot": lambda: certificate([*GOOD[:2], survivors(NAMES[2], NAMES[:2])], MEMBERS.wire),
    "one READY many times": lambda: certificate([*GOOD[:2], survivors(NAMES[2], NAMES[:1] * 4)], MEMBERS.wire),
    "READYs in another order": lambda: certificate([*GOOD[:2], survivors(NAMES[2], NAMES[Q - 1 :: -1])], MEMBERS.wire),
    "READYs of a stranger": lambda: certificate([*GOOD[:2], survivors(NAMES[2], (*NAMES[:Q], "eve"))], MEMBERS.wire),
    "READYs of sites outside of the set": lambda: certificate([*survived(NAMES[1:], NAMES[:Q])], outside().wire),
    "ballots of sites outside of the set": lambda: certificate([*survived(NAMES[:Q], NAMES[1:])], outside().wire),
    "ballots of another attempt": lambda: certificate([survivors(name, attempt=1) for name in NAMES[:Q]], MEMBERS.wire),
    "a set of another attempt": lambda: certificate(
        [abandon(name) for name in NAMES[:A]], paper.members(attempt=1).wire
    ),
    "a stranger's ballot": lambda: certificate([*GOOD[:2], paper.forged(GOOD[2])], MEMBERS.wire),
    "a ballot of another epoch": lambda: certificate([*GOOD[:2], paper.elsewhere(GOOD[2], epoch=2)], MEMBERS.wire),
    "a ballot of another run": lambda: certificate([*GOOD[:2], paper.elsewhere(GOOD[2], run=OTHER)], MEMBERS.wire),
    "a ballot of another round": lambda: certificate([*GOOD[:2], paper.elsewhere(GOOD[2], round=2)], MEMBERS.wire),
    "READYs as ballots": lambda: certificate([ready(name) for name in NAMES[:Q]], MEMBERS.wire),
    "no certificate": lambda: abandon(NAMES[0]),
    "nothing": lambda: certificate([]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_decides_nothing_is_malformed(name: str) -> None:
    with pytest.raises(Malformed):
        check_certificate(narrow(REFUSED[name](), m.Certificate), paper.roster)


def test_a_ballot_says_what_one_must_say() -> None:
    check_ballot(GOOD[0].message, paper.roster)
    check_ballot(abandon(NAMES[0]).message, paper.roster)
    bad = [
        m.Ballot(0, b"", V, (), ()),
        m.Ballot(0, b"", b"", (NAMES[0],), ()),
        m.Ballot(1, D, V, (), ()),
        m.Ballot(1, D, V, NAMES[: Q - 1], ()),
        m.Ballot(1, D, V, NAMES[:1] * Q, ()),
    ]
    for ballot in bad:
        with pytest.raises(Malformed):
            check_ballot(ballot, paper.roster)
    with pytest.raises(Malformed):
        narrow(ready(NAMES[0]), m.Ballot)


@pytest.mark.claim("SUM-11")
@pytest.mark.parametrize("n", range(3, 21))
def test_both_certificates_cannot_come_from_one_ballot_each_and_c_liars(n: int) -> None:
    """However the honest vote, once each, and whatever the c liars say to whom: never q and a together."""
    quorums = Paper(n).roster.quorums
    for yes in range(n - quorums.c + 1):
        no = n - quorums.c - yes
        assert not (yes + quorums.c >= quorums.q and no + quorums.c >= quorums.a)


def test_a_set_names_one_bundle_and_one_proposal_of_each_member_and_of_nobody_else() -> None:
    for chosen in (NAMES, NAMES[1:], (NAMES[0], NAMES[2], NAMES[3])):
        found = compose(paper.members(survivors=chosen), paper.roster)
        assert found.bundles == {name: paper.deal(name).bundle.digest for name in chosen}
        assert list(found.proposals) == list(chosen)
        assert proposals(paper.members(survivors=chosen), paper.roster) == found.proposals


def changed(field: str, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Letter:
    fields: dict[str, Any] = {field: change(getattr(MEMBERS.message, field))}
    return paper.members(**fields)


def changed_beside(change: Callable[[Any], Any]) -> Letter:
    """A set without the last site, whose bundle all have acknowledged too, said otherwise by the coordinator."""
    whole: Any = paper.members(survivors=NAMES[:-1]).message
    return paper.members(survivors=NAMES[:-1], acks=(change(whole.acks[0]), *whole.acks[1:]))


def one(field: str, letter: Letter) -> Letter:
    """The set with another letter of the first member in `field`."""
    return changed(field, lambda held: (letter.wire, *held[1:]))


def acked(*letters: Letter) -> Letter:
    """The set with other acknowledgements of the first members."""
    return changed("acks", lambda held: (*(short(letter, NAMES) for letter in letters), *held[len(letters) :]))


def beside(*rows: tuple[str, bytes]) -> Letter:
    """A set without the last site, whose first member acknowledged these beside, and signed that."""
    chosen = NAMES[:-1]
    held = (*((name, paper.deal(name).bundle.digest) for name in chosen), *rows)
    first = short(paper.by(NAMES[0], m.Ack(held, ())), chosen)
    return paper.members(survivors=chosen, acks=(first, *(short(paper.ack(name), chosen) for name in chosen[1:])))


SETS: dict[str, dict[str, Callable[[], Letter]]] = {  # by what the refusal says
    "fewer than the quorum": {
        "fewer than q": lambda: paper.members(survivors=NAMES[: Q - 1]),
        "nobody": lambda: paper.members(survivors=("site-0",), bundles=(), acks=(), proposes=(), owners=()),
    },
    "not of the roster, or not in its order": {
        "in another order": lambda: paper.members(survivors=NAMES[::-1]),
        "one member twice": lambda: paper.members(survivors=(*NAMES[:2], NAMES[1], NAMES[2])),
        "with a stranger": lambda: replaced(
            MEMBERS, survivors=(*NAMES[:-1], "stranger"), owners=(*NAMES[:-1], "stranger")
        ),
    },
    "not one acknowledgement of each member": {
        "one member left out, and its acknowledgement not": lambda: paper.members(
            survivors=NAMES[:-1], acks=MEMBERS.message.acks
        ),  # type: ignore[attr-defined]
        "an acknowledgement missing": lambda: changed("acks", lambda held: held[:-1]),
        "one acknowledgement too many": lambda: changed("acks", lambda held: (*held, held[0])),
    },
    "owners are neither": {
        "other owners": lambda: paper.members(owners=NAMES[::-1]),
        "half of them": lambda: paper.members(owners=NAMES[:2]),
        "one who is no member": lambda: paper.members(survivors=NAMES[1:], owners=NAMES[:1]),
    },
    "not signed by": {
        "a forged bundle": lambda: one("bundles", paper.forged(paper.deal(NAMES[0]).bundle)),
        "a forged proposal": lambda: one("proposes", paper.forged(paper.propose(NAMES[0]))),
    },
    "did not acknowledge": {
        "a forged acknowledgement": lambda: acked(paper.forged(paper.ack(NAMES[0]))),
        "an acknowledgement of another attempt": lambda: acked(paper.elsewhere(paper.ack(NAMES[0]), attempt=1)),
        "an acknowledgement of another run": lambda: acked(paper.elsewhere(paper.ack(NAMES[0]), run=OTHER)),
        "the acknowledgement of another process": lambda: changed(
            "acks", lambda held: ((bytes(16), *held[0][1:]), *held[1:])
        ),
        "one acknowledgement twice": lambda: changed("acks", lambda held: (held[0], *held[:-1])),
        "acknowledgements in another order": lambda: changed("acks", lambda held: held[::-1]),
        "one bundle that one member did not acknowledge": lambda: acked(paper.ack(NAMES[0], names=NAMES[:-1])),
        "its own bundle that a member did not acknowledge": lambda: acked(paper.ack(NAMES[0], names=NAMES[1:])),
        "other bundles that one member acknowledged": lambda: acked(paper.ack(NAMES[0], salt=b"x")),
        "other bundles than all acknowledged": lambda: acked(*(paper.ack(name, salt=b"x") for name in NAMES)),
        "another bundle of one member": lambda: one("bundles", paper.deal(NAMES[0], salt=b"x").bundle),
        "a link that one has, said to be none": lambda: changed_beside(lambda row: (*row[:3], (NAMES[-1],))),
        "what one acknowledged beside them, left away": lambda: changed_beside(lambda row: (*row[:2], (), ())),
        "what one acknowledged beside them, changed": lambda: changed_beside(
            lambda row: (*row[:2], ((NAMES[-1], OTHER),), ())
        ),
    },
    "beside the members' bundles": {
        "a member's bundle acknowledged beside itself": lambda: changed(
            "acks", lambda held: ((*held[0][:2], ((NAMES[1], paper.deal(NAMES[1]).bundle.digest),), ()), *held[1:])
        ),
        "a stranger's bundle": lambda: beside(("stranger", OTHER)),
        "one bundle twice": lambda: beside((NAMES[-1], OTHER), (NAMES[-1], OTHER)),
    },
    "not one Bundle of each": {
        "a bundle missing": lambda: changed("bundles", lambda held: held[:-1]),
        "a bundle too many": lambda: changed("bundles", lambda held: (*held, held[0])),
        "bundles in another order": lambda: changed("bundles", lambda held: held[::-1]),
        "no bundles": lambda: paper.members(bundles=()),
    },
    "Bundle of another attempt": {
        "a bundle of another attempt": lambda: one("bundles", paper.deal(NAMES[0], attempt=1).bundle),
    },
    "not one Propose of each member": {
        "a proposal missing": lambda: changed("proposes", lambda held: held[1:]),
        "a proposal too many": lambda: changed("proposes", lambda held: (*held, held[0])),
        "proposals in another order": lambda: changed("proposes", lambda held: held[::-1]),
        "no proposals": lambda: paper.members(proposes=()),
    },
    "Bundle where Propose": {
        "bundles in place of proposals": lambda: paper.members(proposes=MEMBERS.message.bundles),  # type: ignore[attr-defined]
    },
    "Propose of another attempt": {
        "a proposal of another attempt": lambda: one("proposes", paper.elsewhere(paper.propose(NAMES[0]), attempt=1)),
    },
    "different grounds": {
        "a proposal on another peers.yaml": lambda: one("proposes", paper.propose(NAMES[0], federation_digest=OTHER)),
        "a proposal on another model": lambda: one("proposes", paper.propose(NAMES[0], model=OTHER)),
        "a proposal on another round": lambda: one("proposes", paper.propose(NAMES[0], rests_on=3)),
        "a proposal on another record": lambda: one("proposes", paper.propose(NAMES[0], base=OTHER)),
        "a proposal of another configuration": lambda: one(
            "proposes", paper.propose(NAMES[0], configuration=b'{"a":1}')
        ),
    },
    "is not the common one": {
        "a longer deadline": lambda: paper.members(deadline_ms=1001),
        "a shorter deadline": lambda: paper.members(deadline_ms=999),
        "the first attempt's deadline in the second": lambda: paper.members(attempt=1, deadline_ms=1000),
    },
    "Ready where Members belongs": {
        "not a set": lambda: ready(NAMES[0]),
    },
}


def replaced(letter: Letter, **fields: object) -> Letter:
    return paper.by(letter.sender, replace(letter.message, **fields))  # type: ignore[type-var]


@pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, sets in SETS.items() for name in sets])
def test_a_set_that_does_not_hold_together_is_malformed_and_the_refusal_says_why(reason: str, name: str) -> None:
    with pytest.raises(Malformed, match=reason):
        compose(narrow(SETS[reason][name](), m.Members), paper.roster)


def test_members_may_ask_for_what_they_like_and_acknowledge_more_than_the_set() -> None:
    """Support, deadline, clock, ε and log differ from site to site; so does who else was heard of."""
    own: dict[str, Any] = {"support": b"x", "deadline_ms": 999, "clock_ms": 7, "epsilon": "0.2", "site_head": OTHER}
    found = compose(one("proposes", paper.propose(NAMES[0], **own)), paper.roster)
    assert found.proposals[NAMES[0]] == paper.propose(NAMES[0], **own).message
    fewer = tuple(short(paper.ack(name, names=NAMES[1:]), NAMES[1:]) for name in NAMES[1:])
    assert tuple(compose(paper.members(survivors=NAMES[1:], acks=fewer), paper.roster).bundles) == NAMES[1:]
    assert tuple(compose(beside((NAMES[-1], OTHER)), paper.roster).bundles) == NAMES[:-1]


@given(st.lists(st.integers(1, 10**6), min_size=7, max_size=7), st.integers(0, 10), st.integers(1, 10**9))
def test_c_liars_neither_stretch_nor_shorten_the_common_deadline(asked: list[int], attempt: int, lie: int) -> None:
    seven = Paper(7)  # c = 2: with two lies, the deadline stays within what the honest five ask for

    def deadline(values: list[int]) -> int:
        made = [seven.propose(name, deadline_ms=value).message for name, value in zip(seven.names, values, strict=True)]
        return common_deadline_ms(made, seven.roster, attempt)  # type: ignore[arg-type]

    honest = asked[2:]
    assert min(honest) << min(attempt, 3) <= deadline([lie, lie, *honest]) <= max(honest) << min(attempt, 3)


def test_the_common_deadline_is_the_second_largest_of_four() -> None:
    """It doubles at most three times."""
    for attempt, factor in enumerate((1, 2, 4, 8, 8, 8)):
        asked = tuple(
            paper.propose(name, attempt=attempt, deadline_ms=value).wire
            for name, value in zip(NAMES, (300, 700, 900, 800), strict=True)
        )
        found = compose(paper.members(attempt=attempt, proposes=asked, deadline_ms=800 * factor), paper.roster)
        assert common_deadline_ms(found.proposals.values(), paper.roster, attempt) == 800 * factor
        for wrong in (700 * factor, 800 * factor + 1, 900 * factor):
            with pytest.raises(Malformed, match="not the common one"):
                compose(paper.members(attempt=attempt, proposes=asked, deadline_ms=wrong), paper.roster)


def test_one_attempt_is_one_run_epoch_round_and_attempt_whoever_speaks() -> None:
    letter = ready(NAMES[0])
    assert same_attempt(ready(NAMES[1]), letter.envelope)
    for other in ({"run": OTHER}, {"epoch": 2}, {"round": 2}, {"attempt": 1}):
        assert not same_attempt(paper.elsewhere(letter, **other), letter.envelope)


def test_a_tally_counts_each_voter_once_however_often_its_ballot_comes() -> None:
    with pytest.raises(Malformed, match="1 SURVIVORS of 3, 0 ABANDON of 3"):
        tally([GOOD[0]] * 9, MEMBERS, GOOD[0].envelope, paper.roster)


def test_the_attempt_digest_names_place_coordinator_and_content() -> None:
    same = [paper.members(), paper.members()]
    assert attempt_digest(same[0]) == attempt_digest(same[1])
    others = [
        paper.members(attempt=1),
        paper.members(deadline_ms=2),
        paper.elsewhere(MEMBERS, epoch=2),
        paper.elsewhere(MEMBERS, incarnation=bytes(16)),
        paper.elsewhere(MEMBERS, run=OTHER),
    ]
    assert len({D, *map(attempt_digest, others)}) == 6
    assert attempt_digest(paper.forged(MEMBERS)) == D, "a signature is no part of what was said"
    assert STRANGER.key not in {member.key for member in paper.roster.members}

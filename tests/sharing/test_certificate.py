"""What decides an attempt, checked from letters alone: anyone with the roster can repeat it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.keys import digest
from p2pfl.messages import Letter
from p2pfl.sharing.certificate import (
    acknowledged_bundles,
    check_ballot,
    check_certificate,
    proposals,
    same_attempt,
    tally,
)
from p2pfl.sharing.state import attempt_digest
from tests.sharing.liars import STRANGER
from tests.sharing.paper import Paper

paper = Paper(4)  # q = 3, c = 1, a = 3
NAMES = paper.names
MEMBERS = paper.members()
D, V, OTHER = attempt_digest(MEMBERS), digest("view"), digest("other")
Q, A = paper.roster.quorums.q, paper.roster.quorums.a


def ready(name: str, attempt: int = 0, view: bytes = V) -> Letter:
    return paper.by(name, m.Ready(D, view), attempt=attempt)


def survivors(name: str, voices: Sequence[str] = NAMES[:Q], *, attempt: int = 0, view: bytes = V) -> Letter:
    readys = tuple(ready(voice, attempt, view).wire for voice in voices)
    return paper.by(name, m.Ballot(1, D, view, readys, ()), attempt=attempt)


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
        check_certificate(REFUSED[name](), paper.roster)


def test_a_ballot_proves_what_it_claims() -> None:
    assert check_ballot(GOOD[0], paper.roster).survivors
    assert not check_ballot(abandon(NAMES[0]), paper.roster).survivors
    bad = [
        paper.by(NAMES[0], m.Ballot(0, b"", V, (), ())),
        paper.by(NAMES[0], m.Ballot(0, b"", b"", (ready(NAMES[0]).wire,), ())),
        paper.by(NAMES[0], m.Ballot(1, D, V, (), ())),
        paper.by(NAMES[0], m.Ballot(1, D, V, (b"",) * 3, ())),
        paper.by(NAMES[0], m.Ballot(1, D, OTHER, GOOD[0].message.readys, ())),  # type: ignore[attr-defined]
        paper.by(NAMES[0], m.Ballot(1, OTHER, V, GOOD[0].message.readys, ())),  # type: ignore[attr-defined]
        ready(NAMES[0]),
    ]
    for letter in bad:
        with pytest.raises(Malformed):
            check_ballot(letter, paper.roster)


@pytest.mark.parametrize("n", range(3, 21))
def test_both_certificates_cannot_come_from_one_ballot_each_and_c_liars(n: int) -> None:
    """However the honest vote, once each, and whatever the c liars say to whom: never q and a together."""
    quorums = Paper(n).roster.quorums
    for yes in range(n - quorums.c + 1):
        no = n - quorums.c - yes
        assert not (yes + quorums.c >= quorums.q and no + quorums.c >= quorums.a)


def test_the_set_names_one_bundle_of_each_dealer_and_one_proposal_of_each_member() -> None:
    assert list(acknowledged_bundles(MEMBERS, paper.roster)) == list(NAMES)
    assert list(proposals(MEMBERS, paper.roster)) == list(NAMES)


def acks(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Letter:
    return paper.by(paper.coordinator, replace(MEMBERS.message, acks=change(MEMBERS.message.acks)))  # type: ignore[attr-defined,type-var]


SETS: dict[str, Callable[[], Letter]] = {
    "one left out": lambda: paper.members(survivors=NAMES[:-1]),
    "in another order": lambda: paper.members(survivors=NAMES[::-1]),
    "with a stranger": lambda: paper.members(survivors=(*NAMES[:-1], "stranger")),
    "an acknowledgement missing": lambda: acks(lambda held: held[:-1]),
    "one acknowledgement twice": lambda: acks(lambda held: (held[0], *held[:-1])),
    "one too many": lambda: acks(lambda held: (*held, held[0])),
    "of another attempt": lambda: acks(lambda held: (paper.ack(NAMES[0], attempt=1).wire, *held[1:])),
    "of fewer bundles": lambda: acks(lambda held: (paper.ack(NAMES[0], names=NAMES[1:]).wire, *held[1:])),
    "of another bundle": lambda: acks(lambda held: (paper.ack(NAMES[0], salt=b"x").wire, *held[1:])),
    "not a set": lambda: ready(NAMES[0]),
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_everyone_with_one_word_each_is_malformed(name: str) -> None:
    with pytest.raises(Malformed):
        acknowledged_bundles(SETS[name](), paper.roster)


def test_a_set_without_one_proposal_of_each_member_is_malformed() -> None:
    made: m.Members = MEMBERS.message  # type: ignore[assignment]
    for proposes in (made.proposes[1:], (*made.proposes, made.proposes[0]), made.proposes[::-1], made.acks, ()):
        with pytest.raises(Malformed):
            proposals(paper.by(paper.coordinator, replace(made, proposes=proposes)), paper.roster)
    with pytest.raises(Malformed):
        proposals(ready(NAMES[0]), paper.roster)


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
    others = [paper.members(attempt=1), paper.members(deadline_ms=2), paper.elsewhere(MEMBERS, epoch=2),
              paper.elsewhere(MEMBERS, incarnation=bytes(16)), paper.elsewhere(MEMBERS, run=OTHER)]  # fmt: skip
    assert len({D, *map(attempt_digest, others)}) == 6
    assert attempt_digest(paper.forged(MEMBERS)) == D, "a signature is no part of what was said"
    assert STRANGER.key not in {member.key for member in paper.roster.members}

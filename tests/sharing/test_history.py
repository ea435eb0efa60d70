"""Records of missed rounds are taken over only in one unbroken row, each signed by q, or under one that is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.keys import SignedRecord, digest
from p2pfl.sharing.digests import base_digest
from p2pfl.sharing.history import NO_BASE, Base, check_rows, to_adopt
from p2pfl.simulate import SimulatedFederation
from tests.sharing.letters import Paper
from tests.sharing.liars import STRANGER

paper = Paper(4)  # q = 3
NAMES, Q = paper.names, paper.roster.quorums.q
RUN, OTHER = digest("run", b"one"), digest("run", b"other")


def record(number: int, base: Base, run: bytes = RUN, **more: Any) -> bytes:
    facts = {"kind": "round", "run": run.hex(), "epoch": 1, "round": number, "rests_on": base[0], "base": base[1].hex()}
    return codec.facts({**facts, **more})


def row(data: bytes, signers: int = Q) -> SignedRecord:
    return data, {name: paper.identities[name].sign("record", data) for name in NAMES[:signers]}


def rows(*signers: int, run: bytes = RUN, first: int = 1, base: Base = NO_BASE) -> list[SignedRecord]:
    """One row for each number, with this many signatures; each rests on the one before."""
    made = []
    for place, count in enumerate(signers):
        data = record(first + place, base, run)
        made.append(row(data, count))
        base = (first + place, base_digest(data))
    return made


def numbers(held: list[SignedRecord]) -> list[int]:
    return [codec.read_facts(data)["round"] for data, _ in held]


def check(made: list[SignedRecord], known: dict[bytes, Base] | None = None) -> list[SignedRecord]:
    return check_rows(made, paper.roster, known or {})


def test_rows_that_follow_and_have_q_signatures_hold_with_them() -> None:
    made = rows(Q, Q, 4)
    assert check(made) == made
    assert check([]) == []


def test_rows_follow_what_is_known_here() -> None:
    made = rows(Q, Q, Q)
    known = {RUN: (1, base_digest(made[0][0]))}
    assert check(made[1:], known) == made[1:]
    with pytest.raises(Malformed, match="does not rest on"):
        check(made, known)  # from an earlier one on
    with pytest.raises(Malformed, match="does not rest on"):
        check(made[1:])  # from a later one on


def test_rounds_may_be_left_behind_between_two_that_rest_on_each_other() -> None:
    first = rows(Q)[0]
    later = row(record(5, (1, base_digest(first[0]))))
    assert numbers(check([first, later])) == [1, 5]


@given(st.lists(st.integers(0, 4), max_size=7))
def test_a_row_with_fewer_than_q_signatures_holds_only_under_one_that_has_q(signers: list[int]) -> None:
    made = rows(*signers)
    last = max((place for place, count in enumerate(signers) if count >= Q), default=-1)
    assert check(made) == made[: last + 1]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, Q - 1, Q, 4])), max_size=8))
def test_of_two_runs_in_one_log_none_covers_the_other(made: list[tuple[bool, int]]) -> None:
    """What holds is a beginning of the rows; in it each is covered by its own run; and the next one is not."""
    bases, listed = {RUN: NO_BASE, OTHER: NO_BASE}, []
    for other, signers in made:
        run = OTHER if other else RUN
        data = record(bases[run][0] + 1, bases[run], run)
        bases[run] = (bases[run][0] + 1, base_digest(data))
        listed.append(row(data, signers))
    covered = [any(count >= Q and run == other for run, count in made[place:]) for place, (other, _) in enumerate(made)]
    most = covered.index(False) if False in covered else len(made)
    held = check(listed)
    assert held == listed[: len(held)]
    assert len(held) == most


def without(place: int) -> list[SignedRecord]:
    made = rows(Q, Q, Q)
    return made[:place] + made[place + 1 :]


def exchanged() -> list[SignedRecord]:
    made = rows(Q, Q, Q)
    other = record(2, (1, base_digest(made[0][0])), model_after="another")
    return [made[0], row(other), made[2]]


LIES: dict[str, list[SignedRecord]] = {
    "the first one left out": without(0),
    "one in the middle left out": without(1),
    "two in the other order": [rows(Q, Q)[1], rows(Q, Q)[0]],
    "one twice": [rows(Q)[0], rows(Q)[0]],
    "one exchanged for another that q signed, too": exchanged(),
    "another number than its place": [row(record(0, NO_BASE))],
    "a negative number": [row(record(-1, NO_BASE))],
    "a number that is true": [row(record(True, NO_BASE))],
    "a number as text": [row(record(1, NO_BASE, round="1"))],
    "no number": [row(codec.facts({"kind": "round", "run": RUN.hex(), "epoch": 1}))],
    "another base": [row(record(1, (0, digest("base", b""))))],
    "a base that is no round's": [row(record(2, (1, bytes(32))))],
    "no base": [row(codec.facts({"kind": "round", "run": RUN.hex(), "epoch": 1, "round": 1}))],
    "another epoch": [row(record(1, NO_BASE, epoch=2))],
    "another kind": [row(record(1, NO_BASE, kind="genesis"))],
    "no run": [row(record(1, NO_BASE, run_=1).replace(f'"run":"{RUN.hex()}",'.encode(), b""))],
    "a run of no bytes": [row(codec.facts({**codec.read_facts(record(1, NO_BASE)), "run": "x"}))],
    "a run that is a number": [row(codec.facts({**codec.read_facts(record(1, NO_BASE)), "run": 5}))],
    "no record": [(b"", {})],
    "a list": [row(b"[]")],
    "another spelling": [row(b" " + record(1, NO_BASE))],
}


@pytest.mark.parametrize("name", LIES)
def test_rows_that_do_not_follow_are_malformed_however_many_signed_them(name: str) -> None:
    with pytest.raises(Malformed):
        check(LIES[name])


def test_only_roster_signatures_over_this_very_record_count() -> None:
    """Only they are handed on."""
    data, signed = rows(Q)[0]
    bad = {
        **dict(list(signed.items())[: Q - 1]),
        NAMES[3]: paper.identities[NAMES[3]].sign("record", data + b" "),
        NAMES[2]: paper.identities[NAMES[2]].sign("message/confirm", data),
        "stranger": STRANGER.sign("record", data),
        "nobody": b"",
    }
    assert check([(data, bad)]) == []
    stolen = dict.fromkeys(NAMES, signed[NAMES[0]])  # one signature under four names
    assert check([(data, stolen)]) == []
    (held,) = check([(data, {**bad, NAMES[2]: signed[NAMES[2]]})])
    assert held == (data, signed)


def test_who_was_away_takes_over_all_but_the_sum_that_it_can_still_have() -> None:
    made = rows(Q, Q, Q)
    assert to_adopt(made, current=3) == made[:-1]
    assert to_adopt(made, current=1) == made
    assert to_adopt(made, current=4) == made
    assert to_adopt([], current=1) == []


def test_the_rows_of_a_real_run_hold_from_wherever_one_left_off() -> None:
    federation = SimulatedFederation(4, rounds=4, length=4)
    federation.run()
    disk = federation.peers["site-1"].disk
    made: list[SignedRecord] = list(zip(disk.ledger, disk.signatures, strict=True))
    run = federation.peers["site-1"].run_id
    assert len(made) == 4
    for first in range(4):
        known = {run: (first, base_digest(disk.ledger[first - 1]))} if first else {}
        assert check_rows(made[first:], federation.roster, known) == made[first:]
        if first:
            with pytest.raises(Malformed):
                check_rows(made[first:], federation.roster, {})

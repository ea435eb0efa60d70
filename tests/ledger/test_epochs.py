"""A log of two epochs verifies against the roster of each; what does not follow is told by number."""

from __future__ import annotations

import pytest

from p2pfl.federation.membership import Change
from p2pfl.keys import SignedRecord
from p2pfl.ledger import entry as entries
from p2pfl.ledger.entry import FIRST, Entry
from p2pfl.ledger.verify import check_federation
from tests.federation.changes import (
    IDENTITIES,
    NAMES,
    all_three,
    new_keys,
    old_keys,
    round_row,
    two_epochs,
    with_agreement,
)

MADE = all_three(NAMES[:4])


def found(rows: list[SignedRecord]) -> list[str]:
    """What the verifier says of a log with these entries: number and text."""
    log, before = [], FIRST
    for index, (record, signed) in enumerate(rows):
        log.append(Entry(index, record, signed, before))
        before = log[-1].hash
    return [f"{one.entry}: {one.what}" for one in check_federation(log)]


@pytest.mark.claim("MEMBER-8")
def test_rounds_of_each_epoch_are_judged_by_its_own_roster() -> None:
    assert found(two_epochs(MADE)) == []


def test_the_change_is_what_a_person_reads() -> None:
    line = entries.render(Entry(4, *two_epochs(MADE)[4], FIRST))
    assert "epoch 2 begins: fay joins, eve leaves, ben has another key; 5 sites" in line
    assert "[4 signatures]" in line
    assert "the last of its epoch" in entries.render(Entry(3, *two_epochs(MADE)[3], FIRST))


def test_who_joins_is_shown_with_its_signature_under_the_agreement() -> None:
    of, made = with_agreement()
    rows = two_epochs(made, of=of)
    assert found(rows) == []
    line = entries.render(Entry(5, *rows[5], FIRST))
    assert "fay joins, fay under agreement abababababab; 6 sites" in line
    assert "[6 signatures]" in line


@pytest.mark.claim("MEMBER-3")
def test_who_joins_without_having_signed_the_agreement_is_told() -> None:
    of, made = with_agreement(NAMES)
    assert "5: membership: not signed by fay, under the agreement" in found(two_epochs(made, of=of, after=0))
    other = Change(made.record, {**made.signatures, "fay": IDENTITIES["eve"].sign("membership", made.record)})
    told = found(two_epochs(other, of=of, after=0))
    assert "5: membership: the signature of fay is not over this record" in told


def test_who_joins_signs_the_agreement_that_the_others_signed() -> None:
    of, made = with_agreement()
    rows = two_epochs(made, of=of)
    told = found([rows[0], *rows[2:]])  # a log that has no entry of theirs
    assert "4: membership: not under the agreement of the first epoch" in told


@pytest.mark.parametrize("signers", [NAMES[:3], ("ada", "cyd", "dot", "eve")])
def test_a_change_without_the_signatures_that_it_needs_is_told(signers: tuple[str, ...]) -> None:
    told = found(two_epochs(all_three(signers)))
    assert any(line.startswith("4: membership:") for line in told)


def test_a_change_that_does_not_count_leaves_the_old_roster() -> None:
    """Rounds behind it are judged by the roster before it."""
    told = found(two_epochs(all_three(NAMES[:3])))
    assert any("5: round: signed by fay, who is not in the roster" in line for line in told)


@pytest.mark.claim("MEMBER-8")
def test_a_site_that_left_confirms_and_is_summed_no_more() -> None:
    rows = two_epochs(MADE, after=0)
    by = {**new_keys(MADE), "eve": IDENTITIES["eve"]}
    told = found([*rows, round_row(4, rows[3][0], by, epoch=2)])
    assert "5: round: signed by eve, who is not in the roster" in told
    assert "5: round 4: sums over a name that is not in the roster, or over one site twice" in told


@pytest.mark.claim("MEMBER-10")
def test_a_key_that_was_given_up_signs_no_more() -> None:
    rows = two_epochs(MADE, after=0)
    told = found([*rows, round_row(4, rows[3][0], {**new_keys(MADE), "ben": IDENTITIES["ben"]}, epoch=2)])
    assert told == ["5: round: the signature of ben is not over this record"]


def test_a_change_that_no_round_announced_or_that_another_round_followed_is_told() -> None:
    told = found(two_epochs(MADE, announced="ab" * 32))
    assert any(line.startswith("4: membership: a change of membership that the round before") for line in told)
    rows = two_epochs(MADE)
    told = found([*rows[:4], round_row(4, rows[3][0], old_keys())])
    assert any("where the change that the last round announced belongs" in line for line in told)


def test_a_round_keeps_the_epoch_of_its_roster() -> None:
    rows = two_epochs(MADE, after=0)
    told = found([*rows, round_row(4, rows[3][0], new_keys(MADE), epoch=1)])
    assert any("of epoch 1, the roster is of 2" in line for line in told)


def test_an_announcement_is_a_digest_and_nothing_else() -> None:
    told = found(two_epochs(MADE, announced="soon"))
    assert any("3: malformed: round: announced" in line for line in told)

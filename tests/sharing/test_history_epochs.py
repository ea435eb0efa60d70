"""A site that was away, or is new, follows a ledger across epochs from its own last entry, and is led nowhere else."""

from __future__ import annotations

import pytest

from p2pfl.codec import Malformed
from p2pfl.federation.membership import Change, Epochs, run_of
from p2pfl.keys import SignedRecord
from p2pfl.sharing.digests import base_digest
from p2pfl.sharing.history import Base, check_rows
from tests.federation.changes import (
    IDENTITIES,
    NAMES,
    all_three,
    federation,
    genesis_row,
    old_keys,
    round_row,
    two_epochs,
    with_agreement,
)

MADE = all_three(NAMES[:4])
ROWS = two_epochs(MADE)
ROSTER = federation().roster
RUN = run_of(federation().first, b"", "training")


def taken(rows: list[SignedRecord], have: int = 0) -> list[SignedRecord]:
    """The `rows` that a site with the first entries of the log takes over."""
    known: dict[bytes, Base] = {}
    if have > 1:
        known[RUN] = (have - 1, base_digest(ROWS[have - 1][0]))
    return check_rows(rows, ROSTER, known, Epochs.of(ROWS[:have]))


@pytest.mark.claim("MEMBER-9")
@pytest.mark.parametrize("have", [0, 1, 3, 4])
def test_it_takes_all_of_it_over_whatever_it_has(have: int) -> None:
    assert [row[0] for row in taken(ROWS[have:], have)] == [row[0] for row in ROWS[have:]]


def test_what_it_has_is_as_it_was_when_something_does_not_follow() -> None:
    steps = Epochs.of(ROWS[:1])
    with pytest.raises(Malformed):
        check_rows(ROWS[2:], ROSTER, {}, steps)
    assert (steps.entries, steps.announced) == (1, b"")


@pytest.mark.claim("LEDGER-7", "MEMBER-9")
def test_a_genesis_that_one_site_did_not_sign_is_refused() -> None:
    record, signed = genesis_row()
    with pytest.raises(Malformed, match="without the signature of 'eve'"):
        taken([(record, {name: one for name, one in signed.items() if name != "eve"}), *ROWS[1:]])
    with pytest.raises(Malformed, match="signature of eve"):
        taken([(record, {**signed, "eve": signed["ada"]}), *ROWS[1:]])


@pytest.mark.claim("LEDGER-7", "MEMBER-9")
def test_a_made_up_change_is_refused() -> None:
    with pytest.raises(Malformed, match="3 of 4"):
        taken(two_epochs(all_three(NAMES[:3])))


def test_a_change_is_taken_over_with_the_signatures_that_count_and_no_other() -> None:
    of, made = with_agreement()
    odd = Change(made.record, {**made.signatures, "gus": bytes(64)})
    rows = check_rows(two_epochs(odd, of=of), ROSTER, {}, Epochs())
    assert rows[5][1] == made.signatures
    unsigned = with_agreement(NAMES)[1]
    with pytest.raises(Malformed, match="no signature of fay"):
        check_rows(two_epochs(unsigned, of=of), ROSTER, {}, Epochs())


def test_a_round_that_the_old_roster_signed_behind_the_change_is_refused() -> None:
    with pytest.raises(Malformed, match="of epoch 1"):
        taken([*ROWS[:5], round_row(4, ROWS[3][0], old_keys())])


def test_rounds_of_the_new_epoch_count_by_its_quorum_alone() -> None:
    by = {name: IDENTITIES[name] for name in ("ada", "cyd", "dot")}
    too_few = round_row(4, ROWS[3][0], by, epoch=2)
    assert taken([*ROWS[:5], too_few]) == taken(ROWS[:5])


def test_without_a_change_a_peer_is_told_of_rounds_alone() -> None:
    with pytest.raises(Malformed, match="where a round belongs"):
        check_rows(ROWS[4:], ROSTER, {RUN: (3, base_digest(ROWS[3][0]))})

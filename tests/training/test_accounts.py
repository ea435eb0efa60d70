"""One account for each group of records with one history: which records a data set holds decides what it has spent."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.training import AccountUnreadable, PassNotCharged, PassWouldOverspend
from p2pfl.federation.federation import Privacy
from p2pfl.keys import Secret
from p2pfl.training.privacy import account as privacy
from p2pfl.training.privacy.account import History, Mechanism
from p2pfl.training.privacy.accounts import EVERYTHING, Accounts, Marks, marks_of
from tests.examples import examples

HEART, LUNGS = b"h" * 32, b"l" * 32  # runs
DELTA = 1e-5
SETTINGS = Privacy("record", 4.0, 1.0, 0.02, 80, DELTA, 3.0)
FACTS = {"round": 1, "time": 1_790_000_000}


@pytest.fixture
def additive(monkeypatch: pytest.MonkeyPatch) -> None:
    """ε is a hundredth of the steps: what is charged can be read off it."""
    monkeypatch.setattr(privacy, "_epsilon", lambda history, delta: sum(one.steps for one in history) / 100)


def marks(*records: int) -> Marks:
    return np.array(sorted(records), np.uint64)


def charged(accounts: Accounts, records: Marks | None, run: bytes = HEART, passes: int = 1) -> None:
    """As a site does it: the data set is known, then paid for."""
    if records is not EVERYTHING:
        accounts.admit(records)
    for _ in range(passes):
        accounts.charge(records, SETTINGS, run, run[:1].decode(), FACTS)


def composed(records: Iterable[History]) -> float:
    return max((sum(one.steps for one in history) for history in records), default=0) / 100


# ── which records ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-9")
def test_a_file_that_shares_no_record_has_an_account_of_its_own(additive: None) -> None:
    accounts = Accounts()
    charged(accounts, marks(1, 2, 3), passes=2)
    accounts.admit(marks(4, 5))
    assert (accounts.epsilon(marks(1, 2, 3), DELTA), accounts.epsilon(marks(4, 5), DELTA)) == (1.6, 0.0)


@pytest.mark.claim("DP-9")
def test_a_new_file_with_one_old_record_spends_what_that_has_spent(additive: None) -> None:
    accounts = Accounts()
    charged(accounts, marks(1, 2, 3), passes=3)
    with pytest.raises(PassWouldOverspend) as caught:
        charged(accounts, marks(3, 4, 5, 6), LUNGS)
    assert "3 by h, the last on 2026-09-21 14:13Z" in caught.value.render()
    assert accounts.studies.keys() == {HEART}


@pytest.mark.claim("DP-9")
def test_records_that_were_not_in_a_pass_do_not_pay_for_it(additive: None) -> None:
    """A file cut in two, and each half used by itself: the halves' charges are not added up."""
    accounts = Accounts()
    charged(accounts, marks(1, 2, 3, 4))
    charged(accounts, marks(1, 2))
    charged(accounts, marks(3, 4))
    assert accounts.epsilon(marks(1, 2, 3, 4), DELTA) == 1.6
    assert [sorted(group.marks) for group in accounts.groups] == [[1, 2], [3, 4]]


@pytest.mark.claim("DP-9")
@given(st.integers(0, 2**32), st.integers(1, 12))
@examples(60)
def test_a_data_set_has_spent_what_the_worst_of_its_records_has(seed: int, passes: int) -> None:
    """Against every record's own list of the passes that it was in; in between, the accounts go over the disk."""
    choice, accounts = random.Random(seed), Accounts()
    own: dict[int, list[Mechanism]] = {record: [] for record in range(8)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "_epsilon", lambda history, delta: sum(one.steps for one in history) / 100)
        generous = Privacy("record", 4.0, 1.0, 0.02, 80, DELTA, 1e9)
        for _ in range(passes):
            chosen = choice.sample(range(8), choice.randint(1, 8))
            accounts.admit(marks(*chosen))
            accounts.charge(marks(*chosen), generous, choice.choice([HEART, LUNGS]), "s", FACTS)
            for record in chosen:
                own[record].append(Mechanism.of_pass(generous))
            accounts = Accounts.from_bytes(b"".join(accounts.to_bytes()))
        for _ in range(5):
            asked = choice.sample(range(8), choice.randint(1, 8))
            assert accounts.epsilon(marks(*asked), DELTA) == composed(tuple(own[record]) for record in asked)


def test_epsilon_over_two_studies_is_the_accountants_for_the_joint_history() -> None:
    accounts = Accounts()
    charged(accounts, marks(1, 2))
    other = Privacy("record", 6.0, 1.0, 0.05, 20, DELTA, 3.0)
    accounts.admit(marks(2, 3))
    accounts.charge(marks(2, 3), other, LUNGS, "lungs", FACTS)
    from p2pfl.training.privacy.accountant import upper_bound

    assert accounts.epsilon(marks(2, 3), DELTA) == upper_bound([(4.0, 0.02, 80), (6.0, 0.05, 20)], DELTA)


def test_the_marks_of_records_follow_from_their_names_and_the_homes_key() -> None:
    one, other = Secret(bytes(32)), Secret(bytes(31) + b"\1")
    names = [b"a", b"b", b"a"]
    assert len(marks_of(one, names)) == 2
    assert np.array_equal(marks_of(one, names), marks_of(one, reversed(names)))
    assert not np.intersect1d(marks_of(one, names), marks_of(other, names)).size
    assert marks_of(one, []).size == 0


# ── what is spent ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-9")
def test_a_trainer_that_does_not_say_what_it_brings_is_charged_to_everything(additive: None) -> None:
    accounts = Accounts()
    charged(accounts, marks(1, 2), passes=2)
    charged(accounts, EVERYTHING, LUNGS)
    accounts.admit(marks(7))
    assert accounts.epsilon(marks(1, 2), DELTA) == accounts.epsilon(EVERYTHING, DELTA) == 2.4
    assert accounts.epsilon(marks(7), DELTA) == 0.8, "records that come later may have been among them"


@pytest.mark.claim("DP-9")
def test_what_others_know_and_these_accounts_forgot_is_charged_to_all_records(additive: None) -> None:
    """Nobody can say of which records it was: least of all may a file that was not known then begin at nothing."""
    accounts = Accounts()
    charged(accounts, marks(1, 2))
    accounts.admit(marks(3, 4))
    found = accounts.learn(marks(3, 4), SETTINGS, HEART, "h", 2.4, FACTS)
    assert found is not None
    assert found.steps == 240
    accounts.admit(marks(5))
    assert [accounts.epsilon(marks(one), DELTA) for one in (1, 3, 5)] == [2.4, 2.4, 2.4]
    assert (accounts.studies[HEART].passes, accounts.reached(HEART, DELTA)) == (2, 2.4)


def test_what_a_study_may_have_told_never_sinks_with_other_records(additive: None) -> None:
    accounts = Accounts()
    charged(accounts, marks(1), passes=2)
    accounts.admit(marks(2))
    assert accounts.reach(HEART, DELTA, accounts.epsilon(marks(2), DELTA)) is False
    assert accounts.reached(HEART, DELTA) == 1.6


def test_only_the_last_charge_of_a_study_is_repeated() -> None:
    accounts = Accounts()
    charged(accounts, marks(1))
    charged(accounts, marks(1), LUNGS)
    assert accounts.charge_again(SETTINGS, HEART).number == 1
    with pytest.raises(PassNotCharged):
        accounts.charge_again(Privacy("record", 5.0, 1.0, 0.02, 80, DELTA, 3.0), HEART)
    with pytest.raises(PassNotCharged):
        accounts.charge_again(SETTINGS, bytes(32))


@pytest.mark.claim("DP-9")
def test_after_a_pass_without_noise_nothing_bounds_its_records_and_other_ones_go_on() -> None:
    accounts = Accounts()
    accounts.admit(marks(1, 2))
    plain = Privacy("record", 0.0, 1.0, 0.02, 80, DELTA, math.inf)
    accounts.charge(marks(1, 2), plain, LUNGS, "lungs", FACTS)
    accounts = Accounts.from_bytes(b"".join(accounts.to_bytes()))
    assert accounts.epsilon(marks(1, 2), DELTA) == math.inf
    assert accounts.studies[LUNGS].last["after"] == "inf"
    with pytest.raises(PassWouldOverspend):
        charged(accounts, marks(2, 3))
    charged(accounts, marks(3))


def test_histories_that_another_one_holds_are_not_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows by a few records from round to round is as fast as one that does not."""
    composed: list[History] = []

    def spy(history: History, delta: float) -> float:
        composed.append(history)
        return sum(one.steps for one in history) / 1000

    monkeypatch.setattr(privacy, "_epsilon", spy)
    accounts = Accounts()
    for size in range(1, 11):
        charged(accounts, marks(*range(size)))
    assert len(accounts.groups) == 10
    composed.clear()
    assert accounts.epsilon(marks(*range(10)), DELTA) == 0.8
    assert len(set(composed)) == 1


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_accounts_come_back_from_their_bytes(additive: None) -> None:
    accounts = Accounts()
    charged(accounts, marks(1, 2, 2**64 - 1))
    charged(accounts, marks(2, 3), LUNGS)
    data = b"".join(accounts.to_bytes())
    again = Accounts.from_bytes(data)
    assert b"".join(again.to_bytes()) == data
    assert again.studies == accounts.studies
    charged(again, marks(2))


@pytest.mark.claim("DP-5")
@pytest.mark.parametrize(
    "change",
    [lambda data: b"", lambda data: data[:-8], lambda data: data + bytes(8), lambda data: data[:-8] + data[-16:-8],
     lambda data: data.replace(b'"version":1', b'"version":2', 1), lambda data: data[:-16] + data[-8:] + data[-16:-8]],
    ids=["nothing", "a mark less", "a mark more", "a mark twice", "a later version", "marks out of order"],
)  # fmt: skip
def test_bytes_that_are_no_accounts_are_an_error_and_never_empty_accounts(change: object, additive: None) -> None:
    accounts = Accounts()
    charged(accounts, marks(1, 2))
    with pytest.raises(AccountUnreadable) as caught:
        Accounts.from_bytes(change(b"".join(accounts.to_bytes())))  # type: ignore[operator]
    assert caught.value.exit_status == 5

"""Who withdrew, as questions count them: no two exact answers differ by a group of few, whatever was asked between."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl.errors.questions import FewWithdrew, QuestionsLost, QuestionsSpent
from p2pfl.errors.statistics import NobodyShows
from p2pfl.home import Home
from p2pfl.node.runs.gone import GoneCounts, GoneRecords
from p2pfl.node.runs.question_counts import ITEM, AskedOf, read_counts
from p2pfl.node.runs.site_tables import AskedRecords
from p2pfl.node.runs.statistics import Inquiry
from p2pfl.node.withdrawals import read_withdrawn, withdraw
from p2pfl.statistics.describe import Describe, Histogram
from p2pfl.statistics.linear import Linear
from p2pfl.statistics.means import TTest
from p2pfl.statistics.quantiles import Quantiles
from p2pfl.statistics.question import OpenedSum, Statistic
from p2pfl.statistics.table_one import TableOne
from tests.home.home_fixtures import make
from tests.node.runs.test_statistics import AGE, SEX, csv, federation
from tests.statistics.test_promises import each, table

LEAST = 5
BINS = Histogram(AGE, (0.0, 50.0, 120.0))
TRIAL = Describe((SEX,))
# The first twenty are men and the next women; of p0 to p4 the first alone has an age, and p5 is the oldest man.
ROWS = [(f"{'' if 0 < n < 5 else 90 if n == 5 else 30 + n}", "male" if n < 20 else "female") for n in range(40)]
EVERY = range(len(ROWS))


def records_of(home: Home, question: Statistic, gone: Sequence[int] = (), rows: range = EVERY) -> AskedRecords:
    inquiry = Inquiry.of(question, federation(), os.urandom)
    data = csv("age,sex,ill\n" + "".join(f"{ROWS[n][0]},{ROWS[n][1]},{n}\n" for n in rows))
    withdraw(home, [inquiry.read(data, None, False).names[one] for one in gone], 1)
    return inquiry.read(data, None, False, read_withdrawn(home))


def asked_of(
    home: Home, question: Statistic, gone: Sequence[int], most: int = 99, counted: int = 0, rows: range = EVERY
) -> AskedOf:
    """It, over whoever of `rows` is left, where site logs say that so many were `counted`."""
    name, records = repr(question).encode(), records_of(home, question, gone, rows)
    asked = AskedOf.of(home, name, question, records.counted, records.read, most, "peers.yaml")
    return replace(asked, counted=counted).without(records.gone, LEAST)


def ask(
    home: Home, question: Statistic, *gone: int, most: int = 99, counted: int = 0, rows: range = EVERY
) -> GoneCounts:
    """Count it. Raises as `AskedOf.count`."""
    return asked_of(home, question, gone, most, counted, rows).count()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with make(tmp_path) as made:
        yield made


@pytest.mark.claim("HOME-15")
def test_a_question_of_one_column_forgets_nobody_in_another(home: Home) -> None:
    """Of five who went one had an age. Asked of all five by their sex, hers was the difference of two sums of ages."""
    five = (0, 1, 2, 3, 4)
    ask(home, Describe((AGE,)))
    for _ in range(2):
        with pytest.raises(FewWithdrew):
            ask(home, Describe((AGE,)), *five)
        ask(home, Describe((SEX,)))


@pytest.mark.claim("HOME-15")
@pytest.mark.parametrize(
    "question",
    [TTest(AGE, SEX), TableOne(SEX, (AGE,)), Linear(AGE, (SEX,)), Describe((SEX,)), Describe((AGE, SEX))],
    ids=lambda one: one.kind,
)
def test_of_five_who_went_one_of_a_level_is_not_told(home: Home, question: Statistic) -> None:
    ask(home, question)
    with pytest.raises(FewWithdrew):
        ask(home, question, 6, 7, 8, 9, 25)
    for _ in range(2):  # once four more women went, five men have not
        with pytest.raises(FewWithdrew):
            ask(home, question, 26, 27, 28, 29)
    ask(home, question, 10)


@pytest.mark.claim("HOME-15")
def test_who_went_is_counted_by_the_bins_that_are_asked(home: Home) -> None:
    ask(home, BINS)
    with pytest.raises(FewWithdrew):
        ask(home, BINS, 5, 6, 7, 8, 9)  # of whom one is older than fifty
    ask(home, Describe((AGE,)))  # their ages together are five people's
    with pytest.raises(FewWithdrew):
        ask(home, BINS)  # another question of the column in between makes no group larger
    ask(home, BINS, *range(10, 15), *range(30, 35))


@pytest.mark.claim("HOME-15")
def test_levels_that_nobody_was_told_of_are_no_difference(home: Home) -> None:
    ask(home, Describe((AGE,)))
    ask(home, Describe((SEX,)), 6, 7, 8, 9, 25)
    ask(home, TTest(AGE, SEX))


@pytest.mark.claim("HOME-15")
def test_an_answer_of_before_is_compared_with_though_a_later_one_was_given(home: Home) -> None:
    """Of ten who went in two fives each answer holds another five, and the third who goes stands alone to the last."""
    ask(home, Describe((AGE,)))
    ask(home, Describe((AGE,)), 6, 7, 8, 9, 10)
    with pytest.raises(FewWithdrew):
        ask(home, Describe((AGE,)), 11)
    ask(home, Describe((AGE,)), 12, 13, 14, 15)


@pytest.mark.claim("HOME-15")
def test_who_came_later_and_went_hides_nobody_of_an_answer_before(home: Home) -> None:
    """Of eleven who go ten came between two answers. The eleventh alone is in the first, and stood with them before."""
    old = range(30)
    ask(home, Describe((AGE,)), rows=old)
    ask(home, Describe((AGE,)))
    with pytest.raises(FewWithdrew):
        ask(home, Describe((AGE,)), 13, *range(30, 40))
    ask(home, Describe((AGE,)), 14, 15, 16, 17)


def test_nobody_who_went_is_in_no_answer_whatever_the_columns(home: Home) -> None:
    """As with noise, where those who went are not looked at."""
    for question in (Describe((AGE, SEX)), TTest(AGE, SEX)):
        asked_of(home, question, ()).without(GoneRecords(), LEAST).count()


def test_the_same_columns_of_the_same_records_are_kept_once(home: Home) -> None:
    for cut in (50.0, 60.0, 70.0):
        ask(home, Histogram(AGE, (0.0, cut, 120.0)))
    ask(home, Describe((SEX,)))
    counts = read_counts(home)
    assert (counts.most, counts.number, counts.read) == (4, 4, {1: ("age",), 4: ("sex",)})


@pytest.mark.claim("HOME-15")
def test_a_group_that_is_counted_on_the_way_is_refused_there(home: Home) -> None:
    """The halves in which a quantile is sought are not known before: of those who went one lies in the last."""
    question = Quantiles(AGE, (0.9,), 6)
    ask(home, question)
    gone = ask(home, question, 6, 7, 8, 9, 39)
    steps = question.steps(records_of(home, question).table)
    found, asked = list[bool](), next(steps)
    while not found or not found[-1]:
        found.append(gone.few() is not None)
        opened = OpenedSum(asked.values, 1)
        gone.follow(opened)
        asked = steps.send(opened)
    assert len(found) > 1 and not found[0]


@each
def test_two_answers_differ_in_each_count_by_what_those_who_went_add_to_it(question: Statistic) -> None:
    """Which is what is looked at, in every kind of question and at each of its sums."""
    went = np.arange(0, 400, 9)
    names = tuple(str(row).encode() for row in went)
    before, left, gone = (
        replace(
            table(), columns={name: values[rows] for name, values in table().columns.items()}, shows_own=True, least=0
        )
        for rows in (np.arange(400), np.setdiff1d(np.arange(400), went), went)
    )
    running, seen = [question.steps(one) for one in (before, left, gone)], 0
    counts = GoneCounts(question, [GoneRecords(gone, names, names)], 0)
    asks = [next(one) for one in running]
    with suppress(StopIteration, NobodyShows):  # of one site, that is
        while True:
            many, fewer, those = (one.values[one.people].tolist() for one in asks)
            assert those == [one - other for one, other in zip(many, fewer, strict=True)]
            assert np.array_equal(counts.asks[0].values, asks[2].values)
            seen += len(those)
            opened = OpenedSum(asks[1].values, 1)
            asks = [one.send(opened) for one in running]
            counts.follow(opened)
    assert seen


# ── what was asked is lost ────────────────────────────────────────────────────────────────────────────────────


def test_a_question_over_nobody_leaves_counts_that_can_be_read(home: Home) -> None:
    """All have withdrawn: the other sites' answer is still one."""
    ask(home, Describe((AGE,)), *EVERY)
    ask(home, TRIAL, *EVERY)
    assert read_counts(home).number == 2


@pytest.mark.claim("HOME-15")
def test_counts_that_are_gone_or_older_tell_of_nobody_who_withdrew(home: Home) -> None:
    """They were taken for none: the next answer differed from that of before by the one patient who had gone."""
    ask(home, Describe((SEX,)))
    older = home.place(ITEM).read_bytes()
    ask(home, Describe((AGE,)))
    for found in (None, older):
        home.place(ITEM).unlink(missing_ok=True)
        if found is not None:
            home.place(ITEM).write_bytes(found)
        with pytest.raises(QuestionsLost, match="no longer knows"):
            ask(home, Describe((AGE,)), 6, counted=2)


@pytest.mark.claim("STAT-5")
def test_what_was_asked_and_is_lost_counts_for_every_record(home: Home) -> None:
    ask(home, Describe((AGE,)))
    ask(home, Describe((SEX,)))
    home.place(ITEM).unlink()
    ask(home, BINS, counted=2, most=3)
    assert (read_counts(home).most, read_counts(home).number) == (3, 3)
    with pytest.raises(QuestionsSpent, match="3 times"):
        ask(home, TRIAL, counted=3, most=3)
    with pytest.raises(FewWithdrew):  # what was lost may have read any column
        ask(home, TRIAL, 6, counted=3)
    ask(home, TRIAL, 7, 8, 9, 10, counted=3)


def test_counts_that_cannot_be_read_are_told_with_what_to_do(home: Home) -> None:
    ask(home, Describe((AGE,)))
    sealed = home.place(ITEM).read_bytes()
    home.place(ITEM).write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(QuestionsLost) as caught:
        ask(home, Describe((AGE,)))
    assert "put back the newest one" in caught.value.render()

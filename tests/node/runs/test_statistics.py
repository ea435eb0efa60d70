"""What a part of a question tells, the lock on its data, the budget of questions, and a question as a file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.federation import WrongValue
from p2pfl.errors.questions import (
    FewWithdrew,
    GroupTooSmall,
    PatientsUntold,
    QuestionNotApproved,
    QuestionsSpent,
    QuestionUnfit,
    WithdrawnUnknown,
)
from p2pfl.errors.round import AnotherCohort, TooFewContribute
from p2pfl.federation import Federation, draft
from p2pfl.federation.table_schema import TableSchema
from p2pfl.home import Home
from p2pfl.keys import Secret
from p2pfl.node import question_file, questions
from p2pfl.node.runs.cohort import Cohort
from p2pfl.node.runs.patients import PatientCounts
from p2pfl.node.runs.question_counts import AskedOf, QuestionCounts, read_counts
from p2pfl.node.runs.site_tables import read_records
from p2pfl.node.runs.statistics import Inquiry, Part
from p2pfl.node.runs.sums import Asked, SumRun, encode, flags, salt
from p2pfl.node.withdrawals import read_withdrawn, withdraw
from p2pfl.peer.epoch import sums_run
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.statistics.describe import Describe, Histogram
from p2pfl.statistics.glm import Logistic
from p2pfl.statistics.linear import Linear
from p2pfl.statistics.quantiles import Quantiles
from p2pfl.statistics.question import Factor, OpenedSum, Quantity
from p2pfl.statistics.table_one import TableOne
from p2pfl.training.privacy.accounts import marks_of
from p2pfl.training.records.column_map import MapFile
from p2pfl.training.records.given_table import GivenTable
from p2pfl.training.records.withdrawn import Withdrawn, patient_name
from tests.federation.sample import ASKED, CARDS, IDENTITIES, NAMES, TABLE, peers_yaml
from tests.home.home_fixtures import make
from tests.node.runs.homes import Place, attempt_digest
from tests.node.runs.test_sum_run import FEWER, FOUR, answers, asks_of

AGE, SEX = Quantity("age", 0.0, 120.0), Factor("sex", ("female", "male"))
COLUMN: dict[str, Quantity | Factor] = {"age": AGE, "sex": SEX}
FIELD = FIELDS[61]
CSV = "age,sex,ill\n61,male,no\n,female,no\n48,female,yes\n"


def federation(*settings: str) -> Federation:
    return Federation.parse(peers_yaml(*settings))


def csv(text: str = CSV) -> GivenTable:
    return GivenTable(text.encode())


# ── flags ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("STAT-4")
def test_a_sum_of_flags_tells_whether_any_was_raised_and_nothing_of_how_many() -> None:
    raised = [np.array([False, True, True, False]), np.array([False, False, True, False])]
    sites = [flags(one, os.urandom) for one in raised]
    total = FIELD.sum([one.vector.words for one in sites])
    assert np.asarray(sites[0].reading.read(total)).tolist() == [False, True, True, False]
    # One who raises it makes the sum uniform: its top bits come out alike, whether one site did or two.
    many = 4096
    one = flags(np.ones(many, bool), os.urandom).vector.words
    two = FIELD.sum([one, flags(np.ones(many, bool), os.urandom).vector.words])
    for words in (one, two):
        counted = np.bincount((words >> np.uint64(58)).astype(np.int64), minlength=8)
        assert counted.size == 8 and abs(counted - many / 8).max() < 7 * np.sqrt(many / 8)


# ── one set of sites ──────────────────────────────────────────────────────────────────────────────────────────


def part_of(place: Place, values: list[int], only: tuple[str, ...], marks: tuple[bytes, ...] = ()) -> SumRun:
    encoded = encode(np.array(values), peers=4, bits=61, limit=100, decimals=None, draw=os.urandom)
    asked = Asked("describe of age", marks, 3, only, of={"statistic": {"part": "sum 1"}})
    return SumRun(asked, [encoded], place.logs(), sums_run(place.federation), salt(os.urandom), lambda answer: None)


@pytest.mark.claim("STAT-3")
def test_a_part_over_other_sites_than_the_first_is_void_and_binds_nothing(place: Place) -> None:
    run = part_of(place, [7, 9], FOUR, (bytes(32),))
    sent = answers(run, FEWER)
    assert sent[0].words.tolist() == [0, 0] and sent[1].words.any()  # the salt alone
    done = e.Apply(1, 0, attempt_digest(1), (b"",) * 3, FEWER, sent, codec.facts(run.question))
    run.apply(done)
    assert run.answer is not None and run.answer.totals == () and run.answer.survivors == FEWER
    answers(part_of(place, [7, 9], FEWER, (bytes(32),)), FEWER, number=2)  # begun anew over these


@pytest.mark.claim("STAT-3")
def test_a_site_that_is_counted_no_more_voids_no_part_and_binds_no_other_set(place: Place) -> None:
    """What is bound are the sites whose data are in the sum: over all four they would be another set."""
    of, fourth = {"statistic": {"part": "sum 1"}}, FOUR[3]
    encoded = encode(np.array([7, 9]), peers=4, bits=61, limit=100, decimals=None, draw=os.urandom)

    def part(only: tuple[str, ...], *aside: str) -> SumRun:
        asked = Asked("describe of age", (bytes(32),), 3, only, of=of, aside=aside)
        drawn = salt(os.urandom)
        return SumRun(asked, [encoded], place.logs(), sums_run(place.federation), drawn, lambda answer: None)

    run = part(FEWER, fourth)
    sent = answers(run, FOUR)
    assert sent[0].words.tolist() == [7, 9]
    run.apply(e.Apply(1, 0, attempt_digest(1), (b"",) * 4, FOUR, sent, codec.facts(run.question)))
    assert run.answer is not None and run.answer.survivors == FEWER and run.answer.totals
    answers(part(FEWER), FEWER, number=2)
    with pytest.raises(AnotherCohort):
        answers(part(FOUR), FOUR, number=3)
    assert not answers(part(FOUR[1:], FOUR[0]), FOUR, number=4)[0].words.any(), "this site is not counted"


def test_were_a_part_not_void_two_parts_of_a_question_would_tell_one_sites_value(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each site answers as this one does, over whichever sites there are: the sums differ by what the fourth put in."""
    monkeypatch.setattr(SumRun, "_is_void", lambda run, sites: False)
    counts = dict(zip(FOUR, (41, 12, 33, 7), strict=True))
    totals = []
    for number, members in enumerate((FOUR, FEWER), start=1):
        runs = {name: part_of(place, [counts[name]], ()) for name in members}
        words = [answers(run, members, number)[0].words for run in runs.values()]
        totals.append(int(np.asarray(runs[FOUR[0]].parts[0].reading.read(FIELD.sum(words)))[0]))
    assert totals[0] - totals[1] == counts["ucl"]


@pytest.mark.claim("STAT-3", "SUM-14")
def test_all_questions_of_a_table_and_sums_of_its_columns_are_over_one_set_of_sites(place: Place) -> None:
    """Another column of the same records is bound with them; a sum of the column alone has its mark too."""
    agreed, logs, key = federation(), place.logs(), place.home.query_key().reveal()
    run = sums_run(place.federation)

    def marks(statistic: Any, text: str = CSV) -> tuple[bytes, ...]:
        inquiry = Inquiry.of(statistic, agreed, os.urandom)
        records = inquiry.read(csv(text), None, False)
        return inquiry.marks(key, records, marks_of(place.home.records_key(), records.counted))

    where = e.Quantise(1, 0, attempt_digest(1), FOUR, (b"",) * 4)
    Cohort(logs, run, "describe of age", marks(Describe((AGE,)))).bind(where, where.survivors)
    for other in (
        marks(Describe((SEX,))),  # another column
        marks(Describe((AGE,)), "age,sex,ill\n61,male,yes\n48,male,no\n"),  # the column is the same, in other records
        marks(Histogram(AGE, (0.0, 60.0, 120.0))),
    ):
        Cohort(logs, run, "again", other).check(FOUR)
        with pytest.raises(AnotherCohort):
            Cohort(logs, run, "again", other).check(FEWER)
    with pytest.raises(AnotherCohort):
        answers(asks_of(place, [48.0, 61.0], mark=key, decimals=2), FEWER, number=2)  # as `p2pfl sum --csv` does
    Cohort(logs, run, "new", marks(Describe((AGE,)), "age,sex,ill\n50,male,yes\n")).check(FEWER)


@pytest.mark.claim("STAT-3")
def test_a_column_without_values_notes_as_many_marks_and_binds_nothing(place: Place) -> None:
    """Each mark is an entry of the site log, and every peer is told how long that is."""
    key = place.home.query_key().reveal()
    inquiry = Inquiry.of(Describe((AGE, SEX)), federation(), os.urandom)
    found = []
    for text in (CSV, "age,sex,ill\n61,,no\n48,,yes\n", "age,sex,ill\n61,,no\n48,,yes\n"):
        records = inquiry.read(csv(text), None, False)
        found.append(inquiry.marks(key, records, marks_of(place.home.records_key(), records.counted)))
    assert [len(set(marks)) for marks in found] == [3] * 3
    (records_once, age_once, sex_once), (records_again, age_again, sex_again) = found[1:3]
    assert (records_once, age_once) == (records_again, age_again)
    assert sex_once != sex_again


def test_sites_that_ask_about_other_columns_or_in_other_steps_do_not_ask_the_same() -> None:
    agreed = federation()
    asked = [Describe((AGE,)), Describe((AGE, SEX)), Describe((AGE,), bins=4)]
    told = []
    for statistic in asked:
        inquiry = Inquiry.of(statistic, agreed, os.urandom)
        told.append(codec.facts(dict(inquiry.roll_call(inquiry.read(csv(), None, False), False).of)))
    assert len(set(told)) == 3


def test_a_roll_call_says_which_columns_this_site_has_and_of_which_enough() -> None:
    inquiry = Inquiry.of(Describe((AGE, SEX)), federation("minimum.records=3"), os.urandom)
    part = inquiry.roll_call(inquiry.read(csv(), None, False), True)
    has, raised = (np.asarray(one.reading.read(one.vector.words)) for one in part.parts)
    assert has.tolist() == [1, 1]
    assert raised.tolist() == [True, False, True, False]  # it refuses; two ages are too few, three sexes are not


# ── people, and not records; sites, and not columns ───────────────────────────────────────────────────────────


def federation_of_patients() -> Federation:
    lines = draft.description_lines(TABLE + b"patient: who\n", "task.yaml")
    return Federation.parse(draft.peers_file("trial", [card.member for card in CARDS], lines, ()))


FIVE_VISITS = "".join(f"p1,{60 + visit},male,yes\n" for visit in range(5))
OTHERS = "".join(f"q{row},{40 + row},female,no\n" for row in range(8))
PEOPLE = "who,age,sex,ill\n" + OTHERS
VISITS = PEOPLE + FIVE_VISITS
TABLE_ONE = TableOne(SEX, (AGE,))


def raised(part: Part) -> list[bool]:
    """Which flags of a guard this site raises."""
    return (np.asarray(part.parts[0].vector.words) != 0).tolist()


def enough(text: str) -> dict[str, bool]:
    """Of each count of the first sum of a table by sex: this site alone has enough for it."""
    inquiry = Inquiry.of(TABLE_ONE, federation_of_patients(), os.urandom)
    table = inquiry.read(csv(text), None, False).at(0, 3)
    ask = next(TABLE_ONE.steps(table))
    counts = PatientCounts(TABLE_ONE, table).of(ask)
    return dict(zip(ask.labels, raised(inquiry.guard(1, ask, (), counts))[:-1], strict=True))


@pytest.mark.claim("STAT-2")
def test_one_patient_with_five_records_is_no_group_of_five() -> None:
    visits = enough(VISITS)
    assert not visits["age known: male"] and not visits["groups male"]
    assert visits["age known: female"] and visits["groups female"]
    five = enough(PEOPLE + "".join(f"p{row},{60 + row},male,yes\n" * 3 for row in range(5)))
    assert five["age known: male"]


def test_were_records_counted_for_people_five_of_one_patient_would_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientCounts, "of", lambda self, ask: ask.values)
    assert enough(VISITS)["age known: male"]


def test_a_file_that_does_not_say_whose_its_records_are_is_asked_of_nothing() -> None:
    inquiry = Inquiry.of(Describe((AGE,)), federation_of_patients(), os.urandom)
    with pytest.raises(PatientsUntold, match="who"):
        inquiry.read(csv(), None, False)


def test_patients_are_counted_in_step_with_every_sum_of_a_question() -> None:
    """A bisection: each of its sums is guarded by patients, the later ones too."""
    question = Quantiles(AGE, (0.5,), 3)
    inquiry = Inquiry.of(question, federation_of_patients(), os.urandom)
    table = inquiry.read(csv(VISITS), None, False).at(0, 3)
    steps, patients = question.steps(table), PatientCounts(question, table)
    ask, told = next(steps), []
    for _ in range(3):
        told.append((ask.values.tolist(), patients.of(ask).tolist()))
        ask = steps.send(opened := OpenedSum(ask.values, 1))
        patients.follow(opened)
    assert told[1:] == [([9, 4], [9, 1]), ([0, 9], [0, 9])]


def sites_of(*texts: str) -> tuple[Inquiry, Any]:
    """A regression of age by sex, and how many of these sites have what it sums."""
    inquiry = Inquiry.of(Linear(AGE, (SEX,)), federation(), os.urandom)
    parts = [inquiry.roll_call(inquiry.read(csv("age,sex,ill\n" + one), None, False), False).parts[0] for one in texts]
    total = FIELD.sum([one.vector.words for one in parts])
    return inquiry, np.asarray(parts[0].reading.read(total))


ALL_CELLS, AGES_ALONE, SEXES_ALONE = "61,male,no\n" * 6, "61,,no\n" * 6, ",male,no\n" * 6


@pytest.mark.claim("STAT-11")
def test_a_statistic_of_complete_records_is_of_as_many_sites_as_have_some() -> None:
    """Three sites have ages, three have sexes, and one has both: its own regression is no sum."""
    inquiry, sites = sites_of(ALL_CELLS, AGES_ALONE, AGES_ALONE, SEXES_ALONE, SEXES_ALONE)
    assert sites.tolist() == [3, 3, 1]
    with pytest.raises(TooFewContribute, match="age with sex"):
        inquiry.read_roll_call(sites, np.array([False, True, True, False]))
    inquiry, sites = sites_of(ALL_CELLS, ALL_CELLS, ALL_CELLS)
    inquiry.read_roll_call(sites, np.array([False, True, True, False]))


def test_were_sites_counted_by_column_alone_the_regression_of_one_would_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Linear, "together", ())
    inquiry, sites = sites_of(ALL_CELLS, AGES_ALONE, AGES_ALONE, SEXES_ALONE, SEXES_ALONE)
    inquiry.read_roll_call(sites, np.array([False, True, True, False]))


@pytest.mark.claim("STAT-10")
def test_a_level_beside_a_number_is_guarded_by_twice_the_smallest_group() -> None:
    question = Logistic(Factor("ill", ("no", "yes")), ("yes",), (AGE, SEX))
    inquiry = Inquiry.of(question, federation(), os.urandom)
    rows = "".join(f"{40 + row},{'male' if row < 9 else 'female'},{'yes' if row % 2 else 'no'}\n" for row in range(30))
    ask = next(question.steps(inquiry.read(csv("age,sex,ill\n" + rows), None, False).at(0, 3)))
    *flags_raised, refuses = raised(inquiry.guard(1, ask, ()))
    assert not refuses and raised(inquiry.guard(1, ask, (), refuses=True))[-1]
    found = dict(zip(ask.labels, flags_raised, strict=True))
    assert found["sex female"] and found["ill with"] and not found["sex male"]
    with pytest.raises(GroupTooSmall, match="fewer than 10") as caught:
        inquiry.refuse_small(ask, np.array(flags_raised))
    assert "sex male (10)" in caught.value.evidence


def test_columns_that_nobody_asks_may_be_blank_wrong_or_if_none_is_learned_away() -> None:
    read = read_records(ASKING, ["age"], csv("age,sex,ill\n61,unheard-of,no\n,male,\n"))
    assert read.table.columns["age"].tolist()[:1] == [61.0] and read.table.records == 2
    assert len(set(read.names)) == 2
    assert read.names == read_records(ASKING, ["age"], csv("sex,ill,age\nunheard-of,no,61\nmale,,\n")).names


def federation_asking() -> Federation:
    lines = draft.description_lines(TABLE + ASKED, "task.yaml")
    return Federation.parse(draft.peers_file("trial", [card.member for card in CARDS], lines, ()))


ASKING = TableSchema.parse(TABLE + ASKED, "task.yaml")
FOLLOWED = "age,sex,ill,months,died\n61,male,no,12,alive\n48,female,yes,9,dead\n"
LATER = FOLLOWED.replace("12,alive", "18,dead")


@pytest.mark.claim("STAT-5")
def test_a_longer_follow_up_makes_no_new_record_of_one_that_was_asked_about() -> None:
    first, later = (read_records(ASKING, ["months", "died"], csv(text)) for text in (FOLLOWED, LATER))
    assert first.counted == later.counted
    assert first.table.columns["months"].tolist() == [12.0, 9.0]
    assert (later.table.columns["months"].tolist(), later.table.levels["died"]) == ([18.0, 9.0], ("alive", "dead"))


@pytest.mark.claim("HOME-15")
def test_whoever_withdrew_is_in_no_answer_about_what_is_only_asked() -> None:
    key = Secret(bytes(32), "a home's")
    gone = Withdrawn(key, marks_of(key, read_records(ASKING, (), csv(FOLLOWED)).names[:1]))
    for text in (FOLLOWED, LATER):
        read = read_records(ASKING, ["months", "died"], csv(text), withdrawn=gone)
        assert (read.table.columns["months"].tolist(), read.table.columns["died"].tolist()) == ([9.0], [1.0])


@pytest.mark.claim("HOME-15")
def test_a_file_that_cannot_say_who_withdrew_is_asked_of_nothing_before_somebody_has() -> None:
    """Of fewer columns a record has another name: whoever withdrew would be back. The first one silenced a site."""
    key, short = Secret(bytes(32), "a home's"), "months,died\n12,alive\n9,dead\n"
    nobody = Withdrawn(key)
    gone = nobody.more(marks_of(key, read_records(ASKING, (), csv(FOLLOWED)).names[:1]))
    for withdrawn in (nobody, gone):
        with pytest.raises(WithdrawnUnknown, match="lacks age, ill, sex"):
            read_records(ASKING, ["months"], csv(short), withdrawn=withdrawn)
    absent = MapFile.of(b"absent: [age, sex, ill]\n", "columns.yaml")  # there, no file ever had them
    assert read_records(ASKING, ["months"], csv(short), absent, withdrawn=gone).table.records == 2
    named = replace(ASKING, patient="who")  # and where a column says whose a record is, that is enough
    whose = nobody.more(marks_of(key, [patient_name(b"a")]))
    text = "who,months\na,12\nb,9\n"
    assert read_records(named, ["months"], csv(text), withdrawn=whose).table.columns["months"].tolist() == [9.0]


def test_which_of_a_patients_records_counts_is_chosen_by_no_line() -> None:
    schema = TableSchema.parse(TABLE + b"patient: who\n" + ASKED, "task.yaml")
    rows = ["61,male,no,12,alive,a", "61,male,no,18,dead,a"]
    found = []
    for order in (rows, rows[::-1]):
        text = "\n".join(["age,sex,ill,months,died,who", *order, ""])
        found.append(read_records(schema, ["months"], csv(text), noised=True, one_each=True).table.columns["months"])
    assert found[0].size == 1 and found[0].tolist() == found[1].tolist()


# ── how many questions ────────────────────────────────────────────────────────────────────────────────────────


def records(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


def times_of(home: Home) -> list[int]:
    """How many questions were asked about each record."""
    held = read_counts(home)
    return [held.groups[place].times for place in held.places.tolist()]


def budget_of(home: Home, question: bytes, named: list[bytes]) -> AskedOf:
    return AskedOf.of(home, question, Describe((AGE,)), named, named, 3, "peers.yaml")


@pytest.mark.claim("STAT-5")
def test_questions_are_counted_by_record_so_that_a_longer_file_is_not_a_new_one(tmp_path: Path) -> None:
    with make(tmp_path, "ada") as home:
        for number in range(3):
            budget_of(home, bytes([number]), records("a", "b")).count()
        with pytest.raises(QuestionsSpent, match="3 times"):
            budget_of(home, b"new", records("c", "b", "d")).count()
        budget_of(home, b"new", records("c", "d")).count()  # none of those that were asked about
        budget_of(home, bytes([1]), records("b", "a")).count()  # the same again, in another order
        assert sorted(times_of(home)) == [1, 1, 3, 3]
        with pytest.raises(QuestionsSpent):
            budget_of(home, bytes([1]), records("b")).check()  # a part of them is another question


@pytest.mark.claim("STAT-5")
def test_the_same_question_is_asked_anew_where_a_cell_that_it_reads_has_changed(tmp_path: Path) -> None:
    """By what is learned they are the same records, and the answer is another one: two answers tell of a cell."""
    twin = FOLLOWED + "61,male,no,30,alive\n"  # alike in what is learned, and a record more

    def ask(home: Home, text: str, *wanted: str) -> None:
        found = read_records(ASKING, wanted, csv(text))
        AskedOf.of(home, b"a question", Describe((AGE,)), found.counted, found.read, 3, "peers.yaml").count()

    with make(tmp_path) as home:
        for text in (FOLLOWED, FOLLOWED, LATER):
            ask(home, text, "months", "died")
        assert times_of(home) == [2, 2]
        ask(home, twin, "months", "died")
        assert times_of(home) == [3, 3]
        with pytest.raises(QuestionsSpent):
            ask(home, twin.replace("30", "31"), "months", "died")
        ask(home, LATER, "months", "died")  # as it was
    (tmp_path / "other").mkdir()
    with make(tmp_path / "other") as home:
        for text in (FOLLOWED, LATER):
            ask(home, text, "age")  # which nothing has changed of
        assert times_of(home) == [1, 1]


@pytest.mark.claim("STAT-3")
@pytest.mark.parametrize("column", ["months", "died"])
def test_what_is_only_asked_is_summed_over_one_set_of_sites(place: Place, column: str) -> None:
    """Neither a longer follow-up nor another cohort with the same cells in that column makes other data of them."""
    agreed = federation_asking()
    logs, key = place.logs(), place.home.query_key().reveal()
    run, where = sums_run(place.federation), e.Quantise(1, 0, attempt_digest(1), FOUR, (b"",) * 4)
    months, died = Quantity("months", 0.0, 240.0), Factor("died", ("alive", "dead"))

    def marks(statistic: Describe, text: str) -> tuple[bytes, ...]:
        inquiry = Inquiry.of(statistic, agreed, os.urandom)
        found = inquiry.read(csv(text), None, False)
        return inquiry.marks(key, found, marks_of(place.home.records_key(), found.counted))

    asked = Describe((months if column == "months" else died,))
    Cohort(logs, run, "first", marks(asked, FOLLOWED)).bind(where, where.survivors)
    others = {
        "a longer follow-up": marks(asked, LATER),
        "a column that is learned, of the same records": marks(Describe((AGE,)), LATER),
        "the other column": marks(Describe((months, died)), LATER),
        "the same cells of others": marks(asked, FOLLOWED.replace("61,male", "62,male").replace("48", "49")),
    }
    for name, found in others.items():
        Cohort(logs, run, name, found).check(FOUR)
        with pytest.raises(AnotherCohort):
            Cohort(logs, run, name, found).check(FEWER)


AGES = tuple(40 + 3 * row for row in range(20))


def asked_of(home: Home, gone: int) -> int:
    """The sum of all ages, after so many have withdrawn; counted as a question. Raises FewWithdrew."""
    table = csv("age,sex,ill\n" + "".join(f"{age},male,no\n" for age in AGES))
    inquiry = Inquiry.of(Describe((AGE,)), federation(), os.urandom)
    every = inquiry.read(table, None, False)
    withdraw(home, every.names[:gone], 1)
    records = inquiry.read(table, None, False, read_withdrawn(home))
    asked = inquiry.statistic, records.counted, records.read
    budget = AskedOf.of(home, inquiry.name, *asked, 9, "peers.yaml").without(records.gone, 5)
    budget.check()
    budget.count()
    return int(records.table.columns["age"].sum())


def test_were_they_not_counted_two_answers_would_tell_what_the_one_who_went_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AskedOf, "_answers", lambda self, counts: [])
    with make(tmp_path) as home:
        assert asked_of(home, 0) - asked_of(home, 1) == AGES[0]


@pytest.mark.claim("HOME-15")
def test_two_answers_differ_by_no_fewer_who_withdrew_than_the_smallest_group(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        asked_of(home, 0)
        for gone in (1, 4):
            with pytest.raises(FewWithdrew):
                asked_of(home, gone)
        asked_of(home, 5)
        for gone in (6, 9):  # compared with the answer without the first five
            with pytest.raises(FewWithdrew):
                asked_of(home, gone)
        asked_of(home, 10)
    (tmp_path / "new").mkdir()
    with make(tmp_path / "new") as home:
        asked_of(home, 1)  # nothing was asked about whoever went


@pytest.mark.claim("HOME-15")
def test_who_has_the_same_cells_as_somebody_who_withdrew_is_not_taken_for_them(tmp_path: Path) -> None:
    """Of five pairs with equal cells one of each went. The next who goes is one, not the sixth beside who stayed."""
    schema = federation().task.table
    assert schema is not None
    schema = replace(schema, patient="who")
    rows = "".join(f"p{row},{40 + row // 2},male,no\n" for row in range(20))

    def ask(home: Home, question: bytes, *patients: int) -> None:
        withdraw(home, [patient_name(f"p{row}".encode()) for row in patients], 1)
        table = csv("who,age,sex,ill\n" + rows)
        records = read_records(schema, ["age"], table, withdrawn=read_withdrawn(home))
        asked = Describe((AGE,)), records.counted, records.read
        AskedOf.of(home, question, *asked, 9, "peers.yaml").without(records.gone, 5).count()

    with make(tmp_path) as home:
        ask(home, b"first")
        ask(home, b"second", 0, 2, 4, 6, 8)
        ask(home, b"third")
        with pytest.raises(FewWithdrew):
            ask(home, b"fourth", 10)


def gone_from(home: Home, question: bytes, wanted: tuple[str, ...], rows: str, *patients: int) -> None:
    """Ask of `rows` without those patients, whose names are p0, p1 and so on. Raises FewWithdrew."""
    schema = federation_of_patients().task.table
    assert schema is not None
    withdraw(home, [patient_name(f"p{row}".encode()) for row in patients], 1)
    records = read_records(schema, wanted, csv("who,age,sex,ill\n" + rows), withdrawn=read_withdrawn(home))
    asked = Describe(tuple(COLUMN[name] for name in wanted)), records.counted, records.read
    AskedOf.of(home, question, *asked, 9, "peers.yaml").without(records.gone, 5).count()


@pytest.mark.claim("HOME-15")
def test_one_patient_with_five_records_who_went_is_one_and_not_five(tmp_path: Path) -> None:
    rows = "".join(f"p{row},{40 + row + visit},male,no\n" for row in range(12) for visit in range(5))
    with make(tmp_path) as home:
        gone_from(home, b"first", ("age",), rows)
        with pytest.raises(FewWithdrew):
            gone_from(home, b"second", ("age",), rows, 0)
        gone_from(home, b"third", ("age",), rows, 0, 1, 2, 3, 4)


@pytest.mark.claim("HOME-15")
def test_who_went_is_counted_by_each_column_that_is_asked(tmp_path: Path) -> None:
    """Of five who went one had an age: two sums of ages would differ by hers."""
    rows = "".join(f"p{row},{'' if 0 < row < 5 else 40 + row},male,no\n" for row in range(20))
    with make(tmp_path) as home:
        gone_from(home, b"first", ("age", "sex"), rows)
        gone_from(home, b"second", ("sex",), rows, 0, 1, 2, 3, 4)
    (tmp_path / "other").mkdir()
    with make(tmp_path / "other") as home:
        gone_from(home, b"first", ("age", "sex"), rows)
        with pytest.raises(FewWithdrew):
            gone_from(home, b"second", ("age", "sex"), rows, 0, 1, 2, 3, 4)


@pytest.mark.claim("STAT-5")
def test_a_question_of_which_a_group_was_too_small_counts_three_times_and_once_so(tmp_path: Path) -> None:
    with make(tmp_path, "ada") as home:
        asked = budget_of(home, bytes(1), records("a", "b"))
        for _ in range(2):
            asked.count()
            asked.count_refused()
        assert times_of(home) == [3, 3]
        with pytest.raises(QuestionsSpent, match="3 times"):
            budget_of(home, b"new", records("a")).check()


def test_counts_are_read_back_as_they_were_and_nothing_else_is() -> None:
    counts = QuestionCounts()
    counts.add(bytes(16), marks_of(Secret(bytes(32)), records("a", "b")), ("age",))
    data = b"".join(counts.to_bytes())
    read = QuestionCounts.from_bytes(data)
    assert b"".join(read.to_bytes()) == data
    for wrong in (
        data[:-1],
        data + b"\0",
        b"",
        data[:-24] + data[-16:-8] + data[-24:-16] + data[-8:],
        data[:-1] + b"\1",
    ):
        with pytest.raises(codec.Malformed):
            QuestionCounts.from_bytes(wrong)


# ── a question as people have it ──────────────────────────────────────────────────────────────────────────────


def proposed(statistic: Any = None) -> tuple[bytes, Federation]:
    agreed = federation()
    told = question_file.text_of(statistic or Histogram(AGE, (0.0, 60.5, 120.0)), agreed)
    return question_file.to_bytes(told, agreed, NAMES[0], IDENTITIES[0]), agreed


def test_a_question_is_written_signed_and_read_back() -> None:
    raw, agreed = proposed()
    found = question_file.parse(raw, "question.yaml", agreed)
    assert found.statistic == Histogram(AGE, (0.0, 60.5, 120.0)) and found.by == NAMES[0]
    assert question_file.called(found.told) == "histogram of age"
    assert b'  column: {"column": "age"}' in raw and b"0, 120" not in raw  # its bounds stand in peers.yaml


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b"60.5", b"60.6", "nobody of the sites signed it"),
        (b"by: charite", b"by: uppsala", "nobody of the sites signed it"),
        (b"by: charite", b"by: nobody", "nobody of the sites signed it"),
        (b"federation: trial", b"federation: other", "another peers.yaml"),
    ],
)
def test_a_question_that_was_changed_or_is_of_other_sites_is_refused(old: bytes, new: bytes, what: str) -> None:
    raw, agreed = proposed()
    assert raw.count(old) == 1
    with pytest.raises(QuestionUnfit, match=what):
        question_file.parse(raw.replace(old, new), "question.yaml", agreed)


def test_a_question_of_another_peers_file_or_column_is_refused() -> None:
    raw, agreed = proposed()
    with pytest.raises(QuestionUnfit, match="it is of another"):
        question_file.parse(raw, "question.yaml", federation("rounds=9"))
    told = {"kind": "describe", "columns": [{"column": "age"}, {"column": "postcode"}]}
    with pytest.raises(QuestionUnfit, match="no column 'postcode'"):
        question_file.statistic_of(told, agreed, "question.yaml")
    with pytest.raises(WrongValue):
        question_file.parse(raw.replace(b'["0", "60.5", "120"]', b"[0, 60.5, 120]"), "question.yaml", agreed)


@pytest.mark.claim("STAT-6")
def test_a_question_is_approved_as_it_is_under_one_peers_file(tmp_path: Path) -> None:
    agreed = federation()
    told = question_file.text_of(Describe((AGE,)), agreed)
    other = question_file.text_of(Describe((AGE, SEX)), agreed)
    with make(tmp_path, "charite") as home:
        with pytest.raises(QuestionNotApproved):
            questions.check(home, agreed, told, "describe of age")
        questions.approve(home, agreed, told)
        assert questions.check(home, agreed, told, "describe of age") == "approved"
        with pytest.raises(QuestionNotApproved):
            questions.check(home, agreed, other, "describe of age, sex")
        with pytest.raises(QuestionNotApproved):  # after a change of membership, or of a rule
            questions.check(home, federation("statistics.minimum_cell=4"), told, "describe of age")
        questions.stand(home, ["describe"])
        assert questions.check(home, agreed, other, "describe of age, sex") == "standing"
        questions.stand(home, [])
        with pytest.raises(QuestionNotApproved):
            questions.check(home, agreed, other, "describe of age, sex")


@pytest.mark.claim("STAT-6")
def test_a_sites_own_word_on_kinds_that_stand_goes_before_what_all_agreed_on(tmp_path: Path) -> None:
    agreed = federation("statistics.standing=[describe]")
    told = question_file.text_of(Describe((AGE,)), agreed)
    with make(tmp_path, "charite") as home:
        questions.approve(home, agreed, question_file.text_of(Describe((SEX,)), agreed))  # which says nothing of kinds
        assert questions.check(home, agreed, told, "") == "standing"
        for own in ([], ["histogram"]):
            questions.stand(home, own)
            with pytest.raises(QuestionNotApproved):
                questions.check(home, agreed, told, "describe of age")
        questions.stand(home, None)
        assert questions.check(home, agreed, told, "") == "standing"


def test_what_was_approved_outlives_another_word_on_kinds(tmp_path: Path) -> None:
    agreed = federation()
    told = question_file.text_of(Describe((AGE,)), agreed)
    with make(tmp_path, "charite") as home:
        questions.approve(home, agreed, told)
        questions.stand(home, [])
        assert questions.approvals(home).questions.values()

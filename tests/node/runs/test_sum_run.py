"""One sum as a run: for one cohort only, the same in every attempt; and what is said when it does not come out."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import codec
from p2pfl.cli.inputs import parts, summed_decimals
from p2pfl.errors import P2PFLError
from p2pfl.errors.home import AnswerLost, DiskFull
from p2pfl.errors.round import AnotherCohort, SumLeftBehind, SumMissed, TooFewContribute
from p2pfl.errors.sharing import ValueNotFinite, ValueOverLimit
from p2pfl.keys import digest
from p2pfl.ledger.site_kinds import AbandonedEntry, LeftEntry
from p2pfl.node.runs import answers as keeping
from p2pfl.node.runs import cohort, readings
from p2pfl.node.runs.answers import Answer
from p2pfl.node.runs.cohort import Cohort, mark_of
from p2pfl.node.runs.readings import DECIMALS, FLAGS, FLOATS, INTEGERS, ReadAs, Summed
from p2pfl.node.runs.results import SumResult
from p2pfl.node.runs.sums import NO_MODEL, SALT_WORDS, Asked, SumRun, encode, salt
from p2pfl.node.store import Store
from p2pfl.peer import Peer
from p2pfl.peer.epoch import sums_run
from p2pfl.roster import MOST_PEERS
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS, bytes_of
from p2pfl.sharing.masked_sums import MaskedSums
from p2pfl.sharing.masking import combine
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.sharing.room import Room
from p2pfl.sharing.snapshot import pack_sums
from p2pfl.sharing.state import SUMS_ITEMS
from tests.home.home_fixtures import Strike, full
from tests.node.runs.homes import NAMES, Place, attempt_digest, draw, row, times

ME = "charite"
FOUR = (ME, "st-olav", "uppsala", "ucl")
FEWER = FOUR[:3]
MARK = bytes(32)


def asks(place: Place, value: str = "52000", name: str = "salary", mark: bytes = MARK) -> SumRun:
    """As each call of `Peer.sum` makes it, in whichever process."""
    return asks_of(place, [Decimal(value)], name, mark)


def asks_of(
    place: Place,
    values: Any,
    name: str = "salary",
    mark: bytes = MARK,
    *,
    limit: Any = None,
    decimals: int | None = 2,
    least: int = 3,
    only: tuple[str, ...] = (),
    data: Any = None,
) -> SumRun:
    part = encode(values, peers=4, bits=31, limit=limit, decimals=decimals, draw=os.urandom)
    asked = Asked(name, (mark_of(mark, values if data is None else data),), least, only)
    return SumRun(asked, [part], place.logs(), sums_run(place.federation), salt(os.urandom), lambda answer: None)


def answers(run: SumRun, survivors: tuple[str, ...] = FOUR, number: int = 1, attempt: int = 0) -> tuple[e.Vector, ...]:
    supports = (b"",) * len(survivors)
    return run.words(e.Quantise(number, attempt, attempt_digest(number, attempt), survivors, supports))


def noted(run: SumRun) -> list[codec.Facts]:
    held = [codec.read_facts(one.record) for one in run.logs.site.records()]
    return [facts for facts in held if facts["kind"] == "query"]


@pytest.mark.claim("SUM-14")
def test_the_same_data_are_summed_over_one_cohort_only(place: Place) -> None:
    answers(asks(place))
    answers(asks(place), number=2)  # asked again, of the same sites
    with pytest.raises(AnotherCohort) as caught:
        answers(asks(place), FEWER, number=3)
    assert "then over charite, st-olav, uppsala, ucl; now over charite, st-olav, uppsala" in caught.value.evidence
    assert caught.value.exit_status == 2


def test_were_the_cohort_not_noted_a_rerun_over_one_site_less_would_tell_its_value(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each site answers as this one does: the two sums differ by what the fourth put in."""
    monkeypatch.setattr(Cohort, "_check", lambda cohort, members, marks: None)
    salaries = dict(zip(FOUR, ("52000", "61000", "47500", "58250"), strict=True))
    runs = {name: asks(place, value, name="salary") for name, value in salaries.items()}
    totals = []
    for number, members in enumerate((FOUR, FEWER), start=1):
        words = [answers(runs[name], members, number)[0].words for name in members]
        totals.append(runs[ME].parts[0].reading.read(FIELDS[31].sum(words))[0])
    assert totals[0] - totals[1] == Decimal(salaries["ucl"])


def test_a_cohort_that_grew_is_another_one_too(place: Place) -> None:
    answers(asks(place), FEWER)
    with pytest.raises(AnotherCohort):
        answers(asks(place), FOUR, number=2)


@pytest.mark.claim("SUM-14")
def test_an_attempt_whose_outcome_nobody_knows_binds_the_query_to_its_sites(place: Place) -> None:
    run = asks(place)
    answers(run)  # and the process dies, or its round is left behind
    run.logs.note(LeftEntry(run=run.run, epoch=1, round=1, attempt=0, time=1, lacking=[], sent=True))
    with pytest.raises(AnotherCohort):
        answers(asks(place), FEWER, number=2)


def note_abandoned(run: SumRun, number: int, attempt: int, of: bytes | None = None) -> None:
    place: dict[str, Any] = {"run": of or run.run, "epoch": 1, "round": number, "attempt": attempt}
    run.logs.note(AbandonedEntry(**place, time=1, certificate=bytes(32), waited_for=[]))


def test_an_attempt_that_was_abandoned_binds_nothing(place: Place) -> None:
    run = asks(place)
    answers(run)
    note_abandoned(run, 1, 0)
    first = answers(run, FEWER, attempt=1)  # the next attempt, without one that fell silent
    assert [facts["members"] for facts in noted(run)] == [list(FOUR), list(FEWER)]
    with pytest.raises(AnotherCohort):
        answers(asks(place), FOUR, number=2)
    assert np.array_equal(first[0].words, answers(asks(place), FEWER, number=2)[0].words)


@pytest.mark.parametrize(("number", "attempt", "of"), [(2, 0, None), (1, 0, bytes(32))])
def test_another_attempt_that_was_abandoned_frees_nothing(
    place: Place, number: int, attempt: int, of: bytes | None
) -> None:
    run = asks(place)
    answers(run)
    note_abandoned(run, number, attempt, of)
    with pytest.raises(AnotherCohort):
        answers(asks(place), FEWER, number=3)


def test_the_abandonment_of_a_later_attempt_frees_the_earlier_ones_of_its_round(place: Place) -> None:
    run = asks(place)
    answers(run)
    note_abandoned(run, 1, 3)  # attempts up to it are over: each begins on the abandonment of the one before
    answers(asks(place), FEWER, number=2)


def test_other_data_are_another_query(place: Place) -> None:
    answers(asks(place))
    answers(asks(place, value="61000"), FEWER, number=2)
    with pytest.raises(AnotherCohort):
        answers(asks(place, value="52000.00"), FEWER, number=4)  # the same number


AGES = [Decimal("61.25"), Decimal("0"), Decimal("47.5"), Decimal("-3")]


def typed(statistic: str) -> dict[str, Any]:
    """As `p2pfl sum --stat STATISTIC` asks of these ages, with no --name."""
    how: dict[str, Any] = {"name": statistic, "decimals": summed_decimals(statistic, 2)}
    return {"values": parts(statistic, AGES, 2), "data": AGES, **how}


FIRST: dict[str, Any] = {"values": AGES, "name": "salary"}
ASKED_AGAIN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "under another name": (FIRST, {**FIRST, "name": "bonus"}),
    "with other decimals": (FIRST, {**FIRST, "decimals": 0}),
    "with a zero appended": (FIRST, {**FIRST, "values": [*AGES, Decimal(0)]}),
    "in another order": (FIRST, {**FIRST, "values": AGES[::-1]}),
    "as floats, rounded at random": (
        FIRST,
        {**FIRST, "values": np.array(AGES, float), "limit": 100.0, "decimals": None},
    ),
    "as a mean, then as a sum, each under its default name": (typed("mean"), typed("sum")),
    "as a sum, then as a variance": (typed("sum"), typed("variance")),
}


@pytest.mark.claim("SUM-14")
@pytest.mark.parametrize(("first", "again"), ASKED_AGAIN.values(), ids=ASKED_AGAIN.keys())
def test_the_same_data_are_locked_however_they_are_asked_for(
    place: Place, first: dict[str, Any], again: dict[str, Any]
) -> None:
    answers(asks_of(place, **first))
    with pytest.raises(AnotherCohort):
        answers(asks_of(place, **again), FEWER, number=2)
    answers(asks_of(place, **again), FOUR, number=3)  # of the same sites it is answered


@pytest.mark.parametrize(("first", "again"), ASKED_AGAIN.values(), ids=ASKED_AGAIN.keys())
def test_with_a_digest_of_words_and_name_as_the_lock_it_would_be_answered(
    place: Place, first: dict[str, Any], again: dict[str, Any]
) -> None:
    """As the lock was: each of these was answered over one site less, and the difference is that site's number."""

    def asks_as_before(**asked: Any) -> SumRun:
        run = asks_of(place, **asked)
        words = (bytes_of(part.vector.words) for part in run.parts[:-1])
        mark = digest("query data", MARK, asked["name"].encode(), *words)
        run._cohort = Cohort(run.logs, run.run, asked["name"], [mark])
        return run

    answers(asks_as_before(**first))
    answers(asks_as_before(**again), FEWER, number=2)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=50), st.randoms())
def test_a_mark_is_of_the_numbers_whatever_their_order_and_zeros(values: list[float], order: Random) -> None:
    shuffled = [*values, 0.0, -0.0]
    order.shuffle(shuffled)
    assert mark_of(MARK, values) == mark_of(MARK, np.array(shuffled)) == mark_of(MARK, np.array(shuffled, np.float32))
    assert mark_of(MARK, [*values, 1.0]) != mark_of(MARK, values) != mark_of(bytes(31) + b"x", values)


def test_a_mark_is_the_one_that_older_site_logs_hold() -> None:
    """Of another value the data that a home has summed before would pass as new ones."""
    values = np.linspace(-1, 1, 70_001).astype(np.float32)  # a zero, and more than two blocks
    assert mark_of(MARK, values).hex() == "b4c7d7fc5d701d5b7c7cd65cb98750d90a21c86fb83137d03b8233f41a52ec3e"
    assert mark_of(MARK, values[values > 0]).hex() == "7e7c0e3b6dafac15d8ddb5b30659d35ca48d02c4ca9495a01be313329e39b437"


@pytest.mark.claim("SUM-14")
def test_a_column_is_one_data_under_another_name_and_so_are_two_with_as_many_yes() -> None:
    """By numbers alone nothing tells a copy from another column of as many: a refusal costs less than a site's count.

    Else whoever asked the one over five sites, and a copy of it over four, would have the fifth one's number of yes.
    """
    smokes, smoked, diabetic = [1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0, 1.0]
    assert mark_of(MARK, smokes) == mark_of(MARK, smoked) == mark_of(MARK, diabetic)
    assert mark_of(MARK, [*smokes, 1.0]) != mark_of(MARK, diabetic)


def test_a_mark_of_many_numbers_is_that_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(1, 1000, dtype=np.int64)
    whole = mark_of(MARK, values)
    monkeypatch.setattr(cohort, "BLOCK", 7)
    assert mark_of(MARK, values) == whole


@pytest.mark.claim("SUM-19")
def test_a_sum_over_fewer_sites_than_agreed_sends_no_word(place: Place) -> None:
    run = asks_of(place, AGES, least=4)
    with pytest.raises(TooFewContribute) as caught:
        answers(run, FEWER)
    assert "3 sites with a value, and peers.yaml asks for at least 4" in caught.value.happened
    assert noted(run) == []
    answers(run, FOUR, attempt=1)


@pytest.mark.claim("SUM-19")
def test_a_sum_is_answered_over_the_sites_that_were_counted_for_it_alone(place: Place) -> None:
    """Else whoever was counted goes away, and too few are left. Over any others it is void, which binds nothing."""
    run = asks_of(place, AGES, only=FOUR)
    assert not answers(run, FEWER)[0].words.any()
    assert noted(run) == []
    assert answers(run, FOUR, attempt=1)[0].words.any()


@pytest.mark.claim("SUM-17")
def test_a_sum_beyond_what_its_sites_may_put_in_is_void(place: Place) -> None:
    """A liar's own words are any: what comes out is told to nobody, and the record says so."""
    for total, refused in ((3000, False), (3001, True), (-3001, True)):
        run = asks_of(place, [Decimal(5)], limit=Decimal(10))
        words = FIELDS[61].encode(np.array([total], np.int64))
        vectors = (e.Vector(61, words), e.Vector(61, np.zeros(SALT_WORDS, np.uint64)))
        _, outcome = run.apply(came(vectors, run.question))
        assert run.answer is not None
        assert ("refused" in outcome, bool(run.answer.totals)) == (refused, not refused)


@pytest.mark.claim("SUM-18")
def test_the_digest_of_a_sum_cannot_be_guessed_from_its_number(place: Place) -> None:
    """Two sums of one number have two digests, and the salt is no part of what the caller gets."""
    first, second = asks(place), asks(place)
    words = [answers(run, number=number) for number, run in enumerate((first, second), start=1)]
    assert np.array_equal(words[0][0].words, words[1][0].words)
    assert not np.array_equal(words[0][1].words, words[1][1].words)
    first.apply(replace(came(times(words[0], 4), first.question), survivors=FOUR))
    assert first.answer is not None
    assert first.answer.totals == ((Decimal(208000),),)


@pytest.mark.claim("SUM-6")
def test_the_cohort_is_noted_without_the_number(place: Place) -> None:
    """Nobody finds the number by trying."""
    answers(asks(place), number=7, attempt=2)
    other_home = asks(place, mark=bytes([1]) * 32)
    answers(other_home, number=8)
    mine, other = noted(other_home)
    assert (mine["query"], mine["round"], mine["attempt"], mine["members"]) == ("salary", 7, 2, list(FOUR))
    assert mine["data"] != other["data"]  # of the same number, under another key
    assert not re.search(r"(?<![0-9a-f])5200000?(?![0-9a-f])", str(mine))  # by itself: a digest may hold these digits


def test_no_word_is_handed_out_when_the_cohort_cannot_be_noted(place: Place) -> None:
    run = asks(place)
    place.home.disk.fault = Strike(full, at=0, steps=("write",))
    with pytest.raises(DiskFull):
        answers(run)


def test_every_attempt_sums_the_same_words(place: Place) -> None:
    run = asks(place)
    first = answers(run)[0].words.copy()
    note_abandoned(run, 1, 0)
    again, _ = answers(run, attempt=1)
    assert np.array_equal(first, again.words)
    with pytest.raises(ValueError, match="read-only"):
        again.words[0] = 0
    assert run.shape(1) == ((again.bits, again.words.size), (61, SALT_WORDS))


def test_the_words_of_floats_are_made_for_each_attempt_and_are_the_same() -> None:
    """So a site holds its vector once: an attempt masks the words where they lie."""
    floats = np.linspace(-1.0, 1.0, 1 << 18, dtype=np.float32)
    tracemalloc.start()
    try:
        part = encode(floats, peers=4, bits=31, limit=1.0, decimals=None, draw=os.urandom)
        assert tracemalloc.get_traced_memory()[1] < floats.nbytes
    finally:
        tracemalloc.stop()
    first, again = part.words(), part.words()
    assert np.array_equal(first, again) and first.flags.writeable and not np.shares_memory(first, again)
    assert part.shape == (31, floats.size)
    assert not np.array_equal(
        encode(floats, peers=4, bits=31, limit=1.0, decimals=None, draw=os.urandom).words(), first
    )
    floats[5] = 2.0
    with pytest.raises(ValueOverLimit) as caught:
        part.words()
    assert "which have changed" in caught.value.evidence
    made = part.vector_in(Room(FIELDS[31], floats.size)).made
    assert made is not None
    with pytest.raises(ValueOverLimit) as caught:
        made(1)
    assert "which have changed" in caught.value.evidence


def test_words_of_floats_in_a_room_are_made_as_far_as_somebody_asks() -> None:
    part = encode(np.linspace(-1.0, 1.0, 1 << 18), peers=4, bits=31, limit=1.0, decimals=None, draw=os.urandom)
    vector, expected = part.vector_in(Room(FIELDS[31], 1 << 18)), part.words()
    assert vector.made is not None and not vector.words.any()
    vector.made(1000)
    assert np.array_equal(vector.words[:1000], expected[:1000]) and not vector.words[1 << 17 :].any()
    vector.made(vector.words.size)
    assert np.array_equal(vector.words, expected)


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [(1.5, ValueOverLimit, "2 of 5 floats; the limit is 1"), (np.nan, ValueNotFinite, "coordinate 1 of 5")],
)
def test_floats_that_do_not_fit_are_refused_before_anything_is_dealt(
    value: float, error: type[P2PFLError], told: str
) -> None:
    floats = np.array([0.0, value, 1.0, -1.0, -value])
    with pytest.raises(error) as caught:
        encode(floats, peers=4, bits=31, limit=1.0, decimals=None, draw=os.urandom)
    assert caught.value.evidence == told


def test_the_event_loop_neither_rounds_nor_reads(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 10⁷ numbers each takes as long as hundreds of letters."""
    at: dict[str, int] = {}

    def noted_at(owner: Any, verb: str) -> None:
        real = getattr(owner, verb)

        def counted(*of: Any) -> Any:
            at[verb] = threading.get_ident()
            return real(*of)

        monkeypatch.setattr(owner, verb, counted)

    noted_at(Quantiser, "count_over")
    noted_at(readings, "floats_of")
    result = Node(place, "own").sum("own", values=np.array([1.0, 2.0]), limit=9.0)
    assert np.allclose(result.total, [3.0, 6.0], atol=1e-6)
    assert at.keys() == {"count_over", "floats_of"} and threading.get_ident() not in at.values()


def came(total: tuple[e.Vector, ...], question: codec.Facts) -> e.Apply:
    """The checked sum of round 5."""
    return e.Apply(5, 0, attempt_digest(5), (b"",) * 3, FEWER, total, codec.facts(question))


def test_the_sum_is_of_those_in_it_and_no_model_comes_of_it(place: Place) -> None:
    run = asks(place)
    total = times(answers(run, FEWER), 3)
    model, outcome = run.apply(came(total, run.question))
    assert (model, outcome) == (NO_MODEL, {})
    assert run.answer is not None
    assert (run.answer.totals, run.answer.survivors, run.answer.round) == (((Decimal(156000),),), FEWER, 5)
    assert run.models is None


def test_the_words_are_kept_until_the_sum_is_there(place: Place) -> None:
    """For another attempt; then they are let go."""
    run = asks(place)
    mine, _ = (weakref.ref(part.vector.words) for part in run.parts)
    total = times(answers(run, FEWER), 3)
    run.apply(came(total, {**run.question, "name": "bonus"}))  # another one's
    assert mine() is not None
    run.apply(came(total, run.question))
    assert mine() is None
    assert run.answer is not None
    assert run.answer.totals == ((Decimal(156000),),)


@pytest.mark.parametrize(("sent", "told"), [(True, "its sum may still come out"), (False, "nothing was sent")])
def test_a_sum_that_is_left_behind_says_whether_the_vector_was_sent(place: Place, sent: bool, told: str) -> None:
    with pytest.raises(SumLeftBehind) as caught:
        asks(place).left(e.LeftBehind(4, 1, ("uppsala",), sent))
    assert told in caught.value.happened
    assert "Round 4 was left behind" in caught.value.happened
    assert caught.value.evidence == "waited for uppsala"
    assert (caught.value.code, caught.value.exit_status) == ("P2P-ROUND-044", 1)


@pytest.mark.parametrize("other", [{"name": "bonus"}, {"vectors": []}, {"purpose": "evaluation"}])
def test_a_site_that_was_away_is_not_told_the_sum_of_another_question(place: Place, other: dict[str, object]) -> None:
    run = asks(place)
    total = times(answers(run, FEWER), 3)
    assert run.apply(came(total, {**run.question, **other})) == (NO_MODEL, {})
    assert run.answer is None


class Node:
    """A node in whose ledger rounds that were finished without this site come in, one with each run; then its own."""

    def __init__(self, place: Place, *questions: str) -> None:
        self.federation, self.name, self.home, self.logs = place.federation, NAMES[0], place.home, place.logs()
        self.clocks, self.came = SimpleNamespace(draw=draw), list(questions)
        self._place = place

    async def run(self, run: bytes, source: SumRun, rounds: int) -> None:
        number = self.logs.count(run) + 1
        self.source = source  # as a node does, to serve the round
        if rounds < number:
            return
        assert rounds == number
        question = {**source.question, "name": self.came.pop(0)} if self.came else source.question
        if not self.came and question["name"] == "own":
            words = tuple(part.vector for part in source.parts)
            effect = e.Apply(number, 0, attempt_digest(number), (b"",), NAMES, times(words, 3), codec.facts(question))
            source.apply(effect)
        of = SimpleNamespace(
            logs=self.logs,
            run=run,
            configuration=question,
            digest_of=lambda model: NO_MODEL,
            trainer=SimpleNamespace(initial=lambda seed: None),
        )
        record, signed = row(of, self._place.identities, number, NO_MODEL, {})  # type: ignore[arg-type]
        self.logs.finish(record, signed)

    def sum(self, name: str, values: Any = (1, 2), told: bool = True, **options: Any) -> SumResult:
        """As a process does it; one that is not `told` dies with the sum in its hands."""

        async def process() -> SumResult:
            peer = Peer(self, lambda given: self)  # type: ignore[arg-type]
            result = await peer.sum(values, name=name, **options)
            await peer.forget_answer(told)
            return result

        return asyncio.run(process())


def test_a_sum_finished_while_this_site_was_away_is_missed(place: Place) -> None:
    """It is missed, and no zero."""
    with pytest.raises(SumMissed) as caught:
        Node(place, "bonus", "salary").sum("salary")
    assert (caught.value.code, caught.value.exit_status) == ("P2P-ROUND-045", 1)
    assert "up to round 2" in caught.value.evidence


def test_a_site_away_during_another_question_gets_its_own_answer(place: Place) -> None:
    result = Node(place, "bonus", "salary", "own").sum("own")
    assert (result.total.tolist(), result.survivors, result.round) == ([3, 6], NAMES, 3)


def test_a_result_belongs_to_its_caller_alone(place: Place) -> None:
    node = Node(place, "own")
    result = node.sum("own")
    assert result.total.tolist() == [3, 6]
    assert node.source.answer is None


def test_an_answer_of_before_the_question_was_put_is_not_the_one_that_was_missed(place: Place) -> None:
    assert Node(place, "own").sum("own").round == 1
    assert Node(place, "bonus", "own").sum("own").round == 3  # asked again: the first answer is no reason to stop


OTHER_CALLS: dict[str, dict[str, Any]] = {
    "of other values": {"values": (2, 1)},
    "of the same values as floats": {"values": (1.0, 2.0), "limit": 9.0},
    "with another limit": {"limit": 100},
    "with decimals": {"decimals": 0},
}


def test_a_sum_that_nobody_was_told_is_given_to_the_same_call_of_the_next_process(place: Place) -> None:
    first = Node(place, "own").sum("own", told=False)
    again = Node(place, "own").sum("own")
    assert (again.kept, again.total.tolist(), again.survivors) == (True, first.total.tolist(), first.survivors)
    anew = Node(place, "own").sum("own")  # it was told: now it is another sum
    assert (first.kept, anew.kept, first.round, again.round, anew.round) == (False, False, 1, 1, 2)


@pytest.mark.parametrize("call", OTHER_CALLS.values(), ids=OTHER_CALLS.keys())
def test_a_sum_that_nobody_was_told_is_given_to_no_other_call(place: Place, call: dict[str, Any]) -> None:
    Node(place, "own").sum("own", told=False)
    assert not Node(place, "own").sum("own", **call).kept


def test_a_process_that_asks_twice_gets_two_sums(place: Place) -> None:
    async def process() -> tuple[int, int]:
        node = Node(place, "own")
        peer = Peer(node, lambda given: node)  # type: ignore[arg-type, return-value]
        first = await peer.sum([1, 2], name="own")
        node.came = ["own"]
        return first.round, (await peer.sum([1, 2], name="own")).round

    assert asyncio.run(process()) == (1, 2)


def test_an_answer_whose_round_is_not_in_the_ledger_is_none(place: Place) -> None:
    keeping.keep(place.home, Answer(bytes(32), bytes(32), 4, NAMES, 0, (summed(ReadAs(INTEGERS, 61, 1), 7),)))
    assert keeping.kept(place.home, place.logs(), bytes(32)) is None


def summed(reading: ReadAs, *integers: int) -> Summed:
    field = FIELDS[reading.bits]
    return Summed(reading, field.encode(np.array(integers, np.int64)))


@pytest.mark.parametrize(
    ("sum_of", "total"),
    [
        (summed(ReadAs(DECIMALS, 61, 2, "2"), 150, -300), (Decimal("1.50"), Decimal("-3.00"))),
        (summed(ReadAs(DECIMALS, 61, 0, "0")), ()),
        (summed(ReadAs(INTEGERS, 61, 2), 1, -(2**59)), np.array([1, -(2**59)], np.int64)),
        (summed(ReadAs(FLOATS, 31, 3, "0.1"), 3, -1, 0), np.array([3 * 0.1, -0.1, 0.0])),
        (summed(ReadAs(FLOATS, 16, 1, "5e-324"), 1), np.array([5e-324])),
        (summed(ReadAs(FLAGS, 61, 2), 9, 0), np.array([True, False])),
    ],
)
def test_an_answer_is_read_as_it_was_kept(place: Place, sum_of: Summed, total: Any) -> None:
    kept = Answer(b"call", b"run", 4, NAMES, 2, (sum_of, sum_of))
    keeping.keep(place.home, kept)
    found = keeping.read_answer(place.home.read(keeping.ITEM) or b"")
    assert (found.asked, found.run, found.round, found.survivors, found.sites) == (b"call", b"run", 4, NAMES, 2)
    for one in (*kept.totals, *found.totals):
        assert (type(one), getattr(one, "dtype", None)) == (type(total), getattr(total, "dtype", None))
        assert list(one) == list(total)


def test_an_answer_over_as_many_sites_as_there_may_be_is_read() -> None:
    """Else it stands in the way of every later sum of its home."""
    names = tuple(f"{number:03}".rjust(31, "x") for number in range(MOST_PEERS))
    rotated = ReadAs(FLOATS, 16, 1, repr(1 / 3), bytes(32))
    words = FIELDS[16].zeros(rotated.words)
    kept = Answer(bytes(32), bytes(32), 1 << 32, names, MOST_PEERS, (Summed(rotated, words),) * 4)
    assert keeping.read_answer(b"".join(map(bytes, keeping.packed(kept)))).survivors == names


@pytest.mark.parametrize("bits", [31, 61])
def test_a_kept_sum_takes_the_bytes_of_its_words_and_no_more(place: Place, bits: int) -> None:
    """Not those of float64: at 10⁷ words that is what a site writes."""
    count = 5000
    part = encode(np.ones(count), peers=4, bits=bits, limit=2.0, decimals=None, draw=draw)
    words = part.vector.words
    before = words.copy()
    keeping.keep(place.home, Answer(b"call", b"run", 4, NAMES, 2, (Summed(part.reading, words),)))
    place.home.settle()
    size = place.home.place(keeping.ITEM).stat().st_size
    assert words.nbytes < size < words.nbytes + 512
    found = keeping.read_answer(place.home.read(keeping.ITEM) or b"")
    assert np.array_equal(found.totals[0], part.reading.read(before))
    assert np.allclose(found.totals[0], 1.0)


COUNT = 50_000  # words of 61 bits: more than the journal takes
KEYS = ((bytes([1]) * 32, bytes([2]) * 32), (bytes([3]) * 32,))  # of two self-masks, and of one


def of_masked_sums(place: Place, run: bytes = b"run") -> Answer:
    """An answer of two vectors whose masked sums, and those of a salt behind them, lie in the home."""
    field, item = FIELDS[61], SUMS_ITEMS[0]
    sums = [np.arange(COUNT, dtype=field.dtype), np.full(3, 7, field.dtype)]
    masked = [combine(words, keys, [], field) for words, keys in zip(sums, KEYS, strict=True)]
    vectors = (*(e.Vector(61, words) for words in masked), e.Vector(61, field.zeros(SALT_WORDS)))
    place.home.replace(item, codec.with_tail(run, *pack_sums(vectors, bytes(32))))
    read = tuple(Summed(ReadAs(INTEGERS, 61, words.size), words) for words in sums)
    return Answer(b"call", b"run", 4, NAMES, 2, read, MaskedSums(item, bytes(32), KEYS))


def kept_bytes(place: Place) -> int:
    return len(place.home.read(keeping.ITEM) or b"")


def damage(path: Path) -> None:
    *held, last = path.read_bytes()
    path.write_bytes(bytes([*held, last ^ 1]))


def totals(place: Place) -> list[list[int]]:
    found = keeping.read_answer(place.home.read(keeping.ITEM) or b"", place.home.read)
    return [np.asarray(one).tolist() for one in found.totals]


def test_many_words_are_not_written_a_second_time_where_their_masked_sums_lie(place: Place) -> None:
    keeping.keep(place.home, of_masked_sums(place))
    assert kept_bytes(place) < 1000
    place.home.settle()
    assert totals(place) == [list(range(COUNT)), [7, 7, 7]]


def test_before_masked_sums_go_the_answer_that_is_made_of_them_holds_its_words(place: Place) -> None:
    keeping.keep(place.home, of_masked_sums(place))
    store = Store(place.home, place.logs(), SimpleNamespace(statements=lambda: b""))
    store.replace(b"other", ((SUMS_ITEMS[1], b"the other place"),))
    assert kept_bytes(place) < 1000
    store.replace(b"other", ((SUMS_ITEMS[0], None),))
    assert kept_bytes(place) > 8 * COUNT
    assert totals(place) == [list(range(COUNT)), [7, 7, 7]]


def test_an_answer_is_not_made_of_the_masked_sums_of_another_run(place: Place) -> None:
    keeping.keep(place.home, of_masked_sums(place, run=b"another run"))
    with pytest.raises(codec.Malformed, match="are gone"):
        totals(place)
    keeping.hold_words(place.home, SUMS_ITEMS)  # nobody can read it: that stops no round
    assert kept_bytes(place) < 1000


def test_a_damaged_answer_stops_no_round(place: Place) -> None:
    keeping.keep(place.home, of_masked_sums(place))
    place.home.settle()
    path = place.home.place(keeping.ITEM)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    store = Store(place.home, place.logs(), SimpleNamespace(statements=lambda: b""))
    store.replace(b"other", ((SUMS_ITEMS[0], b"the next round's"),))
    assert place.home.read(SUMS_ITEMS[0]) is not None


LOST: dict[str, Callable[[Place], None]] = {
    "its masked sums are damaged": lambda place: damage(place.home.path / SUMS_ITEMS[0]),
    "its masked sums are gone": lambda place: place.home.remove(SUMS_ITEMS[0]),
    "it is damaged itself": lambda place: damage(place.home.path / keeping.ITEM),
}


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST.keys())
def test_an_answer_that_is_lost_is_told_of_once_and_the_next_call_sums_anew(
    place: Place, lose: Callable[[Place], None]
) -> None:
    keeping.keep(place.home, of_masked_sums(place))
    place.home.settle()
    lose(place)
    logs: Any = SimpleNamespace(rounds=lambda run: [{"round": 4, "survivors": list(NAMES)}] if run == b"run" else [])
    with pytest.raises(AnswerLost):
        keeping.kept(place.home, logs, b"call")
    assert keeping.kept(place.home, logs, b"call") is None
    assert place.home.read(keeping.ITEM) is None


@pytest.mark.parametrize("lose", list(LOST.values())[:2], ids=list(LOST)[:2])
def test_an_answer_whose_masked_sums_are_lost_stops_no_other_call(place: Place, lose: Callable[[Place], None]) -> None:
    keeping.keep(place.home, of_masked_sums(place))
    lose(place)
    assert keeping.kept(place.home, place.logs(), b"another call") is None
    assert keeping.kept(place.home, place.logs(), b"call") is None  # its round is not final: it is summed yet


def test_few_words_lie_in_the_answer_itself(place: Place) -> None:
    whole = of_masked_sums(place)
    keeping.keep(place.home, replace(whole, sums=whole.sums[1:]))
    found = keeping.read_answer(place.home.read(keeping.ITEM) or b"")
    assert found.masked is None and found.totals[0].tolist() == [7, 7, 7]  # type: ignore[union-attr]


STRANGE: dict[str, tuple[Any, ...]] = {
    "of another kind": ("fractions", 61, 1, "", b""),
    "a salt": ("nothing", 61, 1, "", b""),
    "of another field": (INTEGERS, 32, 1, "", b""),
    "of less than no number": (INTEGERS, 61, -1, "", b""),
    "integers with a scale": (INTEGERS, 61, 1, "2", b""),
    "decimals without one": (DECIMALS, 61, 1, "", b""),
    "decimals in another spelling": (DECIMALS, 61, 1, "02", b""),
    "too many decimals": (DECIMALS, 61, 1, "19", b""),
    "floats in another spelling": (FLOATS, 61, 1, "1e0", b""),
    "floats on no scale": (FLOATS, 61, 1, "nan", b""),
    "floats on an infinite one": (FLOATS, 61, 1, "inf", b""),
    "floats on a negative one": (FLOATS, 61, 1, "-1.0", b""),
    "rotated by half a seed": (FLOATS, 61, 1, "1.0", bytes(16)),
    "rotated flags": (FLAGS, 61, 1, "", bytes(32)),
    "a number that is none": (INTEGERS, 61, True, "", b""),
    "short": (INTEGERS, 61, 1),
}


@pytest.mark.parametrize("row", STRANGE.values(), ids=STRANGE.keys())
def test_a_reading_that_no_sum_has_is_refused(row: tuple[Any, ...]) -> None:
    with pytest.raises(codec.Malformed):
        ReadAs.of_row(row)


@pytest.mark.parametrize("more", [-8, -1, 1, 8])
def test_an_answer_of_other_words_than_it_says_is_refused(more: int) -> None:
    whole = b"".join(
        map(bytes, keeping.packed(Answer(b"call", b"run", 4, NAMES, 2, (summed(ReadAs(INTEGERS, 61, 2), 1, 2),))))
    )
    with pytest.raises(codec.Malformed):
        keeping.read_answer(whole[:more] if more < 0 else whole + bytes(more))

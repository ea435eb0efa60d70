"""Exact counts of held-out records are summed over everybody or not at all, so that no two sums differ by one site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.keys import digest
from p2pfl.node.logs import Logs
from p2pfl.node.progress import HeldOutChanged, Progress
from p2pfl.node.runs import metric
from p2pfl.node.runs.held_out import ITEM, HeldOut
from p2pfl.node.runs.metric import HELD_OUT_CHANGED, MEASURED_BEFORE, NOT_ALL_THERE, OTHER_SITES
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.source import Offer
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.scores import BINS
from p2pfl.training.update import FlatVector
from tests.node.runs.homes import (
    NAMES,
    OTHERS,
    Four,
    FourOut,
    Place,
    agreed,
    applied,
    attempt_digest,
    finished,
    masked,
    places,
    times,
)

VICTIM = NAMES[2]
COUNTS = Binary.size


def counts_of(run: TrainingRun, offer: Offer, number: int, survivors: tuple[str, ...]) -> np.ndarray:
    """What this site puts into the sum of the counts of an attempt over `survivors`."""
    asked = e.Quantise(number, 0, attempt_digest(number), survivors, (offer.support,) * len(survivors))
    scalars = run.words(asked)[-1]
    return FIELDS[scalars.bits].centred(scalars.words)[:COUNTS]


def subtracted(place: Place, run: TrainingRun) -> np.ndarray:
    """The attack: one round over everybody, one without the victim; all sites hold the same counts."""
    place.trainer.held[3], place.trainer.held[BINS + 90] = 5, 2
    first = run.propose(1, 0)
    everybody = len(NAMES) * counts_of(run, first, 1, NAMES)
    second = run.propose(2, 0)
    return everybody - len(OTHERS) * counts_of(run, second, 2, NAMES[:2])


@pytest.mark.claim("SUM-16")
def test_two_rounds_that_differ_by_a_site_do_not_open_its_counts(place: Place) -> None:
    found = subtracted(place, place.started())
    assert not np.array_equal(found, place.trainer.held)
    assert np.array_equal(found, 3 * place.trainer.held), "of the second round nothing came at all"


def test_without_the_whole_roster_as_a_condition_they_would(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "why_unmeasured", lambda agreed, survivors, names: agreed)
    assert np.array_equal(subtracted(place, place.started()), place.trainer.held)


@pytest.mark.claim("SUM-16")
def test_a_round_without_a_site_says_why_it_measures_nothing_and_holds_no_count(place: Place) -> None:
    run = place.started()
    offer = run.propose(1, 0)
    total = (e.Vector(31, np.zeros(4, np.uint32)), e.Vector(61, FIELDS[61].encode(np.array([*[7] * COUNTS, 0, 7]))))
    _, outcome = run.apply(applied(1, 0, total, NAMES[:2], b"", codec.facts(offer.configuration)))
    assert outcome["unmeasured"] == NOT_ALL_THERE
    assert outcome["figures"] == {}
    _, outcome = run.apply(applied(1, 0, total, NAMES, b"", codec.facts(offer.configuration)))
    assert outcome.keys() == {"model", "metric", "figures", "private", "clipped"}, "and the others a figure, no count"


@pytest.mark.claim("SUM-16")
def test_a_model_that_stayed_is_not_measured_again(tmp_path: Path) -> None:
    """A liar's vector out of bound leaves the model as it is; the next round would measure it over another set."""
    place, other = places(tmp_path, "sharing.clip=1.0")
    run = place.started()
    offer = run.propose(1, 0)
    assert offer.configuration["unmeasured"] == ""
    beyond = np.full(4, run.updates.quantiser.field.p // 2, run.updates.quantiser.field.dtype)
    total = (e.Vector(run.federation.sharing.field, beyond), e.Vector(61, np.zeros(COUNTS + 2, np.uint64)))
    model, outcome = run.apply(applied(1, 0, total, NAMES, b"", agreed(run)))
    assert "refused" in outcome
    assert run.propose(2, 1).configuration["unmeasured"] == MEASURED_BEFORE, "from what this process applied"
    run.models.retract(0)
    assert run.propose(2, 0).configuration["unmeasured"] == "", "of a branch that does not count"
    run.apply(applied(1, 0, total, NAMES, b"", agreed(run)))
    finished(place, run, 1, model, outcome)
    again = place.started()
    assert again.propose(2, 0).configuration["unmeasured"] == MEASURED_BEFORE, "from the ledger"
    assert not counts_of(again, again.propose(2, 0), 2, NAMES).any()
    for home in (place.home, other.home):
        home.close()


class Scored(Four):
    """Three held-out records, whose scores move with the model."""

    def evaluate(self, model: FlatVector) -> np.ndarray:
        moved = round(100 * float(model[0]))
        return np.bincount([3 + moved, 20 + moved, BINS + 90 + moved], minlength=COUNTS)


def measured_twice(place: Place, *, out_of_bound: bool) -> np.ndarray:
    """A round over everybody, into which a liar puts a vector out of bound, or none does; then one without the victim.

    What is left of the first sum of counts behind the second. All sites hold the same: each has a third of the first.
    """
    run = place.started(Scored())
    offer = run.propose(1, 0)
    first = len(NAMES) * counts_of(run, offer, 1, NAMES)
    total = list(times(masked(run, 1, offer), len(NAMES)))
    if out_of_bound:
        field = run.updates.quantiser.field
        total[0] = e.Vector(field.bits, np.full(4, field.p // 2, field.dtype))
    _, outcome = run.apply(applied(1, 0, tuple(total), NAMES, offer.support, codec.facts(offer.configuration)))
    assert ("refused" in outcome) == out_of_bound
    return first - len(OTHERS) * counts_of(run, run.propose(2, 1), 2, NAMES[:2])


@pytest.fixture
def clipped(tmp_path: Path) -> Iterator[Place]:
    """A home of a federation in which a vector may lie out of bound."""
    place, other = places(tmp_path, "sharing.clip=1.0")
    yield place
    for one in (place, other):
        one.home.close()


WHOLE = Scored().evaluate(np.zeros(4, np.float32))


def test_of_a_model_that_was_measured_a_round_over_others_counts_nothing(
    clipped: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the whole roster were no condition: this is a rule of its own."""
    monkeypatch.setattr(metric, "why_unmeasured", lambda agreed, survivors, names: agreed)
    assert np.array_equal(measured_twice(clipped, out_of_bound=True), 3 * WHOLE)


@pytest.mark.parametrize("out_of_bound", [True, False])
def test_were_it_measured_again_two_sets_would_tell_a_sites_whole_histogram(
    clipped: Place, monkeypatch: pytest.MonkeyPatch, out_of_bound: bool
) -> None:
    """Every score, exactly. Of a model that moved it would tell the number of records of each class."""
    monkeypatch.setattr(metric, "why_unmeasured", lambda agreed, survivors, names: agreed)
    monkeypatch.setattr(metric, "unmeasurable", lambda *of: "")
    told = measured_twice(clipped, out_of_bound=out_of_bound)
    assert np.array_equal(told, WHOLE) == out_of_bound
    assert classes(told) == (2, 1)


@pytest.mark.claim("SUM-16")
def test_a_roster_with_another_site_measures_nothing_at_the_newcomer_either(place: Place) -> None:
    """Its counts would be the difference of the totals before and after it came."""
    run = place.started()
    model = run.digest_of(run.model)
    assert metric.unmeasurable(run.logs, run.run, NAMES, model, ()) == ""
    for names in ((*NAMES, "newcomer"), NAMES[:2], (*NAMES[:2], "newcomer")):
        assert metric.unmeasurable(run.logs, run.run, names, model, ()) == OTHER_SITES


# ── a held-out record that is taken out, or comes, between two rounds ─────────────────────────────────────────

RECORDS = ((b"one", 3), (b"two", 3), (b"three", BINS + 90))  # two without the disease, one with it


class Drawn:
    """Bytes that do not repeat, and may be drawn again."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return (digest("drawn", self.count.to_bytes(8, "big")) * (size // 32 + 1))[:size]


def round_of(place: Place, run: TrainingRun, number: int) -> tuple[np.ndarray, codec.Facts]:
    """A round over everybody, in which the two other sites count one record each: what all hold, and its outcome."""
    offer = run.propose(number, number - 1)
    measures = not offer.configuration["unmeasured"]
    field = FIELDS[61]
    asked = e.Quantise(number, 0, attempt_digest(number), NAMES, (offer.support,) * len(NAMES))
    vectors = run.words(asked)
    others = np.zeros(vectors[-1].words.size, np.int64)
    others[[5, BINS + 7]] = measures
    total = field.sum([vectors[-1].words, field.encode(others)])
    summed = (*vectors[:-1], e.Vector(61, total))
    model, outcome = run.apply(
        applied(number, number - 1, summed, NAMES, offer.support, codec.facts(offer.configuration))
    )
    finished(place, run, number, model, outcome)
    return field.centred(total)[:COUNTS], outcome


def classes(counts: np.ndarray) -> tuple[int, int]:
    """Held-out records of all sites without the disease, and with it: they do not depend on the model."""
    return int(counts[:BINS].sum()), int(counts[BINS : 2 * BINS].sum())


def taken_out(place: Place) -> list[tuple[np.ndarray, codec.Facts]]:
    """Three rounds; between the first and the second the record `three` is taken out of this site's file."""
    trainer, draws = FourOut(), Drawn()
    trainer.out, place.trainer, place.draw = RECORDS, trainer, draws
    first = round_of(place, place.started(), 1)
    trainer.out = RECORDS[:2]
    again = place.started()
    return [first, round_of(place, again, 2), round_of(place, again, 3)]


def test_were_changed_held_out_records_counted_on_one_taken_out_would_tell_its_label(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldOut, "have_changed", lambda self, rounds=(): False)
    (before, _), (after, outcome), _ = taken_out(place)
    assert (classes(before), classes(after)) == ((3, 2), (3, 1)), "it had the disease"
    assert "unmeasured" not in outcome


@pytest.mark.claim("SUM-20")
def test_a_held_out_record_that_is_taken_out_is_told_by_no_two_sums(place: Place) -> None:
    """Nor whose it was: the sum of all sites' counts is uniform, the rounds behind it count nothing at any site."""
    (before, first), (after, second), (last, third) = taken_out(place)
    assert classes(before) == (3, 2) and "unmeasured" not in first
    assert np.abs(after).min() > 2**30, "each count is hidden by a uniform word"
    assert (second["unmeasured"], second["figures"]) == (HELD_OUT_CHANGED, {})
    assert (third["unmeasured"], last.any()) == (HELD_OUT_CHANGED, False)


def test_a_site_is_told_before_its_changed_held_out_records_end_the_metric_of_all(place: Place) -> None:
    """Its file may only be the wrong one; once a round has ended the metric, there is nothing left to warn of."""
    trainer, told = FourOut(out=RECORDS), list[Progress]()
    place.trainer, place.draw = trainer, Drawn()
    round_of(place, place.started(observer=told.append), 1)
    assert HeldOutChanged() not in told
    trainer.out = RECORDS[:2]
    changed = place.started(observer=told.append)
    assert told.count(HeldOutChanged()) == 1
    round_of(place, changed, 2)
    place.started(observer=told.append)
    assert told.count(HeldOutChanged()) == 1


@pytest.mark.claim("SUM-20")
def test_a_home_that_was_restored_from_before_the_first_count_counts_nothing_more(place: Place) -> None:
    """Its ledger comes back from the others, and what it counted does not: whoever was left out since would be told."""
    trainer, place.draw = FourOut(out=RECORDS), Drawn()
    place.trainer = trainer
    before, _ = round_of(place, place.started(), 1)
    place.home.remove(ITEM)
    trainer.out = RECORDS[:2]
    after, outcome = round_of(place, place.started(), 2)
    assert classes(before) == (3, 2) and np.abs(after).min() > 2**30
    assert outcome["unmeasured"] == HELD_OUT_CHANGED


@pytest.mark.claim("SUM-20")
@pytest.mark.parametrize("after", ["nothing", "a round that ended the metric"])
def test_no_flag_is_raised_where_nothing_would_be_measured(place: Place, after: str) -> None:
    """In a sum of fewer sites: were it raised there, one that comes to 0 would name the site that is not in it."""
    trainer, place.draw = FourOut(out=RECORDS), Drawn()
    place.trainer = trainer
    round_of(place, place.started(), 1)
    trainer.out = RECORDS[:2]
    changed, number, survivors = place.started(), 2, NAMES[:2]
    if after != "nothing":
        _, outcome = round_of(place, changed, 2)
        assert outcome["unmeasured"] == HELD_OUT_CHANGED
        number, survivors = 3, NAMES
    offer = changed.propose(number, number - 1)
    asked = e.Quantise(number, 0, attempt_digest(number), survivors, (offer.support,) * len(survivors))
    assert not changed.words(asked)[-1].words[: COUNTS + 1].any(), "counts and flag are zeros, as at every site"


@pytest.mark.claim("SUM-20")
def test_who_sees_the_flag_of_another_site_counts_nothing_more_in_that_study(place: Place) -> None:
    place.trainer = FourOut(out=RECORDS)
    run = place.started()
    offer = run.propose(1, 0)
    scalars = np.zeros(COUNTS + 2, np.uint64)
    scalars[: COUNTS + 1] = 1 << 59
    total = (e.Vector(run.federation.sharing.field, np.zeros(4, FIELDS[run.federation.sharing.field].dtype)),)
    facts = codec.facts(offer.configuration)
    model, outcome = run.apply(applied(1, 0, (*total, e.Vector(61, scalars)), NAMES, b"", facts))
    assert outcome["unmeasured"] == HELD_OUT_CHANGED
    assert run.propose(2, 1).configuration["unmeasured"] == HELD_OUT_CHANGED, "from what this process applied"
    run.models.retract(0)
    assert run.propose(2, 0).configuration["unmeasured"] == "", "of a branch that does not count"
    run.models.applied[1] = run.models.current
    finished(place, run, 1, model, outcome)
    assert place.started().propose(2, 1).configuration["unmeasured"] == HELD_OUT_CHANGED, "from the ledger"


@pytest.mark.claim("SUM-20")
def test_the_held_out_records_are_bound_before_a_count_of_them_is_made(place: Place) -> None:
    """In another order they are the same; one that is there twice is another set; an unreadable digest is no excuse."""
    trainer = FourOut(out=RECORDS)
    bound = HeldOut(place.home, bytes(32), trainer)
    assert not bound.have_changed(), "nothing was counted yet"
    bound.bind()
    assert not bound.have_changed()
    trainer.out = RECORDS[::-1]
    assert not bound.have_changed()
    for other in (RECORDS[:2], (*RECORDS, RECORDS[0]), (*RECORDS, (b"four", 1)), ()):
        trainer.out = other
        assert bound.have_changed()
    trainer.out = RECORDS
    assert not HeldOut(place.home, bytes([1]) * 32, trainer).have_changed(), "another study counts other models"
    place.home.replace(ITEM, bytes(32) + b"no digest")
    assert bound.have_changed()
    assert not HeldOut(place.home, bytes(32), place.trainer).have_changed(), "a trainer that does not say"


def test_a_newcomer_is_not_told_that_its_file_is_the_wrong_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that measured before it came; since then nothing is measured, whatever its file holds."""
    place.trainer, place.draw = FourOut(out=RECORDS), Drawn()
    round_of(place, place.started(), 1)
    place.home.remove(ITEM)  # a newcomer never counted
    monkeypatch.setattr(Logs, "founders", property(lambda self: frozenset(("ada", "ben", "cyd"))))
    told = list[Progress]()
    run = place.started(observer=told.append)
    assert run.propose(2, 1).configuration["unmeasured"] == OTHER_SITES, "the next round ends no metric: none is taken"
    assert HeldOutChanged() not in told

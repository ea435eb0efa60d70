"""Private measures: one held-out record, or patient, moves them within a bound, and their figures survive the noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.privacy_units import MeasureNotPrivate
from p2pfl.federation.federation import Measuring
from p2pfl.training.judges import PrivateJudge, judge_of
from p2pfl.training.local import Trainer
from p2pfl.training.measures.classification import Binary, Classes
from p2pfl.training.measures.joint import Joint
from p2pfl.training.measures.measure import UNIT
from p2pfl.training.measures.private import PrivateBinary, PrivateClasses, PrivateJoint, noised_auc, noised_share
from p2pfl.training.measures.regression import Number
from p2pfl.training.records.records import PatientArrays, Records, SiteRecords
from tests.examples import examples
from tests.training.settings import Small, arrays, privacy

NOISED = Measuring(1.0, 4, 1.0)


def held_out(sizes: list[int]) -> Records:
    """Patients with so many records each."""
    held = arrays(sum(sizes), (4,), "held out")
    names = [b"%d" % one for one in np.repeat(np.arange(len(sizes)), sizes)]
    return Records(PatientArrays(held.x, held.y, held.identities, names))


def judged(whole: bool, unit: str = "patient") -> tuple[Trainer, np.ndarray]:
    """The counts of three patients, or of all but the one with a thousand records."""
    held = held_out([2, 1000, 3])
    site = SiteRecords(held_out([3] * 10), held if whole else held.at(np.array([0, 1, 1002, 1003, 1004])))
    which = Trainer(task=Small(), site=site, privacy=privacy(unit=unit), measures=NOISED)
    return which, which.evaluate(which.initial(bytes(range(32))))


@pytest.mark.claim("DP-11")
def test_a_held_out_patient_with_a_thousand_records_moves_the_counts_by_one() -> None:
    with_it, without = judged(True), judged(False)
    which, moved = with_it[0], np.linalg.norm((with_it[1] - without[1]).astype(float))
    assert which.slots == 1
    assert 0.3 * UNIT < moved <= UNIT * math.sqrt(which.slots)


@pytest.mark.claim("DP-11")
def test_were_each_record_to_weigh_one_a_patient_would_move_them_a_thousandfold() -> None:
    with_it, without = (judged(whole, "record")[1] for whole in (True, False))
    assert np.abs(with_it - without).sum() > 900 * UNIT


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32))
@examples(30)
def test_a_record_counts_once_in_each_slot_whatever_the_model_says(classes: int, count: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.dirichlet(np.full(classes, 0.3), count)
    labels = draw.integers(0, classes, count)
    for measure, told in ((PrivateClasses(classes), scores), (PrivateBinary(), scores[:, 0])):
        places = measure.places(told, np.minimum(labels, 1) if measure.slots == 1 else labels)
        assert places.shape == (count, measure.slots)
        assert all(len(set(row)) == measure.slots for row in places.tolist())
        assert places.min() >= 0 and places.max() < measure.size


def test_without_noise_the_figures_are_nearly_those_of_exact_counts() -> None:
    draw = np.random.default_rng(5)
    labels = draw.integers(0, 2, 4000)
    scores = 1 / (1 + np.exp(-(draw.normal(size=4000) + 1.5 * labels - 0.7)))
    several = np.stack([scores, 1 - scores], axis=1)[:, ::-1]
    for exact, told in ((Binary(), scores), (Classes(2), several)):
        private = PrivateJoint([exact.private()])
        noised = private.figures(private.count(told, labels, np.full(4000, UNIT)), 0.0)
        whole = Joint([exact], "a task").figures(exact.count(told, labels))
        assert next(iter(noised)) == "auc"
        for name, figure in noised.items():
            assert abs(figure.value - whole[name].value) < (0.005 if told is scores else 0.01)
            assert math.isnan(figure.low) or figure.low < figure.value < figure.high


@pytest.mark.claim("DP-11")
def test_noise_makes_no_figure_larger_on_average_and_its_interval_holds_it() -> None:
    """Negative counts stay: were they cut off at 0, an AUC of .92 would come out as one of .87."""
    draw = np.random.default_rng(11)
    positive = np.round(400 * np.exp(-((np.arange(16) - 10.0) ** 2) / 8) / 5)
    negative = np.round(400 * np.exp(-((np.arange(16) - 6.0) ** 2) / 8) / 5)
    true, noise = noised_auc(positive.tolist(), negative.tolist(), 0.0).value, 6.0

    def tried(change: Callable[[np.ndarray], np.ndarray]) -> list[float]:
        rows = [change(np.stack([positive, negative]) + noise * draw.normal(size=(2, 16))) for _ in range(400)]
        found = [noised_auc(one.tolist(), other.tolist(), noise) for one, other in rows]
        assert sum(one.low <= true <= one.high for one in found) > 0.93 * 400 or change is not as_it_is
        return [one.value for one in found]

    def as_it_is(counts: np.ndarray) -> np.ndarray:
        return counts

    assert abs(np.mean(tried(as_it_is)) - true) < 0.006
    assert np.mean(tried(lambda counts: np.maximum(counts, 0.0))) < true - 0.03


@given(st.lists(st.floats(-1e12, 1e12), min_size=32, max_size=32), st.floats(0, 1e6))
@examples(60)
def test_whatever_the_sum_holds_a_figure_is_none_or_a_part_of_one(total: list[float], noise: float) -> None:
    for figure in PrivateBinary().figures(total, noise).values():
        assert math.isnan(figure.value) or 0.0 <= figure.value <= 1.0
    assert math.isnan(noised_auc([5.0] * 16, [-5.0] * 16, 0.0).value)
    assert math.isnan(noised_auc([5.0] * 16, [5.0] * 16, 20.0).value), "noise drowns the number of records"
    assert math.isnan(noised_share([-3.0], [1.0], 0.0).value)


def test_a_measure_without_a_bound_is_refused_with_noise() -> None:
    class Told(Small):
        def measures(self) -> tuple[Number]:
            return (Number(),)

    with pytest.raises(MeasureNotPrivate, match="small") as caught:
        judge_of(Told(), held_out([2, 3]), "record", NOISED)
    assert "Number" in caught.value.evidence
    assert not isinstance(judge_of(Told(), held_out([2, 3]), "record", None), PrivateJudge)

"""Figures from summed counts are those of all records pooled, and any total gives figures and no error."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.training import MeasureUnusable
from p2pfl.training.measures.classification import Binary, Classes, auc
from p2pfl.training.measures.joint import Joint
from p2pfl.training.measures.measure import Figure, Measure, mean, proportion
from p2pfl.training.measures.private import PrivateJoint
from p2pfl.training.measures.regression import Number
from p2pfl.training.measures.scores import BINS, bins_of
from p2pfl.training.measures.segmentation import Segmentation
from p2pfl.training.measures.survival import Concordance

ALL = [Binary(), Classes(3), Number(4.0, 50.0), Segmentation(4), Concordance()]


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def pooled(measure: Measure, predictions: np.ndarray, targets: np.ndarray, sites: int = 3) -> Mapping[str, Figure]:
    """As the federation does it: each site counts its own records, batch by batch, and only the sum is looked at."""
    joint = Joint([measure], "test")
    total = np.zeros(joint.size, np.int64)
    for place in range(sites):
        said, seen = predictions[place::sites], targets[place::sites]
        if measure.whole:
            total += joint.count(said, seen, whole=True)
            continue
        for start in range(0, len(seen), 7):
            total += joint.count(said[start : start + 7], seen[start : start + 7], whole=False)
    return joint.figures(total)


# ── figures are those of the pooled records ───────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_auc_counts_every_pair_and_half_of_the_ties(bins: list[tuple[int, int]]) -> None:
    positive, negative = (list(column) for column in zip(*bins, strict=True))
    pairs = [
        (hit > miss) + (hit == miss) / 2
        for hit, hits in enumerate(positive)
        for miss, misses in enumerate(negative)
        for _ in range(hits * misses)
    ]
    found = auc(positive, negative)
    assert math.isnan(found.value) if not pairs else math.isclose(found.value, sum(pairs) / len(pairs))
    assert not found.low > found.value and not found.high < found.value


def test_a_model_that_is_sure_of_itself_keeps_its_auc() -> None:
    draws = random(9)
    label = draws.integers(0, 2, 4000)
    logit = draws.normal(0, 1, 4000) + 1.5 * label
    exact = (logit[label == 1][:, None] > logit[label == 0]).mean()
    for shift in (-9.0, -4.0, 0.0, 4.0, 9.0):
        found = pooled(Binary(), 1 / (1 + np.exp(-(logit + shift))), label)["auc"].value
        assert abs(found - exact) < 0.02
    for scale in (0.1, 1.0, 5.0):
        found = pooled(Binary(), 1 / (1 + np.exp(-scale * logit)), label)["auc"].value
        assert abs(found - exact) < 0.01
    assert bins_of(np.array([0.0, 0.49999, 0.5, 1.0])).tolist() == [5, 63, 64, 122]


def test_delongs_interval_is_that_of_its_formula_over_single_records() -> None:
    draws = random(1)
    label = draws.integers(0, 2, 300)
    bins = np.clip(draws.integers(0, BINS, 300) + 25 * label, 0, BINS - 1)
    ours, theirs = bins[label == 1], bins[label == 0]
    kernel = (ours[:, None] > theirs).astype(float) + 0.5 * (ours[:, None] == theirs)
    area, error = (
        kernel.mean(),
        kernel.mean(axis=1).var(ddof=1) / len(ours) + kernel.mean(axis=0).var(ddof=1) / len(theirs),
    )
    found = auc(np.bincount(ours, minlength=BINS).tolist(), np.bincount(theirs, minlength=BINS).tolist())
    assert math.isclose(found.value, area)
    assert math.isclose(found.high - found.low, 2 * 1.959963984540054 * math.sqrt(error))


def test_binary_figures_are_those_of_the_pooled_records() -> None:
    draws = random(2)
    label = draws.integers(0, 2, 500)
    score = np.clip(0.25 + 0.5 * label * draws.random(500) + 0.25 * draws.random(500), 0.0, 0.999)
    found = pooled(Binary(), score, label)
    said, own = score >= 0.5, np.where(label == 1, score, 1 - score)
    assert math.isclose(found["accuracy"].value, (said == label).mean())
    assert math.isclose(found["sensitivity"].value, said[label == 1].mean())
    assert math.isclose(found["specificity"].value, 1 - said[label == 0].mean())
    assert math.isclose(found["log_loss"].value, -np.log(own).mean(), abs_tol=1e-5)
    assert math.isclose(found["brier"].value, ((1 - own) ** 2).mean(), abs_tol=1e-5)
    kernel = (score[label == 1][:, None] > score[label == 0]).mean()
    assert abs(found["auc"].value - kernel) < 0.01, "to within the width of a bin"
    spread = ((1 - own) ** 2).std(ddof=1) / math.sqrt(500)
    assert math.isclose(found["brier"].high - found["brier"].low, 2 * 1.96 * spread, rel_tol=1e-3)


def test_a_calibrated_model_has_a_small_calibration_error_and_a_boastful_one_a_large() -> None:
    draws = random(3)
    score = draws.random(20_000)
    label = (draws.random(20_000) < score).astype(np.int64)
    assert pooled(Binary(), score, label)["calibration_error"].value < 0.02
    assert pooled(Binary(), np.where(score > 0.5, 0.99, 0.01), label)["calibration_error"].value > 0.2


def test_several_classes_have_the_figures_of_the_pooled_confusion() -> None:
    draws = random(4)
    label = draws.integers(0, 3, 600)
    raw = draws.random((600, 3)) + 0.8 * np.eye(3)[label]
    score = raw / raw.sum(axis=1, keepdims=True)
    found = pooled(Classes(3), score, label)
    best = score.argmax(axis=1)
    recall = [(best[label == one] == one).mean() for one in range(3)]
    assert math.isclose(found["accuracy"].value, (best == label).mean())
    assert math.isclose(found["balanced_accuracy"].value, np.mean(recall))
    assert [found[f"recall_{one}"].value for one in range(3)] == pytest.approx(recall)
    assert math.isclose(found["log_loss"].value, -np.log(score[np.arange(600), label]).mean(), abs_tol=1e-5)
    rest = [(score[label == one, one][:, None] > score[label != one, one]).mean() for one in range(3)]
    assert abs(found["auc"].value - np.mean(rest)) < 0.03


def test_a_numbers_figures_are_those_of_the_pooled_errors() -> None:
    draws = random(5)
    seen = draws.normal(50, 4, 400)
    said = seen + draws.normal(0, 1, 400)
    found, error = pooled(Number(4.0, 50.0), said, seen), said - seen
    assert math.isclose(found["mse"].value, (error**2).mean(), rel_tol=1e-4)
    assert math.isclose(found["rmse"].value, math.sqrt((error**2).mean()), rel_tol=1e-4)
    assert math.isclose(found["mae"].value, np.abs(error).mean(), rel_tol=1e-4)
    assert math.isclose(found["r2"].value, 1 - (error**2).sum() / ((seen - seen.mean()) ** 2).sum(), abs_tol=1e-3)
    assert found["rmse"].low < found["rmse"].value < found["rmse"].high


def test_dice_and_iou_are_those_of_the_voxels() -> None:
    draws = random(6)
    seen = draws.integers(0, 3, (9, 4, 4, 4))
    said = np.where(draws.random(seen.shape) < 0.7, seen, draws.integers(0, 3, seen.shape))
    found = pooled(Segmentation(3), said, seen)
    for one in (1, 2):
        both = ((said == one) & (seen == one)).sum()
        ours, theirs = (said == one).sum(), (seen == one).sum()
        assert math.isclose(found[f"dice_{one}"].value, 2 * both / (ours + theirs))
        assert math.isclose(found[f"iou_{one}"].value, both / (ours + theirs - both))
    assert pooled(Segmentation(3), seen, seen)["dice"].value == 1.0
    assert pooled(Segmentation(3), np.zeros_like(seen), np.zeros_like(seen))["dice"].value == 1.0


def test_concordance_compares_records_of_one_site_alone() -> None:
    draws = random(7)
    time, event = draws.integers(1, 20, 60).astype(float), draws.integers(0, 2, 60)
    risk = np.round(-time + draws.normal(0, 5, 60))
    right = pairs = 0.0
    for site in range(3):
        rows = range(site, 60, 3)
        for first in rows:
            for second in rows:
                if event[first] and time[first] < time[second]:
                    pairs += 1
                    right += (risk[first] > risk[second]) + 0.5 * (risk[first] == risk[second])
    found = pooled(Concordance(), risk, np.stack([time, event], axis=1))["concordance"]
    assert math.isclose(found.value, right / pairs)
    assert 0 < found.low < found.value < found.high < 1


# ── intervals ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_hold_the_truth_about_as_often_as_they_say(share: float) -> None:
    draws, covered, tries = random(8), {"proportion": 0, "auc": 0, "concordance": 0}, 300
    truth = share
    for _ in range(tries):
        hits = int((draws.random(80) < share).sum())
        found = proportion(hits, 80)
        covered["proportion"] += found.low <= truth <= found.high
        shift = {0.5: 0.0, 0.9: 1.8124}[share]  # Φ(shift / √2) is the area
        score = 1 / (1 + np.exp(-np.concatenate([draws.normal(0, 1, 60), draws.normal(shift, 1, 60)])))
        label = np.repeat([0, 1], 60)
        area = pooled(Binary(), score, label)["auc"]
        covered["auc"] += area.low <= truth <= area.high
        order = np.argsort(draws.random(120))
        pair = pooled(
            Concordance(), score[order], np.stack([1.0 + (label[order] == 0), label[order] * 0 + 1], axis=1), 1
        )
        covered["concordance"] += pair["concordance"].low <= truth <= pair["concordance"].high
    assert all(0.88 <= count / tries <= 0.99 for count in covered.values()), covered


def test_a_mean_of_one_record_has_no_interval() -> None:
    one = mean(3 << 20, 9 << 20, 1)
    assert one.value == 3.0 and math.isnan(one.low) and math.isnan(one.high)


# ── what a liar or a careless author does ─────────────────────────────────────────────────────────────────────

ODD = st.sampled_from([0, 1, -1, 7, 1 << 20, 1 << 40, (1 << 60) - 1, 1 - (1 << 60)])


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("measure", ALL, ids=lambda one: type(one).__name__)
@given(data=st.data())
def test_any_total_gives_figures_that_are_finite_or_none_and_never_an_error(measure: Measure, data: Any) -> None:
    total = [0] * measure.size
    for place in data.draw(st.lists(st.integers(0, measure.size - 1), max_size=12)):
        total[place] = data.draw(ODD)
    for figure in Joint([measure], "test").figures(np.array(total, np.int64)).values():
        assert not math.isinf(figure.value)
        assert not figure.low > figure.value and not figure.high < figure.value


class Own(Measure):
    """What an author may get wrong."""

    def __init__(self, size: int, counted: Any, names: Sequence[str] = ("own",)) -> None:
        self._size, self._counted, self._names = size, counted, names

    @property
    def size(self) -> int:
        return self._size

    def count(self, predictions: np.ndarray, targets: np.ndarray) -> Any:
        return self._counted

    def figures(self, total: Sequence[int]) -> Mapping[str, Figure]:
        return {name: Figure(1 / max(total[0], 0) if total[0] else 0.0) for name in self._names}


@pytest.mark.parametrize(
    "counted", [np.zeros(2, np.int64), np.zeros(3), np.full(3, 1 << 51), np.full(3, -(1 << 63), np.int64)]
)
def test_counts_of_another_shape_kind_or_size_are_refused(counted: np.ndarray) -> None:
    with pytest.raises(MeasureUnusable):
        Joint([Own(3, counted)], "own").count(np.zeros(1), np.zeros(1), whole=False)


@pytest.mark.parametrize(
    "measures", [[Own(0, None)], [Own(1 << 17, None)], [Own(1, None, ("Bad",))], [Binary(), Binary()]]
)
def test_sizes_and_names_that_cannot_be_had_are_refused_at_start(measures: list[Measure]) -> None:
    with pytest.raises(MeasureUnusable):
        Joint(measures, "own")


def test_a_measure_that_fails_on_a_total_says_nothing_and_the_others_speak() -> None:
    joint = Joint([Own(1, None), Number()], "own")
    found = joint.figures(np.array([-1, 4, 0, 0, 0, 0, 0], np.int64))
    assert math.isnan(found["own"].value) and found["mse"].value == 0.0


def test_several_measures_are_one_vector_and_one_table() -> None:
    joint = Joint([Binary(), Concordance()], "both")
    assert joint.whole and joint.size == Binary.size + Concordance.size
    assert next(iter(joint.names)) == "auc" and "concordance" in joint.names


ROWS = np.arange(6)
SURE = np.full((6, 3), 1 / 3)


@pytest.mark.parametrize(
    ("measure", "predictions", "targets", "said"),
    [
        (Binary(), SURE[:, :2], ROWS % 2, r"shape \(6, 2\), and one probability each"),
        (Binary(), 5.0 - ROWS, ROWS % 2, "lack a sigmoid"),
        (Binary(), SURE[:, 0], ROWS % 3, "none of the whole numbers 0 to 1"),
        (Binary(), SURE[:, 0], -(ROWS % 2), "none of the whole numbers 0 to 1"),
        (Classes(4), SURE, ROWS % 3, r"shape \(6, 3\), and a probability for each of 4 classes"),
        (Classes(2), np.full((6, 2), 0.5), ROWS % 3, "none of the whole numbers 0 to 1"),
        (Classes(3), 9.0 * SURE, ROWS % 3, "or a softmax"),
        (Classes(3), SURE, ROWS % 3 + 0.5, "none of the whole numbers 0 to 2"),
        (Number(), SURE, ROWS, "one number each is counted"),
        (Segmentation(3), np.zeros((6, 4, 4)), np.zeros((6, 4, 5)), "one class for each voxel"),
        (Concordance(), ROWS, ROWS, r"\(time, event\) of each record"),
    ],
)
def test_what_a_measure_does_not_take_is_told_as_the_tasks_and_no_value_with_it(
    measure: Measure, predictions: np.ndarray, targets: np.ndarray, said: str
) -> None:
    """Logits in place of probabilities were counted into the last bins, and a label of −1 as a positive one."""
    with pytest.raises(MeasureUnusable) as caught:
        Joint([measure], "rhythm").count(predictions, targets, whole=measure.whole)
    assert "task rhythm" in caught.value.render() and re.search(said, caught.value.evidence)
    private = measure.private()
    if private is not None:
        with pytest.raises(MeasureUnusable) as caught:
            PrivateJoint([private], "rhythm").count(predictions, targets, np.ones(6, np.int64))
        assert "task rhythm" in caught.value.render() and re.search(said, caught.value.evidence)


def test_probabilities_that_rounding_put_beyond_one_are_counted() -> None:
    found = Joint([Binary()], "half").count(np.float32([1.0005, -0.0005]), np.array([1, 0]), whole=False)
    assert np.array_equal(found[: 2 * BINS], Binary().count(np.array([1.0, 0.0]), np.array([1, 0]))[: 2 * BINS])

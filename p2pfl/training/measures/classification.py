"""Binary and several classes: AUC, accuracy, calibration, log loss, from counts by class and bin of score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.measures.measure import (
    LEAST_PROBABILITY,
    UNIT,
    UNKNOWN,
    Counts,
    Figure,
    Measure,
    fixed,
    mean,
    normal,
    proportion,
    within,
)
from p2pfl.training.measures.private import PrivateBinary, PrivateClasses, PrivateMeasure
from p2pfl.training.measures.scores import BEND, BINS, bins_of, scores_and_labels

BINS_BY_CLASS: Final = 32  # fewer, since there is a histogram for each class
MOST_CLASSES: Final = 64
GROUPS: Final = 8  # of bins, over which calibration is judged


class Binary(Measure):
    """A probability (B,) against labels 0 and 1.

    Figures: auc (DeLong 1988, a tie within a bin counting half), accuracy, sensitivity and specificity at one half,
    log_loss, brier, calibration_error (mean distance of predicted and observed share over eight groups of scores).
    """

    size = 2 * BINS + 4

    def private(self) -> PrivateMeasure:
        """In fewer bins, and without sums of real numbers."""
        return PrivateBinary()

    def count(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Counts:
        """(B,) probabilities, (B,) labels ► counts by class and bin, then log loss and Brier score, each with squares.

        Log loss and Brier score are summed in fixed point.
        """
        score, label = scores_and_labels(predictions, targets)
        own = np.where(label == 1, score, 1.0 - score)  # probability of the class that it is
        losses, errors = -np.log(np.maximum(own, LEAST_PROBABILITY)), (1.0 - own) ** 2
        sums = [fixed(part).sum() for part in (losses, losses**2, errors, errors**2)]
        return np.concatenate([histogram(score, label).reshape(-1), np.array(sums, np.int64)])

    def figures(self, total: Sequence[int]) -> Mapping[str, Figure]:
        negative, positive = total[:BINS], total[BINS : 2 * BINS]
        loss, loss_squares, error, error_squares = total[2 * BINS :]
        half = BINS // 2
        right, wrong = sum(positive[half:]), sum(positive[:half])
        rejected, alarms = sum(negative[:half]), sum(negative[half:])
        count = right + wrong + rejected + alarms
        return {
            "auc": auc(positive, negative),
            "accuracy": proportion(right + rejected, count),
            "sensitivity": proportion(right, right + wrong),
            "specificity": proportion(rejected, rejected + alarms),
            "log_loss": mean(loss, loss_squares, count),
            "brier": within(mean(error, error_squares, count), 0.0, 1.0),
            "calibration_error": _calibration_error(positive, negative),
        }


class Classes(Measure):
    """Probabilities (B, K) against labels 0 … K−1.

    Figures: auc (mean over classes of one against the rest), accuracy, balanced_accuracy (mean recall), log_loss, and
    for each class recall_k and auc_k.
    """

    def __init__(self, classes: int) -> None:
        self.classes = checked_classes(classes)

    def private(self) -> PrivateMeasure:
        """In fewer bins, and without sums of real numbers."""
        return PrivateClasses(self.classes)

    @property
    def size(self) -> int:
        return self.classes**2 + 2 * self.classes * BINS_BY_CLASS + 2

    def count(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Counts:
        """(B, K) probabilities, (B,) labels ► the confusion matrix (true, predicted), histograms by class, log loss."""
        scores, label = scores_and_labels(predictions, targets, self.classes)
        confusion = np.zeros((self.classes, self.classes), np.int64)
        np.add.at(confusion, (label, scores.argmax(axis=1)), 1)
        by_class = [
            histogram(scores[:, one], (label == one).astype(np.int64), BINS_BY_CLASS) for one in range(self.classes)
        ]
        losses = -np.log(np.maximum(scores[np.arange(len(label)), label], LEAST_PROBABILITY))
        sums = np.array([fixed(losses).sum(), fixed(losses**2).sum()], np.int64)
        return np.concatenate([confusion.reshape(-1), np.stack(by_class).reshape(-1), sums])

    def figures(self, total: Sequence[int]) -> Mapping[str, Figure]:
        k, rows = self.classes, self.classes**2
        confusion = [total[place * k : (place + 1) * k] for place in range(k)]
        recall = [proportion(row[place], sum(row)) for place, row in enumerate(confusion)]
        areas = []
        for place in range(k):
            start = rows + 2 * place * BINS_BY_CLASS
            rest, own = total[start : start + BINS_BY_CLASS], total[start + BINS_BY_CLASS : start + 2 * BINS_BY_CLASS]
            areas.append(auc(own, rest))
        count = sum(sum(row) for row in confusion)
        return {
            "auc": _average(areas),
            "accuracy": proportion(sum(row[place] for place, row in enumerate(confusion)), count),
            "balanced_accuracy": _average(recall),
            "log_loss": mean(total[-2], total[-1], count),
            **{f"recall_{place}": figure for place, figure in enumerate(recall)},
            **{f"auc_{place}": figure for place, figure in enumerate(areas)},
        }


def checked_classes(classes: int) -> int:
    """A number of classes that can be counted. Raises ValueError."""
    if not 2 <= classes <= MOST_CLASSES:
        raise ValueError(f"{classes} classes; 2 to {MOST_CLASSES} are possible")
    return classes


def _middle(place: int) -> int:
    """The score at the middle of a bin of BINS, in fixed point: the same integer on every machine."""
    t = (2 * place + 1) / BINS - 1.0
    return round(UNIT / (1.0 + math.exp(-BEND * t / (1.0 - abs(t)))))


def histogram(scores: NDArray[np.float64], labels: NDArray[np.int64], bins: int = BINS) -> Counts:
    """Counts of scores in [0, 1] by class and bin: row 0 negative, row 1 positive.    (2, bins)"""
    place = bins_of(scores, bins)  # (N,)
    counts = np.zeros((2, bins), dtype=np.int64)
    np.add.at(counts, (labels, place), 1)
    return counts


def auc(positive: Sequence[int], negative: Sequence[int]) -> Figure:
    """Area under the ROC curve from counts of scores by bin; DeLong's interval (1988), exact for binned scores.

    The chance that a positive record scores above a negative one, a tie within a bin counting half.
    """
    m, n = sum(positive), sum(negative)
    if m < 1 or n < 1 or min(*positive, *negative) < 0:
        return UNKNOWN
    # Twice the share of the other class that a record of each bin is ranked above, as integers.
    below = [0, *accumulate(negative)]
    above = [0, *accumulate(reversed(positive))][::-1]
    beaten = [2 * below[place] + negative[place] for place in range(len(negative))]
    beaten_by = [2 * above[place + 1] + positive[place] for place in range(len(positive))]
    pairs = sum(count * share for count, share in zip(positive, beaten, strict=True))
    area = pairs / (2 * m * n)
    if m < 2 or n < 2:
        return Figure(area)
    ours = _variance([share / (2 * n) for share in beaten], positive, area, m)
    theirs = _variance([share / (2 * m) for share in beaten_by], negative, area, n)
    return within(normal(area, ours / m + theirs / n), 0.0, 1.0)


def _variance(values: Sequence[float], counts: Sequence[int], centre: float, total: int) -> float:
    return sum(count * (value - centre) ** 2 for value, count in zip(values, counts, strict=True)) / (total - 1)


def _average(figures: Sequence[Figure]) -> Figure:
    values = [figure.value for figure in figures]
    return UNKNOWN if any(math.isnan(value) for value in values) else Figure(sum(values) / len(values))


def _calibration_error(positive: Sequence[int], negative: Sequence[int]) -> Figure:
    """Σ over groups of bins: share of records × |mean score − share of positives|. A bin's score is its middle's."""
    width, count, error = BINS // GROUPS, sum(positive) + sum(negative), 0.0
    if count < 1 or min(*positive, *negative) < 0:
        return UNKNOWN
    for start in range(0, BINS, width):
        bins = range(start, start + width)
        held = sum(positive[place] + negative[place] for place in bins)
        said = sum(MIDDLES[place] * (positive[place] + negative[place]) for place in bins) / UNIT
        seen = sum(positive[place] for place in bins)
        error += abs(said - seen) / count if held else 0.0
    return Figure(error)


MIDDLES: Final = tuple(_middle(place) for place in range(BINS))

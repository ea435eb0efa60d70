"""Private measures: counts of which one held-out unit, a record or a patient, moves a bounded number, to be noised.

A record adds one to each of `slots` counts, and no real number to any. Each unit weighs one, in fixed point UNIT: a
patient's k records weigh ⌊UNIT / k⌋ each. So a unit moves the whole vector by at most UNIT · √slots in L2, whatever the
model says of it; noise is discrete Gaussian on every count (node/runs/looks.py).

Figures are linear in the noised counts, as far as that goes, and no negative count is cut off: cutting would only ever
add, and every empty bin would come to hold somebody. Positive and negative counts have noise of their own, so the
number of pairs that a model puts in order is as likely too large as too small. Where noise drowns the number of records
there is no figure. Intervals hold the noise beside the chance of who was held out.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import MeasureUnusable
from p2pfl.training.measures.measure import UNIT, UNKNOWN, CannotCount, Counts, Figure, normal, within
from p2pfl.training.measures.scores import bins_of, scores_and_labels

BINS: Final = 16  # of scores by class: more bins hold more noise, fewer more ties
BINS_BY_CLASS: Final = 8
BEND: Final = 1.0  # log-odds at half way from the middle to the end of the bins: few bins lie where most scores are
DROWNED: Final = 3.0  # standard deviations of noise below which a number of records is not known

Places = NDArray[np.int64]


class PrivateMeasure(ABC):
    """One way of judging a model by bounded counts.

    size     numbers that it counts
    slots    of how many of them one record is one
    """

    size: int
    slots: int

    @abstractmethod
    def places(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Places:
        """Where each record counts, no place twice.    (B, …), (B, …) ► (B, slots), each below `size`"""

    @abstractmethod
    def figures(self, total: Sequence[float], noise: float) -> Mapping[str, Figure]:
        """Named figures from the noised total, the first the one that the training is judged by; any total may come.

        noise   standard deviation in each count, in records
        + − × ÷ √ alone, in fixed order, as of a Measure.
        """


class PrivateBinary(PrivateMeasure):
    """Counts of a probability by class and bin. Figures: auc, accuracy, sensitivity and specificity at one half."""

    size, slots = 2 * BINS, 1

    def places(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Places:
        """(B,) probabilities, (B,) labels ► (B, 1)"""
        score, label = scores_and_labels(predictions, targets)
        place: Places = bins_of(score, BINS, BEND) + BINS * (label == 1)
        return place[:, None]

    def figures(self, total: Sequence[float], noise: float) -> Mapping[str, Figure]:
        negative, positive, half = total[:BINS], total[BINS:], BINS // 2
        right, wrong = positive[half:], positive[:half]
        rejected, alarms = negative[:half], negative[half:]
        return {
            "auc": noised_auc(positive, negative, noise),
            "accuracy": noised_share([*right, *rejected], [*wrong, *alarms], noise),
            "sensitivity": noised_share(right, wrong, noise),
            "specificity": noised_share(rejected, alarms, noise),
        }


class PrivateClasses(PrivateMeasure):
    """Counts of probabilities of K classes. Figures: auc, accuracy, balanced_accuracy, and recall_k and auc_k."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.size, self.slots = classes**2 + 2 * classes * BINS_BY_CLASS, 1 + classes

    def places(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Places:
        """(B, K) probabilities, (B,) labels ► (B, 1 + K): the cell of (true, predicted), and a bin for each class."""
        k = self.classes
        scores, label = scores_and_labels(predictions, targets, k)  # (B, K), (B,)
        cell = label * k + scores.argmax(axis=1)
        own = label[:, None] == np.arange(k)  # (B, K)
        bins = bins_of(scores.reshape(-1), BINS_BY_CLASS, BEND).reshape(-1, k)
        starts = k * k + BINS_BY_CLASS * (2 * np.arange(k) + own)
        return np.concatenate([cell[:, None], starts + bins], axis=1).astype(np.int64)

    def figures(self, total: Sequence[float], noise: float) -> Mapping[str, Figure]:
        k, recall, areas = self.classes, list[Figure](), list[Figure]()
        right, wrong = list[float](), list[float]()
        for place in range(k):
            row = list(total[place * k : (place + 1) * k])
            right.append(row.pop(place))
            wrong += row
            recall.append(noised_share(right[-1:], row, noise))
            start = k * k + 2 * place * BINS_BY_CLASS
            rest, own = total[start : start + BINS_BY_CLASS], total[start + BINS_BY_CLASS : start + 2 * BINS_BY_CLASS]
            areas.append(noised_auc(own, rest, noise))
        return {
            "auc": _average(areas),
            "accuracy": noised_share(right, wrong, noise),
            "balanced_accuracy": _average(recall),
            **{f"recall_{place}": figure for place, figure in enumerate(recall)},
            **{f"auc_{place}": figure for place, figure in enumerate(areas)},
        }


class PrivateJoint:
    """All private measures of a task as one vector."""

    def __init__(self, measures: Iterable[PrivateMeasure], task: str = "") -> None:
        self._measures, self._task = tuple(measures), task
        self._ends = np.cumsum([0, *(one.size for one in self._measures)]).tolist()
        self.size, self.slots = int(self._ends[-1]), sum(one.slots for one in self._measures)

    def count(self, predictions: NDArray[Any], targets: NDArray[Any], weights: NDArray[np.int64]) -> Counts:
        """What these records add to the sum, each as much as its weight, UNIT at most.    (size,)

        Raises MeasureUnusable for records that a measure does not take.
        """
        found = np.zeros(self.size, np.int64)
        for one, start in zip(self._measures, self._ends[:-1], strict=True):
            try:
                places = one.places(predictions, targets)
            except CannotCount as error:
                raise MeasureUnusable(evidence=f"{type(one).__name__}: {error}", task=self._task) from None
            if places.shape != (len(weights), one.slots) or places.min(initial=0) < 0:
                raise ValueError(f"{type(one).__name__} counts at {places.shape}")
            for column in places.T:
                np.add.at(found[start : start + one.size], column, weights)
        return found

    def figures(self, total: Counts, noise: float) -> Mapping[str, Figure]:
        """The figures of the noised total, in order; UNKNOWN where it says nothing."""
        found = dict[str, Figure]()
        for one, start, stop in zip(self._measures, self._ends[:-1], self._ends[1:], strict=True):
            found |= one.figures([int(value) / UNIT for value in total[start:stop]], noise)
        return found


def weights_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What each record of a unit of so many records weighs, in UNIT: a unit weighs one at most.    (N,) ► (N,)"""
    found: NDArray[np.int64] = UNIT // sizes
    return found


def noised_auc(positive: Sequence[float], negative: Sequence[float], noise: float) -> Figure:
    """Area under the ROC curve from noised counts of scores by bin, a tie within a bin counting half.

    Its variance is that of the noise, by the area's slope in each count, and of who was held out at most
    area · (1 − area) / the smaller class (Bamber 1975): noised bins do not say it better.
    """
    m, n = sum(positive), sum(negative)
    least = max(1.0, DROWNED * noise * math.sqrt(len(positive)))
    if m < least or n < least:
        return UNKNOWN
    below = [0.0, *accumulate(negative)]
    above = [0.0, *accumulate(reversed(positive))][::-1]
    beaten = [below[place] + count / 2.0 for place, count in enumerate(negative)]
    beaten_by = [above[place + 1] + count / 2.0 for place, count in enumerate(positive)]
    area = sum(count * share for count, share in zip(positive, beaten, strict=True)) / (m * n)
    slopes = sum(((one / n - area) / m) ** 2 for one in beaten) + sum(((one / m - area) / n) ** 2 for one in beaten_by)
    value = min(1.0, max(0.0, area))
    return within(normal(value, noise * noise * slopes + value * (1.0 - value) / min(m, n)), 0.0, 1.0)


def noised_share(part: Sequence[float], rest: Sequence[float], noise: float) -> Figure:
    """Σ part of Σ part + Σ rest, with the noise of each count in its interval."""
    have, lack = sum(part), sum(rest)
    whole = have + lack
    if whole < max(1.0, DROWNED * noise * math.sqrt(len(part) + len(rest))):
        return UNKNOWN
    share = min(1.0, max(0.0, have / whole))
    slopes = (len(part) * (1.0 - share) ** 2 + len(rest) * share**2) / whole**2
    return within(normal(share, noise * noise * slopes + share * (1.0 - share) / whole), 0.0, 1.0)


def _average(figures: Sequence[Figure]) -> Figure:
    values = [figure.value for figure in figures]
    return UNKNOWN if any(math.isnan(value) for value in values) else Figure(sum(values) / len(values))

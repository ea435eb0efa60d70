"""Probabilities and labels of records, checked, and the bin of each probability.

Bins are not equal parts of [0, 1]: a model that is sure of itself has all its scores in the last of those, and would
lose its AUC with its calibration. They are equal parts of u = ½ + ½·z/(|z| + 4), z the log-odds: .06 wide at a score
of one half, and still apart at log-odds of 16. The middle of all is a score of one half.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.measures.measure import CannotCount, alike

BINS: Final = 128
BEND: Final = 4.0  # log-odds at which a score is half way from the middle to the end of the bins
ROUNDING: Final = 1e-3  # beyond 0 and 1, of probabilities in a precision of 16 bits
FARTHEST: Final = 40.0  # log-odds of scores 0 and 1


def scores_and_labels(
    predictions: NDArray[Any], targets: NDArray[Any], classes: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A probability for each record, or one for each of `classes`, and the label.    (B,) or (B, K) float64, (B,) int64

    Raises CannotCount for another number of them, for what are no probabilities, and for labels beyond the classes.
    """
    count, (labels,) = len(targets), alike(len(targets), np.asarray(targets))
    scores, wanted = np.asarray(predictions, np.float64), (count, classes) if classes else (count,)
    if scores.size != math.prod(wanted) or len(scores) != count:
        named = f"a probability for each of {classes} classes" if classes else "one probability each"
        raise CannotCount(f"predictions of {count} records have shape {scores.shape}, and {named} is counted")
    if not ((scores >= -ROUNDING) & (scores <= 1.0 + ROUNDING)).all():
        raise CannotCount("a prediction is no probability: does `predictions` lack a sigmoid, or a softmax?")
    most = max(classes, 2) - 1
    if not ((labels >= 0) & (labels <= most) & (labels == np.rint(labels))).all():
        raise CannotCount(f"a label is none of the whole numbers 0 to {most}")
    return np.clip(scores, 0.0, 1.0).reshape(wanted), labels.astype(np.int64)


def bins_of(scores: NDArray[Any], bins: int = BINS, bend: float = BEND) -> NDArray[np.int64]:
    """The bin of each score in [0, 1].    (N,) ► (N,)"""
    odds = np.asarray(scores, np.float64)
    with np.errstate(divide="ignore"):
        z = np.clip(np.log(odds) - np.log1p(-odds), -FARTHEST, FARTHEST)
    part: NDArray[np.float64] = 0.5 + 0.5 * z / (np.abs(z) + bend)
    return np.clip((part * bins).astype(np.int64), 0, bins - 1)

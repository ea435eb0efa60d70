"""Time to an event, with censoring: concordance within sites (Harrell 1982), so that no record is compared abroad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.measures.measure import UNKNOWN, CannotCount, Counts, Figure, Measure, alike, normal, within

AT_ONCE: Final = 512  # records compared with all others at a time


class Concordance(Measure):
    """A risk (B,) against (time, event 0 or 1) (B, 2). Figure: concordance, strata being the sites.

    Of two records that can be compared (the shorter time is that of an event), how often has the one whose event came
    first the higher risk? The interval follows from each record's own part of the pairs (Hájek's projection).
    """

    whole: ClassVar[bool] = True
    size = 5

    def count(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Counts:
        """(N,), (N, 2) ► of each record's pairs t and twice its concordant ones c (a tie in risk is one): Σt, Σc, and
        Σt², Σtc, Σc²."""
        (risk,) = alike(len(targets), predictions)
        if np.shape(targets) != (len(targets), 2):
            raise CannotCount(f"targets have shape {np.shape(targets)}, and (time, event) of each record is counted")
        time, event = np.asarray(targets, np.float64).T
        pairs, right = np.zeros(len(risk), np.int64), np.zeros(len(risk), np.int64)
        for start in range(0, len(risk), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            first = (event[rows, None] > 0) & (time[rows, None] < time[None, :])  # (b, N): the row's event came first
            twice = (np.sign(risk[rows, None] - risk[None, :]) + 1).astype(np.int64) * first
            pairs[rows] += first.sum(axis=1)
            right[rows] += twice.sum(axis=1)
            pairs += first.sum(axis=0)
            right += twice.sum(axis=0)
        return np.array([pairs.sum(), right.sum(), (pairs**2).sum(), (pairs * right).sum(), (right**2).sum()], np.int64)

    def figures(self, total: Sequence[int]) -> Mapping[str, Figure]:
        pairs, right, pairs_squared, both, right_squared = total
        if not 0 <= right <= 2 * pairs or pairs == 0:
            return {"concordance": UNKNOWN}
        share = right / (2 * pairs)
        rest = right_squared / 4.0 - share * both + share * share * pairs_squared  # Σ (c/2 − share · t)²
        return {"concordance": within(normal(share, 4.0 * rest / (pairs * pairs)), 0.0, 1.0)}

"""A number: mean squared and absolute error, R²."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.measures.measure import UNIT, UNKNOWN, Counts, Figure, Measure, alike, fixed, mean, root, within

FARTHEST: Final = 16.0  # scales: an error beyond counts as that many, so that no record overflows a sum


class Number(Measure):
    """A number (B,) against a number (B,). `scale` is a public constant of its spread, as in the table's schema.

    Figures: rmse, mse, mae, r2. Errors, and distances from `centre`, beyond 16 scales count as 16.
    """

    size = 6

    def __init__(self, scale: float = 1.0, centre: float = 0.0) -> None:
        if not (scale > 0.0 and math.isfinite(scale) and math.isfinite(centre)):
            raise ValueError(f"scale {scale}, centre {centre}")
        self.scale, self.centre = scale, centre

    def count(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Counts:
        """(B,), (B,) ► records; Σ|e|, Σe², Σe⁴ of errors e; Σd, Σd² of distances d from the centre, in scales."""
        said, seen = alike(len(targets), predictions, targets)
        error = np.clip((said - seen) / self.scale, -FARTHEST, FARTHEST)
        distance = np.clip((seen - self.centre) / self.scale, -FARTHEST, FARTHEST)
        parts = (np.abs(error), error**2, error**4, distance, distance**2)
        return np.array([len(seen), *(fixed(part).sum() for part in parts)], np.int64)

    def figures(self, total: Sequence[int]) -> Mapping[str, Figure]:
        count, absolute, squares, fourths, distance, distance_squares = total
        square = within(mean(squares, fourths, count, self.scale**2), 0.0, math.inf)
        spread = (distance_squares - distance * distance / (UNIT * count)) / UNIT if count > 0 else 0.0
        return {
            "rmse": root(square),
            "mse": square,
            "mae": within(mean(absolute, squares, count, self.scale), 0.0, math.inf),
            "r2": Figure(1.0 - squares / UNIT / spread) if spread > 0.0 else UNKNOWN,
        }

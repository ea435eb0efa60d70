"""Segmentation: Dice and intersection over union of each class, class 0 being the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.measures.classification import checked_classes
from p2pfl.training.measures.measure import UNKNOWN, CannotCount, Counts, Figure, Measure, fixed, mean, within


class Segmentation(Measure):
    """Class of each voxel (B, …) against the same, `classes` of them with the background.

    Figures: dice (mean over records of the mean over classes that the record or the model has), and over all voxels
    together dice_k and iou_k for each class.
    """

    def __init__(self, classes: int) -> None:
        self.classes = checked_classes(classes)

    @property
    def size(self) -> int:
        return 3 + 3 * (self.classes - 1)

    def count(self, predictions: NDArray[Any], targets: NDArray[Any]) -> Counts:
        """(B, …), (B, …) ► records, Σ Dice, Σ Dice²; by class: voxels of both, of the model, of the truth."""
        if np.size(predictions) != np.size(targets):
            shapes = f"{np.shape(predictions)}, targets {np.shape(targets)}"
            raise CannotCount(f"predictions have shape {shapes}, and one class for each voxel is counted")
        said, seen = (np.asarray(part).reshape(len(targets), -1) for part in (predictions, targets))
        voxels = np.zeros((self.classes - 1, 3), np.int64)
        by_record = np.full((len(seen), self.classes - 1), np.nan)
        for place in range(self.classes - 1):
            mine, true = said == place + 1, seen == place + 1  # (B, V)
            both, ours, theirs = (part.sum(axis=1) for part in (mine & true, mine, true))
            voxels[place] = both.sum(), ours.sum(), theirs.sum()
            there = ours + theirs > 0
            by_record[there, place] = 2.0 * both[there] / (ours + theirs)[there]
        shown = ~np.isnan(by_record).all(axis=1)  # a record without any class, where the model sees none, is right
        dice = np.ones(len(seen))
        dice[shown] = np.nanmean(by_record[shown], axis=1)
        sums = [len(seen), fixed(dice).sum(), fixed(dice**2).sum()]
        return np.concatenate([np.array(sums, np.int64), voxels.reshape(-1)])

    def figures(self, total: Sequence[int]) -> Mapping[str, Figure]:
        count, dice, squares, *voxels = total
        found = {"dice": within(mean(dice, squares, count), 0.0, 1.0)}
        for place in range(self.classes - 1):
            both, ours, theirs = voxels[3 * place : 3 * place + 3]
            found[f"dice_{place + 1}"] = _share(2 * both, ours + theirs)
            found[f"iou_{place + 1}"] = _share(both, ours + theirs - both)
        return found


def _share(part: int, whole: int) -> Figure:
    return Figure(part / whole) if 0 <= part <= whole and whole else UNKNOWN

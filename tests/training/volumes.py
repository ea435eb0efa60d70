"""Made-up volumes as NIfTI files: a bright ball in noise, and the mask that says where it is."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from p2pfl.training.tasks.volumes import Volumes


class Balls(Volumes):
    classes = ("background", "ball")
    size, levels, units = (16, 16, 16), (4, 8), 1
    learning_rate, expected_batch = 0.5, 4.0


def ball(seed: int, side: int = 16) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """(image, mask)    (side, side, side)"""
    draws = np.random.default_rng(seed)
    centre = draws.integers(5, side - 5, 3)
    far = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(np.indices((side,) * 3), centre, strict=True)))
    mask = (far <= 3.5).astype(np.uint8)
    image = draws.normal(100, 20, mask.shape) + 150 * mask
    return image.astype(np.int16), mask


def write(path: Path, values: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def folder(place: Path, count: int, first: int = 0) -> Path:
    """place/images and place/labels with `count` volumes."""
    for number in range(first, first + count):
        image, mask = ball(number)
        write(place / "images" / f"{number:03}.nii.gz", image)
        write(place / "labels" / f"{number:03}.nii.gz", mask)
    return place

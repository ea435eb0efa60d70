"""Images by class: a folder with a folder for each class, or a CSV of paths; PNG, JPEG, DICOM; a CNN or a ResNet.

A study's task is a file of a few lines:

    from p2pfl.training.tasks.images import Images

    class Pneumonia(Images):
        classes = ("normal", "pneumonia")
        architecture, size = "resnet18", 128

Needs Pillow, and pydicom for DICOM: the extra [images].
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import (
    DataEmpty,
    ImagesExtraMissing,
    ImageUnreadable,
    MissingColumn,
    UnknownCode,
)
from p2pfl.training.columns import read_file, text_of
from p2pfl.training.measures.classification import Binary, Classes
from p2pfl.training.measures.measure import Measure
from p2pfl.training.task import Task
from p2pfl.training.weights import read_weights, without

if TYPE_CHECKING:
    import torch
    from torch import nn

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".dcm"})
MOST_SHIFT: Final = 0.08  # of the image's side, by which a record is moved


class Images(Task):
    """One of `classes` from an image. Two classes: the second one is positive.

    size, channels    images are resized to size × size; 1 channel is grey, 3 are colours
    architecture      cnn, resnet18 or resnet50
    train             all, head (the last layer) or norm+head: what does not train does not travel and gets no noise
    weights           (path, SHA-256 in hex) of pretrained weights with torchvision's names; the head starts anew
    flips             a record is mirrored left to right half of the time, for organs that have no side
    """

    name = "images"
    learning_rate: float = 0.01
    expected_batch: float = 16.0
    classes: Sequence[str] = ("negative", "positive")
    size: int = 64
    channels: int = 1
    architecture: str = "resnet18"
    train: str = "all"
    weights: tuple[str, str] | None = None
    flips: bool = False

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> ImageFiles:
        """path/CLASS/*.png, or a CSV with the columns path, label and maybe patient, paths from the CSV's folder."""
        place = Path(path)
        found = _by_folder(place, self.classes, labelled) if place.is_dir() else _by_csv(place, self.classes, labelled)
        if not found:
            raise DataEmpty(evidence=f"no image in the folders {', '.join(self.classes)}", path=path)
        return ImageFiles(found, self.size, self.channels)

    def model(self) -> nn.Module:
        from p2pfl.training.resnet import ARCHITECTURES

        return ARCHITECTURES[self.architecture](self.channels, len(self.classes))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each record.    (B, classes), (B,) ► (B,)"""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets, reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The chance of the second class (B,) of two, else of each class (B, classes)."""
        chances = outputs.softmax(dim=1)
        return chances[:, 1] if len(self.classes) == 2 else chances

    @property
    def prediction_names(self) -> Sequence[str]:
        """The positive class, or all."""
        return (self.classes[1],) if len(self.classes) == 2 else tuple(self.classes)

    def measures(self) -> Sequence[Measure]:
        """AUC first."""
        return (Binary() if len(self.classes) == 2 else Classes(len(self.classes)),)

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """Each record moved by up to 8 % of its side, and mirrored where `flips`.    (B, C, H, W)"""
        import torch

        most = max(1, round(MOST_SHIFT * self.size))
        moves = torch.randint(-most, most + 1, (len(x), 2)).tolist()
        turns = (torch.rand(len(x)) < 0.5).tolist() if self.flips else [False] * len(x)
        moved = [torch.roll(one, (down, right), (1, 2)) for one, (down, right) in zip(x, moves, strict=True)]
        return torch.stack([one.flip(2) if turn else one for one, turn in zip(moved, turns, strict=True)])

    def trainable(self, name: str) -> bool:
        """By `train`: the head is the last layer, called fc."""
        is_norm = ".bn" in f".{name}" or "downsample.1." in name
        return self.train == "all" or name.startswith("fc.") or (self.train == "norm+head" and is_norm)

    def pretrained(self) -> Mapping[str, NDArray[Any]]:
        """Of `weights`, without the head."""
        return without(read_weights(*self.weights), "fc") if self.weights is not None else {}


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One record: where it lies, which class it is, whose it is (or its own name)."""

    path: Path
    label: int
    name: str
    patient: str


class ImageFiles:
    """A map-style dataset that reads an image when it is asked for one: (channels, size, size) float32 in −1 … 1."""

    def __init__(self, files: Sequence[ImageFile], size: int, channels: int) -> None:
        self._files, self._size, self._channels = tuple(files), size, channels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[NDArray[np.float32], int]:
        one = self._files[row]
        return read_image(one.path, self._size, self._channels), one.label

    def identity(self, row: int) -> bytes:
        """The path from the folder of the data."""
        return self._files[row].name.encode()

    def patient(self, row: int) -> bytes:
        """The patient of the CSV; the path where there is none."""
        return self._files[row].patient.encode()


def read_image(path: Path, size: int, channels: int) -> NDArray[np.float32]:
    """The image, resized, in −1 … 1.    (channels, size, size). Raises ImageUnreadable, ImagesExtraMissing."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImagesExtraMissing(evidence="no package called PIL", package="pillow") from None
    try:
        opened = _dicom(path) if path.suffix.lower() == ".dcm" else Image.open(path)
        grey = opened.convert("L" if channels == 1 else "RGB").resize((size, size), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageUnreadable(evidence=type(error).__name__, path=path) from None
    values = np.asarray(grey, np.float32).reshape(size, size, channels) / 127.5 - 1.0
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _dicom(path: Path) -> Any:
    """The picture of a DICOM file, its grey values spread over 0 … 255, MONOCHROME1 turned round."""
    from PIL import Image

    try:
        import pydicom
    except ImportError:
        raise ImagesExtraMissing(evidence="no package called pydicom", package="pydicom") from None
    try:
        held = pydicom.dcmread(path)
        pixels = np.asarray(held.pixel_array, np.float64)
    except (pydicom.errors.InvalidDicomError, AttributeError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(type(error).__name__) from None
    if pixels.ndim != 2:
        raise ValueError("not one grey picture")
    low, high = float(pixels.min()), float(pixels.max())
    spread = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
    if getattr(held, "PhotometricInterpretation", "") == "MONOCHROME1":
        spread = 1.0 - spread
    return Image.fromarray(np.rint(255.0 * spread).astype(np.uint8))


def _by_folder(place: Path, classes: Sequence[str], labelled: bool) -> list[ImageFile]:
    """The images of place/CLASS, sorted by name; of the whole folder where labels are not needed."""
    found = []
    for label, folder in enumerate(classes) if labelled else [(0, ".")]:
        for file in sorted((place / folder).rglob("*")):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                name = str(file.relative_to(place))
                found.append(ImageFile(file, label, name, name))
    return found


def _by_csv(place: Path, classes: Sequence[str], labelled: bool) -> list[ImageFile]:
    """The rows of a CSV. Raises DataUnreadable, DataEmpty, DataNotText, MissingColumn, UnknownCode."""
    rows = csv.DictReader(text_of(read_file(place), str(place)).splitlines())
    header = rows.fieldnames or []
    lacking = [name for name in ("path", *(["label"] if labelled else [])) if name not in header]
    if lacking:
        raise MissingColumn(evidence=f"{len(header)} columns", path=place, column=f"column {', '.join(lacking)}")
    found = []
    for row in rows:
        label = (row.get("label") or "").strip()
        if labelled and label not in classes:
            evidence = f"known are {', '.join(classes)}"
            raise UnknownCode(evidence=evidence, path=place, line=rows.line_num, column="label")
        name = (row["path"] or "").strip()
        patient = (row.get("patient") or "").strip() or name
        found.append(ImageFile(place.parent / name, classes.index(label) if labelled else 0, name, patient))
    return found

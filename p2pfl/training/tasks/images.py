"""Images by class: a folder with a folder for each class, or a CSV of paths; PNG, JPEG, DICOM; a CNN or a ResNet.

A study's task is a section of peers.yaml, or a file of a few lines:

    from p2pfl.training.tasks.images import Images

    class Pneumonia(Images):
        classes = ("normal", "pneumonia")
        architecture, size = "resnet18", 128

Nothing that is done to an image looks at another one. Needs Pillow, and pydicom for DICOM: the extra [images].
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.scans import ImagesExtraMissing, ImageUnreadable
from p2pfl.federation.scan_schema import ImageSchema
from p2pfl.training.measures.classification import Binary, Classes
from p2pfl.training.measures.measure import Measure
from p2pfl.training.tasks.files import FileRecord, FilesDataset, by_class, by_csv
from p2pfl.training.tasks.scans import ScanTask

if TYPE_CHECKING:
    import torch
    from torch import nn

ENDINGS: Final = (".png", ".jpg", ".jpeg", ".dcm")
MOST_FILE_BYTES: Final = 1 << 28
MOST_PIXELS: Final = 1 << 26  # of a picture as it lies in its file: 8192²
MOST_SHIFT: Final = 0.08  # of the image's side, by which a record is moved
GAIN: Final = 0.1  # most by which a record's contrast and brightness are changed
HEAD: Final = "fc"  # the name of the last layer in every architecture


class Images(ScanTask):
    """One of `classes` from an image. Two classes: the second one is positive.

    size, channels    images are resized to size × size; 1 channel is grey, 3 are colours
    centre, scale     public constants, one for each channel: black is 0, white is 1, and the model sees
                      (it − centre) / scale
    architecture      cnn, resnet18 or resnet50
    widths            channels of the CNN's convolutions
    train             all, head (the last layer), norm+head, or lora (adapters of `rank` and the head): what does not
                      train does not travel and gets no noise
    weights           (path, SHA-256 in hex) of pretrained weights with torchvision's names; the head starts anew
    augmentation      some of: shift (by up to 8 % of the side), flip (left to right, for organs that have no side),
                      intensity (contrast and brightness)
    """

    name = "images"
    learning_rate: float = 0.01
    expected_batch: float = 16.0
    classes: Sequence[str] = ("negative", "positive")
    size: int = 64
    centre: Sequence[float] = (0.5,)
    scale: Sequence[float] = (0.5,)
    architecture: str = "resnet18"
    widths: Sequence[int] = (16, 32)
    augmentation: Sequence[str] = ("shift",)

    @classmethod
    def of(cls, schema: ImageSchema, weights: Path | None = None) -> Images:
        """What peers.yaml describes; its weights lie in the working folder, or where `weights` says."""
        made = cls()
        made.take(schema, weights)
        made.size, made.centre, made.scale = schema.size, schema.centre, schema.scale
        made.architecture, made.widths = schema.model.name, schema.model.widths
        return made

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> ImageFiles:
        """path/CLASS/*.png, or a CSV with the columns path, label and maybe patient, paths from the CSV's folder.

        With `patient: folder`, path/CLASS/PATIENT/*.png.
        """
        place = Path(path)
        read = (
            by_csv(place, self.classes, labelled, self.patient)
            if not place.is_dir()
            else by_class(place, self.classes, ENDINGS, labelled, self.patient)
        )
        return ImageFiles(read, self, path)

    def model(self) -> nn.Module:
        """The architecture, with adapters where they train."""
        from p2pfl.training import resnet

        return self.adapted(resnet.architecture(self.architecture, self.channels, len(self.classes), self.widths))

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
        """Each record as `augmentation` says.    (B, C, H, W)"""
        import torch

        most, changed = max(1, round(MOST_SHIFT * self.size)), []
        for one in x:
            if "shift" in self.augmentation:
                down, right = torch.randint(-most, most + 1, (2,)).tolist()
                one = torch.roll(one, (down, right), (1, 2))
            if "flip" in self.augmentation and torch.rand(1).item() < 0.5:
                one = one.flip(2)
            if "intensity" in self.augmentation:
                gain, offset = ((2.0 * torch.rand(2) - 1.0) * GAIN).tolist()
                one = one * (1.0 + gain) + offset
            changed.append(one)
        return torch.stack(changed)

    @property
    def head(self) -> str:
        """The same in every architecture."""
        return HEAD

    def trainable(self, name: str) -> bool:
        """By `train`; norms have names of their own."""
        is_norm = ".bn" in f".{name}" or "downsample.1." in name
        return super().trainable(name) or (self.train == "norm+head" and is_norm)


class ImageFiles(FilesDataset):
    """Images as (channels, size, size) float32, and the place of their class."""

    most_bytes = MOST_FILE_BYTES

    def __init__(self, found: Sequence[FileRecord], task: Images, source: str) -> None:
        super().__init__(found, source)
        self._task = task

    def __getitem__(self, row: int) -> tuple[NDArray[np.float32], int]:
        one, task = self._files[row], self._task
        raw, dicom = self.read(row, one.file), one.file.suffix.lower() == ".dcm"
        try:
            pixels = parse_image(raw, task.size, task.channels, dicom=dicom)
        except NotAnImage as error:
            raise self.refused(row, str(error)) from None
        centre, scale = (np.array(given, np.float32).reshape(-1, 1, 1) for given in (task.centre, task.scale))
        return (pixels - centre) / scale, one.label

    def refused(self, row: int, why: str) -> ImageUnreadable:
        """By the place of the record, since a file's name may be a patient's."""
        return ImageUnreadable(evidence=f"{self._files[row].place}: {why}", path=self._source)


class NotAnImage(ValueError):
    """The bytes are no image that can be used. The message says why, and holds no pixel and no name."""


def parse_image(raw: bytes, size: int, channels: int, *, dicom: bool) -> NDArray[np.float32]:
    """The picture in a file's bytes, resized, in 0 … 1.    (channels, size, size)

    Raises NotAnImage, ImagesExtraMissing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImagesExtraMissing(evidence="no package called PIL", package="pillow") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bound of pixels is higher than ours
            opened = _dicom(raw) if dicom else Image.open(BytesIO(raw), formats=("PNG", "JPEG"))
        if opened.width * opened.height > MOST_PIXELS:
            raise NotAnImage(f"it has more than {MOST_PIXELS} pixels")
        picture = _eight_bits(opened).convert("L" if channels == 1 else "RGB")
        resized = picture.resize((size, size), Image.Resampling.BILINEAR)
    except (NotAnImage, ImagesExtraMissing):
        raise
    except Exception as error:  # Pillow and pydicom name no base of what a damaged file raises
        raise NotAnImage(type(error).__name__) from None
    values = np.asarray(resized, np.float32).reshape(size, size, channels) / np.float32(255)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _eight_bits(picture: Any) -> Any:
    """A grey picture of 16 bits in 8: Pillow's own conversion cuts off all that is brighter than 255."""
    from PIL import Image

    if picture.mode == "F":
        raise NotAnImage("its numbers have no agreed white")
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.clip(np.asarray(picture, np.int64), 0, 65535) / 257.0).round().astype(np.uint8))


def _dicom(raw: bytes) -> Any:
    """The picture of a DICOM file, its own grey values spread over 0 … 255, MONOCHROME1 turned round."""
    from PIL import Image

    try:
        import pydicom
    except ImportError:
        raise ImagesExtraMissing(evidence="no package called pydicom", package="pydicom") from None
    held = pydicom.dcmread(BytesIO(raw))
    if int(held.Rows) * int(held.Columns) * int(held.get("NumberOfFrames", 1) or 1) > MOST_PIXELS:
        raise NotAnImage(f"it has more than {MOST_PIXELS} pixels")
    pixels = np.asarray(held.pixel_array, np.float64)
    if pixels.ndim != 2:
        raise NotAnImage("it is not one grey picture")
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(high - low):
        raise NotAnImage("a pixel is not a finite number")
    spread = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
    if held.get("PhotometricInterpretation", "") == "MONOCHROME1":
        spread = 1.0 - spread
    return Image.fromarray(np.rint(255.0 * spread).astype(np.uint8))

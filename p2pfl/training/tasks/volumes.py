"""A class for each voxel of a volume: NIfTI files and masks in the same grid, MONAI's UNet, Dice with cross-entropy.

A study's task is a section of peers.yaml, or a file of a few lines:

    from p2pfl.training.tasks.volumes import Volumes

    class Hippocampus(Volumes):
        classes = ("background", "anterior", "posterior")
        size, spacing = (40, 56, 40), (1.0, 1.0, 1.0)

Nothing that is done to a volume looks at another one. Needs the extra [volumes].
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.scans import LabelUnfit, SharesUnfit, VolumesExtraMissing, VolumeUnreadable
from p2pfl.federation.scan_schema import VolumeSchema, shares_fit
from p2pfl.training.measures.measure import Measure
from p2pfl.training.measures.segmentation import Segmentation
from p2pfl.training.records.nifti import MOST_VOXELS, NotAVolume, Voxels, nifti_bytes, parse_nifti
from p2pfl.training.tasks.files import FileRecord, FilesDataset, by_csv, by_pair
from p2pfl.training.tasks.scans import ScanTask
from p2pfl.training.update import FlatVector, layout_of

if TYPE_CHECKING:
    import torch
    from torch import nn

ENDINGS: Final = (".nii", ".nii.gz")
MOST_FILE_BYTES: Final = 1 << 30
PERCENTILES: Final = (0.5, 99.5)  # of a volume's own voxels: what becomes −1 and 1 where no window is agreed
MOST_SHIFT: Final = 0.08  # of a side, by which a record is moved
GAIN: Final = 0.1  # most by which a record's contrast and brightness are changed

Triple = tuple[float, float, float]


class Volumes(ScanTask):
    """One of `classes` for each voxel; the first is the background.

    size         voxels along each axis (right, front, up) that the model sees: the middle of a volume, padded where it
                 is smaller; each a multiple of 2^(levels − 1), and two of them at least
    spacing      mm of a voxel along each axis, to which volumes are resampled; None: they are taken as they are
    channels     contrasts of a volume: a fourth axis of the file
    window       (low, high): the numbers that become −1 and 1, beyond them cut off, as for Hounsfield units
                 None: half a percent of a volume's own voxels lies below −1, and as many above 1
    levels       channels of the UNet at each level; units: residual units at each level
    train        all, head (the last layer), or lora (adapters of `rank` and the head): what does not train does not
                 travel and gets no noise; norm+head is head, since these norms have no weights
    weights      (path, SHA-256 in hex) of pretrained weights with the names of MONAI's UNet
    shares       about which part of the voxels each class has, by public knowledge: the first model says this of each
                 voxel, and no step is spent on learning that most of them are background
    augmentation some of: shift (all axes by up to 8 %), flip (left to right), intensity (contrast and brightness)
    """

    name = "volumes"
    learning_rate: float = 0.01
    expected_batch: float = 4.0
    classes: Sequence[str] = ("background", "lesion")
    size: tuple[int, int, int] = (32, 32, 32)
    spacing: Triple | None = None
    window: tuple[float, float] | None = None
    shares: Sequence[float] = ()
    levels: Sequence[int] = (8, 16, 32)
    units: int = 1

    @classmethod
    def of(cls, schema: VolumeSchema, weights: Path | None = None) -> Volumes:
        """What peers.yaml describes; its weights lie in the working folder, or where `weights` says."""
        made = cls()
        made.take(schema, weights)
        made.size, made.spacing, made.window = schema.size, schema.spacing, schema.window
        made.levels, made.units, made.shares = schema.model.widths, schema.model.units, schema.shares
        return made

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> VolumeFiles:
        """path/images/*.nii.gz with path/labels/ of the same names; or a CSV of path, label (a mask), maybe patient.

        With `patient: folder`, path/images/PATIENT/*.nii.gz.
        """
        place, patient = Path(path), self.patient
        found = by_pair(place, ENDINGS, labelled, patient) if place.is_dir() else by_csv(place, None, labelled, patient)
        return VolumeFiles(found, self, path)

    def model(self) -> nn.Module:
        """MONAI's UNet. Its instance norms keep no statistics; PReLU and transposed convolutions are hooked exactly."""
        try:
            from monai.networks.nets.unet import UNet
        except ImportError:
            raise VolumesExtraMissing(evidence="no package called monai", package="monai") from None
        made: nn.Module = UNet(
            spatial_dims=3,
            in_channels=self.channels,
            out_channels=len(self.classes),
            channels=tuple(self.levels),
            strides=(2,) * (len(self.levels) - 1),
            num_res_units=self.units,
        )
        return self.adapted(made)

    def first(self, model: nn.Module, seed: bytes) -> FlatVector:
        """As for any scan; the last layer's bias is the logarithm of `shares`, the same bits on every machine.

        Raises SharesUnfit: peers.yaml's were checked when it was read, a class's in Python were not.
        """
        vector = super().first(model, seed)
        if len(self.shares):
            if not shares_fit(self.shares, len(self.classes)):
                told = ", ".join(map(str, self.shares))
                raise SharesUnfit(evidence=type(self).__name__, shares=told, classes=len(self.classes))
            bias = layout_of(model).split(vector)[f"{self.head}.bias"]
            bias[...] = [float(Decimal(share).ln()) for share in self.shares]
        return vector

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """MONAI's soft Dice loss plus cross-entropy, each of one record alone.    (B, K, X, Y, Z), (B, X, Y, Z) ► (B,)

        MONAI's DiceCELoss adds a mean over the batch, with which no record's gradient is its own.
        """
        from monai.losses.dice import DiceLoss
        from torch.nn import functional

        dice = DiceLoss(softmax=True, to_onehot_y=True, batch=False, reduction="none")(outputs, targets[:, None])
        entropy = functional.cross_entropy(outputs, targets, reduction="none")
        each: torch.Tensor = dice.flatten(1).mean(dim=1) + entropy.flatten(1).mean(dim=1)
        return each

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """The most likely class of each voxel.    (B, X, Y, Z)"""
        return outputs.argmax(dim=1)

    @property
    def prediction_names(self) -> Sequence[str]:
        """The classes: `table` counts their voxels."""
        return tuple(self.classes)

    def table(self, predictions: NDArray[Any]) -> NDArray[np.int64]:
        """Voxels of each class.    (N, X, Y, Z) ► (N, K)"""
        flat = predictions.reshape(len(predictions), -1)
        return np.stack([(flat == place).sum(axis=1) for place in range(len(self.classes))], axis=1).astype(np.int64)

    def measures(self) -> Sequence[Measure]:
        """Mean Dice first; then Dice and intersection over union of each class."""
        return (Segmentation(len(self.classes)),)

    def augment_pair(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each record as `augmentation` says, its mask with it.    (B, C, X, Y, Z), (B, X, Y, Z)"""
        import torch

        images, masks = [], []
        for image, mask in zip(x, y, strict=True):
            if "shift" in self.augmentation:
                most = torch.tensor([max(1, round(MOST_SHIFT * side)) for side in mask.shape])
                by = torch.round((2.0 * torch.rand(3) - 1.0) * most).int().tolist()
                image, mask = torch.roll(image, by, (1, 2, 3)), torch.roll(mask, by, (0, 1, 2))
            if "flip" in self.augmentation and torch.rand(1).item() < 0.5:
                image, mask = image.flip(1), mask.flip(0)
            if "intensity" in self.augmentation:
                gain, offset = ((2.0 * torch.rand(2) - 1.0) * GAIN).tolist()
                image = image * (1.0 + gain) + offset
            images.append(image)
            masks.append(mask)
        return torch.stack(images), torch.stack(masks)

    @property
    def head(self) -> str:
        """The name of the last layer."""
        return "model.2.1.conv.unit0.conv" if self.units else "model.2.conv"


class VolumeFiles(FilesDataset):
    """Volumes as (C, X, Y, Z) float32, and the class of each voxel (X, Y, Z) int64."""

    most_bytes = MOST_FILE_BYTES

    def __init__(self, found: Sequence[FileRecord], task: Volumes, source: str) -> None:
        super().__init__(found, source)
        self._task = task

    def __getitem__(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        task, image = self._task, self.voxels(row)
        values = image.values if image.values.ndim == 4 else image.values[..., None]
        if values.shape[3] != task.channels:
            raise self.refused(row, f"it has {values.shape[3]} contrasts, and {task.channels} are agreed")
        contrasts = [_scaled(values[..., place], task.window) for place in range(task.channels)]
        try:
            sides = _sides(image, task.spacing)
        except NotAVolume as error:
            raise self.refused(row, str(error)) from None
        x = np.stack([_fitted(_resampled(one, sides, smooth=True), task.size, -1.0) for one in contrasts])
        return x, self._mask(row, image, sides)

    def voxels(self, row: int) -> Voxels:
        """The volume of a record as it lies in its file. Raises VolumeUnreadable."""
        return self._parsed(row, self._files[row].file)

    def _mask(self, row: int, image: Voxels, sides: Sequence[int]) -> NDArray[np.int64]:
        """The classes of a record's voxels; background where labels are not needed. Raises LabelUnfit."""
        file, task = self._files[row].label_file, self._task
        if file is None:
            return np.zeros(task.size, np.int64)
        mask = self._parsed(row, file)
        where = f"{self._files[row].place}: the"
        if mask.values.shape != image.values.shape[:3] or not np.allclose(mask.affine, image.affine, atol=1e-2):
            raise LabelUnfit(evidence=f"{where} mask's grid is not the volume's", path=self._source)
        values, count = mask.values, len(task.classes)
        if not ((values >= 0) & (values < count) & (values == np.rint(values))).all():
            raise LabelUnfit(evidence=f"{where} classes are the whole numbers 0 to {count - 1}", path=self._source)
        return _fitted(_resampled(values, sides, smooth=False), task.size, 0.0).astype(np.int64)

    def mask_file(self, row: int, classes: NDArray[Any]) -> bytes:
        """A .nii.gz of the model's classes (size) in the grid of the record's own file; 0 outside of what it saw."""
        image = self.voxels(row)
        sides = _sides(image, self._task.spacing)
        whole = np.zeros(sides, np.float32)
        pairs = [middle(have, want) for have, want in zip(sides, self._task.size, strict=True)]
        whole[tuple(of for of, _ in pairs)] = classes[tuple(into for _, into in pairs)]
        return nifti_bytes(_resampled(whole, image.values.shape[:3], smooth=False).astype(np.uint8), image)

    def _parsed(self, row: int, file: Path) -> Voxels:
        try:
            return parse_nifti(self.read(row, file))
        except NotAVolume as error:
            raise self.refused(row, str(error)) from None

    def refused(self, row: int, why: str) -> VolumeUnreadable:
        """By the place of the record, since a file's name may be a patient's."""
        return VolumeUnreadable(evidence=f"{self._files[row].place}: {why}", path=self._source)


def _scaled(values: NDArray[np.float32], window: tuple[float, float] | None) -> NDArray[np.float32]:
    """−1 … 1.    (X, Y, Z)"""
    low, high = window if window is not None else (float(one) for one in np.percentile(values, PERCENTILES))
    if not high > low:
        return np.zeros_like(values)
    part = np.clip((values - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return np.asarray(2.0 * part - 1.0, np.float32)


def _sides(held: Voxels, spacing: Triple | None) -> tuple[int, int, int]:
    """Voxels of the volume along each axis in the agreed spacing. Raises NotAVolume."""
    x, y, z = held.values.shape[:3]
    if spacing is None:
        return x, y, z
    across, front, up = (
        max(1, round(count * own / agreed)) for count, own, agreed in zip((x, y, z), held.spacing, spacing, strict=True)
    )
    if across * front * up > MOST_VOXELS:
        raise NotAVolume("resampled it has too many voxels")
    return across, front, up


def _resampled(values: NDArray[np.float32], sides: Sequence[int], *, smooth: bool) -> NDArray[np.float32]:
    """The volume in so many voxels; classes are taken from the nearest voxel, and not mixed.    (X, Y, Z) ► sides"""
    if tuple(sides) == values.shape:
        return values
    import torch
    from torch.nn import functional

    given = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    mode: dict[str, Any] = {"mode": "trilinear", "align_corners": False} if smooth else {"mode": "nearest-exact"}
    return np.asarray(functional.interpolate(given, size=list(sides), **mode)[0, 0].numpy(), np.float32)


def _fitted(values: NDArray[np.float32], size: Sequence[int], empty: float) -> NDArray[np.float32]:
    """The middle of the volume, with `empty` around it where it is smaller.    (X, Y, Z) ► size"""
    out = np.full(tuple(size), empty, np.float32)
    pairs = [middle(have, want) for have, want in zip(values.shape, size, strict=True)]
    out[tuple(into for _, into in pairs)] = values[tuple(of for of, _ in pairs)]
    return out


def middle(have: int, want: int) -> tuple[slice, slice]:
    """(what is taken of a side of `have`, where it comes to lie in a side of `want`)"""
    taken = min(have, want)
    of, into = (have - taken) // 2, (want - taken) // 2
    return slice(of, of + taken), slice(into, into + taken)

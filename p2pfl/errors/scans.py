"""Scans: what a file of an image, a volume, a mask or pretrained weights got wrong.

A file's name may be a patient's: a leaf says its place in a list or a folder. No value of a pixel or voxel is told.
"""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault


class WeightsUnusable(ConfigurationError):
    """The pretrained weights in {path} cannot be used."""

    code = "P2P-TRAIN-054"
    likely = (
        "another file than the sites agreed on: copy theirs",
        "it holds a whole model rather than its tensors: save model.state_dict()",
    )
    command = "sha256sum {path}"


class ImageUnreadable(ConfigurationError):
    """{path} names an image that cannot be read."""

    code = "P2P-TRAIN-055"
    likely = ("the file was cut", "another kind of file has this ending", "a path in the CSV is mistyped")
    command = "ls {path}"


class ImagesExtraMissing(LocalFault):
    """Reading images needs the package {package}."""

    code = "P2P-TRAIN-056"
    exit_status = 2
    likely = ("p2pfl was installed without the extra [images]",)
    command = "pip install {package}"


class VolumesExtraMissing(LocalFault):
    """Volumes need the package {package}."""

    code = "P2P-TRAIN-070"
    exit_status = 2
    likely = ("p2pfl was installed without the extra [volumes]",)
    command = "pip install {package}"


class VolumeUnreadable(ConfigurationError):
    """{path} names a volume that cannot be read."""

    code = "P2P-TRAIN-071"
    likely = (
        "the file was cut",
        "it is another kind of file, or a series over time",
        "a path in the CSV is mistyped",
    )
    command = "ls {path}"


class MaskMissing(ConfigurationError):
    """A volume of {path} has no mask of the same name."""

    code = "P2P-TRAIN-165"
    likely = (
        "the mask is not drawn yet: leave such volumes out",
        "masks carry another name or ending than their volumes, as p1_seg.nii.gz for p1.nii.gz",
    )
    command = "ls {path}/images {path}/labels"


class SharesUnfit(ConfigurationError):
    """The shares of the task's classes do not fit: {shares}, of {classes} classes."""

    code = "P2P-TRAIN-170"
    likely = (
        "one was left out: `shares` has one number for each of `classes`, the background's first",
        "they are not parts of one whole: each lies above 0, and together they are 1",
    )
    command = "p2pfl task check TASK.py:CLASS --data DATA"


class LabelUnfit(ConfigurationError):
    """{path} names a mask that does not fit."""

    code = "P2P-TRAIN-072"
    likely = (
        "the mask belongs to another volume, or was drawn on a resampled one",
        "its classes have other numbers, or more of them, than the sites agreed on",
    )
    command = "ls {path}"

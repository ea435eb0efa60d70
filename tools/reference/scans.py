"""The parts of peers.yaml that describe a task on images or volumes."""

from __future__ import annotations

from typing import Final

from p2pfl.federation.scan_schema import (
    CHANGES,
    LEAST_SIDE,
    MOST_COPIES,
    MOST_DEPTH,
    MOST_RANK,
    MOST_SIDE,
    MOST_UNITS,
    MOST_VOXELS,
    MOST_WIDTH,
    RESNETS,
)
from p2pfl.federation.table_labels import MOST_CLASSES

Row = tuple[str, str, str, str]

IMAGES_EXAMPLE: Final = """\
images:
  classes: [normal, pneumonia]
  model: resnet50
  size: 224
  channels: 1
  centre: [0.5]
  scale: [0.25]
  trainable: norm+head
  augmentation: [shift, intensity]
  learning_rate: 0.01
  expected_batch: 16
"""
VOLUMES_EXAMPLE: Final = """\
volumes:
  classes: [background, anterior, posterior]
  model: {unet: [8, 16, 32], units: 1}
  size: [40, 56, 40]
  channels: 1
  spacing: [1.0, 1.0, 1.0]
  window: each
  trainable: all
  augmentation: [shift]
  learning_rate: 0.05
  expected_batch: 4
"""
SCANS: Final = """\
## Images and volumes

A task on files of scans, with no line of Python: `task.images` or `task.volumes` in peers.yaml, and the same text in a
file of its own for `peers create --task FILE.yaml`. From folders to a model, and what the files look like:
[images-and-volumes.md](../guide/images-and-volumes.md). Every key must be there, but `weights` where nothing is
pretrained. Every number is given by people: none is a statistic of anybody's records. Under `images`:
"""
VOLUMES: Final = "Under `volumes`, `classes`, `weights`, `trainable` and the keys below it as above, and:\n"


def image_rows() -> list[Row]:
    """Keys under `images`."""
    side, widths = f"a whole number from {LEAST_SIDE} to {MOST_SIDE}", f"1 to {MOST_DEPTH} numbers up to {MOST_WIDTH}"
    return [
        ("classes", f"2 to {MOST_CLASSES} names", "", "folders, or labels of the CSV; of two the second is positive"),
        ("model", f"{', '.join(RESNETS)}, or {{cnn: {widths}}}", "", "a CNN: channels of its convolutions"),
        ("size", side, "", "pixels of a side, to which images are resized"),
        ("channels", "1 or 3", "", "grey, or colours"),
        ("centre", "one number from 0 to 1 for each channel", "", "black is 0, white is 1"),
        ("scale", "one number above 0 for each channel", "", "the model sees (it − centre) / scale"),
        ("weights.file", "a file's name", "none", "pretrained, in the working folder or by `join --task`"),
        ("weights.sha256", "64 hexadecimal digits, lower case", "", "of that file: safetensors, or tensors of torch"),
        (
            "trainable",
            f"all, head, norm+head, or {{lora: 1 to {MOST_RANK}}}",
            "",
            "what does not train does not travel and gets no noise; adapters train with the head",
        ),
        ("augmentation", f"some of {', '.join(CHANGES)}", "", "changes of each record in each step, at random"),
        ("learning_rate", "a number above 0", "", "of each private step; momentum and others: `local.optimiser`"),
        ("expected_batch", "a number above 0", "", "public divisor: sample_rate × records of a typical site"),
        ("copies", f"a whole number from 1 to {MOST_COPIES}", "1", "of a record in a step, averaged before the clip"),
        (
            "patient",
            "folder or column",
            "none",
            "whose a record is: the folder below its class, or the CSV's `patient`",
        ),
    ]


def volume_rows() -> list[Row]:
    """Keys under `volumes` that images do not have, or have otherwise."""
    widths = f"2 to {MOST_DEPTH} numbers up to {MOST_WIDTH}"
    return [
        ("classes", f"2 to {MOST_CLASSES} names", "", "what 0, 1, … are in a mask; 0 is the background"),
        ("model", f"{{unet: {widths}, units: 0 to {MOST_UNITS}}}", "", "channels of each level; residual units"),
        (
            "size",
            f"three multiples of 2^(levels − 1), ≤ {MOST_VOXELS} voxels",
            "",
            "the middle; right, front, up",
        ),
        ("channels", "a whole number from 1 to 16", "", "contrasts: a fourth axis of the file"),
        ("spacing", "three numbers above 0, or null", "", "mm of a voxel, to which volumes are resampled"),
        ("window", "[low, high], or each", "", "numbers that become −1 and 1; each: percentiles of the volume itself"),
        (
            "shares",
            "one number for each class, together 1",
            "none",
            "about which part of the voxels it has, by public knowledge: what the first model says",
        ),
    ]

"""What a task on images or volumes is, from YAML that peers.yaml holds in full under `task:`.

    images:
      classes: [normal, pneumonia]
      model: {cnn: [32, 64, 128]}      # or resnet18, resnet50
      size: 64
      channels: 1
      centre: [0.5]
      scale: [0.5]
      trainable: all                   # or head, norm+head, {lora: 4}
      augmentation: [shift]
      learning_rate: 0.01
      expected_batch: 16
      copies: 4                        # of a record in a step, each augmented anew; may be left out
      patient: folder                  # or column; may be left out

Every number is public and given by people: none is ever a statistic of records. All that does not fit is told at once,
with line and column. Nothing here needs numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from p2pfl.federation.misfits import Misfits
from p2pfl.federation.readers import (
    List,
    Table,
    Word,
    YamlNode,
    choice,
    decimal,
    items,
    nothing_or,
    number,
    table,
    text,
    whole,
    wrong,
)
from p2pfl.federation.table_columns import is_name
from p2pfl.federation.table_labels import MOST_CLASSES

SECTIONS: Final = ("images", "volumes")  # keys under `task:`
RESNETS: Final = ("resnet18", "resnet50")
COMMON_KEYS: Final = ("classes", "model", "size", "channels", "weights", "trainable", "augmentation", "learning_rate",
                      "expected_batch", "patient", "copies")  # fmt: skip
IMAGE_KEYS: Final = (*COMMON_KEYS, "centre", "scale")
VOLUME_KEYS: Final = (*COMMON_KEYS, "spacing", "window", "shares")
PATIENTS: Final = ("folder", "column")  # the folder between a class, or `images`, and its files; a CSV's `patient`
CHANGES: Final = ("shift", "flip", "intensity")
MOST_WIDTH: Final = 1024  # channels of a layer
MOST_DEPTH: Final = 6  # convolutions of a CNN, levels of a UNet
MOST_UNITS: Final = 4  # residual units of a level
MOST_RANK: Final = 64
MOST_COPIES: Final = 64
LEAST_SIDE: Final = 8  # of an image or a volume, in pixels or voxels
MOST_SIDE: Final = 1024
MOST_VOXELS: Final = 1 << 24
SHARES_APART: Final = 1e-6  # of 1 that shares add up to
LEAST_RESNET: Final = 32  # it halves a side five times

T = TypeVar("T")
NO_NAMES: Final[tuple[str, ...]] = ()
NO_NUMBERS: Final[tuple[float, ...]] = ()


@dataclass(frozen=True, slots=True)
class PinnedWeights:
    """A file of pretrained weights that lies at each site, and its SHA-256 in hex."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ScanModel:
    """`name` is cnn, resnet18, resnet50 or unet; `widths` are channels by layer or level, `units` of a UNet's level."""

    name: str
    widths: tuple[int, ...] = ()
    units: int = 0

    @property
    def summary(self) -> str:
        sizes = f" of {', '.join(map(str, self.widths))} channels" if self.widths else ""
        return f"a {self.name}{sizes}"


@dataclass(frozen=True, slots=True)
class HowTrained:
    """What of it trains, and how. `rank` is that of adapters, 0 without them.

    copies    of a record in a step, each augmented by itself
    patient   what names whose a record is, one of PATIENTS; empty: a CSV's column where it has one
    """

    weights: PinnedWeights | None
    trainable: str
    rank: int
    augmentation: tuple[str, ...]
    learning_rate: float
    expected_batch: float
    patient: str = ""
    copies: int = 1

    @property
    def summary(self) -> str:
        what = {"all": "all of it trains", "lora": f"adapters of rank {self.rank} and the head train"}
        start = f", from {self.weights.file}" if self.weights else ""
        return what.get(self.trainable, f"{self.trainable} trains") + start


@dataclass(frozen=True, slots=True)
class ImageSchema:
    """A task on images: one of `classes`."""

    classes: tuple[str, ...]
    model: ScanModel
    size: int
    channels: int
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    how: HowTrained

    kind = "images"

    @property
    def patient(self) -> str:
        """What names whose a record is."""
        return self.how.patient

    @property
    def summary(self) -> str:
        """One line for people."""
        size = f"{self.size}×{self.size}"
        return f"images of {size}, {self.model.summary} of {', '.join(self.classes)}; {self.how.summary}"


@dataclass(frozen=True, slots=True)
class VolumeSchema:
    """A task on volumes: one of `classes` for each voxel. `window` None: each volume's own percentiles.

    shares    about which part of the voxels each class has, by public knowledge; empty: the first model knows nothing
    """

    classes: tuple[str, ...]
    model: ScanModel
    size: tuple[int, int, int]
    channels: int
    spacing: tuple[float, float, float] | None
    window: tuple[float, float] | None
    how: HowTrained
    shares: tuple[float, ...] = ()

    kind = "volumes"

    @property
    def patient(self) -> str:
        """What names whose a record is."""
        return self.how.patient

    @property
    def summary(self) -> str:
        """One line for people."""
        size = "×".join(map(str, self.size))
        return f"volumes of {size}, {self.model.summary} of {', '.join(self.classes)}; {self.how.summary}"


def read_images(row: Table, found: Misfits) -> ImageSchema:
    """The section `images`. What does not fit is kept in `found`, and then the schema is not one to use."""
    found.only(row, IMAGE_KEYS)
    classes = found.read(row, "classes", _read_classes, NO_NAMES)
    model = found.read(row, "model", _read_image_model, ScanModel("cnn", (16,)))
    size = found.read(row, "size", whole(LEAST_SIDE, MOST_SIDE), MOST_SIDE)
    least = LEAST_RESNET if model.name in RESNETS else 1 << len(model.widths)
    if size < least:
        found.add(row.node("size").place, f"{row.named('size')} must be {least} or more for {model.summary}")
    channels = found.read(row, "channels", _one_of(1, 3), 0)
    centre = found.read(row, "centre", items(_part_of_one, 3), NO_NUMBERS)
    scale = found.read(row, "scale", items(decimal(0, 10), 3), NO_NUMBERS)
    for key, values in (("centre", centre), ("scale", scale)):
        if channels and values and len(values) != channels:
            found.add(row.node(key).place, f"{row.named(key)} must be a list of {channels}, one for each channel")
    return ImageSchema(classes, model, size, channels, centre, scale, _how(row, found))


def read_volumes(row: Table, found: Misfits) -> VolumeSchema:
    """The section `volumes`, as `read_images` reads its own."""
    found.only(row, VOLUME_KEYS)
    classes = found.read(row, "classes", _read_classes, NO_NAMES)
    model = found.read(row, "model", _read_unet, ScanModel("unet"))
    size = found.read(row, "size", _three(whole(LEAST_SIDE, MOST_SIDE)), (0, 0, 0))
    step = 1 << max(0, len(model.widths) - 1)
    if any(side % step or side < 2 * step for side in size if side):
        wanted = f"multiples of {step}, and {2 * step} or more, for {model.summary}"
        found.add(row.node("size").place, f"{row.named('size')} must be {wanted}")
    if math.prod(size) > MOST_VOXELS:
        found.add(row.node("size").place, f"{row.named('size')} must be of at most {MOST_VOXELS} voxels")
    channels = found.read(row, "channels", whole(1, 16), 0)
    spacing = found.read(row, "spacing", nothing_or(_three(decimal(0, 100))), None)
    window = found.read(row, "window", _read_window, None)
    shares = found.read(row, "shares", items(decimal(0, 1), MOST_CLASSES), NO_NUMBERS) if "shares" in row.rows else ()
    if shares and not shares_fit(shares, len(classes)):
        found.add(row.node("shares").place, f"{row.named('shares')} must be one for each class, which add up to 1")
    return VolumeSchema(classes, model, size, channels, spacing, window, _how(row, found), shares)


def shares_fit(shares: Sequence[float], classes: int) -> bool:
    """One share above 0 for each class, and together 1."""
    numbers = [one for one in shares if isinstance(one, (int, float)) and one > 0]  # a NaN is not
    return len(numbers) == len(shares) == classes and abs(math.fsum(numbers) - 1.0) <= SHARES_APART


def _how(row: Table, found: Misfits) -> HowTrained:
    weights = found.read(row, "weights", table, None) if "weights" in row.rows else None
    trainable, rank = found.read(row, "trainable", _read_trainable, ("all", 0))
    changes = found.read(row, "augmentation", items(choice(*CHANGES), 8), NO_NAMES)
    if len(set(changes)) < len(changes):
        found.add(row.node("augmentation").place, f"{row.named('augmentation')} names one twice")
    return HowTrained(
        weights=_pinned(weights, found) if weights is not None else None,
        trainable=trainable,
        rank=rank,
        augmentation=changes,
        learning_rate=found.read(row, "learning_rate", decimal(0, 1000), 0.0),
        expected_batch=found.read(row, "expected_batch", decimal(0, 1e6), 0.0),
        copies=found.read(row, "copies", whole(1, MOST_COPIES), 1) if "copies" in row.rows else 1,
        patient=found.read(row, "patient", choice(*PATIENTS), "") if "patient" in row.rows else "",
    )


def _pinned(row: Table, found: Misfits) -> PinnedWeights:
    found.only(row, ("file", "sha256"))
    named = text(r"[A-Za-z0-9_.-]{1,100}\.(safetensors|pt|pth)", "a file's name ending in .safetensors, .pt or .pth")
    digest = text(r"[0-9a-f]{64}", "64 hexadecimal digits, lower case")
    return PinnedWeights(found.read(row, "file", named, ""), found.read(row, "sha256", digest, ""))


# ── readers: (node, key) ► value, or WrongValue ───────────────────────────────────────────────────────────────


def _read_classes(node: YamlNode, key: str) -> tuple[str, ...]:
    """Names that can be folders' too, none of them twice."""
    names = items(_read_class, MOST_CLASSES)(node, key)
    if len(names) < 2 or len(set(names)) < len(names):
        wrong(node, key, f"a list of 2 to {MOST_CLASSES} different names")
    return names


def _read_class(node: YamlNode, key: str) -> str:
    if isinstance(node, Word) and is_name(node.text) and not set(node.text) & set("/\\:") and node.text[0] != ".":
        return node.text
    wrong(node, key, "a name that can be a folder's, of at most 64 printable characters")


def _read_image_model(node: YamlNode, key: str) -> ScanModel:
    if isinstance(node, Word) and node.text in RESNETS:
        return ScanModel(node.text)
    if isinstance(node, Table) and list(node.rows) == ["cnn"]:
        return ScanModel("cnn", _widths(1, node.rows["cnn"][1], f"{key}.cnn"))
    wrong(node, key, f"{', '.join(RESNETS)}, or {{cnn: [CHANNELS, …]}}")


def _read_unet(node: YamlNode, key: str) -> ScanModel:
    if isinstance(node, Table) and set(node.rows) == {"unet", "units"}:
        widths = _widths(2, node.rows["unet"][1], f"{key}.unet")
        return ScanModel("unet", widths, whole(0, MOST_UNITS)(node.rows["units"][1], f"{key}.units"))
    wrong(node, key, "{unet: [CHANNELS, …], units: UNITS}")


def _widths(least: int, node: YamlNode, key: str) -> tuple[int, ...]:
    """Channels of each layer or level."""
    widths = items(whole(1, MOST_WIDTH), MOST_DEPTH)(node, key)
    if len(widths) < least:
        wrong(node, key, f"a list of {least} to {MOST_DEPTH} numbers of channels")
    return widths


def _read_trainable(node: YamlNode, key: str) -> tuple[str, int]:
    if isinstance(node, Word) and node.text in ("all", "head", "norm+head"):
        return node.text, 0
    if isinstance(node, Table) and list(node.rows) == ["lora"]:
        return "lora", whole(1, MOST_RANK)(node.rows["lora"][1], f"{key}.lora")
    wrong(node, key, f"all, head, norm+head, or {{lora: RANK}} with a rank of 1 to {MOST_RANK}")


def _read_window(node: YamlNode, key: str) -> tuple[float, float] | None:
    """`each`, or [low, high]."""
    if isinstance(node, Word) and node.text == "each":
        return None
    if isinstance(node, List) and len(node.values) == 2:
        low, high = items(number, 2)(node, key)
        if low < high:
            return low, high
    wrong(node, key, "each, or [low, high]")


def _three(read: Callable[[YamlNode, str], T]) -> Callable[[YamlNode, str], tuple[T, T, T]]:
    """One for each axis: right, front, up."""

    def read_three(node: YamlNode, key: str) -> tuple[T, T, T]:
        if not isinstance(node, List) or len(node.values) != 3:
            wrong(node, key, "a list of three, for the axes right, front and up")
        first, second, third = items(read, 3)(node, key)
        return first, second, third

    return read_three


def _one_of(*numbers: int) -> Callable[[YamlNode, str], int]:
    def read(node: YamlNode, key: str) -> int:
        value = whole(min(numbers), max(numbers))(node, key)
        return value if value in numbers else wrong(node, key, f"one of {', '.join(map(str, numbers))}")

    return read


def _part_of_one(node: YamlNode, key: str) -> float:
    value = number(node, key)
    return value if 0.0 <= value <= 1.0 else wrong(node, key, "a number from 0 (black) to 1 (white)")

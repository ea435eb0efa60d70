"""What benchmarks/compression_table.py compares: ways to send an update, and the trainings they are compared in."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from benchmarks import light
from benchmarks._variants import SETTINGS, GrowingRank, RandomCarriers, ResidualDirections, TwoIterations, density_of
from benchmarks.federated_auc import records_by_site
from p2pfl.federation.description import parse_description
from p2pfl.federation.scan_schema import VolumeSchema
from p2pfl.simulate.training import MakesCompressor
from p2pfl.training.compression.lowrank import Lowrank
from p2pfl.training.compression.nomination import METHODS, Compresses, Compressor
from p2pfl.training.resnet import BasicBlock, norm
from p2pfl.training.task import Task
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.heart_records import deal
from p2pfl.training.tasks.table import TableTask
from p2pfl.training.tasks.volumes import Volumes
from p2pfl.training.update import TensorLayout

AUC, DICE = "AUC", "Dice"
METRICS: Final = {"unet": DICE}  # by model; of all others AUC
HIDDEN: Final = 64  # units of the heart's MLP
ROOT: Final = Path(__file__).resolve().parents[1]


# ── ways to send an update ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Method:
    """`none`, `lowrank:RANK`, `nominate:DENSITY`, `leader:DENSITY`, `random:DENSITY`, or of these that stand in no
    peers.yaml as a method, `both:DENSITY` (nominate by both scores), `turning:RANK` (random carriers) and the variants
    of lowrank: `momentum:RANK` (momentum after the sum), `two:RANK` (two iterations), `residual:RANK` (as many random
    directions beside the learned ones), `growing:RANK` (rank 1 at first, up to this one).
    """

    name: str

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @property
    def value(self) -> float:
        return float(self.name.partition(":")[2] or 1.0)

    @property
    def settings(self) -> tuple[str, ...]:
        """Of peers.yaml, beside those of the study."""
        return SETTINGS.get(self.kind, ())

    def maker(self, rounds: int) -> MakesCompressor:
        """Makes a site's compressor for a training of so many rounds. Raises ValueError for an unknown method."""
        density, rank = self.value, int(self.value)
        made: Mapping[str, MakesCompressor] = {
            **dict.fromkeys(METHODS, self._of_positions),
            "both": lambda layout, peers: Compressor("nominate", density, layout.parameters, peers, "both"),
            "lowrank": lambda layout, _: Lowrank(density_of(layout, rank), layout),
            "momentum": lambda layout, _: Lowrank(density_of(layout, rank), layout),
            "turning": lambda layout, _: RandomCarriers(density_of(layout, rank), layout),
            "two": lambda layout, _: TwoIterations(density_of(layout, rank), layout),
            "residual": lambda layout, _: ResidualDirections(layout, rank),
            "growing": lambda layout, _: GrowingRank(layout, rank, rounds),
        }
        if self.kind not in made:
            raise ValueError(f"{self.name}: none of {', '.join(made)}")
        return made[self.kind]

    def _of_positions(self, layout: TensorLayout, peers: int) -> Compresses:
        return Compressor(self.kind, self.value, layout.parameters, peers)


# ── trainings ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Study:
    """A model and its records, dealt to sites, and how it trains.

    rates      learning rates that are tried of each method; beyond an end, as far as it gets better
    """

    name: str
    about: str
    metric: str
    rounds: int
    steps: int
    batch: float
    rates: tuple[float, ...]
    settings: tuple[str, ...]
    made: Callable[[float], Task]
    sites: Mapping[str, object]
    records: float  # that a common site trains on

    @property
    def agreed(self) -> tuple[str, ...]:
        """Settings of peers.yaml but those of the method."""
        rate = f"privacy.sample_rate={self.batch / self.records:.5f}"
        return (f"rounds={self.rounds}", f"privacy.steps_per_round={self.steps}", rate, *self.settings)


class Compared(light.Pictures):
    """Yes or no of grey pictures of 28 × 28, by the network that is compared."""

    def __init__(self, network: Callable[[], nn.Module], batch: float, learning_rate: float) -> None:
        super().__init__(learning_rate)
        self.network, self.expected_batch = network, batch

    def model(self) -> nn.Module:
        return self.network()


def cnn() -> nn.Module:
    """That of benchmarks/light.py: 205 761 parameters."""
    return light.Pictures(0.0).model()


class SmallResNet(nn.Module):
    """Three pairs of a ResNet18's blocks, of 16, 32 and 64 channels: 174 385 parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64)
        self.conv1, self.bn1 = nn.Conv2d(1, widths[0], 3, 2, 1, bias=False), norm(widths[0])
        blocks, inputs = list[nn.Module](), widths[0]
        for place, width in enumerate(widths):
            blocks += [BasicBlock(inputs, width, 2 if place else 1), BasicBlock(width, width, 1)]
            inputs = width
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(inputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 28, 28) ► (B, 1)"""
        out = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def pictures(name: str, network: Callable[[], nn.Module], rounds: int, data: Path | None) -> Study:
    """X-rays at five sites with skewed labels."""
    x, y = light.read(data)
    of = "made-up pictures" if data is None else f"{len(x)} chest X-rays"
    wide = ("sharing.clip=100", "sharing.scale=10")  # beyond what any update reaches
    made = functools.partial(Compared, network, 32.0)
    records = 0.75 * len(x) / len(light.SHARES)
    return Study(name, of, AUC, rounds, 8, 32.0, (0.2, 0.5, 1.0), wide, made, light.sites(x, y), records)


def table() -> Study:
    """Heart disease at five sites, an MLP."""

    def made(rate: float) -> TableTask:
        return TableTask(replace(heart(), hidden=HIDDEN, learning_rate=rate, expected_batch=4.0))

    task = made(1.0)
    read = records_by_site(task, deal(len(light.SHARES)).files)
    records = 0.75 * sum(map(len, read.values())) / len(light.SHARES)
    wide = ("sharing.clip=100", "sharing.scale=10")
    return Study("heart", "heart disease", AUC, 20, 32, 4.0, (0.03, 0.1, 0.3), wide, made, read, records)


def unet(data: Path | None) -> Study:
    """Hippocampus on MRI at five sites, a 3-D UNet at a third of the resolution."""
    example = _example()
    file = ROOT / "examples" / "hippocampus" / "hippocampus.yaml"
    text = file.read_bytes().replace(b"{unet: [4, 8], units: 0}", b"{unet: [16, 32], units: 1}")
    schema = parse_description(text, str(file))
    if not isinstance(schema, VolumeSchema):
        raise ValueError(f"{file} describes no volumes")

    def made(rate: float) -> Volumes:
        return Volumes.of(replace(schema, how=replace(schema.how, learning_rate=rate)))

    with tempfile.TemporaryDirectory() as folder:
        scans = example.read(data) if data is not None else example.generated()
        example.write(scans, Path(folder))
        sites = {name: example.kept(made(1.0), Path(folder) / name) for name in example.SITES}
    settings = ("privacy.max_grad_norm=0.1", "sharing.clip=100", "sharing.scale=10")
    of = "hippocampi on MRI" if data is not None else "generated volumes"
    return Study("unet", of, DICE, 20, 4, 9.0, (2.0, 5.0, 12.0), settings, made, sites, 18.0)


def _example() -> Any:
    """examples/hippocampus/run.py: no package, so by its path."""
    spec = importlib.util.spec_from_file_location("hippocampus_run", ROOT / "examples" / "hippocampus" / "run.py")
    if spec is None or spec.loader is None:
        raise ValueError("examples/hippocampus/run.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def study(name: str, xrays: Path | None, volumes: Path | None, rounds: int | None = None) -> Study:
    """heart, cnn, resnet or unet, of its own number of rounds or another. Raises ValueError for another name."""
    made: Mapping[str, Callable[[], Study]] = {
        "heart": table,
        "cnn": lambda: pictures(name, cnn, 60, xrays),
        "resnet": lambda: pictures(name, SmallResNet, 40, xrays),
        "unet": lambda: unet(volumes),
    }
    if name not in made:
        raise ValueError(f"{name}: none of {', '.join(made)}")
    found = made[name]()
    return found if rounds is None else replace(found, rounds=rounds)

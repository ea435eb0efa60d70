"""What the tests of this room share: seeded draws, small tasks, the federation's default privacy."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from p2pfl.federation.federation import Privacy
from p2pfl.keys import Secret
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.measure import Measure
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.records.records import Arrays, Records, SiteRecords
from p2pfl.training.task import Task

PRIVACY = Privacy(
    unit="record",
    noise_multiplier=1.1,
    max_grad_norm=1.0,
    sample_rate=0.02,
    steps_per_round=80,
    delta=1e-5,
    max_epsilon=3.0,
)


def privacy(**changes: object) -> Privacy:
    return dataclasses.replace(PRIVACY, **changes)  # type: ignore[arg-type]


def draw_of(name: str) -> Callable[[int], bytes]:
    """Bytes that every run repeats; only tests draw so."""
    stream = BitStream(Secret(hashlib.sha256(name.encode()).digest()), "training/sampling")
    return lambda count: stream.words(-(-count // 8)).tobytes()[:count]


def arrays(count: int, shape: tuple[int, ...], name: str = "records") -> Arrays:
    """`count` made-up records whose label follows the first input."""
    stream = BitStream(Secret(hashlib.sha256(name.encode()).digest()), "training/sampling")
    x = stream.normals(count * int(np.prod(shape))).reshape(count, *shape).astype(np.float32)
    y = (x.reshape(count, -1)[:, 0] > 0).astype(np.int64)
    return Arrays(x, y, tuple(row.tobytes() for row in x))


def records(count: int, shape: tuple[int, ...], name: str = "records") -> Records:
    return Records(arrays(count, shape, name))


def read(of: Records) -> tuple[np.ndarray, np.ndarray]:
    """All inputs and all labels."""
    return of.batch(np.arange(len(of)))


def identities(of: Records) -> tuple[bytes, ...]:
    return tuple(of.identity(row) for row in range(len(of)))


def site(count: int, shape: tuple[int, ...]) -> SiteRecords:
    return SiteRecords(records(count, shape), records(count // 4 + 2, shape, "held out"))


class Small(Task):
    """A task of a few lines, as a user writes one."""

    name: ClassVar[str] = "small"
    shape: ClassVar[tuple[int, ...]] = (4,)

    def dataset(self, path: str, columns: bytes | None = None, *, labelled: bool = True) -> Arrays:
        return arrays(64, self.shape)

    def measures(self) -> Sequence[Measure]:
        return (Binary(),)

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype), reduction="none")

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 0].sigmoid()


class Images(Small):
    """A small CNN on 28×28 pictures with 1e5 parameters and more."""

    name: ClassVar[str] = "images"
    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    learning_rate = 0.4
    expected_batch = 16.0

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

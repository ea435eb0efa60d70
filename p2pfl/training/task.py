"""Task: what is learned, from which records, by which model. Built in, or a class in a file pinned by SHA-256.

Code never travels: peers.yaml holds the digest of a task's file, and each site runs its own copy if it has that
digest. A task's constants are public; a statistic of private records (a mean, a class weight) in one is a leak.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.training import TooFewRecords
from p2pfl.keys import Secret
from p2pfl.training.update import FlatVector, first_model

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAST_RECORDS: Final = 20
LEAST_TRAINED: Final = 2  # records that the check of a model at start needs
HELD_OUT: Final = 0.25


@dataclass(frozen=True, slots=True)
class Records:
    """N records as a model takes them: x (N, …), y (N,) labels, and each record's own bytes (for the held-out hash)."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    identities: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.identities):
            raise ValueError(f"{len(self.x)} inputs, {len(self.y)} labels, {len(self.identities)} identities")

    def __len__(self) -> int:
        return len(self.y)

    def at(self, rows: NDArray[np.int64]) -> Records:
        """The records at `rows`."""
        return Records(self.x[rows], self.y[rows], tuple(self.identities[row] for row in rows))


@dataclass(frozen=True, slots=True)
class SiteRecords:
    """A site's records, split into those that it trains on and those that only measure."""

    train: Records
    held_out: Records


class Task(ABC):
    """One thing to learn. Subclass it, or use a built-in."""

    name: ClassVar[str] = "task"
    learning_rate: ClassVar[float] = 0.01
    expected_batch: ClassVar[float] = 2.0
    """Public divisor of each step's noised gradient sum: near sample_rate × the records of a typical site. It is never
    computed from a site's own number of records, since it would reveal that."""

    @abstractmethod
    def read(self, raw: bytes, source: str, columns: bytes | None = None, *, labelled: bool = True) -> Records:
        """The records of a site's file. `source` names it in errors; `columns` is a local column map.

        labelled=False: labels are not needed (predict) and come back as 0.
        """

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model. Its initial values do not matter: `first` sets every parameter that trains."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One loss for each record, shape (B,): each from that record alone."""

    @abstractmethod
    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """The probability of the positive class for each record, shape (B,)."""

    def first(self, model: nn.Module, seed: bytes) -> FlatVector:
        """The parameters (m,) that all sites start from, the same bits everywhere."""
        return first_model(model, seed)


def hold_out(records: Records, key: Secret, source: str, part: float = HELD_OUT) -> SiteRecords:
    """Split by a keyed hash of each record: equal records stay together, and later additions move no record.

    key    32 secret bytes of this site, kept for its lifetime; without them nobody can tell which were held out
    Raises TooFewRecords.
    """
    if len(records) < LEAST_RECORDS:
        raise TooFewRecords(evidence=f"{len(records)} records, at least {LEAST_RECORDS} are needed", path=source)
    limit = int(part * 2.0**64)
    marks = [hmac.digest(key.reveal(), identity, "sha256")[:8] for identity in records.identities]
    held = np.array([int.from_bytes(mark, "big") < limit for mark in marks])
    if np.count_nonzero(~held) < LEAST_TRAINED:  # equal records stay together, so nearly all may be held out
        evidence = f"{len(records)} records, {len(set(records.identities))} of them different"
        raise TooFewRecords(evidence=f"{evidence}, leave {np.count_nonzero(~held)} to train on", path=source)
    return SiteRecords(records.at(np.flatnonzero(~held)), records.at(np.flatnonzero(held)))

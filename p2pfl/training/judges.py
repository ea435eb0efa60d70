"""How a site judges a model on its held-out records: by exact counts, or by counts that noise can hide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors.privacy_units import MeasureNotPrivate
from p2pfl.federation.federation import Measuring
from p2pfl.training.measures.joint import Joint
from p2pfl.training.measures.measure import Counts, Figure
from p2pfl.training.measures.private import PrivateJoint, weights_of
from p2pfl.training.models import count_of, predictions_of
from p2pfl.training.records.records import Records
from p2pfl.training.records.units import Units
from p2pfl.training.task import Task


@dataclass(frozen=True, slots=True)
class ExactJudge:
    """All that the task measures."""

    joint: Joint
    records: Records
    slots: int = 0

    @property
    def size(self) -> int:
        """Numbers that it counts."""
        return self.joint.size

    def count(self, task: Task, model: nn.Module, device: torch.device) -> Counts:
        """The counts of the held-out records.    (size,)"""
        return count_of(task, self.joint, model, self.records, device)

    def figures(self, total: Counts, noise: float) -> Mapping[str, Figure]:
        """The figures of all sites' counts."""
        return self.joint.figures(total)


@dataclass(frozen=True, slots=True)
class PrivateJudge:
    """What of it one held-out unit moves within a bound.

    weights   of the records, as measures/private.py has them    (N,)
    """

    joint: PrivateJoint
    records: Records
    weights: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Numbers that it counts."""
        return self.joint.size

    @property
    def slots(self) -> int:
        """Counts that a unit moves by one at most."""
        return self.joint.slots

    def count(self, task: Task, model: nn.Module, device: torch.device) -> Counts:
        """The weighted counts of the held-out records, without noise.    (size,)"""
        total, start = np.zeros(self.joint.size, np.int64), 0
        for predictions, targets in predictions_of(task, model, self.records, device):
            end = start + len(targets)
            total += self.joint.count(predictions, targets, self.weights[start:end])
            start = end
        return total

    def figures(self, total: Counts, noise: float) -> Mapping[str, Figure]:
        """The figures of all sites' counts, with noise of that standard deviation in each, in records."""
        return self.joint.figures(total, noise)


def judge_of(task: Task, held_out: Records, unit: str, measures: Measuring | None) -> ExactJudge | PrivateJudge:
    """Raises MeasureNotPrivate, MeasureUnusable, PatientsUnknown, PatientMissing."""
    exact = Joint(task.measures(), task.name)
    if measures is None or not measures.noise_multiplier:
        return ExactJudge(exact, held_out)
    private = []
    for one in task.measures():
        made = one.private()
        if made is None:
            raise MeasureNotPrivate(evidence=f"{type(one).__name__} is one of its measures", task=task.name)
        private.append(made)
    units = Units.of(held_out, unit)
    sizes = np.diff(units.starts)
    weights = np.empty(len(held_out), np.int64)
    weights[units.order] = weights_of(np.repeat(sizes, sizes))
    return PrivateJudge(PrivateJoint(private, task.name), held_out, weights)

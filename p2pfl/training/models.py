"""A task's model made fit for per-record gradients, or an error that says why not; scores of a model on records.

`ModuleValidator` alone passes models that crash at the first step (in-place operations in forward) or whose loss mixes
records. So one private step on two records is tried at start, and no record's gradient may depend on the other
record.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn

from p2pfl.errors.training import DeviceMissing, LossNotPerRecord, ModelDiverged, ModelNotPrivate
from p2pfl.training.task import Records, Task
from p2pfl.training.update import FlatVector, TensorLayout, layout_of, write_vector

BINS: Final = 128
CLASSES: Final = 2
SCORED_AT_ONCE: Final = 256

# Records' gradients may differ by rounding when the batch beside them differs; anything larger is mixing.
MIXING_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Built:
    """A task's model as it is trained, its layout, and a notice of each layer that was replaced for privacy."""

    model: nn.Module
    layout: TensorLayout
    notices: tuple[str, ...]


def build(task: Task) -> Built:
    """The task's model, layers that mix records replaced. Raises ModelNotPrivate when one cannot be replaced."""
    model = task.model()
    before = {name: type(layer).__name__ for name, layer in model.named_modules()}
    try:
        model = ModuleValidator.fix(model.train())
        errors = ModuleValidator.validate(model, strict=False)
    except Exception as error:
        raise ModelNotPrivate(evidence=f"{type(error).__name__}: {error}", task=task.name) from error
    if errors:
        raise ModelNotPrivate(evidence=str(errors[0]), task=task.name)
    after = {name: type(layer).__name__ for name, layer in model.named_modules()}
    notices = tuple(
        f"{name or 'the model'}: {before.get(name, 'nothing')} is replaced by {kind}"
        for name, kind in after.items()
        if before.get(name) != kind
    )
    return Built(model, layout_of(model), notices)


def device_of(name: str) -> torch.device:
    """The torch device called `name`, tried with one number. Raises DeviceMissing."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceMissing(evidence=str(error).splitlines()[0][:200], device=name) from None
    return device


def as_inputs(x: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Inputs of a batch on `device`."""
    return torch.from_numpy(np.ascontiguousarray(x)).to(device)


def loss_of(task: Task, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The task's loss (B,). Raises LossNotPerRecord on another shape: then clipping would bound nothing."""
    loss = task.loss(outputs, labels)
    if loss.shape != (len(labels),):
        evidence = f"the loss of {len(labels)} records has shape {tuple(loss.shape)}"
        raise LossNotPerRecord(evidence=evidence, task=task.name)
    return loss


def check_private(task: Task, model: nn.Module, sample: Records, device: torch.device) -> None:
    """Try one private step of a copy of `model` on `sample` (two records or more); nothing of it is kept.

    Raises LossNotPerRecord, or ModelNotPrivate with what broke.
    """
    if len(sample) < 2:
        raise ValueError("the check takes two records or more")
    trial = GradSampleModule(copy.deepcopy(model).train().to(device), loss_reduction="sum")
    for layer in trial.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()  # else two passes would differ by chance, which looks like mixing
    try:
        first = _gradients(task, trial, sample.at(np.array([0, 1])), device)
        other = _gradients(task, trial, sample.at(np.array([0, len(sample) - 1, 1])), device)
    except LossNotPerRecord:
        raise
    except Exception as error:
        raise ModelNotPrivate(evidence=_told(error, task, trial, sample, device), task=task.name) from None
    for name, gradient in first.items():
        largest = float(gradient.abs().max()) if gradient.numel() else 0.0
        if float((gradient - other[name]).abs().max()) > MIXING_TOLERANCE * max(1e-6, largest):
            evidence = f"one record's gradient of {name} changes with the other records of its batch"
            raise ModelNotPrivate(evidence=evidence, task=task.name)


def _told(error: Exception, task: Task, trial: GradSampleModule, sample: Records, device: torch.device) -> str:
    """What to show of `error`, whose own text may hold a patient's value ("Target 7 is out of …").

    Two records of zeros are tried: the text is that of their error if it is of the same kind, else the kind alone.
    """
    x, y = np.zeros_like(sample.x[:2]), np.zeros_like(sample.y[:2])
    try:
        _gradients(task, trial, Records(x, y, (b"", b"")), device)
    except Exception as other:
        if type(other) is type(error):
            return f"{type(other).__name__}: {other}"
    return f"{type(error).__name__}, which depends on the records' values"


def _gradients(task: Task, trial: GradSampleModule, batch: Records, device: torch.device) -> dict[str, torch.Tensor]:
    """The first record's own gradient of each parameter."""
    trial.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on hooks of inputs without gradient
        loss = loss_of(task, trial(as_inputs(batch.x, device)), as_inputs(batch.y, device))
        torch.autograd.backward(loss.sum())
    found = {}
    for name, parameter in trial.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = getattr(parameter, "grad_sample", None)
        if not isinstance(gradient, torch.Tensor) or gradient.shape != (len(batch), *parameter.shape):
            raise ValueError(f"{name.removeprefix('_module.')} has no gradient for each record")
        found[name.removeprefix("_module.")] = gradient[0].detach().clone()
    return found


def scores_of(task: Task, model: nn.Module, x: NDArray[np.generic], device: torch.device) -> NDArray[np.float64]:
    """Probabilities of the positive class.    (N,). Raises ModelDiverged when one is not finite."""
    was_training = model.training
    model.eval()
    parts = [np.zeros(0)]
    with torch.no_grad():
        for start in range(0, len(x), SCORED_AT_ONCE):
            outputs = model(as_inputs(x[start : start + SCORED_AT_ONCE], device))
            parts.append(task.scores(outputs).double().cpu().numpy())
    model.train(was_training)
    scores = np.concatenate(parts)
    if not np.all(np.isfinite(scores)):
        raise ModelDiverged(evidence=f"{np.count_nonzero(~np.isfinite(scores))} scores", what="a model's scores")
    return scores


def histogram(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of scores by class and bin: row 0 negative, row 1 positive.    (CLASSES, BINS)"""
    bins = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)  # (N,)
    counts = np.zeros((CLASSES, BINS), dtype=np.int64)
    np.add.at(counts, (labels, bins), 1)
    return counts


def predict(task: Task, vector: FlatVector, records: Records, device: str = "cpu") -> NDArray[np.float64]:
    """What the model `vector` (m,) says of `records`: probabilities of the positive class.    (N,)"""
    built, place = build(task), device_of(device)
    write_vector(built.model, vector)
    return scores_of(task, built.model.to(place), records.x, place)

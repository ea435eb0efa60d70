"""A task's model made fit for per-record gradients, or an error that says why not; what a model makes of records.

`ModuleValidator` alone passes models that crash at the first step (in-place operations in forward) or whose loss mixes
records. So one private step on two records is tried at start, and no record's gradient may depend on the other
record.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors.training import DeviceMissing, LossNotPerRecord, ModelDiverged, ModelMisfit, ModelNotPrivate
from p2pfl.keys import Secret, digest
from p2pfl.training.measures.joint import Joint
from p2pfl.training.measures.measure import Counts
from p2pfl.training.noise import BitStream
from p2pfl.training.opacus_parts import ModuleValidator
from p2pfl.training.record_gradients import RecordGradients
from p2pfl.training.records import Batch, Records
from p2pfl.training.task import Task
from p2pfl.training.update import FlatVector, TensorLayout, empty, first_tensor, layout_of, write_vector

# Records, and numbers of all their inputs, that are measured at once: of large scans few, since a model's layers hold
# many times a record's own size.
MEASURED_AT_ONCE: Final = 256
MEASURED_NUMBERS: Final = 1 << 21

# Records' gradients may differ by rounding when the batch beside them differs; anything larger is mixing.
MIXING_TOLERANCE: Final = 1e-3
TRIED_WEIGHTS: Final = 2
AT_A_TIME: Final = 1 << 18  # coordinates
TRIED_SPREAD: Final = 0.1  # standard deviation by which the second weights differ from the first
PUBLIC: Final = bytes(32)  # seed of what is nobody's secret and the same at every site


@dataclass(frozen=True, slots=True)
class Built:
    """A task's model as it is trained, its layout, and a notice of each layer that was replaced for privacy.

    frozen        digest of what does not train, parameters and buffers: it must be the same at every site
    pretrained    values of parameters that do not start from a keystream, by name
    """

    model: nn.Module
    layout: TensorLayout
    frozen: bytes
    pretrained: Mapping[str, FlatVector]
    notices: tuple[str, ...]

    def first(self, task: Task, seed: bytes) -> FlatVector:
        """What every site starts from, given 32 public bytes: the same bits everywhere.    (m,)"""
        vector = task.first(self.model, seed)
        for name, part in self.layout.split(vector).items():
            if name in self.pretrained:
                part[...] = self.pretrained[name]
        return vector


def build(task: Task) -> Built:
    """The task's model, layers that mix records replaced, what does not train frozen and the same bits everywhere.

    Raises ModelNotPrivate when a layer cannot be replaced, or when nothing trains; ModelMisfit when a pretrained tensor
    has no place in the model.
    """
    model = task.model()
    before = {name: type(layer).__name__ for name, layer in model.named_modules()}
    try:
        model = ModuleValidator.fix(model.train())
        errors = ModuleValidator.validate(model, strict=False)
    except Exception as error:
        raise ModelNotPrivate(evidence=f"{type(error).__name__}: {error}", task=task.name) from error
    if errors:
        raise ModelNotPrivate(evidence=str(errors[0]), task=task.name)
    pretrained = _pretrained(task, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and task.trainable(name))
        if not parameter.requires_grad:
            values = pretrained.get(name)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(first_tensor(name, parameter, PUBLIC) if values is None else values))
    layout = layout_of(model)
    if not layout.parameters:
        raise ModelNotPrivate(evidence="no parameter trains", task=task.name)
    after = {name: type(layer).__name__ for name, layer in model.named_modules()}
    notices = tuple(
        f"{name or 'the model'}: {before.get(name, 'nothing')} is replaced by {kind}"
        for name, kind in after.items()
        if before.get(name) != kind
    )
    return Built(model, layout, frozen_digest(model), pretrained, notices)


def _pretrained(task: Task, model: nn.Module) -> dict[str, FlatVector]:
    """The task's pretrained tensors, each in the shape of the parameter of its name. Raises ModelMisfit."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    found = {name: np.array(values, np.float32) for name, values in task.pretrained().items()}
    odd = [name for name, values in found.items() if shapes.get(name) != values.shape]
    if odd:
        evidence = f"{odd[0]} is {found[odd[0]].shape}, in the model {shapes.get(odd[0], 'not there')}"
        raise ModelMisfit(evidence=evidence, source="the pretrained weights")
    return found


def frozen_digest(model: nn.Module) -> bytes:
    """32 bytes that name every tensor of `model` that does not train."""
    parameters = ((name, p) for name, p in model.named_parameters() if not p.requires_grad)
    held: list[tuple[str, torch.Tensor]] = [*parameters, *model.named_buffers()]
    parts = []
    for name, tensor in held:
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        parts += [name.encode(), str(array.shape).encode(), array.dtype.str.encode(), array.tobytes()]
    return digest("frozen", *parts)


def device_of(name: str) -> torch.device:
    """The torch device called `name`, tried with one number. Raises DeviceMissing."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        told = f"{str(error).splitlines()[0][:200]}\nthere is {', '.join(devices())}"
        raise DeviceMissing(evidence=told, device=name) from None
    return device


def devices() -> list[str]:
    """The devices of this machine that torch can use, by name."""
    found = ["cpu", *(f"cuda:{place}" for place in range(torch.cuda.device_count()))]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


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

    It is tried with the model's own weights and with others, since by chance a mixing layer may be silent at some.
    Raises LossNotPerRecord, or ModelNotPrivate with what broke; RecordMisfit.
    """
    if len(sample) < 2:
        raise ValueError("the check takes two records or more")
    pair = sample.batch(np.array([0, 1]))
    three = sample.batch(np.array([0, len(sample) - 1, 1]))
    trial = RecordGradients(copy.deepcopy(model).train().to(device))
    for layer in trial.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()  # else two passes would differ by chance, which looks like mixing
    stream = BitStream(Secret(PUBLIC, "public: other weights to try"), "training/initial")
    try:
        for _ in range(TRIED_WEIGHTS):
            _compare(task, trial, pair, three, device)
            with torch.no_grad():
                for parameter in trial.parameters():
                    _spread(parameter, stream)
    finally:
        empty(trial)  # hooks and layers hold each other: it would stay until they are found to be garbage


def _spread(parameter: nn.Parameter, stream: BitStream) -> None:
    """Move it by normal numbers, a part at a time: in float64 they take many times its size."""
    values = parameter.detach().cpu().reshape(-1)
    for start in range(0, values.numel(), AT_A_TIME):
        part = values[start : start + AT_A_TIME]
        part += torch.from_numpy(stream.normals(part.numel()) * TRIED_SPREAD).to(part.dtype)
    parameter.copy_(values.view(parameter.shape))


def _compare(task: Task, trial: RecordGradients, pair: Batch, three: Batch, device: torch.device) -> None:
    """Raises ModelNotPrivate when the first record's gradient is another beside another record."""
    try:
        first, other = _gradients(task, trial, three, device), _gradients(task, trial, pair, device)
    except LossNotPerRecord:
        raise
    except Exception as error:
        raise ModelNotPrivate(evidence=_told(error, task, trial, pair, device), task=task.name) from None
    for name, gradient in first.items():
        largest = float(gradient.abs().max()) if gradient.numel() else 0.0
        if _apart(gradient, other.pop(name)) > MIXING_TOLERANCE * max(1e-6, largest):
            evidence = f"one record's gradient of {name} changes with the other records of its batch"
            raise ModelNotPrivate(evidence=evidence, task=task.name)


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference between two gradients, a part at a time."""
    a, b = a.reshape(-1), b.reshape(-1)
    parts = [slice(start, start + AT_A_TIME) for start in range(0, a.numel(), AT_A_TIME)]
    return max((float((a[part] - b[part]).abs().max()) for part in parts), default=0.0)


def _told(error: Exception, task: Task, trial: RecordGradients, batch: Batch, device: torch.device) -> str:
    """What to show of `error`, whose own text may hold a patient's value ("Target 7 is out of …").

    Two records of zeros are tried: the text is that of their error if it is of the same kind, else the kind alone.
    """
    try:
        _gradients(task, trial, (np.zeros_like(batch[0]), np.zeros_like(batch[1])), device)
    except Exception as other:
        if type(other) is type(error):
            return f"{type(other).__name__}: {other}"
    return f"{type(error).__name__}, which depends on the records' values"


def _gradients(task: Task, trial: RecordGradients, batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """The first record's own gradient of each parameter."""
    trial.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on hooks of inputs without gradient
        loss = loss_of(task, trial(as_inputs(batch[0], device)), as_inputs(batch[1], device))
        torch.autograd.backward(loss.sum())
    found = {}
    for name, parameter in trial.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = getattr(parameter, "grad_sample", None)
        if not isinstance(gradient, torch.Tensor) or gradient.shape != (len(batch[0]), *parameter.shape):
            raise ValueError(f"{name.removeprefix('_module.')} has no gradient for each record")
        found[name.removeprefix("_module.")] = gradient[0].detach().clone()
        parameter.grad_sample = None  # all records' take many times the model's size
    return found


def predictions_of(
    task: Task, model: nn.Module, records: Records, device: torch.device
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """What `model` makes of the records, and their labels, batch by batch.    (B, …), (B, …)

    Raises ModelDiverged when a prediction is not finite; RecordMisfit.
    """
    was_training = model.training
    model.eval()
    try:
        for rows in _measured_rows(records):
            x, y = records.batch(rows)
            with torch.no_grad():
                found = task.predictions(model(as_inputs(x, device)))
            if found.dtype.is_floating_point and not bool(torch.isfinite(found).all()):
                raise ModelDiverged(evidence=f"in a batch of {len(found)}", what="a model's predictions")
            yield found.cpu().numpy(), y
    finally:
        model.train(was_training)


def _measured_rows(records: Records) -> Iterator[NDArray[np.int64]]:
    """The rows of each batch, as many as `MEASURED_NUMBERS` allows."""
    if not len(records):
        return
    x, _ = records.batch(np.zeros(1, np.int64))
    at_once = max(1, min(MEASURED_AT_ONCE, MEASURED_NUMBERS // max(1, x.size)))
    for start in range(0, len(records), at_once):
        yield np.arange(start, min(start + at_once, len(records)))


def count_of(task: Task, joint: Joint, model: nn.Module, records: Records, device: torch.device) -> Counts:
    """The counts of the task's measures over `records`.    (joint.size,)"""
    total, held = np.zeros(joint.size, np.int64), []
    for predictions, targets in predictions_of(task, model, records, device):
        total += joint.count(predictions, targets, whole=False)
        if joint.whole:
            held.append((predictions, targets))
    if held:
        total += joint.count(
            np.concatenate([part for part, _ in held]), np.concatenate([part for _, part in held]), whole=True
        )
    return total


def predict(task: Task, vector: FlatVector, records: Records, device: str = "cpu") -> NDArray[Any]:
    """What the model `vector` (m,) says of `records`, in the terms of `Task.predictions`.    (N, …)"""
    built, place = build(task), device_of(device)
    write_vector(built.model, vector)
    parts = [found for found, _ in predictions_of(task, built.model.to(place), records, place)]
    return np.concatenate(parts) if parts else np.zeros(0)

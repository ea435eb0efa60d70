"""A task's model made fit for per-record gradients, or an error that says why not; what a model makes of records."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors.training import DeviceMissing, LossNotPerRecord, ModelDiverged, ModelMisfit, ModelNotPrivate
from p2pfl.keys import digest
from p2pfl.training.gradients.opacus_parts import ModuleValidator
from p2pfl.training.measures.joint import Joint
from p2pfl.training.measures.measure import Counts
from p2pfl.training.records.records import Records
from p2pfl.training.task import Task
from p2pfl.training.update import FlatVector, TensorLayout, layout_of, set_first, write_vector

# Records, and numbers of all their inputs, that are measured at once: of large scans few, since a model's layers hold
# many times a record's own size.
MEASURED_AT_ONCE: Final = 256
MEASURED_NUMBERS: Final = 1 << 21

COPIED_BYTES: Final = 1 << 24  # of a model, up to which it is copied as soon as the task has made it
_MADE: Final[weakref.WeakSet[nn.Module]] = weakref.WeakSet()  # layers of models that are in use as tasks made them

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
        model = _fixed(model.train())
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
            if values is None:
                set_first(values := np.empty(tuple(parameter.shape), np.float32), name, parameter, PUBLIC)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(values))
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


def _fixed(model: nn.Module) -> nn.Module:
    """With layers that mix records replaced. Opacus does so in a copy, which takes three times the memory: of a large
    model only where there is such a layer.

    Raises ValueError where a layer of a large model came before: what would be trained, or measured while another pass
    is under way, is what the task still holds.
    """
    trained = [layer for layer in model.modules() if any(p.requires_grad for p in layer.parameters())]
    held = sum(p.nbytes for p in model.parameters())
    if held <= COPIED_BYTES or any(type(layer) in ModuleValidator.FIXERS for layer in trained):
        fixed: nn.Module = ModuleValidator.fix(model)
        return fixed
    for name, layer in model.named_modules():
        if layer in _MADE and any(True for _ in layer.parameters(recurse=False)):
            what = f"layer {name}" if name else "a model"
            raise ValueError(
                f"the task's model() returned {what} that it had returned before: each call makes a new one"
            )
    _MADE.update(model.modules())
    return model


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

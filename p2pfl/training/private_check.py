"""One private step that is tried before any that counts: whether a task's augmentation, model and loss keep records
apart.

Opacus' validator alone passes models that crash at the first step (in-place operations in forward) or whose loss mixes
records. So a step on two records, and on three, is tried at start, and the first record's gradient may not change with
those beside it: the next, the last and the one before, around the end, are another record's each time. Of the first
record alone a gradient is made, and each layer's is compared as soon as it is there: the trial takes the memory of the
model once more, whatever the records.
"""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.errors.task_process import TrialDiverged
from p2pfl.errors.training import LossNotPerRecord, ModelNotPrivate
from p2pfl.keys import Secret
from p2pfl.training.augment_check import check_augment
from p2pfl.training.gradients.projection import ProjectingModule
from p2pfl.training.models import PUBLIC, as_inputs, loss_of
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.records.records import Batch, Records
from p2pfl.training.task import Task
from p2pfl.training.update import empty

# Records' gradients may differ by rounding when the batch beside them differs; anything larger is mixing.
MIXING_TOLERANCE: Final = 1e-3
TRIED_WEIGHTS: Final = 2
LIBRARIES: Final = ("torch", "opacus", "p2pfl")
SHOWN: Final = 8  # layers
AT_A_TIME: Final = 1 << 18  # coordinates
TRIED_SPREAD: Final = 0.1  # standard deviation by which the second weights differ from the first

Take = Callable[[str, torch.Tensor], None]  # a parameter's name, and the first record's gradient of it


def check_private(task: Task, model: nn.Module, sample: Records, device: torch.device) -> None:
    """Try one private step of `model` on `sample` (two records or more). What trains of it has other values then.

    It is tried with the model's own weights and with others, since by chance a mixing layer may be silent at some.
    Raises AugmentMixes; LossNotPerRecord, TrialDiverged, or ModelNotPrivate with what broke; RecordMisfit.
    """
    if len(sample) < 2:
        raise ValueError("the check takes two records or more")
    check_augment(task, sample, device)
    pair = sample.batch(np.array([0, 1]))
    three = sample.batch(np.array([0, len(sample) - 1, len(sample) - 1]))
    # Hooks go to a copy, in whose place the model's own memory serves; what does not train keeps its values.
    values = {id(p): nn.Parameter(p.data) for p in model.parameters() if p.requires_grad}
    trial = _Trial(copy.deepcopy(model, dict[int, Any](values)).train().to(device))
    for layer in trial.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()  # else two passes would differ by chance, which looks like mixing
    stream = BitStream(Secret(PUBLIC, "public: other weights to try"), "training/initial")
    try:
        for tried in range(TRIED_WEIGHTS):
            _compare(task, trial, pair, three, device, finite=not tried)
            with torch.no_grad():
                for parameter in trial.parameters():
                    _spread(parameter, stream)
    finally:
        empty(trial)  # hooks and layers hold each other: it would stay until they are found to be garbage


class _Trial(ProjectingModule):
    """A model that makes the first record's gradient alone, and hands it over layer by layer in a backward pass."""

    def begin(self, records: int, take: Take) -> None:
        """The next backward pass is of so many records."""
        self._records, self._take = records, take
        named = ((name.removeprefix("_module."), p) for name, p in self.named_parameters() if p.requires_grad)
        self._owed = {id(p): name for name, p in named}
        self._cut, self._odd = set[nn.Module](), set[int]()

    def rearrange_grad_samples(self, *, module: nn.Module, **how: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What went into a layer and what came back, of the first record.    (1, …), (1, …)"""
        activations, backprops = super().rearrange_grad_samples(module=module, **how)
        if module not in self._cut:  # in a backward pass a layer may come more than once
            self._cut.add(module)
            if module.max_batch_len != self._records:
                self._odd.update(map(id, module.parameters()))
            module.max_batch_len = 1  # type: ignore[assignment]
        return [part[:1] if part.dim() else part for part in activations], backprops[:1]

    def capture_backprops_hook(self, module: nn.Module, *given: Any, **how: Any) -> None:
        """Opacus', and what it has found is handed over."""
        super().capture_backprops_hook(module, *given, **how)
        for p in module.parameters():
            found = getattr(p, "grad_sample", None)
            if isinstance(found, torch.Tensor) and id(p) in self._owed and id(p) not in self._odd:
                if found.shape == (1, *p.shape):
                    self._take(self._owed.pop(id(p)), found[0].detach())
                p.grad_sample = None  # type: ignore[attr-defined]

    def end(self) -> None:
        """The backward pass is over. Raises ValueError where a parameter got no gradient of the record's own."""
        for name in self._owed.values():
            raise ValueError(f"{name} has no gradient for each record")


def _spread(parameter: nn.Parameter, stream: BitStream) -> None:
    """Move it by normal numbers, a part at a time: in float64 they take many times its size."""
    values = parameter.detach().cpu().reshape(-1)
    for start in range(0, values.numel(), AT_A_TIME):
        part = values[start : start + AT_A_TIME]
        part += torch.from_numpy(stream.normals(part.numel()) * TRIED_SPREAD).to(part.dtype)
    parameter.copy_(values.view(parameter.shape))


def _compare(task: Task, trial: _Trial, pair: Batch, three: Batch, device: torch.device, *, finite: bool) -> None:
    """Raises ModelNotPrivate when the first record's gradient is another beside another record; TrialDiverged when it
    has to be `finite`, as at the first weights, and is not: a pass that counts would be charged, and lost.
    """
    first, mixed = dict[str, torch.Tensor](), list[str]()

    def beside_another(name: str, gradient: torch.Tensor) -> None:
        alone = first.pop(name)
        largest = float(alone.abs().max()) if alone.numel() else 0.0
        if _apart(alone, gradient) > MIXING_TOLERANCE * max(1e-6, largest):
            mixed.append(name)

    try:
        _step(task, trial, three, device, first.__setitem__)
        order = list(first)
        odd = [name for name, gradient in first.items() if finite and not bool(gradient.isfinite().all())]
        if odd:
            raise TrialDiverged(evidence=f"the gradient of {', '.join(odd[:SHOWN])}")
        _step(task, trial, pair, device, beside_another)
    except (LossNotPerRecord, TrialDiverged):
        raise
    except Exception as error:
        evidence = (
            f"{_told(error, task, trial, pair, device)}\na record is {_shape(pair[0])}, its label {_shape(pair[1])}"
        )
        raise ModelNotPrivate(evidence=evidence, task=task.name) from None
    if mixed:
        evidence = f"one record's gradient of {max(mixed, key=order.index)} changes with the other records of its batch"
        raise ModelNotPrivate(evidence=evidence, task=task.name)


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference between two gradients, a part at a time."""
    a, b = a.reshape(-1), b.reshape(-1)
    parts = [slice(start, start + AT_A_TIME) for start in range(0, a.numel(), AT_A_TIME)]
    return max((float((a[part] - b[part]).abs().max()) for part in parts), default=0.0)


def _told(error: Exception, task: Task, trial: _Trial, batch: Batch, device: torch.device) -> str:
    """What to show of `error`, whose own text may hold a patient's value ("Target 7 is out of …").

    Two records of zeros are tried: the text is that of their error if it is of the same kind, else the kind alone.
    """
    try:
        _step(task, trial, (np.zeros_like(batch[0]), np.zeros_like(batch[1])), device, lambda name, gradient: None)
    except Exception as other:
        if type(other) is type(error):
            return f"{place_of(other)}{type(other).__name__}: {other}{_in_place(trial)}"
    return f"{place_of(error)}{type(error).__name__}, which depends on the records' values"


def place_of(error: Exception) -> str:
    """The last line of forward, or of the loss, that is of no library which trains; empty where there is none."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        library = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if library not in LIBRARIES:
            return f"{Path(frame.f_code.co_filename).name}:{line}: "
    return ""


def _shape(batch: NDArray[Any]) -> str:
    """What one of a batch holds."""
    return f"{batch.dtype} of {'×'.join(map(str, batch.shape[1:]))}" if batch.ndim > 1 else f"one {batch.dtype}"


def _in_place(trial: nn.Module) -> str:
    """The layers that change their input."""
    named = ((name.removeprefix("_module."), layer) for name, layer in trial.named_modules())
    found = [f"{name} ({type(layer).__name__})" for name, layer in named if getattr(layer, "inplace", False) is True]
    more = ", …" if len(found) > SHOWN else ""
    return f"\nin place: {', '.join(found[:SHOWN])}{more}" if found else ""


def _step(task: Task, trial: _Trial, batch: Batch, device: torch.device, take: Take) -> None:
    """A forward and a backward pass: `take` gets the first record's gradient of each parameter, last layers first."""
    trial.zero_grad()
    trial.begin(len(batch[0]), take)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on hooks of inputs without gradient
        loss = loss_of(task, trial(as_inputs(batch[0], device)), as_inputs(batch[1], device))
        torch.autograd.backward(loss.sum())
    trial.end()

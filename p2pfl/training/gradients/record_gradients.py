"""Opacus' gradients of each record, without what it holds beside them: the batch's own gradient, and a second copy.

A layer whose rule is known is run with parameters that seem not to train, as long as its input carries a gradient. Then
the backward pass leaves out the batch's gradient of them, a third of its work and the memory of the largest layer;
their records' gradients are made of what went in and what came back, which it needs anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from p2pfl.training.gradients.opacus_parts import GradSampleModule

Gradients = dict[Any, torch.Tensor]  # by parameter
Sampler = Callable[[Any, Sequence[torch.Tensor], torch.Tensor], Gradients]


def kept(sampler: Sampler) -> Sampler:
    """The same, of which what it returns is each parameter's gradient: Opacus would copy it into zeros of its size.

    A parameter that a pass uses several times is left to Opacus, which adds up; so is a view of what was given.
    """

    def found(layer: Any, activations: Sequence[torch.Tensor], backprops: torch.Tensor) -> Gradients:
        given = {one.untyped_storage().data_ptr() for one in (*activations, backprops)}
        left: Gradients = {}
        for p, samples in sampler(layer, activations, backprops).items():
            whole = samples.is_contiguous() and len(samples) == layer.max_batch_len
            once = p._forward_counter == 1 and not hasattr(p, "_current_grad_sample")
            if whole and p.requires_grad and once and samples.untyped_storage().data_ptr() not in given:
                p._current_grad_sample = samples.detach()
            else:
                left[p] = samples
        return left

    return found


class RecordGradients(GradSampleModule):  # type: ignore[misc]
    """After a backward pass of a sum of losses each parameter has `grad_sample` (B, …), and no `grad`."""

    GRAD_SAMPLERS: ClassVar[Mapping[type[nn.Module], Sampler]] = {
        layer: kept(sampler) for layer, sampler in GradSampleModule.GRAD_SAMPLERS.items()
    }

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, loss_reduction="sum")
        for p in model.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(_drop)  # type: ignore[no-untyped-call]
        for layer in self.iterate_submodules(model):
            if type(layer) in self.GRAD_SAMPLERS:
                _Hidden(layer)


class _Hidden:
    """The parameters of a layer, seemingly without gradient while the layer runs."""

    def __init__(self, layer: nn.Module) -> None:
        self._hidden: list[nn.Parameter] = []
        layer.register_forward_pre_hook(self._hide)
        # Before Opacus' own hook, which asks what trains; and after an error too.
        layer.register_forward_hook(self._show, prepend=True, always_call=True)

    def _hide(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        # Without any gradient in its input the output would have none, and nothing would come back to the layer.
        if any(isinstance(one, torch.Tensor) and one.requires_grad for one in inputs):
            self._hidden = [p for p in layer.parameters(recurse=False) if p.requires_grad]
            for p in self._hidden:
                p.requires_grad_(False)

    def _show(self, *_: Any) -> None:
        while self._hidden:
            self._hidden.pop().requires_grad_(True)


def _drop(p: torch.Tensor) -> None:
    p.grad = None

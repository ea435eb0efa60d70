"""Per-record gradients of θ, the numbers that a round in a low-rank subspace trains (compression/subspace.py), and
a model that follows θ.

For a linear layer or a convolution a record's gradient of W is a sum of outer products g xᵀ of what came back and what
went in. Its parts G R and Lᵀ G (1 − R Rᵀ) are made from g (xᵀR) and (Lᵀg) xᵀ: the gradient itself, o × i numbers for
each record, is never formed. In a transposed convolution the two change places. Where a layer has no such rule, Opacus
forms the gradient and it is projected afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import numpy as np
import torch
from torch import nn

from p2pfl.training.compression.subspace import Piece, Subspace
from p2pfl.training.gradients import convolutions as conv
from p2pfl.training.gradients.opacus_parts import GradSampleModule
from p2pfl.training.gradients.record_gradients import Gradients, RecordGradients, Sampler, kept
from p2pfl.training.update import FlatVector

CARRIERS: Final = "_p2pfl_carriers"  # of a parameter that moves along carriers only


@dataclass(frozen=True, slots=True)
class _Carried:
    """L (o, r) and R (i, r) of one parameter, as torch computes with them."""

    left: torch.Tensor
    right: torch.Tensor

    def of_products(self, g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """θ's gradient of each record, of the sum over t of g xᵀ, in γ groups of W's rows.

        (B, γ, t, o/γ), (B, γ, t, i) ► (B, r·(o + i))
        """
        left = self.left.view(g.shape[1], g.shape[3], -1)  # (γ, o/γ, r)
        along, back = x @ self.right, (g @ left).mT  # (B, γ, t, r), (B, γ, r, t)
        a = g.mT @ along  # (B, γ, o/γ, r)
        b = (back @ x).sum(1) - (back @ along).sum(1) @ self.right.T  # (B, r, i)
        return torch.cat([a.flatten(1), b.flatten(1)], 1)

    def of_gradients(self, whole: torch.Tensor) -> torch.Tensor:
        """The same from gradients that were formed.    (B, …) ► (B, r·(o + i))"""
        matrix = whole.reshape(len(whole), self.left.shape[0], self.right.shape[0])
        a = matrix @ self.right
        b = self.left.T @ matrix
        b = b - (b @ self.right) @ self.right.T
        return torch.cat([a.flatten(1), b.flatten(1)], 1)


def _linear(layer: nn.Linear, activations: Sequence[torch.Tensor], backprops: torch.Tensor) -> Gradients:
    carried: _Carried | None = getattr(layer.weight, CARRIERS, None)
    if carried is None:
        return dict(GradSampleModule.GRAD_SAMPLERS[nn.Linear](layer, activations, backprops))
    g = backprops.reshape(len(backprops), 1, -1, backprops.shape[-1])  # (B, 1, t, o)
    x = activations[0].to(g.dtype).reshape(len(g), 1, -1, activations[0].shape[-1])  # (B, 1, t, i)
    return {layer.weight: carried.of_products(g, x)} | conv.bias_of(layer, g[:, 0].mT)


def _convolution(layer: conv.Convolution, activations: Sequence[torch.Tensor], backprops: torch.Tensor) -> Gradients:
    if layer.padding_mode == "zeros" and not hasattr(layer.weight, CARRIERS):
        return {**GradSampleModule.GRAD_SAMPLERS[type(layer)](layer, activations, backprops)}
    return _of_kernel(layer, conv.products_of(layer, activations[0], backprops)) | conv.bias_of(layer, backprops)


def _transposed(layer: conv.Transposed, activations: Sequence[torch.Tensor], backprops: torch.Tensor) -> Gradients:
    found = _of_kernel(layer, conv.transposed_products_of(layer, activations[0], backprops))
    return found | conv.bias_of(layer, backprops)


def _slopes(layer: nn.PReLU, activations: Sequence[torch.Tensor], backprops: torch.Tensor) -> Gradients:
    """Of slopes below zero: what went in there, times what came back. Without a rule of ours torch would make them by
    functorch, which loads its compiler: 80 MB, and seconds at the start of each process."""
    if not layer.weight.requires_grad:
        return {}
    below = activations[0].clamp(max=0).to(backprops.dtype) * backprops
    kinds = layer.num_parameters  # one slope for all, or one for each channel
    return {layer.weight: (below if kinds > 1 else below[:, None]).reshape(len(below), kinds, -1).sum(2)}


def _of_kernel(layer: conv.Convolution | conv.Transposed, products: Iterator[conv.Products]) -> Gradients:
    """θ's gradients, or the kernel's own where it moves freely."""
    carried: _Carried | None = getattr(layer.weight, CARRIERS, None)
    if carried is None:
        return {layer.weight: conv.whole(layer, products)} if layer.weight.requires_grad else {}
    return {layer.weight: torch.cat([carried.of_products(g, x) for g, x in products])}


class ProjectingModule(RecordGradients):
    """Gradients of each record; of a parameter that moves along carriers, those of θ."""

    GRAD_SAMPLERS: ClassVar[Mapping[type[nn.Module], Sampler]] = {
        **RecordGradients.GRAD_SAMPLERS,
        nn.Linear: kept(_linear),
        nn.PReLU: kept(_slopes),
        **dict.fromkeys(conv.CONVOLUTIONS, kept(_convolution)),
        **dict.fromkeys(conv.TRANSPOSED, kept(_transposed)),
    }


class Moving(Protocol):
    """What a pass trains of a model, and how the model follows."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What an optimiser trains."""

    def take_gradients(self) -> None:
        """Leave each record's gradient at `parameters`, after a backward pass."""

    def follow(self) -> None:
        """The model follows `parameters`, after a step."""

    def read(self) -> FlatVector | None:
        """How far its own numbers have come from 0; None where they are the model's.    (d,)"""

    def end(self) -> None:
        """The pass is over."""


class Free:
    """A model of which every trained parameter moves freely."""

    def __init__(self, trained: list[nn.Parameter]) -> None:
        self._trained = trained

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The model's own."""
        return self._trained

    def take_gradients(self) -> None:
        """Opacus left them there."""

    def follow(self) -> None:
        """They are the model's own."""

    def read(self) -> None:
        """The model holds it."""

    def end(self) -> None:
        """Nothing was changed."""


class Projected:
    """A model whose trained parameters follow θ, from θ = 0 on, for one pass; those that stay at home train whole."""

    def __init__(self, trained: list[nn.Parameter], subspace: Subspace) -> None:
        """`trained` are the model that the round starts from, first those of `subspace`; until `end`, they are those
        of θ. The memory that they lie in is read, and never written to."""
        pieces = (*subspace.pieces, *(None for _ in trained[len(subspace.pieces) :]))
        self._all = [_Following(p, piece) for p, piece in zip(trained, pieces, strict=True)]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What an optimiser trains: θ, in tensors."""
        return [following.theta for following in self._all]

    def take_gradients(self) -> None:
        """Hand each record's gradient over to θ, after a backward pass."""
        for following in self._all:
            following.take_gradients()

    def follow(self) -> None:
        """The model's parameters become those of θ."""
        with torch.no_grad():
            for following in self._all:
                following.follow()

    def read(self) -> FlatVector:
        """θ, which was 0 at the start, and behind it how far what stays at home has come.    (d + k,)"""
        parts = [following.moved().cpu().numpy().ravel() for following in self._all]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def end(self) -> None:
        """Gradients are those of whole parameters again."""
        for following in self._all:
            if hasattr(following.parameter, CARRIERS):
                delattr(following.parameter, CARRIERS)


class _Following:
    """One parameter and the numbers of θ that it follows; itself, where it trains whole."""

    def __init__(self, parameter: nn.Parameter, piece: Piece | None) -> None:
        self.parameter, self._rows, self._rank = parameter, 0, 0
        self._before = parameter.detach()  # its own memory: what follows gets another
        self._carried: _Carried | None = None
        self.theta = parameter
        if piece is not None and piece.rank:
            self._rows, self._rank = piece.rows, piece.rank

            def there(carriers: np.ndarray[Any, Any]) -> torch.Tensor:
                return torch.from_numpy(carriers).to(parameter.device, parameter.dtype)

            self._carried = _Carried(there(piece.left), there(piece.right))
            setattr(parameter, CARRIERS, self._carried)
            self.theta = nn.Parameter(parameter.new_zeros(piece.length))
        else:
            parameter.data = self._before.clone()

    def take_gradients(self) -> None:
        if self._carried is None:
            return
        found: torch.Tensor = self.parameter.grad_sample  # type: ignore[attr-defined]
        if found.shape[1:] == self.parameter.shape:
            found = self._carried.of_gradients(found)
        self.theta.grad_sample = found  # type: ignore[attr-defined]
        self.parameter.grad_sample = None  # type: ignore[attr-defined]

    def follow(self) -> None:
        if self._carried is None:
            return
        left, right = self._carried.left, self._carried.right
        a, b = self.theta[: self._rows * self._rank], self.theta[self._rows * self._rank :]
        b = b.view(self._rank, -1)
        b = b - (b @ right) @ right.T
        change = a.view(self._rows, self._rank) @ right.T
        change += left @ b
        self.parameter.data = change.view_as(self._before).add_(self._before)

    def moved(self) -> torch.Tensor:
        """Its part of θ."""
        return self.theta.detach() if self._carried is not None else self.parameter.detach() - self._before

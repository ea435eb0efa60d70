"""Low-rank adapters: the weights stay as they are, and a product of two thin matrices is learned beside them.

Hu et al. 2021, for linear layers; for convolutions the first matrix is a convolution into `rank` channels, the second a
1×1 one. An adapter is made of plain Linear and Conv layers, so a gradient for each record is exact under hooks. Only
adapters train, travel and get noise: with rank 4 some hundredth of a ResNet's numbers, and the noise's norm grows with
the root of their number. The second matrix starts at zero, so the first model is the frozen one, the same bits
everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2pfl.training.update import FlatVector

BASE, DOWN, UP = "base", "down", "up"


class Adapted(nn.Module):
    """base(x) + up(down(x)), of which the base is frozen."""

    def __init__(self, base: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d, rank: int) -> None:
        super().__init__()
        self.base = base
        if isinstance(base, nn.Linear):
            self.down: nn.Module = nn.Linear(base.in_features, rank, bias=False)
            self.up: nn.Module = nn.Linear(rank, base.out_features, bias=False)
        else:
            kind: Any = type(base)
            given = {"stride": base.stride, "padding": base.padding, "dilation": base.dilation}
            self.down = kind(base.in_channels, rank, base.kernel_size, bias=False, **given)
            self.up = kind(rank, base.out_channels, 1, bias=False)
        for parameter in base.parameters():
            parameter.requires_grad_(False)
        nn.init.zeros_(cast(torch.Tensor, self.up.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the base's."""
        return cast(torch.Tensor, self.base(x) + self.up(self.down(x)))


def adapted(model: nn.Module, rank: int, without_layers: Sequence[str] = ()) -> nn.Module:
    """The model with an adapter at each linear and convolution layer that the rank makes smaller.

    without_layers    names of layers that stay whole, such as a head that is trained anew
    A grouped convolution and one that pads with anything but zeros stay as they are, and frozen.
    """
    for name, layer in list(model.named_modules()):
        if name in without_layers or not _fits(layer, rank):
            continue
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, Adapted(cast(nn.Linear, layer), rank))
    return model


def _fits(layer: nn.Module, rank: int) -> bool:
    if type(layer) is nn.Linear:
        return rank * (layer.in_features + layer.out_features) < layer.weight.numel()
    if type(layer) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return False
    conv = cast(nn.Conv2d, layer)
    if conv.groups != 1 or conv.padding_mode != "zeros":
        return False
    return rank * (conv.weight[0].numel() + conv.out_channels) < conv.weight.numel()


def is_adapter(name: str) -> bool:
    """The parameter called `name` is one of an adapter's."""
    return name.endswith((f".{DOWN}.weight", f".{UP}.weight"))


def silence(named: Mapping[str, FlatVector]) -> None:
    """Set the second matrix of each adapter to zero, in place."""
    for name, values in named.items():
        if name.endswith(f".{UP}.weight"):
            values[...] = 0.0


def under_adapters(weights: Mapping[str, NDArray[Any]], model: nn.Module) -> dict[str, NDArray[Any]]:
    """Weights of the plain model, under the names that they have in the adapted one."""
    wrapped = {name for name, layer in model.named_modules() if isinstance(layer, Adapted)}

    def renamed(name: str) -> str:
        layer, _, own = name.rpartition(".")
        return f"{layer}.{BASE}.{own}" if layer in wrapped else name

    return {renamed(name): values for name, values in weights.items()}


def merged(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Every parameter under the plain model's names, adapters added to what they adapt: a model without them.

    W + up · down, float64 rounded once; the merged model gives what the adapted one gives, to rounding.
    """
    found: dict[str, NDArray[np.float32]] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Adapted)}
    for name, parameter in model.named_parameters():
        layer, _, own = name.rpartition(".")
        plain, _, part = layer.rpartition(".")
        if plain not in layers:
            found[name] = _numbers(parameter)
        elif part == BASE and own == "weight":
            found[f"{plain}.{own}"] = _merged(layers[plain])
        elif part == BASE:
            found[f"{plain}.{own}"] = _numbers(parameter)
    return found


def _merged(layer: Adapted) -> NDArray[np.float32]:
    base, down, up = (
        np.asarray(_numbers(part.get_parameter("weight")), np.float64) for part in (layer.base, layer.down, layer.up)
    )
    rank = down.shape[0]
    product = up.reshape(-1, rank) @ down.reshape(rank, -1)  # (out, in · kernel)
    return np.asarray(base + product.reshape(base.shape), np.float32)


def _numbers(parameter: torch.Tensor) -> NDArray[np.float32]:
    return parameter.detach().cpu().numpy()

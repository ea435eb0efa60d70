"""Convolutions as sums of outer products: what each record's gradient of a kernel is made of.

A kernel's gradient is the sum over places t of g xᵀ. In a convolution g is what came back at the output's place t, and
x is the patch of the input that made it. A transposed convolution is a convolution run backwards, so there g is the
input at its place t, and x the patch of what came back that it went to. Patches overlap and take up to k·k(·k) times
the size of what they are cut from, so they are cut of a few records at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from p2pfl.training.gradients.record_gradients import Gradients

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Products = tuple[torch.Tensor, torch.Tensor]  # g (B, γ, t, o/γ), x (B, γ, t, i): γ groups, o rows of the kernel

CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AT_ONCE: Final = 1 << 23  # numbers of patches that are cut at a time, of one record at least


def products_of(layer: Convolution, x: torch.Tensor, backprops: torch.Tensor) -> Iterator[Products]:
    """The products of a convolution, a few records at a time; o are its output channels.    (B, I, …), (B, O, …)"""
    padding = layer._reversed_padding_repeated_twice
    if layer.padding_mode != "zeros":
        x, padding = functional.pad(x, padding, mode=layer.padding_mode), [0] * len(padding)
    yield from _products(layer, backprops, x.to(backprops.dtype), padding[-2::-2])


def transposed_products_of(layer: Transposed, x: torch.Tensor, backprops: torch.Tensor) -> Iterator[Products]:
    """The products of a transposed convolution; o are its *input* channels.    (B, I, …), (B, O, …)"""
    yield from _products(layer, x.to(backprops.dtype), backprops, layer._reversed_padding_repeated_twice[-2::-2])


def whole(layer: Convolution | Transposed, products: Iterator[Products]) -> torch.Tensor:
    """Each record's whole gradient of the kernel.    (B, o, i, k…)"""
    return torch.cat([g.mT @ x for g, x in products]).reshape(-1, *layer.weight.shape)


def bias_of(layer: nn.Module, backprops: torch.Tensor) -> Gradients:
    """Each record's gradient of a bias: what came back, added up over all places.    (B, O, …) ► (B, O)"""
    bias = layer.bias
    if not isinstance(bias, torch.Tensor) or not bias.requires_grad:
        return {}
    return {bias: backprops.flatten(2).sum(2)}


def _products(
    layer: Convolution | Transposed, rows: torch.Tensor, wide: torch.Tensor, before: Sequence[int]
) -> Iterator[Products]:
    """`rows` (B, o, t…) place by place, and the patches of `wide` (B, c, s…) that belong to each place."""
    count, places = math.prod(layer.kernel_size), rows.shape[2:]
    g = rows.reshape(len(rows), layer.groups, -1, math.prod(places)).mT  # (B, γ, t, o/γ)
    at_once = max(1, AT_ONCE // max(1, wide.shape[1] * count * math.prod(places)))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        yield g[part], _patches(layer, wide[part], places, before)


def _patches(
    layer: Convolution | Transposed, wide: torch.Tensor, places: Sequence[int], before: Sequence[int]
) -> torch.Tensor:
    """The part of `wide` (B, c, s…) under the kernel at each place, zeros beyond its edges.    (B, γ, t, c/γ·k…)

    before      along each axis, the zeros that lie before the first place
    Behind the last place lies what the shapes leave: fewer zeros where the output was padded, none or less than none
    where the stride stops short of the end.
    """
    padding = list[int]()
    axes = list(zip(places, wide.shape[2:], layer.kernel_size, layer.stride, layer.dilation, before, strict=True))
    for place, size, kernel, stride, dilation, ahead in axes:
        reached = (place - 1) * stride + dilation * (kernel - 1) + 1
        padding = [ahead, reached - ahead - size, *padding]  # the last axis comes first
    cut = functional.pad(wide, padding)
    for axis, (_, _, kernel, stride, dilation, _) in enumerate(axes):
        cut = cut.unfold(2 + axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
    channels, count = wide.shape[1] // layer.groups, math.prod(layer.kernel_size)
    cut = cut.view(len(wide), layer.groups, channels, *cut.shape[2:]).movedim(2, 2 + len(axes))  # (B, γ, t…, c/γ, k…)
    return cut.reshape(len(wide), layer.groups, math.prod(places), channels * count)

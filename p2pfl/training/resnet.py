"""ResNets that train with a gradient for each record: GroupNorm in place of BatchNorm, and nothing in place.

He et al. 2016; GroupNorm, Wu and He 2018. torchvision's own crash under per-record hooks (`ReLU(inplace=True)`,
`out += identity`), also after Opacus' validator has passed them. Parameters have torchvision's names, so that its
pretrained weights fit, the affine ones of the norms too; running statistics, which remember records, have no place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import nn
from torch.nn import functional

GROUPS: Final = 32
WIDTHS: Final = (64, 128, 256, 512)


def norm(channels: int) -> nn.GroupNorm:
    """Over at most 32 groups of channels of one record."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) ► (B, width, H / stride, W / stride)"""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions around a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = norm(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) ► (B, 4 · width, H / stride, W / stride)"""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return functional.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


class ResNet(nn.Module):
    """Images (B, channels, H, W) ► (B, outputs)."""

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], channels: int, outputs: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = norm(WIDTHS[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = WIDTHS[0]
        for place, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True)):
            blocks = []
            for number in range(depth):
                blocks.append(block(inputs, width, 2 if place and not number else 1))
                inputs = width * block.expansion
            self.add_module(f"layer{place + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) ► (B, outputs)"""
        out = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        for place in range(len(WIDTHS)):
            out = self.get_submodule(f"layer{place + 1}")(out)
        return self.fc(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def resnet18(channels: int, outputs: int) -> ResNet:
    """1.1·10⁷ parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), channels, outputs)


def resnet50(channels: int, outputs: int) -> ResNet:
    """2.4·10⁷ parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3), channels, outputs)


class SmallCnn(nn.Module):
    """A 3×3 convolution for each width, halved after each but the last, and a linear layer on 4×4 means.

    16 and 32 channels make 6·10³ parameters, 32, 64 and 128 make 10⁵.
    """

    def __init__(self, channels: int, outputs: int, widths: Sequence[int] = (16, 32)) -> None:
        super().__init__()
        self._names = [(f"conv{place}", f"bn{place}") for place in range(1, len(widths) + 1)]
        inputs = channels
        for (conv, bn), width in zip(self._names, widths, strict=True):
            self.add_module(conv, nn.Conv2d(inputs, width, 3, padding=1))
            self.add_module(bn, norm(width))
            inputs = width
        self.fc = nn.Linear(inputs * 16, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) ► (B, outputs)"""
        for place, (conv, bn) in enumerate(self._names):
            x = functional.max_pool2d(x, 2) if place else x
            x = functional.relu(self.get_submodule(bn)(self.get_submodule(conv)(x)))
        return self.fc(functional.adaptive_avg_pool2d(x, 4).flatten(1))  # type: ignore[no-any-return]


def architecture(name: str, channels: int, outputs: int, widths: Sequence[int] = (16, 32)) -> nn.Module:
    """cnn (of `widths`), resnet18 or resnet50. Raises ValueError for another name."""
    if name == "cnn":
        return SmallCnn(channels, outputs, widths)
    if name not in ARCHITECTURES:
        raise ValueError(f"{name} is none of cnn, {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](channels, outputs)


ARCHITECTURES: Final[dict[str, Callable[[int, int], nn.Module]]] = {"resnet18": resnet18, "resnet50": resnet50}

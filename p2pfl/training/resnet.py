"""ResNets that train with a gradient for each record: GroupNorm in place of BatchNorm, and nothing in place.

He et al. 2016; GroupNorm, Wu and He 2018. torchvision's own crash under per-record hooks (`ReLU(inplace=True)`,
`out += identity`), also after Opacus' validator has passed them. Parameters have torchvision's names, so that its
pretrained weights fit, the affine ones of the norms too; running statistics, which remember records, have no place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    """Two convolutions and a linear layer on 4×4 means: 6·10³ parameters, for small images and first tries."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, padding=1), norm(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, padding=1), norm(32)
        self.fc = nn.Linear(32 * 16, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) ► (B, outputs)"""
        out = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        out = functional.adaptive_avg_pool2d(functional.relu(self.bn2(self.conv2(out))), 4)
        return self.fc(out.flatten(1))  # type: ignore[no-any-return]


ARCHITECTURES: Final[dict[str, Callable[[int, int], nn.Module]]] = {
    "cnn": SmallCnn,
    "resnet18": resnet18,
    "resnet50": resnet50,
}

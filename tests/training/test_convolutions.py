"""Each record's gradient of a kernel, along carriers and whole, is what autograd finds for that record alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from p2pfl.training.compression.subspace import Subspace, orthonormal
from p2pfl.training.gradients import convolutions
from p2pfl.training.gradients.projection import Projected, ProjectingModule
from p2pfl.training.update import TensorLayout, layout_of
from tests.examples import examples

RECORDS = 3
Built = tuple[nn.Module, tuple[int, ...]]  # a layer, and the shape of a record


@st.composite
def layers(draw: st.DrawFn, *, transposed: bool) -> Built:
    """A layer of one to three axes whose kernel is worth carriers, with any stride, padding, dilation and groups."""
    axes = draw(st.integers(1, 3))
    small = {1: 9, 2: 3, 3: 2}[axes]  # the kernel along an axis, at most; and the places
    kernel, stride, dilation = (
        tuple(draw(st.integers(1, most)) for _ in range(axes)) for most in (small, 3, 2 if axes > 1 else 3)
    )
    padding = tuple(draw(st.integers(0, d * (k - 1))) for k, d in zip(kernel, dilation, strict=True))
    groups, bias = draw(st.sampled_from((1, 1, 2, 3))), draw(st.booleans())
    made: dict[str, object] = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    of, channels = nn.modules.conv, (12, 24) if draw(st.booleans()) else (24, 12)
    if transposed:
        most = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        made["output_padding"] = tuple(draw(st.integers(0, one)) for one in most)
        layer = getattr(of, f"ConvTranspose{axes}d")(*channels, kernel, groups=groups, **made)
    else:
        modes = ("zeros", "zeros", "replicate", "circular")
        made["padding_mode"] = draw(st.sampled_from(modes))
        if draw(st.booleans()):
            made |= {"stride": 1, "padding": draw(st.sampled_from(("same", "valid")))}
        layer = getattr(of, f"Conv{axes}d")(*channels, kernel, groups=groups, **made)
    least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return layer.double(), (channels[0], *(draw(st.integers(one, one + 2)) for one in least))


def subspace(layout: TensorLayout) -> Subspace:
    """Of random carriers, rank 2."""
    dice = np.random.default_rng(0)

    def carriers(_: str, __: int, rows: int, columns: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
        return tuple(  # type: ignore[return-value]
            orthonormal(dice.normal(size=(n, rank)), lambda n=n: dice.normal(size=n)) for n in (rows, columns)
        )

    return Subspace.made(layout, 1e-9, carriers)


def is_as_alone(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Both ways: whole gradients in a pass that moves freely, and θ's in one that moves along carriers."""
    torch.manual_seed(0)
    x = torch.randn(RECORDS, *shape, dtype=torch.float64)
    weights = torch.randn(layer(x).shape, dtype=torch.float64)
    alone = []
    for row in range(RECORDS):
        layer.zero_grad()
        (layer(x[row : row + 1]) * weights[row : row + 1]).sum().backward()
        alone.append(np.concatenate([p.grad.numpy().ravel() for p in layer.parameters()]))  # type: ignore[union-attr]
    space, wrapped = subspace(layout_of(layer)), ProjectingModule(layer)
    trained = list(layer.parameters())

    (wrapped(x) * weights).sum().backward()
    whole = torch.cat([p.grad_sample.flatten(1) for p in trained], 1)  # type: ignore[attr-defined]
    np.testing.assert_allclose(whole.numpy(), alone, rtol=1e-9, atol=1e-10)
    for p in trained:
        p.grad_sample = None  # type: ignore[attr-defined]

    projected = Projected(trained, space)
    (wrapped(x) * weights).sum().backward()
    held = [p.grad_sample.shape[1:] for p in trained if hasattr(p, "_p2pfl_carriers")]  # type: ignore[attr-defined]
    assert all(len(one) == 1 for one in held), "a whole gradient was formed"
    projected.take_gradients()
    found = torch.cat([p.grad_sample.flatten(1) for p in projected.parameters], 1)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.detach().numpy(), [space.project(one) for one in alone], rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:Using padding='same'")
@given(layers(transposed=True))
@examples(120)
def test_a_transposed_convolutions_gradients_are_those_of_each_record_alone(built: Built) -> None:
    is_as_alone(*built)


@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:Using padding='same'")
@given(layers(transposed=False))
@examples(120)
def test_a_convolutions_gradients_are_those_of_each_record_alone(built: Built) -> None:
    is_as_alone(*built)


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_patches_cut_of_one_record_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "AT_ONCE", 1)
    is_as_alone(nn.ConvTranspose3d(24, 12, 3, stride=2, padding=1, output_padding=1).double(), (24, 2, 3, 2))
    is_as_alone(nn.Conv3d(12, 24, 3, padding=1).double(), (12, 3, 2, 4))


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (4, 2, 3, 2)])
@pytest.mark.parametrize("slopes", [1, 4])
def test_slopes_gradients_are_those_of_each_record_alone(slopes: int, shape: tuple[int, ...]) -> None:
    layer = nn.PReLU(slopes).double()
    layer.weight.data.copy_(torch.linspace(-0.5, 0.5, slopes))
    if slopes == 1 or shape:
        is_as_alone(layer, shape)


def test_slopes_gradients_load_no_compiler() -> None:
    code = (
        "import sys, torch; from torch import nn; from p2pfl.training.lean import without_compiler;"
        "from p2pfl.training.gradients.projection import ProjectingModule; without_compiler();"
        "model = ProjectingModule(nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2), nn.PReLU()));"
        "torch.autograd.backward(model(torch.randn(2, 1, 4, 4, 4)).sum());"
        "assert all(p.grad_sample is not None for p in model.parameters());"
        "print('torch._dynamo.eval_frame' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", done.stderr


class Resized(nn.Module):
    """The size of its output is said in the call, and not by the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(24, 12, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, output_size=(8, 7))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_an_output_size_that_the_call_names_is_told_by_the_shapes() -> None:
    is_as_alone(Resized().double(), (24, 4, 4))

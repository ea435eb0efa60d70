"""A model's parameters ◄► one flat float32 vector, names and shapes kept; the first model; the mean applied.

"Model after" must be the same bits on unlike machines, so nothing in this file computes in torch: the first model
comes from a public keystream and the mean is applied in numpy float64 with + − × ÷ √, rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import facts
from p2pfl.keys import Secret, digest
from p2pfl.training.noise.bit_stream import BitStream

if TYPE_CHECKING:
    from torch import nn

FlatVector = NDArray[np.float32]

DRAWN: Final = 1 << 18  # coordinates of a first model drawn at a time: in float64 they take six times their size
BLOCK: Final = 16 * 1024  # coordinates applied at a time: in float64 they fit into the processor's cache


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """Names and shapes of the parameters that train, in the model's order: what a vector's coordinates mean."""

    tensors: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def parameters(self) -> int:
        """m, the length of the vector."""
        return sum(math.prod(shape) for _, shape in self.tensors)

    @property
    def digest(self) -> bytes:
        """32 bytes that sites compare before their vectors are added."""
        return digest("layout", facts({"tensors": [[name, list(shape)] for name, shape in self.tensors]}))

    def split(self, vector: FlatVector) -> dict[str, FlatVector]:
        """The named tensors of `vector` (views of it). Raises ValueError on another length."""
        if vector.shape != (self.parameters,):
            raise ValueError(f"a vector of shape {vector.shape} for {self.parameters} parameters")
        named, start = {}, 0
        for name, shape in self.tensors:
            stop = start + math.prod(shape)
            named[name] = vector[start:stop].reshape(shape)
            start = stop
        return named


def layout_of(model: nn.Module) -> TensorLayout:
    """The layout of `model`'s parameters with requires_grad."""
    return TensorLayout(tuple((name, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad))


def read_vector(model: nn.Module) -> FlatVector:
    """The trained parameters of `model` as one vector.    (m,)"""
    parts = [p.detach().cpu().numpy().ravel() for p in model.parameters() if p.requires_grad]
    return np.concatenate(parts).astype(np.float32, copy=False) if parts else np.zeros(0, np.float32)


def write_vector(model: nn.Module, vector: FlatVector, layout: TensorLayout | None = None) -> None:
    """Set the trained parameters of `model` from `vector` (m,), on whatever device they lie.

    layout    the order of the tensors in `vector`; the model's own by default
    """
    import torch

    named = (layout or layout_of(model)).split(vector)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.from_numpy(named[name].copy()))


def place_vector(model: nn.Module, vector: FlatVector, layout: TensorLayout | None = None) -> None:
    """The trained parameters of `model` lie in `vector` (m,), on the processor; on another device they are its values.

    layout    the order of the tensors in `vector`; the model's own by default
    What trains them then writes into `vector`: nothing is copied.
    """
    import torch

    named = (layout or layout_of(model)).split(vector)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = torch.from_numpy(named[name]).to(parameter.device, parameter.dtype)


def empty(model: nn.Module) -> None:
    """The trained parameters of `model` keep their shapes, and hold no memory; whatever they are is 0."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.new_zeros(()).expand(parameter.shape)


def collect(model: nn.Module, vector: FlatVector, layout: TensorLayout | None = None) -> None:
    """`vector` (m,) gets the trained parameters of `model`; what lies in it already stays where it is.

    layout    the order of the tensors in `vector`; the model's own by default
    """
    named = dict(model.named_parameters())
    for name, part in (layout or layout_of(model)).split(vector).items():
        found = named[name].detach().cpu().numpy()
        if not np.shares_memory(part, found):
            part[...] = found


def first_model(model: nn.Module, seed: bytes) -> FlatVector:
    """The parameters that train as every site starts from them, the same bits everywhere.    (m,)

    seed    32 public bytes that all sites hold (peers.yaml's digest)
    """
    first = np.empty(layout_of(model).parameters, np.float32)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for (name, parameter), part in zip(named, layout_of(model).split(first).values(), strict=True):
        set_first(part, name, parameter, seed)
    return first


def set_first(part: FlatVector, name: str, parameter: nn.Parameter, seed: bytes) -> None:
    """`part` gets the first values of the parameter called `name`, whose shape it has; its memory is contiguous.

    Tensors of two or more axes are uniform on ±1/√(inputs of one output), as torch's Linear and Conv start; biases
    are 0; other single-axis parameters (a norm's gain, a PReLU's slope) keep the constants that their constructors
    set. Vector: tests/training/vectors/first-model.json.
    """
    if part.ndim >= 2:
        stream = BitStream(Secret(seed, "public seed of the first model"), "training/initial", name.encode())
        bound, drawn = 1.0 / math.sqrt(math.prod(part.shape[1:])), part.reshape(-1)
        for start in range(0, drawn.size, DRAWN):
            block = drawn[start : start + DRAWN]
            block[...] = (stream.uniforms(block.size) * 2.0 - 1.0) * bound
    elif name.rpartition(".")[2].endswith("bias"):
        part[...] = 0.0
    else:
        part[...] = parameter.detach().cpu().numpy()


def not_finite(vector: NDArray[np.floating[Any]]) -> int:
    """How many of its coordinates are no numbers, or infinite."""
    blocks = (vector[start : start + DRAWN] for start in range(0, vector.size, DRAWN))
    return sum(block.size - int(np.count_nonzero(np.isfinite(block))) for block in blocks)


class InBlocks(Protocol):
    """A vector (length,) of float64 that is never whole in memory."""

    @property
    def length(self) -> int: ...

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """All of it, in order."""


Total = NDArray[np.float64] | InBlocks


def blocks_of(total: Total) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """All of it, in order."""
    if not isinstance(total, np.ndarray):
        yield from total.blocks()
        return
    for first in range(0, total.size, BLOCK):
        block = slice(first, min(first + BLOCK, total.size))
        yield block, total[block]


def fits(total: Total, length: int) -> bool:
    """It is float64, of that length."""
    if isinstance(total, np.ndarray):
        return total.dtype == np.float64 and total.shape == (length,)
    return total.length == length


def apply_mean(model: FlatVector, total: Total, survivors: int, support: NDArray[np.int64] | None = None) -> FlatVector:
    """Return model + total / survivors: float64 in fixed order, rounded to float32 once.    (m,)

    total       float64, the opened sum of the survivors' updates, the same bits at every site: (m,), or one for each
                position of `support`, and zero elsewhere
    survivors   the number of updates in it
    Time O(m); memory: the result and one block, or what the support takes.
    Raises ValueError on another shape or type, or survivors < 1.
    """
    length = model.size if support is None else support.size
    if model.dtype != np.float32 or not fits(total, length) or survivors < 1:
        raise ValueError(f"{model.dtype}{model.shape} + what is no float64 sum of {length} numbers / {survivors}")
    if support is not None:
        # A −0 outside of the support becomes 0 too, as it does where the whole vector is added.
        after = model + np.float32(0.0)
        for block, values in blocks_of(total):
            after[support[block]] = _added(model[support[block]], values, survivors)
        return after
    after = np.empty_like(model)
    for block, values in blocks_of(total):
        after[block] = _added(model[block], values, survivors)
    return after


def _added(model: FlatVector, total: NDArray[np.float64], survivors: int) -> NDArray[np.float64]:
    after = np.divide(total, float(survivors))
    return np.add(after, model, out=after)

"""A model with all that the next ones follow from: the server optimiser's moments, the running mean of the models.

A state is one run of float32: the model, and behind it, where peers.yaml asks for them, rows of the model's shape. It
is named, kept, served, retracted and taken over whole, so a site that was away goes on with the others' very bits.
Bytes: docs/spec/sharing.md (A training); docs/adr/0043.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from p2pfl.codec import Pieces
from p2pfl.errors.training import ModelMisfit
from p2pfl.federation.optimisers import ModelAverage, ServerOptimiser
from p2pfl.keys import digest
from p2pfl.training.model import checkpoint
from p2pfl.training.update import FlatVector, TensorLayout

HEAD: Final = 2  # float32 places before the rows, in which the number of steps stands as a 64-bit integer
MODEL, MOMENTUM, SECOND, AVERAGE = "model", "momentum", "second", "average"


@dataclass(frozen=True, slots=True)
class StateLayout:
    """Which rows a state has, in order, the model first; what the coordinates of each mean."""

    tensors: TensorLayout
    kinds: tuple[str, ...] = (MODEL,)

    @classmethod
    def of(cls, tensors: TensorLayout, server: ServerOptimiser, average: ModelAverage) -> StateLayout:
        """The rows that the agreed optimiser and running mean need."""
        moments = {"mean": (), "momentum": (MOMENTUM,), "adam": (MOMENTUM, SECOND)}[server.method]
        return cls(tensors, (MODEL, *moments, *((AVERAGE,) if average.decay else ())))

    @property
    def plain(self) -> bool:
        """The model is all of it."""
        return len(self.kinds) == 1

    @property
    def length(self) -> int:
        """float32 places of a state."""
        return self.tensors.parameters if self.plain else HEAD + len(self.kinds) * self.tensors.parameters

    def first(self, model: FlatVector, server: ServerOptimiser) -> ModelState:
        """The state before the first round.

        The second moments begin at τ² (Reddi et al. 2021, algorithm 2); the mean of no model yet is the model.
        """
        if self.plain:
            return ModelState(self, model)
        data = np.zeros(self.length, "<f4")
        state = ModelState(self, data)
        rows = data[HEAD:].reshape(len(self.kinds), -1)
        for kind, row in zip(self.kinds, rows, strict=True):
            row[:] = {MODEL: model, AVERAGE: model, SECOND: np.float32(server.tau * server.tau)}.get(kind, 0.0)
        return state

    def from_bytes(self, data: bytes) -> ModelState | None:
        """The state that a peer sent; None when it has another length."""
        return ModelState(self, np.frombuffer(data, "<f4")) if len(data) == 4 * self.length else None

    @property
    def _named(self) -> TensorLayout:
        """The tensors of all rows, by the names that they have in a file."""
        rows = ((kind, name, shape) for kind in self.kinds for name, shape in self.tensors.tensors)
        return TensorLayout(tuple((f"{kind}/{name}", shape) for kind, name, shape in rows))

    def from_file(self, data: bytes) -> ModelState:
        """What `ModelState.to_file` wrote. Raises ModelMisfit when it is a state of another training."""
        if self.plain:
            return ModelState(self, checkpoint.from_bytes(data, self.tensors))
        rows, steps = checkpoint.from_bytes(data, self._named), checkpoint.facts_of(data).get("steps", "")
        if not steps.isdecimal() or int(steps) >= 1 << 63:
            raise ModelMisfit(evidence="it does not say after how many steps it is", source="the checkpoint")
        return ModelState(self, np.concatenate([steps_head(int(steps)), rows]))


@dataclass(frozen=True, eq=False)
class ModelState:
    """`data` is (length,) float32, not to be changed: of a plain layout the model, else head and rows."""

    layout: StateLayout
    data: FlatVector

    @property
    def steps(self) -> int:
        """Rounds that moved the model, where that is counted."""
        return 0 if self.layout.plain else int(self.data[:HEAD].astype("<f4").view("<u8")[0])

    def row(self, kind: str) -> FlatVector:
        """One row, a view.    (m,)"""
        if self.layout.plain:
            return self.data
        m, place = self.layout.tensors.parameters, self.layout.kinds.index(kind)
        return self.data[HEAD + place * m : HEAD + (place + 1) * m]

    @property
    def model(self) -> FlatVector:
        """The model that training goes on from.    (m,)"""
        return self.row(MODEL)

    @property
    def shown(self) -> FlatVector:
        """The model that is measured, exported and used: the running mean where there is one.    (m,)"""
        return self.row(AVERAGE) if AVERAGE in self.layout.kinds else self.model

    @functools.cached_property
    def names(self) -> tuple[bytes, ...]:
        """Digest of each row."""
        return tuple(name_of(self.row(kind), self.layout.tensors) for kind in self.layout.kinds)

    @property
    def digest(self) -> bytes:
        """Names the state: what sites sign. Of a plain one, the digest of the model."""
        return state_name(self.layout.kinds, self.names, self.steps)

    @property
    def wire(self) -> memoryview:
        """The bytes that a peer fetches: little-endian float32, of other than plain ones behind the steps."""
        return np.ascontiguousarray(self.data, "<f4").data.cast("B")

    def to_file(self, facts: Mapping[str, str]) -> Pieces:
        """A safetensors file: of a plain state the model, else every row's tensors as KIND/NAME. Views of `data`.

        Its header has `facts`, and the digests.
        """
        facts = {**facts, "model": self.digest.hex()}
        if self.layout.plain:
            return checkpoint.to_pieces(self.data, self.layout.tensors, facts)
        more = {"kinds": " ".join(self.layout.kinds), "rows": " ".join(one.hex() for one in self.names)}
        facts = {**facts, **more, "steps": str(self.steps)}
        return checkpoint.to_pieces(self.data[HEAD:], self.layout._named, facts)


def state_name(kinds: Sequence[str], names: Sequence[bytes], steps: int) -> bytes:
    """Names a state by the digests of its rows; one of a model alone by the model's."""
    if len(kinds) == 1:
        return names[0]
    named = (part for kind, name in zip(kinds, names, strict=True) for part in (kind.encode(), name))
    return digest("model state", steps.to_bytes(8, "big"), *named)


def name_of(model: FlatVector, tensors: TensorLayout) -> bytes:
    """Names a model: what its coordinates mean, and their bits."""
    return digest("model", tensors.digest, np.ascontiguousarray(model, "<f4").data.cast("B"))


def steps_head(steps: int) -> FlatVector:
    return np.array([steps], "<u8").view("<f4")

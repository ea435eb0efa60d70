"""What a training asks of the trainer that it is given: training/local.py's, training/process's, or a caller's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from p2pfl.keys import Secret
from p2pfl.training import update
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.measures.measure import Counts, Figure
from p2pfl.training.privacy.account import Charge


class Trains(Protocol):
    """What training/local.py's Trainer does for a run; vectors are (m,) float32, or longer by what it `Keeps`."""

    @property
    def layout(self) -> update.TensorLayout: ...
    @property
    def frozen(self) -> bytes: ...
    @property
    def parameters(self) -> int: ...
    @property
    def counts(self) -> int: ...
    @property
    def expected_batch(self) -> float: ...
    def initial(self, seed: bytes) -> update.FlatVector: ...
    def inputs(self, model: update.FlatVector, rounds_before: int) -> bytes: ...
    def train(
        self, model: update.FlatVector, charge: Charge, seed: Secret, rounds_before: int, subspace: Subspace | None
    ) -> update.FlatVector: ...
    def evaluate(self, model: update.FlatVector) -> Counts: ...
    def figures(self, total: Counts) -> Mapping[str, Figure]: ...


@runtime_checkable
class Keeps(Protocol):
    """A trainer of layers that stay at home: their values, (k,), lie behind the model in what it is given, and behind
    the update in what it returns."""

    @property
    def personal(self) -> update.TensorLayout: ...
    def first_personal(self, seed: bytes) -> update.FlatVector: ...


@runtime_checkable
class Stops(Protocol):
    """A trainer whose pass ends soon after this is set: an interrupted process need not wait for a pass of hours."""

    stopping: bool


@runtime_checkable
class Batches(Protocol):
    """A trainer whose steps take less memory with fewer records' gradients at a time, which its `inputs` name."""

    at_once: int

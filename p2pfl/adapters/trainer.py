"""A client as the trainer of a run: its arrays are one vector, its pass is charged, its metrics are summed.

Nothing here is private: the client trains as it likes. So the sites must have agreed on `privacy: none`, and each pass
is charged as what it is (docs/adr/0045). How many records a client says that it trained on is never sent: every site
counts the same. A pass that a crash cut is made anew, since nobody knows what a client's pass follows from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.adapters.algorithm import KINDS, Algorithm, Arrays, Judged, asked
from p2pfl.adapters.first import read_first, zeros
from p2pfl.codec import facts
from p2pfl.errors.adapters import ClientArraysUnfit
from p2pfl.federation import Federation
from p2pfl.federation.clients import ClientChoice
from p2pfl.keys import Secret, digest
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.measures.joint import BOUND
from p2pfl.training.measures.measure import UNIT, UNKNOWN, Counts, Figure
from p2pfl.training.privacy.account import Charge, Mechanism
from p2pfl.training.update import FlatVector, TensorLayout


class ClientTrainer:
    """What a run asks of a trainer, done by a client. Vectors are (m,) float32."""

    def __init__(
        self,
        algorithm: Algorithm,
        federation: Federation,
        choice: ClientChoice,
        *,
        first: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """first: the file of the first model, where peers.yaml names one. settings: of the client, equal at all sites.

        Raises FirstModelUnfit, ClientFailed, ClientArraysUnfit.
        """
        self.algorithm, self._privacy, self._sharing = algorithm, federation.privacy, federation.sharing
        self._choice, self._tell = choice, tell
        self._first = read_first(choice, first) if choice.first is not None else zeros(algorithm)
        self._types = {name: array.dtype for name, array in self._first.items()}
        self.layout = TensorLayout(tuple((name, array.shape) for name, array in self._first.items()))
        self._figures = tuple(map(figure_name, choice.metrics))
        told = {name: repr(value) for name, value in sorted((settings or {}).items())}
        types = [str(kind) for kind in self._types.values()]
        self.frozen = digest("client", facts({"settings": told, "metrics": list(self._figures), "types": types}))
        self._number = 0  # of the latest pass

    @property
    def parameters(self) -> int:
        """m"""
        return self.layout.parameters

    @property
    def expected_batch(self) -> float:
        """A client divides by what it likes: nothing of it is summed with noise."""
        return 1.0

    def initial(self, seed: bytes) -> FlatVector:
        """The first model, as agreed.    (m,)"""
        return self._flat(self._first)

    def inputs(self, model: FlatVector, rounds_before: int) -> bytes:
        """Nobody knows all that a client's pass follows from: none is repeated."""
        return b""

    def train(
        self, model: FlatVector, charge: Charge, seed: Secret, rounds_before: int, subspace: Subspace | None = None
    ) -> FlatVector:
        """Return local − model after one pass of the client from `model`.    (m,); in a subspace its θ, (d,)

        rounds_before   rounds of the training that are in `model`: the client's round is the next one
        subspace        what of the update is sent; the client trains everything, and the rest is lost
        Raises PassNotCharged, ClientFailed, ClientArraysUnfit.
        """
        charge.use(Mechanism.of_pass(self._privacy))
        self._number = rounds_before + 1
        with asked(self.algorithm, "train"):
            fitted = self.algorithm.fit(self.arrays(model), self._number)
        said = {name: value for name, value in fitted.metrics.items() if isinstance(value, int | float)}
        if said:
            shown = ", ".join(f"{name} {value:g}" for name, value in said.items())
            self._tell(f"round {self._number}  the client says {shown}; that stays here")
        update = self._flat(self._checked(fitted.arrays)) - model
        sent = update if subspace is None else subspace.project(update).astype(np.float32)
        self._warn(sent)
        return sent

    def _warn(self, update: FlatVector) -> None:
        norm, most = float(np.linalg.norm(update)), float(np.abs(update).max(initial=0.0))
        if norm > self._sharing.clip:
            self._tell(f"its update has the norm {norm:.3g}, more than sharing.clip {self._sharing.clip:g}: it is cut")
        if most > self._sharing.scale:
            self._tell(f"a number moved by {most:.3g}, more than sharing.scale {self._sharing.scale:g}: it is cut")

    def arrays(self, model: FlatVector) -> Arrays:
        """The client's arrays, copies in its own types."""
        split = self.layout.split(model)
        return {name: _typed(split[name], kind) for name, kind in self._types.items()}

    def _checked(self, found: Mapping[str, NDArray[Any]]) -> Arrays:
        """`found` in the agreed order. Raises ClientArraysUnfit unless names and shapes are the agreed ones."""
        names = [name for name, _ in self.layout.tensors]
        if set(found) != set(names):
            odd = sorted(set(found) ^ set(names))[:3]
            self._refuse(f"{len(found)} arrays, {len(names)} are agreed; not in both: {', '.join(odd)}")
        for name, shape in self.layout.tensors:
            array = found[name]
            if array.shape != shape or array.dtype.kind not in KINDS:
                self._refuse(f"{name} is {array.dtype}{array.shape}, agreed is {self._types[name]}{shape}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                self._refuse(f"{name} holds a number that is not finite")
        return {name: found[name] for name in names}

    def _flat(self, arrays: Mapping[str, NDArray[Any]]) -> FlatVector:
        parts = [arrays[name].astype(np.float32).ravel() for name, _ in self.layout.tensors]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _refuse(self, evidence: str) -> None:
        raise ClientArraysUnfit(kind=self.algorithm.kind, reference=self.algorithm.reference, evidence=evidence)

    def finish(self) -> None:
        """The training is over. Raises ClientFailed."""
        with asked(self.algorithm, "finish"):
            self.algorithm.finish()

    # ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def counts(self) -> int:
        """Two numbers for each metric: of how many records it is, and their sum in fixed point."""
        return 2 * len(self._figures)

    def evaluate(self, model: FlatVector) -> Counts:
        """What the client's evaluation adds to the sums.    (counts,)

        A number that is not there, not finite or too large is not counted, and the site is told. Raises ClientFailed.
        """
        if not self._figures:
            return np.zeros(0, np.int64)
        with asked(self.algorithm, "evaluate"):
            judged = self.algorithm.evaluate(self.arrays(model), self._number)
        rows = [self._row(judged, name) for name in self._choice.metrics]
        return np.array(rows, np.int64).reshape(-1)

    def _row(self, judged: Judged, name: str) -> tuple[int, int]:
        value = float(judged.metrics.get(name, math.nan))
        total = judged.examples * value * UNIT
        if not (math.isfinite(total) and abs(total) < BOUND and 0 < judged.examples < BOUND):
            self._tell(f"the client gives no {name} that could be averaged, over {judged.examples} examples")
            return 0, 0
        return judged.examples, round(total)

    def figures(self, total: Counts) -> Mapping[str, Figure]:
        """The metrics' means over all sites' records, by name; the first is the training's metric."""
        pairs = [(int(count), int(value)) for count, value in np.asarray(total).reshape(-1, 2)]
        found = [Figure(value / UNIT / count) if count > 0 else UNKNOWN for count, value in pairs]
        return dict(zip(self._figures, found, strict=True))


def _typed(values: FlatVector, kind: np.dtype[Any]) -> NDArray[Any]:
    if kind.kind == "f":
        return values.astype(kind)
    if kind.kind == "b":
        return np.greater_equal(values, 0.5)
    limits = np.iinfo(kind)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(kind)


def figure_name(metric: str) -> str:
    """How a record calls it: small letters, digits and _."""
    return re.sub(r"[^a-z0-9_]", "_", metric.lower())

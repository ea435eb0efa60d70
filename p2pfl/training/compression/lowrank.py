"""What one site sends and keeps where rounds train in a public low-rank subspace (subspace.py).

Nothing is nominated, so no peer learns a position; nothing is held back either: what lies outside of the subspace was
never trained. An update that was paid for and never sent is carried over into the subspace of a later round: it is
noised already, so that costs no privacy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import Pieces
from p2pfl.errors.training import CompressionMisused, SupportMalformed
from p2pfl.federation.federation import Compression
from p2pfl.training.compression.nomination import NO_GROUND, Compresses, Compressor, Ground, Positions
from p2pfl.training.compression.subspace import Subspace, length_of
from p2pfl.training.model.checkpoint import pieces_of
from p2pfl.training.update import FlatVector, TensorLayout


def compressor_of(how: Compression, layout: TensorLayout, peers: int) -> Compresses:
    """The method of peers.yaml, for a model of this layout."""
    if how.method == "lowrank":
        return Lowrank(how.density, layout)
    return Compressor(how.method, how.density, layout.parameters, peers, how.scores)


class Lowrank:
    """One site's θ, with the subspace that it was made in."""

    nominated = 0

    def __init__(self, density: float, layout: TensorLayout) -> None:
        """`density` is the part of the parameters that θ may have; rank 1 at least."""
        self._density, self._layout = density, layout
        self.length = length_of(layout, density)
        self._theta = np.zeros(0, np.float32)
        self._made_in: Subspace | None = None

    def subspace(self, first: FlatVector, model: FlatVector) -> Subspace:
        """Where the round that starts from `model` (m,) may move, of a training that started from `first` (m,)."""
        return Subspace.of(self._layout, self._density, first, model)

    def nominate(
        self, update: NDArray[np.float32], subspace: Subspace | None = None, ground: Ground = NO_GROUND
    ) -> bytes:
        """Take up θ = `update` (d,), made in `subspace`; nothing is nominated."""
        if subspace is None or update.dtype != np.float32 or update.shape != (self.length,):
            raise CompressionMisused(evidence=f"{update.dtype}{update.shape} for {self.length} numbers of a subspace")
        self._theta, self._made_in = update.copy(), subspace
        return b""

    def nomination(self, ground: Ground) -> bytes:
        """Nothing is nominated."""
        return b""

    def support(self, nominations: dict[str, bytes], base: bytes = NO_GROUND.base) -> None:
        """Every number of θ. Raises SupportMalformed, naming a peer that nominates."""
        for peer, data in nominations.items():
            if data:
                raise SupportMalformed(evidence=f"{len(data)} bytes where nothing is nominated", peer=peer)

    def values(self, support: Positions | None, subspace: Subspace | None = None) -> NDArray[np.float32]:
        """θ in the round's `subspace`.    (d,)"""
        if support is not None or subspace is None or self._made_in is None:
            raise CompressionMisused(evidence="no θ, or no subspace")
        if self._made_in.digest == subspace.digest:
            return self._theta.copy()
        return self._made_in.carry_over(self._theta.astype(np.float64), subspace).astype(np.float32)

    def settle(self, support: Positions | None, sent: NDArray[np.float64]) -> None:
        """Nothing is kept."""

    def to_pieces(self) -> Pieces:
        """θ, and the carriers that it was made with: safetensors. Home seals it."""
        tensors: dict[str, NDArray[Any]] = {"theta": self._theta}
        if self._made_in is not None:
            tensors["carriers"] = self._made_in.carriers
        return pieces_of(tensors, {"method": "lowrank"})

    def restore(self, data: bytes) -> None:
        """Take up the state that `to_pieces` wrote. Raises CompressionMisused when it belongs to another model."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            state = load(data)
            theta, made_in = state["theta"].copy(), None
            if theta.size:
                made_in = Subspace.with_carriers(self._layout, self._density, state["carriers"].copy())
        except (SafetensorError, KeyError, ValueError) as error:
            raise CompressionMisused(evidence=f"{len(data)} bytes of state: {error}") from None
        if theta.dtype != np.float32 or theta.shape not in ((0,), (self.length,)):
            raise CompressionMisused(evidence=f"state of {theta.shape}, not ({self.length},)")
        self._theta, self._made_in = theta, made_in

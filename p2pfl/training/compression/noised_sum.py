"""What one site sends and keeps where each site adds a part of the noise: whole steps of a grid, noise and all.

An update stays with the grid and the subspace that it was noised for. In another one its noise would have another law,
so it is lost with its charge, and never carried over. Nothing is held back. Never let a step without noise into here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import Pieces
from p2pfl.errors.training import CompressionMisused
from p2pfl.keys import digest
from p2pfl.training.compression.nomination import NO_GROUND, Compresses, Ground, Positions
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.model.checkpoint import pieces_of

METHOD: Final = "noised sum"
DIGEST_BYTES: Final = 32


class NoisedSum:
    """One site's noised steps, and what they were made for."""

    nominated = 0

    def __init__(self, within: Compresses) -> None:
        """within    the method none or lowrank, which says where a round may move"""
        self._within = within
        self.length = within.length
        self._steps = np.zeros(0, np.int64)
        self._made_for = b""
        self.step = 0.0  # of the grid of the next nomination

    def subspace(self, first: NDArray[np.float32], model: NDArray[np.float32]) -> Subspace | None:
        """As of the method within."""
        return self._within.subspace(first, model)

    def nominate(self, update: NDArray[Any], subspace: Subspace | None = None, ground: Ground = NO_GROUND) -> bytes:
        """Take up noised steps (length,) of the grid `step`, made in `subspace`; nothing is nominated."""
        if update.dtype != np.int64 or update.shape != (self.length,):
            raise CompressionMisused(evidence=f"{update.dtype}{update.shape} for {self.length} noised steps")
        self._steps, self._made_for = update.copy(), self._named(subspace, self.step)
        return b""

    def fits(self, subspace: Subspace | None, step: float) -> bool:
        """What is held was made for a round in that subspace and on that grid."""
        return self._steps.size > 0 and self._made_for == self._named(subspace, step)

    def _named(self, subspace: Subspace | None, step: float) -> bytes:
        return digest("noised sum", subspace.digest if subspace is not None else b"", repr(step).encode())

    def nomination(self, ground: Ground) -> bytes:
        """Nothing is nominated."""
        return b""

    def support(self, nominations: dict[str, bytes], base: bytes = NO_GROUND.base) -> Positions | None:
        """Every number. Raises SupportMalformed, naming a peer that nominates."""
        return self._within.support(nominations, base)

    def values(self, support: Positions | None, subspace: Subspace | None = None) -> NDArray[Any]:
        """The noised steps.    (length,) int64. Raises CompressionMisused where they were made for another round."""
        if support is not None or not self.fits(subspace, self.step):
            raise CompressionMisused(evidence="noised steps of another grid or subspace, or none")
        return self._steps.copy()

    def settle(self, support: Positions | None, sent: NDArray[np.float64]) -> None:
        """Nothing is kept."""

    def to_pieces(self) -> Pieces:
        """The steps, and what they were made for: safetensors. Home seals it."""
        named = np.array([*self._made_for], np.int64)
        return pieces_of({"steps": self._steps, "made_for": named}, {"method": METHOD})

    def restore(self, data: bytes) -> None:
        """Take up the state that `to_pieces` wrote. Raises CompressionMisused when it belongs to another model."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            state = load(data)
            steps, named = state["steps"].copy(), state["made_for"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise CompressionMisused(evidence=f"{len(data)} bytes of state: {error}") from None
        if steps.dtype != np.int64 or steps.shape not in ((0,), (self.length,)):
            raise CompressionMisused(evidence=f"state of {steps.dtype}{steps.shape}, not ({self.length},)")
        if named.dtype != np.int64 or named.shape not in ((0,), (DIGEST_BYTES,)) or not np.all(named >> 8 == 0):
            raise CompressionMisused(evidence=f"made for {named.dtype}{named.shape}")
        self._steps, self._made_for = steps, bytes(named.tolist())

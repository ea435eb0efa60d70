"""Variants of `lowrank` that stand in no peers.yaml: what benchmarks/compression_table.py compares it with.

All of them make their carriers of released models alone, as lowrank does, so each is as private (docs/spec/lowrank.md).
"The last layer whole" is none of them: of every model that is compared the last matrix has so few entries that it
trains whole anyway.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.training.compression.lowrank import Lowrank
from p2pfl.training.compression.nomination import NO_GROUND, Ground
from p2pfl.training.compression.subspace import Floats, Subspace, length_of, orthonormal, ranks
from p2pfl.training.update import FlatVector, TensorLayout

# By variant the settings of peers.yaml that make it of lowrank; its learning rate is chosen beside them, as of all.
SETTINGS: Final = {"momentum": ("server.method=momentum", "server.momentum=0.5", "server.learning_rate=0.5")}


def density_of(layout: TensorLayout, rank: int) -> float:
    """A `compression.density` of which carriers of this rank come, or of the largest that pays."""
    density, last = 1e-9, 1.0
    while max(ranks(layout, density)) < rank and density < last:
        density = min(last, max(density, length_of(layout, density) / layout.parameters) * 1.02)
    return density


class RandomCarriers(Lowrank):
    """As lowrank, along carriers that are drawn anew for each round, and never learn from what was released."""

    def subspace(self, first: FlatVector, model: FlatVector) -> Subspace:
        return super().subspace(model, model)  # where nothing has moved they are random


class TwoIterations(Lowrank):
    """Carriers of two power iterations in place of three."""

    def subspace(self, first: FlatVector, model: FlatVector) -> Subspace:
        return Subspace.of(self._layout, self._density, first, model, iterations=2)


class ResidualDirections(Lowrank):
    """Carriers of what was released, and beside them as many that are random in what these leave: 2·rank in all."""

    def __init__(self, layout: TensorLayout, rank: int) -> None:
        super().__init__(density_of(layout, 2 * rank), layout)
        self._learned = density_of(layout, rank)

    def subspace(self, first: FlatVector, model: FlatVector) -> Subspace:
        learned, anew = (Subspace.of(self._layout, self._learned, since, model) for since in (first, model))
        found = {mine.name: (mine, other) for mine, other in zip(learned.pieces, anew.pieces, strict=True)}
        dice = np.random.default_rng(0)  # while nothing has moved both are the same, and one of them is drawn again

        def carriers(name: str, start: int, rows: int, columns: int, rank: int) -> tuple[Floats, Floats]:
            mine, other = found[name]
            left, right = np.hstack([mine.left, other.left]), np.hstack([mine.right, other.right])
            return (
                orthonormal(left[:, :rank], lambda: dice.normal(size=rows)),
                orthonormal(right[:, :rank], lambda: dice.normal(size=columns)),
            )

        return Subspace.made(self._layout, self._density, carriers)


class GrowingRank(Lowrank):
    """Rank 1 in the first rounds, then twice as much, and so on up to `rank`: each for as many rounds."""

    def __init__(self, layout: TensorLayout, rank: int, rounds: int) -> None:
        self._stages = rank.bit_length()
        super().__init__(density_of(layout, 1), layout)
        self._rounds, self._begun = rounds, 0

    def subspace(self, first: FlatVector, model: FlatVector) -> Subspace:
        """Of the next round: it is asked for once in each."""
        stage = min(self._begun * self._stages // self._rounds, self._stages - 1)
        self._begun += 1
        return Subspace.of(self._layout, density_of(self._layout, 1 << stage), first, model)

    def nominate(
        self, update: NDArray[np.float32], subspace: Subspace | None = None, ground: Ground = NO_GROUND
    ) -> bytes:
        self.length = self.length if subspace is None else subspace.length
        return super().nominate(update, subspace, ground)

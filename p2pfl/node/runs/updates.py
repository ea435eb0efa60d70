"""An update as words and back: quantised, or rounded to a grid and noised, where each site adds a part of the noise.

What both need is what the sites agreed on; a sum is read by what its own round's record says, not by what holds now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.federation import Federation
from p2pfl.federation.distributed_noise import bounds_of_moves, sensitivity
from p2pfl.keys import Draw, Secret, digest
from p2pfl.node.runs.trains import Trains
from p2pfl.sharing.field import FIELDS, Words
from p2pfl.sharing.noise_grid import NoiseGrid, noised_words
from p2pfl.sharing.quantiser import Quantiser
from p2pfl.training.compression.lowrank import compressor_of
from p2pfl.training.compression.noised_sum import NoisedSum
from p2pfl.training.compression.nomination import Compresses, Positions
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.noise.steps import noise_steps
from p2pfl.training.privacy.account import Mechanism
from p2pfl.training.update import FlatVector

Values = NDArray[np.float64]


class Updates(Protocol):
    """How a training's updates are summed. `rounds_before` counts the rounds of the training before this one."""

    compressor: Compresses

    def length(self, numbers: int) -> int:
        """Words for so many numbers."""

    def facts(self, rounds_before: int) -> codec.Facts:
        """What of it goes into the round's configuration, and with that into the attempt digest."""

    def ready(self, update: FlatVector, seed: Secret, rounds_before: int) -> NDArray[Any]:
        """What the compressor takes up of the update of a pass of that seed."""

    def fits(self, subspace: Subspace | None, rounds_before: int) -> bool:
        """What the compressor holds may be sent in that round."""

    def words(
        self, support: Positions | None, subspace: Subspace | None, attempt_digest: bytes, draw: Draw
    ) -> tuple[Words, int]:
        """The words of what the compressor holds, and how many numbers were clipped."""

    def opened(
        self, total: Words, survivors: int, attempt_digest: bytes, length: int, agreed: Mapping[str, Any]
    ) -> Values | None:
        """What the words of a sum stand for, by its configuration; None for a sum beyond the bound.    (length,)"""


def updates_of(federation: Federation, trainer: Trains) -> Updates:
    """As peers.yaml says. Raises NoiseGridTooCoarse."""
    compression, peers = federation.compression, len(federation.roster.members)
    compressor = compressor_of(compression, trainer.layout, peers)
    if federation.privacy.is_distributed:
        return NoisedUpdates(federation, NoisedSum(compressor), trainer.expected_batch)
    return QuantisedUpdates(federation, compressor)


class QuantisedUpdates:
    """Updates that are private by themselves."""

    def __init__(self, federation: Federation, compressor: Compresses) -> None:
        settings, peers = federation.sharing, len(federation.roster.members)
        self.compressor = compressor
        self.quantiser = Quantiser(
            FIELDS[settings.field], peers, settings.clip, settings.scale, rotate=settings.field == 16
        )

    def length(self, numbers: int) -> int:
        return self.quantiser.length(numbers)

    def facts(self, rounds_before: int) -> codec.Facts:
        return {}

    def ready(self, update: FlatVector, seed: Secret, rounds_before: int) -> NDArray[Any]:
        return update

    def fits(self, subspace: Subspace | None, rounds_before: int) -> bool:
        return True

    def words(
        self, support: Positions | None, subspace: Subspace | None, attempt_digest: bytes, draw: Draw
    ) -> tuple[Words, int]:
        values, seed = self.compressor.values(support, subspace), _rotation_seed(attempt_digest)
        words, cut = self.quantiser.quantise(values, seed, draw(32))
        self.compressor.settle(support, self.quantiser.dequantise(words, seed, values.size))
        return words, cut

    def opened(
        self, total: Words, survivors: int, attempt_digest: bytes, length: int, agreed: Mapping[str, Any]
    ) -> Values | None:
        if not self.quantiser.within_bound(total, survivors):
            return None
        return self.quantiser.dequantise_sum(total, survivors, _rotation_seed(attempt_digest), length)


class NoisedUpdates:
    """Updates that are private in their sum alone. A site's own noise is drawn from the seed of its pass: a process
    that repeats the pass draws the same, and an update gets no second one."""

    def __init__(self, federation: Federation, compressor: NoisedSum, divisor: float) -> None:
        """divisor    the task's public one. Raises NoiseGridTooCoarse, of any round."""
        self._federation, self._divisor = federation, divisor
        self.compressor: Compresses = compressor
        self._held = compressor
        charged = Mechanism.of_pass(federation.privacy).noise_multiplier
        for moved in bounds_of_moves(federation, divisor):
            self._grid(moved).check(compressor.length, charged)

    def _grid(self, moved: float) -> NoiseGrid:
        one, sharing = self._federation.privacy, self._federation.sharing
        peers = len(self._federation.roster.members)
        bounds = sharing.clip, sharing.scale, moved
        return NoiseGrid(FIELDS[sharing.field], peers, *bounds, one.noise_multiplier, one.parts)

    def _grid_before(self, rounds_before: int) -> NoiseGrid:
        return self._grid(sensitivity(self._federation, self._divisor, rounds_before))

    def length(self, numbers: int) -> int:
        return numbers

    def facts(self, rounds_before: int) -> codec.Facts:
        grid, one, roster = self._grid_before(rounds_before), self._federation.privacy, self._federation.roster
        self._held.step = grid.step
        told = {
            "max_grad_norm": repr(one.max_grad_norm),
            "noise_multiplier": repr(one.noise_multiplier),
            "sensitivity": repr(grid.sensitivity),
            "step": repr(grid.step),
            "sigma": grid.sigma,
            "parts": one.parts,
            "quorum": roster.quorums.q,
        }
        return {"noise": told}

    def ready(self, update: FlatVector, seed: Secret, rounds_before: int) -> NDArray[Any]:
        grid, stream = self._grid_before(rounds_before), BitStream(seed, "training/discrete-noise")
        self._held.step = grid.step
        return grid.steps(update) + noise_steps(stream, update.size, grid.sigma)

    def fits(self, subspace: Subspace | None, rounds_before: int) -> bool:
        return self._held.fits(subspace, self._grid_before(rounds_before).step)

    def words(
        self, support: Positions | None, subspace: Subspace | None, attempt_digest: bytes, draw: Draw
    ) -> tuple[Words, int]:
        # How many numbers were clipped is not told: they have no noise before they are clipped.
        field = FIELDS[self._federation.sharing.field]
        return noised_words(field, self.compressor.values(support, subspace)), 0

    def opened(
        self, total: Words, survivors: int, attempt_digest: bytes, length: int, agreed: Mapping[str, Any]
    ) -> Values | None:
        grid = self._grid(float(agreed["noise"]["sensitivity"]))
        if survivors < agreed["noise"]["quorum"] or not grid.within_bound(total, survivors):
            return None
        return grid.values(total)


def _rotation_seed(attempt_digest: bytes) -> bytes:
    return digest("rotation", attempt_digest)

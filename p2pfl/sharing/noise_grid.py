"""The grid of a sum whose noise each site adds a part of: how fine it is, room for the tails, what a record moves.

Each site rounds its clipped, un-noised sum to multiples of `step` and adds a discrete Gaussian of σ steps, drawn by
training/noise/steps.py; only the sum of at least q sites is ever opened. `parts` of those noises together have
the agreed deviation: so many honest sites are in every sum, whoever falls silent and whoever of the others pools what
it knows. Nothing is clipped behind the noise; the field has room for twelve σ of every site.

The two clips before it (L2, then each coordinate) are projections onto convex sets, which bring no two vectors further
apart, so a record that moves an update by at most `sensitivity` still does. docs/spec/distributed-noise.md has the
proof. All float64, + − × ÷ √ in a fixed order: the same grid at every site. Never round the noise, never re-draw it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from p2pfl.errors.distributed_noise import NoiseGridTooCoarse
from p2pfl.sharing.field import BLOCK_BYTES, Field, Words
from p2pfl.sharing.quantiser import largest, sum_of_squares

LEAST_SIGMA: Final = 1000  # steps: sums of so wide discrete Gaussians are one, up to exp(−2π²σ²/2)
MOST_SIGMA: Final = 1 << 24  # steps: what the sampler's integers have room for
TAIL: Final = 12.0  # σ that a coordinate has room for; beyond lies a chance of 4·10⁻³³
FLOAT32: Final = 2.0**-22  # both neighbours' rounding to float32, on the way here, relative to the largest coordinate
SMOOTHED: Final = 16.0  # variance that rounds the continuous Gaussian to the discrete one
BLOCK: Final = BLOCK_BYTES // 8

Steps = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


def noised_words(field: Field, noised: Steps) -> Words:
    """The words of noised steps (m,). Beyond the field's half they wrap, which costs accuracy and no privacy."""
    return field.encode((noised + field.half) % field.p - field.half)


@dataclass(frozen=True)
class NoiseGrid:
    """For sums over at most `n` peers in `field`.

    clip, limit    L2 norm and largest coordinate to which a site's un-noised vector is clipped
    sensitivity    L2 norm by which one record moves that vector at most
    noise          deviation of the noise of `parts` sites together, in units of `sensitivity`
    Raises SumCouldWrap, NoiseGridTooCoarse where the field has no room for LEAST_SIGMA.
    """

    field: Field
    n: int
    clip: float
    limit: float
    sensitivity: float
    noise: float
    parts: int

    def __post_init__(self) -> None:
        if not self.sigma >= LEAST_SIGMA:
            self._refuse(f"one site's noise is {self.sigma} steps, wanted {LEAST_SIGMA} or more")

    @property
    def deviation(self) -> float:
        """Of one site's noise."""
        return self.noise * self.sensitivity / math.sqrt(self.parts)

    @property
    def sigma(self) -> int:
        """The same in steps, an integer: the widest for which n·(limit + 12 deviations) fit into the field."""
        room = self.limit / self.deviation + TAIL
        return int(min(float(MOST_SIGMA), math.floor(largest(self.field, self.n) / room)))

    @property
    def step(self) -> float:
        """The value of one integer."""
        return self.deviation / self.sigma

    @property
    def most(self) -> int:
        """The largest integer before noise."""
        return math.floor(self.limit / self.step)

    def moved(self, length: int) -> float:
        """Steps by which one record moves a rounded vector (length,) at most, in L2: D of the specification."""
        root = math.sqrt(length)
        inexact = FLOAT32 * (root * self.most + self.clip / self.step)
        return self.sensitivity / self.step + root + inexact

    def held(self, length: int) -> float:
        """The noise multiplier that `parts` sites' noise has for vectors (length,), the grid's cost taken off."""
        return math.sqrt(self.parts * float(self.sigma) ** 2 - SMOOTHED) / self.moved(length)

    def check(self, length: int, charged: float) -> None:
        """Raises NoiseGridTooCoarse where vectors (length,) would have less noise than the multiplier `charged`."""
        if not self.held(length) >= charged:
            self._refuse(f"rounding {length} numbers leaves noise {self.held(length):.4f}, charged is {charged:.4f}")

    def _refuse(self, evidence: str) -> None:
        evidence += f"; field {self.field.name}, scale {self.limit:g}, a record moves {self.sensitivity:.3g} at most"
        raise NoiseGridTooCoarse(evidence=evidence)

    def steps(self, u: Floats) -> Steps:
        """u (m,), clipped and rounded to the nearest steps, without noise: it must not leave like this.    (m,)"""
        norm = math.sqrt(sum_of_squares(u.astype(np.float64)))
        scale = min(1.0, self.clip / norm) if norm else 1.0
        out = np.multiply(u, scale, dtype=np.float64)
        np.divide(out, self.step, out=out)
        return np.clip(np.rint(out, out=out), -float(self.most), float(self.most)).astype(np.int64)

    def values(self, total: Words) -> npt.NDArray[np.float64]:
        """What the words of an unmasked sum stand for.    (m,) float64, the same bits on every machine"""
        return np.multiply(self.field.centred(total), self.step, dtype=np.float64)

    def within_bound(self, total: Words, survivors: int) -> bool:
        """True unless an unmasked sum is larger than honest sites' can be, but with a chance of 10⁻³⁰."""
        found = self.field.centred(total)
        if found.size and int(np.abs(found).max()) > survivors * (self.most + TAIL * self.sigma):
            return False
        root = math.sqrt(found.size)
        norm = self.clip / self.step + root / 2 + (root + TAIL) * self.sigma
        parts = (found[first : first + BLOCK].astype(np.float64) for first in range(0, found.size, BLOCK))
        return sum(map(sum_of_squares, parts)) <= (survivors * norm) ** 2

"""The coordinates in which a step of a regression is opened, and how many digits of it are.

Each step weighs each record anew. With a number among the columns a few steps with all their digits are equations
enough to say who has which number: of the five people of a ward, all five ages. So only the first step, whose weights
are those of a plain mean, is opened exactly. Every step behind it is opened in coordinates in which the information of
the step before is one, I = L Lᵀ, u = L⁻¹ z, and rounded there by each site before it is summed: to a small part of the
error that chance leaves in each coefficient, however wide or narrow its column is. docs/adr/0096.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from p2pfl.statistics.plan import EXACT
from p2pfl.statistics.question import Floats
from p2pfl.statistics.solve import Factored, Matrix, Vector, dot, inverse_of_lower, symmetric, triangle

SCORE_BITS: Final = 12  # of a score in units of its standard error
INFORMATION_BITS: Final = 10  # of an information in units of the one before
LOGLIK_BITS: Final = 10


@dataclass(frozen=True)
class Basis:
    """z = lower · u, u = across · z. Public: it follows from what the step before opened."""

    lower: Matrix
    across: Matrix
    coarse: bool = False

    @classmethod
    def plain(cls, size: int) -> Basis:
        """z itself, with all digits."""
        unit = [[float(row == column) for column in range(size)] for row in range(size)]
        return cls(unit, unit)

    @classmethod
    def of(cls, factored: Factored) -> Basis:
        """Of an information."""
        lower = factored.root()
        return cls(lower, inverse_of_lower(lower), coarse=True)

    def of_each(self, count: int) -> Basis:
        """Where this is of the information of `count` events, that of one."""
        root = math.sqrt(count)
        lower = [[one / root for one in row] for row in self.lower]
        return Basis(lower, [[one * root for one in row] for row in self.across], self.coarse)

    @property
    def reach(self) -> float:
        """Largest |u| of |z| ≤ 1."""
        return max(sum(map(abs, row)) for row in self.across)

    def bits(self, coarse: int) -> int:
        """Of fixed point: `coarse` ones where this is."""
        return coarse if self.coarse else EXACT

    # ── this site's numbers ───────────────────────────────────────────────────────────────────────────────────────

    def vector(self, values: Floats) -> Floats:
        """(p,) of z ► of u."""
        with np.errstate(over="ignore", invalid="ignore"):
            found: Floats = np.array(self.across) @ values
        return found

    def products(self, values: Floats) -> list[Any]:
        """(p, p) of z ► the upper triangle of u's."""
        across = np.array(self.across)
        with np.errstate(over="ignore", invalid="ignore"):
            found = across @ values @ across.T
        return [found[place] for place in triangle(len(self.across))]

    # ── the total's, one operation at a time: the same bits at every site ─────────────────────────────────────────

    def vector_back(self, values: Vector) -> Vector:
        """(p,) of u ► of z."""
        return [dot(row, values) for row in self.lower]

    def products_back(self, packed: Vector) -> Matrix:
        """The upper triangle of u ► (p, p) of z."""
        size = len(self.lower)
        inner = symmetric(packed, size)
        half = [[dot(row, column) for column in inner] for row in self.lower]
        found = [dot(half[i], self.lower[j]) for i, j in triangle(size)]
        return symmetric(found, size)

    def blurs(self, sites: int) -> float:
        """What rounding at `sites` sites makes of a decrement, twelve times over."""
        return len(self.lower) * sites * 4.0**-SCORE_BITS if self.coarse else 0.0

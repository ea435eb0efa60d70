"""Symmetric positive systems in plain floats, one operation at a time: the same bits at every site.

What is asked next follows from a step of a regression, so two sites must not come to different ones. The order in which
numpy's solver adds differs between processors; these systems are small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

Vector = list[float]
Matrix = list[list[float]]

PIVOT: Final = 1e-10  # of a matrix with ones on its diagonal: 1 − R² of a column on those before it


class Singular(Exception):
    """Column `column` follows from those before it, or is 0."""

    def __init__(self, column: int) -> None:
        self.column = column
        super().__init__(str(column))


def symmetric(packed: Sequence[float], size: int) -> Matrix:
    """The matrix whose upper triangle, row by row, is `packed`: size · (size + 1) / 2 numbers."""
    found = [[0.0] * size for _ in range(size)]
    for value, (i, j) in zip(packed, triangle(size), strict=True):
        found[i][j] = found[j][i] = value
    return found


def triangle(size: int) -> list[tuple[int, int]]:
    """The places of `packed`, in turn."""
    return [(i, j) for i in range(size) for j in range(i, size)]


class Factored:
    """A = D L Lᵀ D with ones on the diagonal of L Lᵀ. Raises Singular."""

    def __init__(self, matrix: Matrix) -> None:
        self._size = len(matrix)
        self._scale: Vector = []
        for place in range(self._size):
            if not (matrix[place][place] > 0 and math.isfinite(matrix[place][place])):
                raise Singular(place)
            self._scale.append(math.sqrt(matrix[place][place]))
        self._lower: Matrix = [[0.0] * self._size for _ in range(self._size)]
        for i in range(self._size):
            for j in range(i + 1):
                left = matrix[i][j] / (self._scale[i] * self._scale[j])
                for k in range(j):
                    left -= self._lower[i][k] * self._lower[j][k]
                if i > j:
                    self._lower[i][j] = left / self._lower[j][j]
                elif left > PIVOT:
                    self._lower[i][i] = math.sqrt(left)
                else:
                    raise Singular(i)

    def solve(self, right: Sequence[float]) -> Vector:
        """x with A x = right."""
        found: Vector = []
        for i in range(self._size):
            left = right[i] / self._scale[i]
            for k in range(i):
                left -= self._lower[i][k] * found[k]
            found.append(left / self._lower[i][i])
        for i in reversed(range(self._size)):
            left = found[i]
            for k in range(i + 1, self._size):
                left -= self._lower[k][i] * found[k]
            found[i] = left / self._lower[i][i]
        return [value / scale for value, scale in zip(found, self._scale, strict=True)]

    def root(self) -> Matrix:
        """R with A = R Rᵀ, lower triangular."""
        return [[scale * one for one in row] for scale, row in zip(self._scale, self._lower, strict=True)]

    def inverse(self) -> Matrix:
        units = ([float(row == column) for row in range(self._size)] for column in range(self._size))
        return [self.solve(unit) for unit in units]


def inverse_of_lower(lower: Matrix) -> Matrix:
    """Of a lower triangular matrix without a 0 on its diagonal."""
    size = len(lower)
    found = [[0.0] * size for _ in range(size)]
    for column in range(size):
        for row in range(column, size):
            left = float(row == column)
            for k in range(column, row):
                left -= lower[row][k] * found[k][column]
            found[row][column] = left / lower[row][row]
    return found


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    """Σ one · other, in this order."""
    found = 0.0
    for a, b in zip(one, other, strict=True):
        found += a * b
    return found

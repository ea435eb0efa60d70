"""The public subspace that a round trains in: each large weight matrix moves along a few *carriers* only.

Of a matrix W (o × i; a convolution's kernel as o × i·k·k) a round trains a (o × r) and b (r × i) in

    W(a, b) = W₀ + a Rᵀ + L b (1 − R Rᵀ)

with orthonormal carriers L (o × r) and R (i × r); small tensors train whole. All of these numbers in one vector θ are
what is clipped, noised, summed and sent. L and R follow from *released* models alone: three power iterations on all
that W has moved since the first model. So they cost no privacy and no bytes, and DP-SGD in θ is DP-SGD of a public
linear reparametrisation: docs/spec/lowrank.md. Yu et al. 2021 (reparametrised gradient perturbation), Yu et al. 2021
(gradient embedding perturbation), Vogels et al. 2019 (PowerSGD).

Carriers and what is added to the model must be the same bits on unlike machines: float64, + − × ÷ √ on single numbers
and sums in an order that this file fixes; nothing here leaves the order to a library of linear algebra.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.keys import Secret, digest
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.update import FlatVector, TensorLayout, blocks_of

Floats = NDArray[np.float64]
# of a tensor's name, start in the model, o, i and rank ► L (o, r), R (i, r)
Carriers = Callable[[str, int, int, int, int], tuple[Floats, Floats]]

SMALL: Final = 600  # entries up to which a matrix is not worth a carrier
ITERATIONS: Final = 3
BLOCK: Final = 1 << 18  # numbers worked on at a time
VANISHED: Final = 1e-8  # of its length, what is left of a column that lies in the span of the others


def ranks(layout: TensorLayout, density: float) -> tuple[int, ...]:
    """By tensor, how many carriers a side it has; 0: it trains whole.

    The same rank for all matrices, the largest whose numbers are at most `density` of the parameters; at least 1. A
    matrix that carriers would not halve trains whole.
    """

    def at(rank: int) -> tuple[int, ...]:
        return tuple(_rank(shape, rank) for _, shape in layout.tensors)

    budget = density * layout.parameters
    rank = 1
    while _length(layout, at(rank + 1)) <= budget and at(rank + 1) != at(rank):
        rank += 1
    return at(rank)


def _rank(shape: tuple[int, ...], rank: int) -> int:
    rows, columns = _matrix(shape)
    pays = rows * columns > SMALL and 2 * rank * (rows + columns) <= rows * columns
    return rank if pays else 0


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """(o, i) of a tensor as a matrix: one row for each output."""
    return (shape[0], math.prod(shape[1:])) if len(shape) >= 2 else (math.prod(shape), 1)


def _length(layout: TensorLayout, chosen: Sequence[int]) -> int:
    sizes = (_matrix(shape) for _, shape in layout.tensors)
    return sum(
        rank * (rows + columns) if rank else rows * columns for rank, (rows, columns) in zip(chosen, sizes, strict=True)
    )


def length_of(layout: TensorLayout, density: float) -> int:
    """d, how many numbers a round of this density sends in place of all parameters."""
    return _length(layout, ranks(layout, density))


# ── sums in a fixed order ─────────────────────────────────────────────────────────────────────────────────────


def _fold(terms: Floats) -> Floats:
    """The sum over the last axis, by halves; `terms` is written over.    (…, k) ► (…,)"""
    count = terms.shape[-1]
    while count > 1:
        half = (count + 1) // 2
        terms[..., : count - half] += terms[..., half:count]
        count = half
    return terms[..., 0].copy()


def _times(matrix: NDArray[np.floating], vectors: Floats) -> Floats:
    """matrix (o, i) · vectors (i, r).    (o, r)"""
    rows, columns = matrix.shape
    out = np.empty((rows, vectors.shape[1]))
    step = max(1, BLOCK // columns)
    for start in range(0, rows, step):
        block = matrix[start : start + step].astype(np.float64)
        for place in range(vectors.shape[1]):
            out[start : start + step, place] = _fold(block * vectors[:, place])
    return out


def _dot(one: Floats, other: Floats) -> float:
    return float(_fold(one * other))


def orthonormal(columns: Floats, draw: Callable[[], Floats]) -> Floats:
    """Orthonormal columns that span those of `columns` (n, r), r ≤ n; by Gram and Schmidt, each twice.    (n, r)

    draw    another column (n,), for one that lies in the span of those before it
    """
    out = columns.copy()
    for place in range(out.shape[1]):
        while True:
            column = out[:, place]
            length = math.sqrt(_dot(column, column))
            if length > 0.0:
                column /= length
                for _ in range(2):
                    for before in range(place):
                        column -= _dot(out[:, before], column) * out[:, before]
                left = math.sqrt(_dot(column, column))
                if left > VANISHED:
                    column /= left
                    break
            out[:, place] = draw()
    return out


# ── the subspace of one round ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor: where it starts in the model and in θ, its size as a matrix, and its carriers.

    left (o, r), right (i, r): float64, orthonormal columns; r = 0 where the tensor trains whole
    """

    name: str
    start: int
    place: int
    rows: int
    columns: int
    left: Floats
    right: Floats

    @property
    def rank(self) -> int:
        return int(self.left.shape[1])

    @property
    def entries(self) -> int:
        """How many parameters the tensor has."""
        return self.rows * self.columns

    @property
    def length(self) -> int:
        """How many numbers of θ are its own."""
        return self.rank * (self.rows + self.columns) if self.rank else self.entries

    def alone(self) -> Piece:
        """The same, of a model that has no other tensor."""
        return replace(self, start=0, place=0)

    def factors(self, values: Floats) -> tuple[Floats, Floats]:
        """a (o, r) and b (r, i), from its part of θ."""
        split = self.rows * self.rank
        return values[:split].reshape(self.rows, self.rank), values[split:].reshape(self.rank, self.columns)


class Subspace:
    """Where one round's model may move: θ (d,) ◄► a change of the model (m,)."""

    def __init__(self, pieces: tuple[Piece, ...]) -> None:
        self.pieces = pieces
        self.parameters = sum(piece.entries for piece in pieces)
        self.length = sum(piece.length for piece in pieces)

    @classmethod
    def of(
        cls,
        layout: TensorLayout,
        density: float,
        first: FlatVector,
        model: FlatVector,
        iterations: int = ITERATIONS,
    ) -> Subspace:
        """The subspace of the round that starts from `model` (m,), of a training that started from `first` (m,).

        Both are public; so many power iterations find it, ITERATIONS of a site. Random carriers, from a public
        keystream that `model` names, where nothing has moved yet.
        """
        named = digest("carriers", layout.digest, np.ascontiguousarray(model, "<f4").data.cast("B"))

        def carriers(name: str, start: int, rows: int, columns: int, rank: int) -> tuple[Floats, Floats]:
            part = slice(start, start + rows * columns)
            moved = np.subtract(model[part], first[part], dtype=np.float64).reshape(rows, columns)
            return _carriers(moved, rank, _Draws(named, name), iterations)

        return cls.made(layout, density, carriers)

    @classmethod
    def made(cls, layout: TensorLayout, density: float, carriers: Carriers) -> Subspace:
        """The subspace of given carriers, (o, r) and (i, r), of each tensor that has any."""
        pieces, start, place = list[Piece](), 0, 0
        for (name, shape), rank in zip(layout.tensors, ranks(layout, density), strict=True):
            rows, columns = _matrix(shape)
            left, right = np.empty((rows, 0)), np.empty((columns, 0))
            if rank:
                left, right = carriers(name, start, rows, columns, rank)
            if (left.shape, right.shape) != ((rows, rank), (columns, rank)):
                raise ValueError(f"carriers of {left.shape} and {right.shape} for {name}")
            piece = Piece(name, start, place, rows, columns, left, right)
            pieces.append(piece)
            start, place = start + piece.entries, place + piece.length
        return cls(tuple(pieces))

    @classmethod
    def with_carriers(cls, layout: TensorLayout, density: float, carriers: Floats) -> Subspace:
        """The subspace whose `carriers` these are. Raises ValueError where they are of another size or type."""
        start = 0

        def taken(name: str, place: int, rows: int, columns: int, rank: int) -> tuple[Floats, Floats]:
            nonlocal start
            parts = []
            for length in (rows, columns):
                parts.append(carriers[start : start + length * rank].reshape(length, rank))
                start += length * rank
            return parts[0], parts[1]

        found = cls.made(layout, density, taken)
        if carriers.dtype != np.float64 or carriers.shape != (start,):
            raise ValueError(f"carriers {carriers.dtype}{carriers.shape}, not ({start},)")
        return found

    @property
    def carriers(self) -> Floats:
        """All that does not follow from layout and density: each piece's L, then its R, by rows."""
        return np.concatenate([np.zeros(0), *(part.ravel() for one in self.pieces for part in (one.left, one.right))])

    @functools.cached_property
    def digest(self) -> bytes:
        """32 bytes that sites compare before their θ are added."""
        parts = []
        for piece in self.pieces:
            sizes = f"{piece.name} {piece.rows} {piece.columns} {piece.rank}"
            parts += [sizes.encode(), piece.left.astype("<f8").tobytes(), piece.right.astype("<f8").tobytes()]
        return digest("subspace", *parts)

    def expand(self, values: Floats) -> Floats:
        """The change of the model that θ = `values` (d,) stands for; linear, no longer than θ.    (m,)

        The same bits on every machine.
        """
        out = np.empty(self.parameters)
        for block, change in Expanded(self, values).blocks():
            out[block] = change
        return out

    def project(self, change: NDArray[np.floating]) -> Floats:
        """θ of the part of `change` (m,) that lies in the subspace: what `expand` is the transpose of.    (d,)"""
        if change.shape != (self.parameters,):
            raise ValueError(f"a change of shape {change.shape} for {self.parameters} parameters")
        out = np.empty(self.length)
        for piece in self.pieces:
            whole = change[piece.start : piece.start + piece.entries]
            mine = out[piece.place : piece.place + piece.length]
            if not piece.rank:
                mine[:] = whole
                continue
            matrix = whole.reshape(piece.rows, piece.columns)
            a, b = piece.factors(mine)
            a[:] = _times(matrix, piece.right)
            b[:] = _less_doubled(piece, _times(matrix.T, piece.left).T)
        return out

    def carry_over(self, values: Floats, other: Subspace) -> Floats:
        """θ in `other`, a subspace of the same model, of the part of θ = `values` (d,) that lies in it.    (d,)"""
        out = np.empty(other.length)
        for mine, theirs in zip(self.pieces, other.pieces, strict=True):
            alone, target = mine.alone(), theirs.alone()
            change = Subspace((alone,)).expand(values[mine.place : mine.place + mine.length])
            out[theirs.place : theirs.place + theirs.length] = Subspace((target,)).project(change)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Expanded:
    """What θ = `values` (d,) changes of the model, a block at a time: whole, in float64, it takes twice the model."""

    within: Subspace
    values: Floats

    def __post_init__(self) -> None:
        if self.values.shape != (self.within.length,):
            raise ValueError(f"θ of shape {self.values.shape} in a subspace of {self.within.length}")

    @property
    def length(self) -> int:
        """m"""
        return self.within.parameters

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Its coordinates in order, float64.    (≤ BLOCK,) each, or one row of a matrix"""
        for piece in self.within.pieces:
            values = self.values[piece.place : piece.place + piece.length]
            for part, change in _expand(piece, values) if piece.rank else blocks_of(values):
                yield slice(piece.start + part.start, piece.start + part.stop), change


def _expand(piece: Piece, values: Floats) -> Iterator[tuple[slice, Floats]]:
    """a Rᵀ + L b (1 − R Rᵀ), term by term, some rows at a time."""
    a, b = piece.factors(values)
    b = _less_doubled(piece, b.copy())
    step = max(1, BLOCK // piece.columns)
    for start in range(0, piece.rows, step):
        rows = slice(start, min(start + step, piece.rows))
        block = np.zeros((rows.stop - start, piece.columns))
        for k in range(piece.rank):
            block += a[rows, k, None] * piece.right[:, k]
            block += piece.left[rows, k, None] * b[k]
        yield slice(start * piece.columns, rows.stop * piece.columns), block.reshape(-1)


def _less_doubled(piece: Piece, b: Floats) -> Floats:
    """b (1 − R Rᵀ), in place: what lies along R is in a already.    (r, i)"""
    for row in b:
        for k in range(piece.rank):  # R's columns are orthonormal, so one after the other is all at once
            row -= _dot(row, piece.right[:, k]) * piece.right[:, k]
    return b


class _Draws:
    """Columns from a public keystream, uniform on [−1, 1)."""

    def __init__(self, named: bytes, tensor: str) -> None:
        self._stream = BitStream(Secret(named, "public seed of carriers"), "training/carriers", tensor.encode())

    def columns(self, rows: int, count: int) -> Floats:
        return (self._stream.uniforms(rows * count) * 2.0 - 1.0).reshape(rows, count)


def _carriers(moved: Floats, rank: int, draws: _Draws, iterations: int) -> tuple[Floats, Floats]:
    """L (o, r) and R (i, r) of a matrix that has moved by `moved` (o, i)."""
    rows, columns = moved.shape
    right = draws.columns(columns, rank)
    for _ in range(iterations):
        left = orthonormal(_times(moved, right), lambda: draws.columns(rows, 1)[:, 0])
        right = orthonormal(_times(moved.T, left), lambda: draws.columns(columns, 1)[:, 0])
    return left, right

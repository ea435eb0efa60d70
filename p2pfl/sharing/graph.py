"""The direction of each pair's edge: the dealer i of an edge i→j makes its seed, and j receives it.

The graph is complete: every unordered pair is one edge. Round-robin: i → i+1 … i+⌊(n−1)/2⌋ (mod n); of an even n the
opposite pair (i, i+n/2) goes from the lower index to the higher. So no peer makes more than ⌈(n−1)/2⌉ seeds.
Indices are positions in the roster of n, not in U: an edge keeps its direction when others leave.
"""

from __future__ import annotations


def makes(i: int, j: int, n: int) -> bool:
    """True when the edge between i and j goes i→j. Raises ValueError unless i ≠ j, both in 0 … n−1."""
    if not (0 <= i < n and 0 <= j < n and i != j):
        raise ValueError(f"no edge between {i} and {j} of {n}")
    ahead = (j - i) % n
    return 2 * ahead < n or (2 * ahead == n and i < j)


def outgoing(i: int, n: int) -> tuple[int, ...]:
    """The far ends of the edges that i makes, in round-robin order i+1, i+2, …"""
    return tuple(j for j in _others(i, n) if makes(i, j, n))


def incoming(i: int, n: int) -> tuple[int, ...]:
    """The dealers of the edges that i receives, in round-robin order i+1, i+2, …"""
    return tuple(j for j in _others(i, n) if makes(j, i, n))


def _others(i: int, n: int) -> list[int]:
    if not 0 <= i < n:
        raise ValueError(f"no peer {i} of {n}")
    return [(i + step) % n for step in range(1, n)]

"""RFC 6962 Merkle trees: hashes, inclusion paths, consistency proofs. Plain functions, SHA-256.

leaf = H(0x00‖data), node = H(0x01‖left‖right), the root of nothing = H(). A tree of n leaves splits at the largest
power of two below n. Functions that end in `_of` take leaf *hashes*, so that a large leaf is hashed once.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()


def leaf_hash(data: bytes | bytearray | memoryview) -> bytes:
    """H(0x00‖data)."""
    state = hashlib.sha256(b"\x00")
    state.update(data)
    return state.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """H(0x01‖left‖right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over `leaves`, in order."""
    return root_of([leaf_hash(leaf) for leaf in leaves])


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, in order."""
    tree = Tree()
    for each in hashes:
        tree.append(each)
    return tree.root()


def paths(leaves: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The inclusion path of each leaf, from its sibling up to the root's child (RFC 6962 §2.1.1).

    All at once, so that each node is hashed once.
    """
    steps: list[list[bytes]] = [[] for _ in leaves]
    level = [(leaf_hash(leaf), [index]) for index, leaf in enumerate(leaves)]
    # Pairing neighbours and carrying an odd last node up unchanged gives the tree of RFC 6962.
    while len(level) > 1:
        above = [
            (node_hash(left, right), below_left + below_right)
            for (left, below_left), (right, below_right) in zip(level[::2], level[1::2], strict=False)
        ]
        for (left, below_left), (right, below_right) in zip(level[::2], level[1::2], strict=False):
            for index in below_left:
                steps[index].append(right)
            for index in below_right:
                steps[index].append(left)
        level = above + ([level[-1]] if len(level) % 2 else [])
    return [tuple(each) for each in steps]


def includes(root: bytes, leaf: bytes | bytearray | memoryview, index: int, size: int, path: Sequence[bytes]) -> bool:
    """True when `path` shows that `leaf` is number `index` of the `size` leaves under `root` (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size or any(len(step) != HASH_BYTES for step in path):
        return False
    hashed, node, last = leaf_hash(leaf), index, size - 1
    for step in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            hashed = node_hash(step, hashed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hashed = node_hash(hashed, step)
        node, last = node >> 1, last >> 1
    return last == 0 and hmac.compare_digest(hashed, root)


def consistent(old_root: bytes, old: int, new_root: bytes, new: int, proof: Sequence[bytes]) -> bool:
    """True when `proof` shows that the tree of `old` leaves is a prefix of that of `new` (RFC 9162 §2.1.4.2)."""
    if not 0 < old <= new or any(len(step) != HASH_BYTES for step in proof):
        return False
    if old == new:
        return not proof and hmac.compare_digest(old_root, new_root)
    steps = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not steps:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    older = newer = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            older, newer = node_hash(step, older), node_hash(step, newer)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            newer = node_hash(newer, step)
        node, last = node >> 1, last >> 1
    return last == 0 and hmac.compare_digest(older, old_root) and hmac.compare_digest(newer, new_root)


class Tree:
    """A growing tree that keeps the root of each perfect subtree: 64 bytes a leaf.

    Append is amortised O(1); the root over any number of its first leaves O(log n), a consistency proof O(log² n).
    """

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        # Level k holds the roots over leaves[i·2ᵏ : (i+1)·2ᵏ], for each i for which all of them are there.
        self._levels: list[list[bytes]] = [[]]

    @property
    def leaves(self) -> Sequence[bytes]:
        """The leaf hashes appended, in order. Not to be changed."""
        return self._levels[0]

    @property
    def size(self) -> int:
        """Leaves appended."""
        return len(self._levels[0])

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf, given by its hash."""
        level, carried = 0, leaf_hash
        while True:
            here = self._levels[level]
            here.append(carried)
            if len(here) % 2:
                return
            carried, level = node_hash(here[-2], here[-1]), level + 1
            if level == len(self._levels):
                self._levels.append([])

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves, or over all. Raises IndexError where there are not so many."""
        return self._root(0, self.size if size is None else size)

    def _root(self, start: int, end: int) -> bytes:
        """The root over leaves[start:end]; `start` is a multiple of a power of two not below end − start."""
        if not 0 <= end <= self.size:
            raise IndexError(f"no {end} leaves in {self.size}")
        root = b""
        for level in range((end - start).bit_length()):
            if (end - start) >> level & 1:  # a perfect subtree: the smaller ones lie to the right of it
                peak = self._levels[level][(end >> level) - 1]
                root = node_hash(peak, root) if root else peak
        return root or EMPTY_ROOT

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """The proof that the tree over `old` leaves is a prefix of that over `new`, or over all (RFC 6962 §2.1.2).

        Raises IndexError unless 0 < old ≤ new ≤ size.
        """
        proof, start, end, whole = list[bytes](), 0, self.size if new is None else new, True
        if not 0 < old <= end <= self.size:
            raise IndexError(f"no trees of {old} and {end} leaves in {self.size}")
        while start + old != end:
            split = 1 << (end - start - 1).bit_length() - 1
            if old <= split:
                proof.append(self._root(start + split, end))
                end = start + split
            else:
                proof.append(self._root(start, start + split))
                start, old, whole = start + split, old - split, False
        return tuple(reversed(proof if whole else [*proof, self._root(start, end)]))

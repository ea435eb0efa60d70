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


def consistency_of(hashes: Sequence[bytes], old: int) -> tuple[bytes, ...]:
    """The proof that the tree over hashes[:old] is a prefix of that over `hashes` (RFC 6962 §2.1.2).

    Raises IndexError unless 0 < old ≤ len(hashes).
    """
    if not 0 < old <= len(hashes):
        raise IndexError(f"no older tree of {old} leaves in {len(hashes)}")
    return tuple(_subproof(hashes, old, whole=True))


def _subproof(hashes: Sequence[bytes], old: int, *, whole: bool) -> list[bytes]:
    if old == len(hashes):
        return [] if whole else [root_of(hashes)]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if old <= split:
        return [*_subproof(hashes[:split], old, whole=whole), root_of(hashes[split:])]
    return [*_subproof(hashes[split:], old - split, whole=False), root_of(hashes[:split])]


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
    """A growing tree: append in O(log n), amortised O(1); root in O(log n); memory O(log n)."""

    __slots__ = ("_peaks", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._peaks: list[bytes] = []  # roots of the perfect subtrees, largest first: one for each set bit of size

    @property
    def size(self) -> int:
        """Leaves appended."""
        return self._size

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf, given by its hash."""
        carried, size = leaf_hash, self._size
        while size & 1:
            carried, size = node_hash(self._peaks.pop(), carried), size >> 1
        self._peaks.append(carried)
        self._size += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        carried = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            carried = node_hash(peak, carried)
        return carried

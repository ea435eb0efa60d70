"""RFC 6962 trees against the recursion of the RFC, its known answers, and altered proofs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import merkle
from tests.sharing import reference

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
# Roots of the first 1 … 8 of these leaves, as in the tests of the Certificate Transparency reference log.
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
leaves = st.lists(st.binary(max_size=4), min_size=1, max_size=40)


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_certificate_transparency_log(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.root([]) == merkle.Tree().root() == reference.merkle_root([])


@given(leaves)
def test_roots_and_paths_are_those_of_the_recursion(listed: list[bytes]) -> None:
    assert merkle.root(listed) == reference.merkle_root(listed)
    paths = merkle.paths(listed)
    assert [list(each) for each in paths] == [reference.merkle_path(listed, index) for index in range(len(listed))]


@given(leaves)
def test_a_growing_tree_has_the_root_of_each_prefix(listed: list[bytes]) -> None:
    tree = merkle.Tree()
    for size, leaf in enumerate(listed, start=1):
        tree.append(merkle.leaf_hash(leaf))
        assert (tree.size, tree.root()) == (size, reference.merkle_root(listed[:size]))
    assert [tree.root(size) for size in range(len(listed) + 1)] == [
        reference.merkle_root(listed[:size]) for size in range(len(listed) + 1)
    ]


def tree_of(listed: list[bytes]) -> merkle.Tree:
    tree = merkle.Tree()
    for leaf in listed:
        tree.append(merkle.leaf_hash(leaf))
    return tree


@given(leaves, st.data())
def test_a_path_shows_its_leaf_and_nothing_else(listed: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(listed) - 1))
    root, path, size = merkle.root(listed), merkle.paths(listed)[index], len(listed)
    assert merkle.includes(root, listed[index], index, size, path)
    assert not merkle.includes(root, listed[index] + b"x", index, size, path)
    assert not any(
        merkle.includes(root, listed[index], other, size, path)
        for other in (index - 1, index + 1, size)
        if other >= size or other < 0 or listed[other] != listed[index]
    )
    assert not merkle.includes(root, listed[index], index, size, (*path, bytes(32)))
    if path:
        assert not merkle.includes(root, listed[index], index, size, path[:-1])
        flipped = bytes([path[0][0] ^ 1]) + path[0][1:]
        assert not merkle.includes(root, listed[index], index, size, (flipped, *path[1:]))
        assert not merkle.includes(root, listed[index], index, size, (path[0][:31], *path[1:]))


@given(leaves, st.data())
def test_a_consistency_proof_shows_a_prefix_and_nothing_else(listed: list[bytes], data: st.DataObject) -> None:
    old, new = data.draw(st.integers(1, len(listed))), len(listed)
    proof = tree_of(listed).consistency(old)
    assert list(proof) == reference.merkle_consistency(listed, old)
    old_root, new_root = merkle.root(listed[:old]), merkle.root(listed)
    assert merkle.consistent(old_root, old, new_root, new, proof)
    forked = merkle.root([*listed[: old - 1], listed[old - 1] + b"x"])
    assert not merkle.consistent(forked, old, new_root, new, proof)
    assert not merkle.consistent(old_root, old, forked, new, proof) or (old == new and forked == old_root)
    assert not merkle.consistent(old_root, old, new_root, new, (*proof, bytes(32)))
    if proof:
        assert not merkle.consistent(old_root, old, new_root, new, proof[:-1])


def test_an_index_outside_the_tree_is_refused() -> None:
    refusals: list[Callable[[], object]] = [
        lambda: tree_of([b""]).consistency(0),
        lambda: tree_of([b""]).consistency(2),
        lambda: tree_of([b""]).root(2),
    ]
    for refused in refusals:
        with pytest.raises(IndexError):
            refused()
    assert not merkle.consistent(bytes(32), 0, bytes(32), 1, ())
    assert not merkle.consistent(bytes(32), 3, bytes(32), 4, ())

"""Every pair has one edge, and nobody makes more than half of theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.sharing.graph import incoming, makes, outgoing
from tests.sharing import reference


@given(st.integers(2, 60))
def test_every_pair_is_one_edge_and_both_ends_agree_on_its_direction(n: int) -> None:
    edges = [(i, j) for i in range(n) for j in outgoing(i, n)]
    assert len(edges) == n * (n - 1) // 2
    assert {frozenset(edge) for edge in edges} == {frozenset((i, j)) for i in range(n) for j in range(i)}
    assert {(i, j) for j in range(n) for i in incoming(j, n)} == set(edges)
    assert all((i, j) == reference.edge(i, j, n) for i, j in edges)


@given(st.integers(2, 60))
def test_a_peer_makes_half_of_its_edges(n: int) -> None:
    for i in range(n):
        made = len(outgoing(i, n))
        assert made + len(incoming(i, n)) == n - 1
        assert made in ((n - 1) // 2, n // 2)


def test_the_edges_of_four_and_five_peers_are_those_of_the_specification() -> None:
    assert [outgoing(i, 5) for i in range(5)] == [(1, 2), (2, 3), (3, 4), (4, 0), (0, 1)]
    assert [outgoing(i, 4) for i in range(4)] == [(1, 2), (2, 3), (3,), (0,)]


def test_an_edge_to_itself_or_to_nobody_is_refused() -> None:
    for i, j, n in ((0, 0, 3), (0, 3, 3), (-1, 0, 3)):
        with pytest.raises(ValueError, match="no edge"):
            makes(i, j, n)
    for listed in (outgoing, incoming):
        with pytest.raises(ValueError, match="no peer"):
            listed(3, 3)

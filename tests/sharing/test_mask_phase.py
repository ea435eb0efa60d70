"""MASK as the others see it: what leaves a peer when its words have come."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from p2pfl.messages import Chunk, Root
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS, Words
from p2pfl.sharing.phases import mask
from p2pfl.sharing.state import Phase
from tests.sharing.stopped_rounds import ME, standing


def test_the_hashes_of_the_chunks_leave_before_the_first_chunk() -> None:
    _, found = standing(Phase.MASK)
    words = (e.Vector(31, FIELDS[31].zeros(12)),)
    effects = found.handle(e.WordsReady(0.0, found.number, found.attempt, words))
    sent = [one for one in effects if isinstance(one, e.Send)]
    kinds = [type(one.letter.message) for one in sent]
    assert kinds == [Root] + [Chunk] * (len(kinds) - 1)
    assert len(kinds) > 1
    assert sent[0].to is None
    assert ME not in {one.to for one in sent}


def masked(given: Words, *, ahead: int) -> Words:
    """What ME makes of the words, with masks for so many words made ahead; 0: with none."""
    _, found = standing(Phase.MASK)
    state = found.state
    state.masking.ahead, state.masking.ahead_with = (), {}
    if ahead:
        others = frozenset(state.names) - {ME}
        state.masking.ahead_with = {name: state.proposals.bundles[name].digest for name in others}
        state.masking.ahead = mask.edges(state, others, own=True).masks(((31, ahead),))
    found.handle(e.WordsReady(0.0, found.number, found.attempt, (e.Vector(31, given),)))
    assert not state.masking.ahead
    return state.masking.mine[0].words


def test_masks_made_ahead_take_the_memory_of_one_vector() -> None:
    """A site holds few vectors of its model at once: docs/benchmarks.md counts them."""
    _, found = standing(Phase.MASK)
    state, count = found.state, 1 << 20
    edges = mask.edges(state, frozenset(state.names) - {ME}, own=True)
    tracemalloc.start()
    try:
        (masks,) = edges.masks(((31, count),))
        assert tracemalloc.get_traced_memory()[1] < 1.5 * masks.words.nbytes
    finally:
        tracemalloc.stop()
    (again,) = edges.masks(((31, 1000),))
    assert np.array_equal(masks.words[:1000], again.words) and again.words.any()


@pytest.mark.parametrize("ahead", [0, 12, 20])
def test_words_are_masked_where_they_lie_unless_their_owner_keeps_them(ahead: int) -> None:
    given = np.arange(12, dtype=FIELDS[31].dtype)
    expected = masked(given.copy(), ahead=0)
    spent = given.copy()
    assert np.shares_memory(masked(spent, ahead=ahead), spent)
    assert np.array_equal(spent, expected)
    given.flags.writeable = False
    assert np.array_equal(masked(given, ahead=ahead), expected)
    assert given.tolist() == list(range(12))

"""The fast path against its twin, and masks that cancel over the whole federation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.sharing import NotInField
from p2pfl.keys import Secret
from p2pfl.sharing.additive import complete, reconstruct
from p2pfl.sharing.chunks import Layout, Segment, plan
from p2pfl.sharing.field import BLOCK_BYTES, FIELDS, Field, Words
from p2pfl.sharing.graph import incoming, outgoing
from p2pfl.sharing.masking import mask, masks, unmask
from p2pfl.sharing.prg import EDGE, SELF, context, expand, stream_key
from tests.examples import examples
from tests.sharing import reference

each_field = pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)


class Federation:
    """The keys of n peers for one attempt, as the protocol derives them."""

    def __init__(self, n: int, field: Field, m: int, seed: int) -> None:
        self.n, self.field, self.m, self.seed = n, field, m, seed
        self.x = [expand(reference.key(f"x{seed},{i}"), field, 0, m) for i in range(n)]

    def edge(self, i: int, j: int) -> Secret:
        at = context(reference.key("run"), 0, 1, 2, (i, j), 0)
        return stream_key(reference.key(f"s{self.seed},{i},{j}"), EDGE, at)

    def own(self, i: int) -> Secret:
        return stream_key(reference.key(f"b{self.seed},{i}"), SELF, context(reference.key("run"), 0, 1, 2, (i, i), 0))

    def keys(self, i: int) -> tuple[list[Secret], list[Secret], Secret]:
        made = [self.edge(i, j) for j in outgoing(i, self.n)]
        return made, [self.edge(j, i) for j in incoming(i, self.n)], self.own(i)

    def masked(self, i: int) -> Words:
        made, received, own = self.keys(i)
        return mask(self.x[i], made, received, own, field=self.field)


@each_field
def test_a_masked_vector_is_that_of_the_slow_twin(field: Field) -> None:
    keys = [reference.key(f"k{number}") for number in range(5)]
    x = [0, 1, field.half, field.p - 1, *expand(reference.key("x"), field, 0, 60).tolist()]
    for start in (0, 1, 9_999_999):
        found = mask(np.array(x, field.dtype), keys[:2], keys[2:4], keys[4], field=field, start=start)
        assert found.tolist() == reference.mask(x, keys[:2], keys[2:4], keys[4], field, start)


@examples(30)
@given(st.integers(3, 20), st.sampled_from(list(FIELDS.values())), st.integers(1, 50), st.integers(0, 2**32))
def test_masks_cancel_and_the_sum_is_that_of_the_vectors_and_self_masks(
    n: int, field: Field, m: int, seed: int
) -> None:
    peers = Federation(n, field, m, seed)
    total = field.sum([peers.masked(i) for i in range(n)])
    own = [peers.own(i) for i in range(n)]
    self_masks = [expand(key, field, 0, m) for key in own]
    assert np.array_equal(total, field.sum([*peers.x, *self_masks]))
    expected = [sum(int(x[place]) for x in peers.x) % field.p for place in range(m)]
    assert unmask(total, own, field=field).tolist() == expected


@pytest.mark.claim("SUM-2")
@each_field
def test_the_seed_form_is_the_textbook_form(field: Field) -> None:
    n, m = 5, 40
    peers = Federation(n, field, m, 1)
    held: list[list[Words]] = [[] for _ in range(n)]
    for i in range(n):
        far = outgoing(i, n)
        rows = np.stack([expand(peers.edge(i, j), field, 0, m) for j in far])
        shares = complete(peers.x[i], rows, field)  # the last one is the share that i keeps
        assert np.array_equal(reconstruct(shares, field), peers.x[i])
        for j, share in zip((*far, i), shares, strict=True):
            held[j].append(share)
    for i in range(n):
        with_self_mask = field.sum([*held[i], expand(peers.own(i), field, 0, m)])
        assert np.array_equal(peers.masked(i), with_self_mask)


@each_field
def test_chunks_masked_alone_are_slices_of_the_whole_masked(field: Field) -> None:
    m = 3 * BLOCK_BYTES // field.word_bytes + 11
    x = expand(reference.key("x"), field, 0, m)
    keys = [reference.key(f"k{number}") for number in range(3)]
    whole = mask(x, keys[:1], keys[1:2], keys[2], field=field)
    for chunk in plan(Layout((Segment(int(field.name), m),)), 7):
        part = x[chunk.start : chunk.stop]
        found = mask(part, keys[:1], keys[1:2], keys[2], field=field, start=chunk.start)
        assert np.array_equal(found, whole[chunk.start : chunk.stop])


@each_field
def test_masks_expanded_ahead_and_added_later_give_the_same_vector(field: Field) -> None:
    keys = [reference.key(f"k{number}") for number in range(4)]
    x = expand(reference.key("x"), field, 0, 1000)
    ahead = masks(keys[:1], keys[1:3], keys[3], field=field, start=77, count=1000)
    assert np.array_equal(field.add(x, ahead), mask(x, keys[:1], keys[1:3], keys[3], field=field, start=77))


def test_the_input_is_left_as_it_was_unless_it_is_the_output() -> None:
    field = FIELDS[16]
    x = expand(reference.key("x"), field, 0, 1000)
    before = x.copy()
    y = mask(x, [reference.key("a")], [reference.key("b")], reference.key("c"), field=field)
    assert np.array_equal(x, before)
    assert mask(x, [reference.key("a")], [reference.key("b")], reference.key("c"), field=field, out=x) is x
    assert np.array_equal(x, y)


@pytest.mark.claim("SUM-2")
@each_field
def test_a_masked_vector_is_uniform_whatever_the_vector(field: Field) -> None:
    count, cells = 200_000, 64
    y = mask(field.zeros(count), [], [], reference.key("own"), field=field)
    seen = np.bincount(np.minimum(y.astype(np.float64) / field.p * cells, cells - 1).astype(np.int64), minlength=cells)
    chi_square = float(((seen - count / cells) ** 2 / (count / cells)).sum())
    assert abs(chi_square - (cells - 1)) < 5 * np.sqrt(2 * (cells - 1))


@each_field
def test_a_vector_with_a_word_of_p_is_refused(field: Field) -> None:
    bad = np.array([0, field.p], field.dtype)
    with pytest.raises(NotInField):
        mask(bad, [], [], reference.key("own"), field=field)
    with pytest.raises(NotInField):
        unmask(bad, [], field=field)


def test_an_output_of_another_shape_or_type_is_refused() -> None:
    field = FIELDS[31]
    for out in (np.empty(3, field.dtype), np.empty(2, np.uint64)):
        with pytest.raises(ValueError, match="wanted"):
            mask(field.zeros(2), [], [], reference.key("own"), field=field, out=out)

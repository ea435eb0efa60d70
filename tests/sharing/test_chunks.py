"""Every word has one chunk and one owner, and no owner sums much more than another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.sharing import chunks
from p2pfl.sharing.chunks import CHUNK_BYTES, LEAST_BYTES, ChunkSpan, Layout, Segment, plan
from p2pfl.sharing.field import FIELDS

segments = st.builds(Segment, st.sampled_from(list(FIELDS)), st.one_of(st.integers(0, 30), st.integers(0, 5_000_000)))
layouts = st.lists(segments, max_size=5).map(lambda each: Layout(tuple(each)))


@given(layouts, st.integers(1, 30))
def test_every_word_lies_in_exactly_one_chunk_in_order(layout: Layout, owners: int) -> None:
    planned = plan(layout, owners)
    assert [chunk.index for chunk in planned] == list(range(len(planned)))
    for number, segment in enumerate(layout.segments):
        stop = 0
        for chunk in planned:
            if chunk.segment == number:
                assert chunk.start == stop
                stop = chunk.stop
        assert stop == segment.length


@given(layouts, st.integers(1, 30))
def test_no_chunk_is_empty_or_larger_than_the_bound(layout: Layout, owners: int) -> None:
    for chunk in plan(layout, owners):
        assert 0 < chunk.count * layout.segments[chunk.segment].field.word_bytes <= CHUNK_BYTES
        assert 0 <= chunk.owner_position < owners


def _least(bits: int) -> int:
    """Words of the shortest chunk."""
    return LEAST_BYTES // FIELDS[bits].word_bytes


@given(st.sampled_from(list(FIELDS)), st.lists(st.integers(0, 2_000_000), min_size=1, max_size=4), st.integers(1, 30))
def test_loads_of_two_owners_of_long_segments_differ_by_a_word_at_most(bits: int, more: list[int], owners: int) -> None:
    lengths = [(owners - 1) * _least(bits) + 1 + length for length in more]
    loads = [0] * owners
    for chunk in plan(Layout(tuple(Segment(bits, length) for length in lengths)), owners):
        loads[chunk.owner_position] += chunk.count
    assert max(loads) - min(loads) <= 1


@given(segments, st.integers(1, 30))
def test_chunks_are_a_multiple_of_the_owners_unless_they_would_be_too_short(segment: Segment, owners: int) -> None:
    number, least = len(plan(Layout((segment,)), owners)), _least(segment.bits)
    assert number % owners == 0 or number == -(-segment.length // least) < owners


@given(segments, st.integers(1, 30))
def test_where_chunks_are_fewer_than_owners_none_is_longer_than_the_least(segment: Segment, owners: int) -> None:
    spans = plan(Layout((segment,)), owners)
    if len(spans) < owners:
        assert all(span.count <= _least(segment.bits) for span in spans)
        assert len({span.owner_position for span in spans}) == len(spans)


def test_ten_numbers_and_their_salt_have_one_owner() -> None:
    assert plan(Layout((Segment(31, 10), Segment(61, 5))), 5) == (ChunkSpan(0, 0, 0, 10, 0), ChunkSpan(1, 1, 0, 5, 0))


def test_a_vector_of_seven_words_and_two_scalars_is_dealt_as_the_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LEAST_BYTES", 8)
    assert plan(Layout((Segment(31, 7), Segment(61, 2))), 3) == (
        ChunkSpan(0, 0, 0, 3, 0),
        ChunkSpan(1, 0, 3, 2, 1),
        ChunkSpan(2, 0, 5, 2, 2),
        ChunkSpan(3, 1, 0, 1, 1),
        ChunkSpan(4, 1, 1, 1, 2),
    )
    assert [span.count for span in plan(Layout((Segment(31, 7),)), 5)] == [2, 2, 2, 1]


def test_an_unknown_field_a_negative_length_and_no_owner_are_refused() -> None:
    for refused in (lambda: Segment(32, 1), lambda: Segment(31, -1), lambda: plan(Layout(()), 0)):
        with pytest.raises(ValueError):
            refused()

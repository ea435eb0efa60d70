"""Memory is used again once nobody looks into it, and not before; and it says nothing of what lay there."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.sharing import kernel
from p2pfl.sharing.events import Vector
from p2pfl.sharing.field import FIELDS, Field, Words, bytes_of
from p2pfl.sharing.parts import Sum
from p2pfl.sharing.quantiser import Quantiser, floats_of
from p2pfl.sharing.room import LEAST_BYTES, POOL, Pool, Room, Rooms
from tests.examples import examples

LARGE = LEAST_BYTES // 8 + 3  # words of a room that is a block
SIZES = st.one_of(st.integers(0, 40), st.integers(1020, 1030), st.integers(16_380, 16_390), st.integers(2045, 5000))
WITH = pytest.mark.parametrize(
    "loops",
    [
        pytest.param(kernel.COMPILED, marks=pytest.mark.skipif(kernel.COMPILED is None, reason="not built here")),
        None,
    ],
    ids=["compiled", "numpy"],
)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    POOL.rest(POOL.taken)


def left(room: Room) -> Room:
    room.leave()
    return room


# ── a room ────────────────────────────────────────────────────────────────────────────────────────────────────


@WITH
@given(st.sampled_from(list(FIELDS.values())), SIZES, st.integers(0, 2**32))
@examples(60)
def test_numbers_in_their_words_place_are_those_of_another_place(
    loops: kernel.Compiled | None, field: Field, size: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "COMPILED", loops)
        words = np.random.default_rng(seed).integers(0, field.p, size, dtype=np.uint64).astype(field.dtype)
        room = Room(field, size)
        room.last()[...] = words
        there = left(room).numbers()
        assert there is not None
        found = floats_of(room.last(), field, 0.1, None, size, there)
        assert found is there
        assert np.array_equal(found, floats_of(words, field, 0.1, None, size))


@pytest.mark.parametrize("bits", FIELDS)
@pytest.mark.parametrize("size", [5, LARGE])
def test_first_and_last_words_do_not_meet(bits: int, size: int) -> None:
    room = Room(FIELDS[bits], size)
    first, last = room.first(), room.last()
    last[...] = 3
    if bits == 61:
        assert first is None, "its words are as wide as numbers"
        return
    assert first is not None and first.size == last.size == size
    first[...] = 2
    assert set(last.tolist()) == {3} and set(first.tolist()) == {2}
    assert room.first() is None, "one attempt's words lie there"


def looked_at(words: Words) -> list[Callable[[Words], object]]:
    return [lambda one: one, lambda one: one[3:5], lambda one: bytes_of(one[3:5]), lambda one: bytes_of(one)[8:12]]


@pytest.mark.parametrize("size", [50, LARGE])
@pytest.mark.parametrize("view", range(4))
def test_numbers_wait_for_whoever_looks_at_the_first_words(size: int, view: int) -> None:
    """A letter of y may wait for a slow peer, as a view of its bytes."""
    room = left(Room(FIELDS[31], size))
    first = room.first()
    assert first is not None
    held = looked_at(first)[view](first)
    del first
    gc.collect()
    assert room.numbers() is None
    del held
    gc.collect()
    assert room.numbers() is not None


def test_numbers_wait_until_the_round_has_let_go_of_the_sum() -> None:
    room = Room(FIELDS[31], 8)
    total = Sum(total=(Vector(31, room.last(), room),))
    assert room.numbers() is None
    total.keep(lambda: ())
    assert room.numbers() is not None


def test_a_sum_that_letters_hold_is_not_overwritten() -> None:
    room = Room(FIELDS[31], 8)
    total = Sum(total=(Vector(31, room.last(), room),))
    assert total.lent() == total.total
    total.keep(lambda: ())
    assert room.numbers() is None


def test_words_that_made_room_are_not_read_again() -> None:
    room = left(Room(FIELDS[31], 8))
    room.numbers()
    with pytest.raises(ValueError, match="made room"):
        room.numbers()


def test_an_attempt_is_given_its_own_rooms_once() -> None:
    rooms = Rooms()
    made = rooms.open(("run", 1, 0), ((31, 8), (61, 5)))
    assert [room.shape for room in made] == [(31, 8), (61, 5)]
    assert rooms.hand_over(("run", 1, 1)) == ()
    assert rooms.hand_over(("run", 1, 0)) == (), "whoever asks for another attempt ends it"
    made = rooms.open(("run", 1, 1), ((31, 8),))
    assert rooms.hand_over(("run", 1, 1)) == made


def test_without_memory_there_are_no_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    rooms = Rooms()
    monkeypatch.setattr("p2pfl.sharing.room.mmap.mmap", refuse)
    assert rooms.open("here", ((31, LARGE),)) == rooms.hand_over("here") == ()


# ── words that are made there ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rotate", [False, True])
def test_floats_are_rounded_where_they_are_told_to_be(rotate: bool) -> None:
    quantiser = Quantiser(FIELDS[31], 4, 2.0, 1.0, rotate)
    values = np.random.default_rng(1).uniform(-1, 1, 5000)
    out = np.empty(quantiser.length(values.size), np.uint32)
    words, _ = quantiser.quantise(values, bytes(32), bytes(32), out)
    assert words is out
    assert np.array_equal(out, quantiser.quantise(values, bytes(32), bytes(32))[0])
    with pytest.raises(ValueError, match="wanted"):
        quantiser.quantise(values, bytes(32), bytes(32), out[1:])


# ── the pool ──────────────────────────────────────────────────────────────────────────────────────────────────

SIZE = 1 << 21


def keeping() -> Pool:
    pool = Pool()
    pool.keep()
    return pool


def used(pool: Pool) -> None:
    """A block was taken, and is let go of."""
    pool.take(SIZE)


def test_a_block_serves_again_and_says_nothing_of_what_lay_there() -> None:
    pool = keeping()
    whole, block = pool.take(SIZE)
    block.first, block.last = 100, 200
    whole[:100], whole[-200:] = 7, 9
    del whole
    assert pool.kept_bytes == SIZE
    again, same = pool.take(SIZE)
    assert same is block
    assert not again.any()
    assert pool.kept_bytes == 0


@pytest.mark.parametrize("view", range(4))
def test_a_block_is_back_once_nobody_looks_into_it(view: int) -> None:
    pool = keeping()
    whole, _ = pool.take(SIZE)
    held = looked_at(whole)[view](np.frombuffer(whole.data, np.uint32))
    del whole
    gc.collect()
    assert pool.kept_bytes == 0
    del held
    gc.collect()
    assert pool.kept_bytes == SIZE


def test_nothing_is_kept_but_while_sums_follow_one_another() -> None:
    pool = Pool()
    used(pool)
    assert pool.kept_bytes == 0
    pool.keep()
    used(pool)
    assert pool.kept_bytes == SIZE
    before = pool.taken
    late = pool.take(SIZE)
    pool.rest(before)
    assert pool.kept_bytes == 0, "it is in use"
    del late
    assert pool.kept_bytes == SIZE, "another sum has begun since"
    late = pool.take(SIZE)
    pool.rest(pool.taken)
    del late
    assert pool.kept_bytes == 0, "a result that its caller let go of later"


def test_a_block_that_comes_back_while_another_thread_rests_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that ends rests once, while its threads still work: nothing would ever empty the pool after it."""
    pool, count = keeping(), Pool.kept_bytes

    def meanwhile(asked: Pool) -> int:
        before = count.__get__(asked)
        asked.rest(asked.taken)
        return int(before)

    monkeypatch.setattr(Pool, "kept_bytes", property(meanwhile))
    used(pool)
    monkeypatch.undo()
    assert pool.kept_bytes == 0


def test_blocks_of_another_length_go_when_they_do_not_fit() -> None:
    pool = keeping()
    used(pool)
    other = pool.take(2 * SIZE)
    assert pool.kept_bytes == 0
    del other
    assert pool.kept_bytes == 2 * SIZE


def test_more_than_so_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.sharing.room.MOST_KEPT", 2 * SIZE)
    pool = keeping()
    held = [pool.take(SIZE) for _ in range(3)]
    held.clear()
    assert pool.kept_bytes == 2 * SIZE
    huge = pool.take(3 * SIZE)
    del huge
    assert pool.kept_bytes == 0


def test_a_small_room_is_no_block() -> None:
    before = POOL.taken
    Room(FIELDS[31], 100).last()
    assert POOL.taken == before

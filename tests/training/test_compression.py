"""Supports as bytes have one form and limits; error feedback loses nothing that was not sent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors.training import CompressionMisused, SupportMalformed
from p2pfl.training.compression import nomination as compression
from p2pfl.training.compression.drawn import drawn_positions
from p2pfl.training.compression.nomination import (
    Compressor,
    Ground,
    decode_support,
    encode_support,
    largest,
    leader_of,
    most_bytes,
    union,
)
from tests.examples import examples

M = 1 << 20
supports = st.sets(st.integers(0, M - 1), max_size=60).map(lambda found: np.array(sorted(found), dtype=np.int64))


def count_of(count: int) -> bytes:
    return count.to_bytes(4, "little")


@given(supports)
def test_a_support_comes_back_from_its_bytes(positions: np.ndarray) -> None:
    assert np.array_equal(decode_support(encode_support(positions), M, len(positions), "hungary"), positions)


@given(st.sets(st.integers(0, (1 << 33) - 1), min_size=1, max_size=20))
def test_positions_of_the_largest_models_come_back(found: set[int]) -> None:
    positions = np.array(sorted(found), dtype=np.int64)
    assert np.array_equal(decode_support(encode_support(positions), 1 << 33, 20, "hungary"), positions)


@given(st.binary(max_size=40))
@examples(500)
def test_bytes_are_refused_or_are_the_one_encoding_of_what_they_decode_to(data: bytes) -> None:
    try:
        positions = decode_support(data, 1000, 30, "hungary")
    except SupportMalformed:
        return
    assert encode_support(positions) == data
    assert len(positions) <= 30
    assert len(positions) == 0 or (positions[0] >= 0 and positions[-1] < 1000 and np.all(np.diff(positions) > 0))


@given(supports.filter(lambda positions: len(positions) > 0), st.data())
def test_a_cut_or_lengthened_support_is_refused(positions: np.ndarray, data: st.DataObject) -> None:
    whole = encode_support(positions)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"\0"):
        with pytest.raises(SupportMalformed):
            decode_support(broken, M, len(positions) + 1, "hungary")


@pytest.mark.claim("CODEC-1")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no count"),
        (count_of(1) + b"\x80\x00", "a gap of zero in two bytes"),
        (count_of(1) + b"\x80", "a gap without an end"),
        (count_of(1) + b"\xff\xff\xff\xff\xff\x01", "a gap of six bytes"),
        (count_of(1) + b"\xff\xff\xff\xff\x7f", "a position beyond the model"),
        (count_of(2) + b"\x63\x00", "a second position beyond the model"),
        (count_of(4) + b"\x00\x00\x00\x00", "more positions than allowed"),
        (count_of(0xFFFFFFFF), "a count that no bytes follow"),
        (count_of(0) + b"\x00", "bytes after the last position"),
    ],
)
def test_malformed_supports_are_refused_and_name_the_peer(data: bytes, why: str) -> None:
    with pytest.raises(SupportMalformed) as caught:
        decode_support(data, 100, 3, "hungary")
    assert "hungary" in caught.value.render(), why


@pytest.mark.parametrize("positions", [[3, 3], [4, 2], [-1, 2], [1 << 33]])
def test_what_is_no_support_is_not_encoded(positions: list[int]) -> None:
    with pytest.raises(ValueError):
        encode_support(np.array(positions, dtype=np.int64))


@given(st.lists(supports, max_size=5))
def test_the_union_is_the_set_union_in_order(parts: list[np.ndarray]) -> None:
    assert union(parts).tolist() == sorted(set().union(*(part.tolist() for part in parts)))


# ── error feedback ────────────────────────────────────────────────────────────────────────────────────────────


def updates(count: int, m: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    # Multiples of 1/64 below 64: sums are exact in float32, so identities below hold to the bit.
    return [(rng.integers(-64, 64, m) / 64).astype(np.float32) for _ in range(count)]


@pytest.mark.claim("DP-8")
def test_what_was_sent_and_what_is_held_back_add_up_to_all_updates() -> None:
    compressor, m = Compressor("nominate", 0.05, 400, 4), 400
    sent_in_all = np.zeros(m)
    given_in_all = np.zeros(m)
    for update in updates(12, m):
        support = compressor.support({"me": compressor.nominate(update), "you": encode_support(np.array([1, 7]))})
        assert support is not None
        sent = np.round(compressor.values(support).astype(np.float64) * 8) / 8  # a coarse quantiser
        compressor.settle(support, sent)
        sent_in_all[support] += sent
        given_in_all += update
    assert np.array_equal(sent_in_all + compressor.residual, given_in_all)


def test_a_second_attempt_settles_from_the_same_values_as_the_first() -> None:
    compressor, (first, second) = Compressor("nominate", 0.1, 100, 2), updates(2, 100)
    compressor.settle(compressor.support({"me": compressor.nominate(first)}), np.ones(5))
    compressor.nominate(second)
    before = compressor.residual.copy()
    attempt = np.array([2, 3, 5])
    compressor.settle(attempt, compressor.values(attempt).astype(np.float64) / 2)
    again = np.array([3, 90])
    assert np.array_equal(compressor.values(again), before[again])
    compressor.settle(again, compressor.values(again).astype(np.float64))
    wanted = before.copy()
    wanted[again] = 0
    assert np.array_equal(compressor.residual, wanted)


@pytest.mark.claim("DP-8")
def test_a_nomination_is_a_function_of_noised_updates_and_of_nothing_else() -> None:
    """Two sites whose records differ, and whose noised updates came out the same, nominate the same; also after a
    restart. So nothing of the records but the noised updates can be in a position."""
    one, other = Compressor("nominate", 0.1, 200, 4), Compressor("nominate", 0.1, 200, 4)
    for update in updates(6, 200):
        said = one.nominate(update)
        assert other.nominate(update.copy()) == said
        support = one.support({"me": said})
        assert support is not None
        for each in (one, other):
            each.settle(support, each.values(support).astype(np.float64))
        restarted = Compressor("nominate", 0.1, 200, 4)
        restarted.restore(b"".join(other.to_pieces()))
        other = restarted


def test_an_update_that_never_was_settled_is_held_back_whole() -> None:
    compressor, (first, second) = Compressor("nominate", 0.1, 100, 2), updates(2, 100)
    compressor.nominate(first)
    compressor.nominate(second)
    assert np.array_equal(compressor.residual, first + second)


def test_the_state_comes_back_in_the_middle_of_an_attempt() -> None:
    compressor, (first, second) = Compressor("nominate", 0.1, 100, 2), updates(2, 100)
    compressor.nominate(first)
    support = np.array([1, 4, 50])
    compressor.settle(support, np.zeros(3))
    other = Compressor("nominate", 0.1, 100, 2)
    other.restore(b"".join(compressor.to_pieces()))
    assert other.to_pieces() == compressor.to_pieces()
    assert np.array_equal(other.values(support), compressor.values(support))
    assert other.nominate(second) == compressor.nominate(second)


def test_state_of_another_model_or_cut_is_refused() -> None:
    whole = b"".join(Compressor("nominate", 0.1, 100, 2).to_pieces())
    for state in (
        b"".join(Compressor("nominate", 0.1, 101, 2).to_pieces()),
        whole[:-3],
        b"",
        whole.replace(b"sent.positions", b"sent.poshtions"),
    ):
        with pytest.raises(CompressionMisused):
            Compressor("nominate", 0.1, 100, 2).restore(state)


def test_each_peer_nominates_its_part_of_the_density_and_no_more() -> None:
    m, peers = 10_000, 5
    compressor = Compressor("nominate", 0.01, m, peers)
    assert compressor.nominated == 20
    mine = decode_support(compressor.nominate(updates(1, m)[0]), m, 20, "me")
    assert len(mine) == 20
    with pytest.raises(SupportMalformed):
        compressor.support({"liar": encode_support(np.arange(21))})


def test_the_largest_coordinates_are_nominated_and_steady_ones_win_ties() -> None:
    compressor = Compressor("nominate", 0.02, 100, 1)
    update = np.full(100, 0.01, dtype=np.float32)
    update[[40, 60]] = (3, -3)
    assert decode_support(compressor.nominate(update), 100, 2, "me").tolist() == [40, 60]


def test_method_none_sends_the_update_as_it_is_and_accepts_no_nomination() -> None:
    compressor, update = Compressor("none", 1.0, 50, 3), updates(1, 50)[0]
    assert compressor.nominate(update) == b""
    assert compressor.support({"a": b"", "b": b""}) is None
    assert np.array_equal(compressor.values(None), update)
    compressor.settle(None, update.astype(np.float64))
    assert len(compressor.residual) == 0
    with pytest.raises(SupportMalformed):
        compressor.support({"a": encode_support(np.array([1]))})


def test_a_full_density_of_one_peer_is_everything() -> None:
    compressor = Compressor("nominate", 1.0, 30, 1)
    assert decode_support(compressor.nominate(updates(1, 30)[0]), 30, 30, "me").tolist() == list(range(30))


@given(seed=st.integers(0, 1000), length=st.integers(1, 400), levels=st.integers(1, 50), sample=st.integers(1, 64))
@examples(60)
def test_the_largest_are_those_of_a_sort_whatever_the_sample_of_them_says(
    seed: int, length: int, levels: int, sample: int
) -> None:
    dice = np.random.default_rng(seed)
    values = dice.integers(0, levels, length).astype(np.float32)  # with equals
    if seed % 3 == 0:
        values[:: max(1, length // sample)] += 1000.0  # the sample sees large ones alone
    count = int(dice.integers(1, length + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "SAMPLE", sample)
        found = largest(values, count)
    assert found.dtype == np.int64 and len(found) == count and np.all(np.diff(found) > 0)
    assert np.array_equal(np.sort(values[found]), np.sort(values)[length - count :])


def test_a_nomination_is_the_same_whatever_blocks_it_is_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(0)
    updates = [dice.normal(size=50).astype(np.float32) for _ in range(3)]

    def nominated() -> list[bytes]:
        one = Compressor("nominate", 0.2, 50, 2)
        return [one.nominate(update) for update in updates]

    whole = nominated()
    for block in (1, 7, 50):
        monkeypatch.setattr(compression, "BLOCK", block)
        assert nominated() == whole


def test_of_an_update_with_one_nan_the_other_numbers_still_have_their_order() -> None:
    one = Compressor("nominate", 0.5, 8, 2)
    update = np.arange(8, dtype=np.float32)
    update[1] = np.nan
    found = decode_support(one.nominate(update), 8, 2, "hungary")
    assert list(found) == [6, 7]


# ── a leader, positions that nobody names, and both scores ────────────────────────────────────────────────────

BASE = bytes(range(32))


@given(parameters=st.integers(1, 3000), part=st.floats(0.0, 1.0), base=st.binary(min_size=32, max_size=32))
def test_drawn_positions_are_so_many_below_m_and_increase(parameters: int, part: float, base: bytes) -> None:
    count = max(1, round(part * parameters))
    found = drawn_positions(base, count, parameters)
    assert found.dtype == np.int64 and len(found) == count
    assert found[0] >= 0 and found[-1] < parameters and np.all(np.diff(found) > 0)
    assert np.array_equal(drawn_positions(base, count, parameters), found)


def test_another_model_draws_other_positions_and_each_coordinate_has_its_turn() -> None:
    drawn = [drawn_positions(bytes([place]) * 32, 20, 210) for place in range(200)]
    assert not np.array_equal(drawn[0], drawn[1])
    turns = np.bincount(np.concatenate(drawn), minlength=210)
    assert turns.sum() == 4000 and turns.min() > 0
    assert turns.max() < 19 + 8 * 19**0.5, "of 19 in the mean"


def test_random_positions_are_named_by_nobody_and_what_they_leave_out_is_held_back() -> None:
    one, update = Compressor("random", 0.1, 200, 4), updates(1, 200)[0]
    assert one.nominate(update, None, Ground(BASE, leads=True)) == b""
    support = one.support({"a": b"", "b": b""}, BASE)
    assert support is not None and len(support) == one.length == 20
    one.settle(support, one.values(support).astype(np.float64))
    assert not one.residual[support].any() and one.residual.sum() == update.sum() - update[support].sum()
    other = Compressor("random", 0.1, 200, 4)
    other.restore(b"".join(one.to_pieces()))
    assert np.array_equal(other.residual, one.residual)
    with pytest.raises(SupportMalformed, match="liar"):
        one.support({"a": b"", "liar": encode_support(np.array([1]))}, BASE)


def test_a_leader_alone_names_the_whole_support_and_the_others_name_nothing() -> None:
    leader, other = Compressor("leader", 0.1, 200, 4), Compressor("leader", 0.1, 200, 4)
    update = updates(1, 200)[0]
    said = {"a": leader.nominate(update, None, Ground(BASE, leads=True)), "b": other.nominate(-update, None, Ground())}
    assert said["b"] == b"" and other.nomination(Ground(leads=True)) == said["a"], "its turn comes later"
    support = other.support(said, BASE)
    assert support is not None and len(support) == leader.length == 20
    assert np.array_equal(support, largest(np.abs(update), 20))
    with pytest.raises(SupportMalformed, match="liar"):
        other.support({**said, "liar": encode_support(np.array([1]))}, BASE)


def test_where_the_leader_is_in_no_sum_positions_follow_from_the_model() -> None:
    one = Compressor("leader", 0.1, 200, 4)
    found = one.support({"b": b"", "c": b""}, BASE)
    assert found is not None and np.array_equal(found, drawn_positions(BASE, 20, 200))


def test_where_the_leader_names_no_position_they_follow_from_the_model() -> None:
    one = Compressor("leader", 0.1, 200, 4)
    found = one.support({"a": encode_support(np.zeros(0, np.int64)), "b": b""}, BASE)
    assert found is not None and np.array_equal(found, drawn_positions(BASE, 20, 200))


@given(st.integers(1, 400).flatmap(lambda m: st.tuples(st.just(m), st.sets(st.integers(0, m - 1)))))
def test_no_nomination_of_so_many_coordinates_is_longer_than_its_bound(of: tuple[int, set[int]]) -> None:
    parameters, positions = of[0] * 1000, np.array(sorted(of[1]), np.int64) * 1000
    assert len(encode_support(positions)) <= most_bytes(len(positions), parameters)


def test_a_leader_whose_attempt_was_given_up_names_what_it_will_send() -> None:
    one = Compressor("leader", 0.5, 4, 3)
    one.nominate(np.array([1.0, 0.9, 0.2, 0.1], np.float32), None, Ground(leads=False))
    one.settle(np.array([0, 1]), np.array([1.0, 0.9]))  # of an attempt that came to nothing
    said = decode_support(one.nomination(Ground(leads=True)), 4, 2, "me")
    assert np.allclose(one.values(np.arange(4)), [1.0, 0.9, 0.2, 0.1])
    assert said.tolist() == [0, 1]


def test_leaders_take_turns_in_the_order_of_the_roster() -> None:
    assert [leader_of(("a", "b", "c"), before) for before in range(5)] == ["a", "b", "c", "a", "b"]


@pytest.mark.parametrize(("scores", "wanted"), [("own", [3, 4]), ("both", [3, 70])])
def test_with_both_scores_what_the_model_has_moved_nominates_too(scores: str, wanted: list[int]) -> None:
    update, moved = np.full(100, 0.01, np.float32), np.zeros(100, np.float32)
    update[[3, 4]] = (5.0, 0.2)
    moved[70] = -1.0
    one = Compressor("nominate", 0.02, 100, 1, scores)
    said = one.nominate(update, None, Ground(moved=lambda: moved))
    assert decode_support(said, 100, 2, "me").tolist() == wanted


def test_positions_are_those_of_the_vector() -> None:
    """`tests/training/vectors/positions.json`, for another implementation."""
    given = json.loads((Path(__file__).parent / "vectors" / "positions.json").read_text())
    for case in given["cases"]:
        found = drawn_positions(bytes.fromhex(given["base"]), case["count"], case["parameters"])
        assert found.tolist() == case["positions"]
